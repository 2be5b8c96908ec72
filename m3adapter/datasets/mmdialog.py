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
from .messages import Lines, Wrong, add_turn, first_of, report_lost
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
        spoken = first_of(record, TURNS) if isinstance(record, dict) else None
        if not isinstance(spoken, list) or not spoken:
            raise Wrong("it has no turns", "give them as a list under conversation")
        turns: list[Turn] = []
        for number, turn in enumerate(spoken):
            parts = _parts(turn)
            if not isinstance(parts, list):
                raise Wrong("a turn is no list", f"it is {shown(parts)}")
            segments = [segment for part in parts for segment in self._segments(part, self.where(place), pictures)]
            if not add_turn(turns, "assistant" if number % 2 else "user", segments):
                lost = sum(_pictures(other) for other in spoken[number + 1 :: 2])
                report_lost(lost, number + 1, self.where(place), pictures.report)
                break
        return Story(tuple(turns))

    def _segments(self, part: Any, where: str, pictures: Pictures) -> Iterator[Segment]:
        if isinstance(part, dict) and isinstance(part.get(TEXT), str):
            yield Text(part[TEXT])
        elif isinstance(part, dict) and MEDIA in part:
            for key in _keys(part):
                found = self.media.get(str(key)) or self.media.get(Path(str(key)).stem)
                if found is None:
                    pictures.report.leave_out("the picture does not exist", where, shown(key))
                image = None if found is None else pictures.open(found.name, found.parent, where)
                yield Picture(image=image)  # type: ignore[arg-type]
        else:
            raise Wrong(f"a part of a turn has neither {TEXT} nor {MEDIA}", shown(part))


def _parts(turn: Any) -> Any:
    return turn.get("turn") if isinstance(turn, dict) and "turn" in turn else turn


def _keys(part: dict[str, Any]) -> list[Any]:
    return part[MEDIA] if isinstance(part[MEDIA], list) else [part[MEDIA]]


def _pictures(turn: Any) -> int:
    """Return how many pictures a turn has."""
    parts = _parts(turn)
    found = parts if isinstance(parts, list) else []
    return sum(len(_keys(part)) for part in found if isinstance(part, dict) and MEDIA in part)
