"""MMDialog: dialogues of two people who send each other pictures.

Files named conversations.json, a dialogue per line, and a folder of pictures named by their keys:

    {"conversation": [{"turn": [{"__TEXT__": "Look!"}, {"__MEDIA__": "4f2a"}]}, …]}

The first speaker is the user; pictures of the second speaker are learned. Their captions are the words beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..conversation.segments import Picture, Segment, Text, Turn
from ..values import shown
from .files import by_stem
from .messages import Lines, Wrong, add_turn
from .pictures import Pictures
from .reader import Place, Story
from .report import Report

TEXT, MEDIA = "__TEXT__", "__MEDIA__"
TURNS = ("conversation", "turns", "dialogue")


class MMDialog(Lines):
    """Dialogues of two people as lines of JSON."""

    kind = "mmdialog"

    def __init__(self, root: Path, files: list[Path]) -> None:
        super().__init__(root, files)
        self.media: dict[str, Path] = {}

    def places(self, report: Report) -> Iterator[Place]:
        """Yield the place of every dialogue."""
        self.media = by_stem(self.root, report)
        yield from super().places(report)

    def story(self, record: Any, place: Place, pictures: Pictures) -> Story:
        """Return the dialogue of a record; raise Wrong if it is not in the format."""
        spoken = next((record[key] for key in TURNS if key in record), None) if isinstance(record, dict) else None
        if not isinstance(spoken, list) or not spoken:
            raise Wrong("it has no turns", "give them as a list under conversation")
        turns: list[Turn] = []
        for number, turn in enumerate(spoken):
            parts = turn.get("turn") if isinstance(turn, dict) and "turn" in turn else turn
            if not isinstance(parts, list):
                raise Wrong("a turn is no list", f"it is {shown(parts)}")
            segments = [segment for part in parts for segment in self._segments(part, self.where(place), pictures)]
            if not add_turn(turns, "assistant" if number % 2 else "user", segments):
                break
        return Story(tuple(turns))

    def _segments(self, part: Any, where: str, pictures: Pictures) -> Iterator[Segment]:
        if isinstance(part, dict) and isinstance(part.get(TEXT), str):
            yield Text(part[TEXT])
        elif isinstance(part, dict) and MEDIA in part:
            keys = part[MEDIA] if isinstance(part[MEDIA], list) else [part[MEDIA]]
            for key in keys:
                found = self.media.get(str(key)) or self.media.get(Path(str(key)).stem)
                if found is None:
                    pictures.report.leave_out("the picture does not exist", where, shown(key))
                image = None if found is None else pictures.open(found.name, found.parent, where)
                yield Picture(image=image)  # type: ignore[arg-type]
        else:
            raise Wrong(f"a part of a turn has neither {TEXT} nor {MEDIA}", shown(part))
