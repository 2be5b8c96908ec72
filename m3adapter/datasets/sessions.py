"""Saved conversations of this pack: what was made and liked is what is learned.

Painted pictures of the assistant are learned as they stand; versions that were swiped away are left out, and the cast
counts as it does in painting.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..conversation.cast import Character
from ..conversation.png_files import PngFile
from ..conversation.segments import ConversationError, Picture, Segment, Text, Turn
from ..conversation.storage import INDEX, is_conversation, read_saved
from ..values import label
from .files import is_inside
from .messages import add_turn, report_lost
from .pictures import Pictures
from .reader import Place, Story
from .report import Report


class Sessions:
    """Saved conversations, each in a folder of its own.

    Args:
        root: The folder that holds the folders, or the one folder.
        folders: The folders.
    """

    kind = "session"

    def __init__(self, root: Path, folders: list[Path]) -> None:
        self.root, self.folders = root, folders

    def places(self, report: Report) -> Iterator[Place]:
        """Yield the number of every conversation."""
        for number, folder in enumerate(self.folders):
            if is_inside(folder / INDEX, self.root, report):
                yield (number,)

    def where(self, place: Place) -> str:
        """Return the conversation's file."""
        return label(self.folders[place[0]] / INDEX)

    def split(self, place: Place) -> str | None:
        """Return None, since sessions belong to no part."""
        return None

    def unit(self, place: Place) -> str:
        """Return the place, since each conversation stands for itself."""
        return self.where(place)

    def read(self, place: Place, pictures: Pictures, report: Report) -> Story | None:
        """Return a conversation as it stands, without versions."""
        folder, where = self.folders[place[0]], self.where(place)
        try:
            saved = read_saved(folder)
        except ConversationError as error:
            report.leave_out("the saved conversation is damaged", where, str(error))
            return None

        def opened(picture: Picture) -> Picture:
            image, found = vars(picture)["_image"], None
            if picture.is_open:
                report.leave_out("the picture is not painted yet", where, picture.caption)
            if isinstance(image, PngFile) and image.path is not None:
                found = pictures.open(image.path.name, image.path.parent, where)
            return Picture(picture.caption, found, seen=picture.seen if found else "")  # type: ignore[arg-type]

        turns: list[Turn] = []
        for number, turn in enumerate(saved.turns):
            segments: list[Segment] = [part if isinstance(part, Text) else opened(part) for part in turn.segments]
            if not add_turn(turns, turn.role, segments):
                report_lost(sum(map(_painted, saved.turns[number + 1 :])), number + 1, where, report)
                break
        cast = []
        for character in saved.cast:
            shown = tuple(picture for picture in map(opened, character.pictures) if not picture.is_open)
            cast.append(Character(character.name, shown, character.looks))
        return Story(tuple(turns), tuple(cast))


def _painted(turn: Turn) -> int:
    """Return how many finished pictures a turn of the assistant's has."""
    if turn.role != "assistant":
        return 0
    return sum(isinstance(part, Picture) and not part.is_open for part in turn.segments)


def saved_in(folder: Path) -> list[Path]:
    """Return the folder if it holds a saved conversation, or those directly below it that do, damaged ones as well."""
    if is_conversation(folder):
        return [folder]
    below = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and not path.is_symlink())
    found = [path for path in below if (path / INDEX).is_file()]
    return found if any(map(is_conversation, found)) else []
