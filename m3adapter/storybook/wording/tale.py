"""What a story is made of: exchanges of a message and a reply, a reply's paragraphs each with a picture."""

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
        task: What the picture has to do with earlier ones: "none" (there is none, or none of its characters was seen
            before and there is no hero to keep apart), "same" (its one character was seen before), "other" (another
            character, the hero is absent), "change" (a character seen before gets a new look), "join" (two characters
            together, later in a story).
        named: Indices of the characters whose colour the caption names.
    """

    text: str
    scene: Scene
    caption: str
    task: Task
    named: tuple[int, ...] = ()


@dataclass(frozen=True)
class Exchange:
    """A user's message, perhaps with a picture of `user_scene` (one character, no prop), and the reply's panels."""

    message: str
    panels: tuple[Panel, ...]
    user_scene: Scene | None = None


@dataclass(frozen=True)
class Story:
    """A whole story; `split` is the one whose wordings and compositions it was made of."""

    exchanges: tuple[Exchange, ...]
    split: Split
