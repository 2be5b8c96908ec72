"""The parts of a story: exchanges of a message and a reply, whose paragraphs have a picture each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..world import Scene
from .choose import Split

Task = Literal["none", "same", "other", "change", "join"]


@dataclass(frozen=True)
class Panel:
    """A paragraph and its picture.

    Attributes:
        text: One to four short sentences.
        scene: What the picture shows.
        caption: `caption(scene, looks=named)`, in the canonical wording.
        task: How the picture relates to earlier ones: "none" (it is the first, or its characters are new and there is
            no hero to distinguish them from), "same" (its only character was seen before), "other" (another character
            while the hero is absent), "change" (a character that was seen before gets a new look), "join" (two
            characters together, later in a story).
        named: Indices of the characters whose colour the caption names.
        names: What the caption calls its characters, "" for those without a name; () if nobody has one.
    """

    text: str
    scene: Scene
    caption: str
    task: Task
    named: tuple[int, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exchange:
    """A message of the user, perhaps with a picture of `user_scene` (one character, no prop), and the reply.

    The reply has panels, or else it is the text `answer` without a picture.
    """

    message: str
    panels: tuple[Panel, ...]
    user_scene: Scene | None = None
    answer: str = ""


@dataclass(frozen=True)
class Story:
    """A whole story with wordings and compositions of `split`."""

    exchanges: tuple[Exchange, ...]
    split: Split
