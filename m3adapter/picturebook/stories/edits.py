"""What a user changes in the picture before: each change as clauses that can be said alone or together."""

from __future__ import annotations

from . import edit_words as said
from .edit_characters import CharacterEdits
from .edit_clauses import Edit
from .edit_scenes import SceneEdits
from .stage import Stage


class Editor(SceneEdits, CharacterEdits):
    """Changes the stage as users do.

    Args:
        rng: The random numbers.
        split: Whose wordings to use.
    """

    def message(self, stage: Stage, count: int) -> Edit | None:
        """Return up to `count` changes in one message, or None if none of them makes sense."""
        kinds = (
            "place",
            "light",
            "weather",
            "prop",
            "action",
            "mood",
            "look",
            "wear",
            "face",
            "near",
            "more",
            "friend",
            "leave",
            "swap",
            "name",
        )
        weights = (18, 12, 11, 11, 16, 8, 7, 8, 2, 3, 4, 7, 6, 8, 3)
        clauses: list[str] = []
        done: set[str] = set()
        for _ in range(3 * count):
            kind = self.rng.choices(kinds, weights)[0]
            clashes = {
                "more": {"friend", "leave", "swap"},
                "swap": {"look", "name", "more", "friend", "leave"},
                "leave": {"friend", "more", "swap"},
            }
            if kind in done or done & clashes.get(kind, set()) or any(kind in clashes.get(one, ()) for one in done):
                continue
            edit = getattr(self, f"_{kind}")(stage)
            if edit is None:
                continue
            done.add(kind)
            clauses.append(edit.clause)
            stage = edit.stage
            if len(clauses) == count:
                break
        if not clauses:
            return None
        text = clauses[0]
        for clause in clauses[1:]:
            joint = self.rng.choice(said.JOINTS)
            text = text.rstrip("?!.") + joint + clause
        return Edit(self.pick(said.OPENERS).format(x=text), stage.normal())
