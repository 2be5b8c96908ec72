"""The parts of a story: exchanges of a message and a reply, whose paragraphs have a picture each."""

from __future__ import annotations

from dataclasses import dataclass

from ...storybook.stories import to_conversation
from ..world import SPLITS, Scene, Split

__all__ = ["SPLITS", "Exchange", "Panel", "Split", "Story", "to_conversation"]


@dataclass(frozen=True)
class Panel:
    """A paragraph and its picture.

    Attributes:
        text: One to four short sentences that tell all that the caption says.
        scene: What the picture shows.
        caption: In the canonical wording of `words.caption`, with the names of its characters.
        names: What the characters of the scene are called, "" for those without a name.
        who: For each character of the scene, a number that it keeps throughout the story.
        said: For each character of the scene, the facts of `words.FACTS` that the caption says.
        facts: Those of `words.SCENE_FACTS` that it says.
    """

    text: str
    scene: Scene
    caption: str
    names: tuple[str, ...]
    who: tuple[int, ...]
    said: tuple[frozenset[str], ...]
    facts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Exchange:
    """A message of the user, perhaps with a picture of `user_scene` (one character, no prop), and the reply.

    The reply has panels, or else it is the text `answer` without a picture.
    """

    message: str
    panels: tuple[Panel, ...] = ()
    user_scene: Scene | None = None
    answer: str = ""


@dataclass(frozen=True)
class Story:
    """A whole story with wordings and compositions of `split`."""

    exchanges: tuple[Exchange, ...]
    split: Split
