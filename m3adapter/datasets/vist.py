"""VIST, the Visual Storytelling data set: stories of five photographs, one sentence each.

Files like train.story-in-sequence.json, whose `annotations` have story_id, photo_flickr_id,
worker_arranged_photo_order, original_text and text; and a folder of photographs named by their ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..conversation.segments import Picture, Segment, Text, Turn
from ..values import label, shown
from .captions import usable
from .files import by_stem, is_inside, read_text, split_of, within
from .pictures import Pictures
from .reader import Place, Story
from .report import Report
from .sample import DatasetError

SUFFIX = ".story-in-sequence.json"
ASKED = "Tell me a story in pictures."


class Panel(NamedTuple):
    """A photograph of a story, by its id, with its sentence."""

    order: int
    text: str
    photo: str


class Vist:
    """Stories of photographs.

    Args:
        root: The folder that holds the stories and the photographs.
        files: The files of stories.
    """

    kind = "vist"

    def __init__(self, root: Path, files: list[Path]) -> None:
        self.root, self.files = root, files
        self.stories: list[tuple[int, str, list[Panel]]] = []
        self.photos: dict[str, Path] = {}

    def places(self, report: Report) -> Iterator[Place]:
        """Yield the number of every story."""
        self.photos = by_stem(self.root, report)
        for number, path in enumerate(self.files):
            if not is_inside(path, self.root, report):
                continue
            panels: dict[str, dict[int, Panel]] = {}
            for place, annotation in enumerate(_annotations(path)):
                self._add(annotation, panels, f"{within(path, self.root)}, annotation {place + 1}", report)
            self.stories += [(number, story, [told[order] for order in sorted(told)]) for story, told in panels.items()]
        for number in range(len(self.stories)):
            yield (number,)

    def where(self, place: Place) -> str:
        """Return the file, and the story's id."""
        number, story, _ = self.stories[place[0]]
        return f"{within(self.files[number], self.root)}, story {story}"

    def split(self, place: Place) -> str | None:
        """Return what the name of the file says."""
        return split_of(self.files[self.stories[place[0]][0]].stem)

    def unit(self, place: Place) -> str:
        """Return the place, since each conversation stands for itself."""
        return self.where(place)

    def read(self, place: Place, pictures: Pictures, report: Report) -> Story | None:
        """Return a story as one answer, whose sentences are captions of the photographs after them."""
        where = self.where(place)
        segments: list[Segment] = []
        for panel in self.stories[place[0]][2]:
            found = self.photos.get(panel.photo)
            if found is None:
                report.leave_out("the picture does not exist", where, f"photograph {panel.photo}")
            image = None if found is None else pictures.open(found.name, found.parent, where)
            segments += [Text("\n\n" * bool(segments) + panel.text), Picture(panel.text, image)]  # type: ignore[arg-type]
        return Story((Turn("user", (Text(ASKED),)), Turn("assistant", tuple(segments))))

    def _add(self, annotation: Any, panels: dict[str, dict[int, Panel]], where: str, report: Report) -> None:
        """Note a photograph of a story; report it if it is left out."""
        entry = annotation[0] if isinstance(annotation, list) and annotation else annotation
        if not isinstance(entry, dict):
            report.leave_out("the annotation is no object", where, shown(entry))
            return
        story, photo = entry.get("story_id"), entry.get("photo_flickr_id")
        try:
            order = int(entry["worker_arranged_photo_order"])
        except (KeyError, TypeError, ValueError, OverflowError):
            order = -1
        if order < 0 or not all(isinstance(found, (str, int)) and str(found) for found in (story, photo)):
            report.leave_out("the annotation lacks story_id, photo_flickr_id or worker_arranged_photo_order", where)
            return
        text = usable(entry.get("original_text")) or usable(entry.get("text"))
        if not text:
            report.leave_out("the caption is empty", where, f"photograph {photo}")
            return
        told = panels.setdefault(str(story), {})
        if order in told:
            report.leave_out("its id was used before", where, f"picture {order} of story {story}")
            return
        told[order] = Panel(order, text, str(photo))


def _annotations(path: Path) -> list[Any]:
    try:
        content = json.loads(read_text(path, limit=2**31))
    except OSError as error:
        raise DatasetError(f"{label(path)} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{label(path)} is not valid JSON: is it cut? Copy it again.") from error
    annotations = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(annotations, list):
        raise DatasetError(f"{label(path)} has no list of annotations: give VIST's stories in sequence.")
    return annotations
