"""What people say to the storybook, and its replies: what the starter's language model learns.

Most are the picture book's conversations in the storybook's means, which have far more of what people type. The others
are the storybook's own stories, as far as they show only what somebody asked for.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

from ...storybook.stories import Exchange, Split, Story
from ...storybook.stories import told as own
from ...storybook.wording.people import NAMES
from ...storybook.wording.requests import ANY_STORY
from ...storybook.world import Scene
from ..reading import read
from .plainer import asks_nothing, plainer, same
from .teller import told as rich

SPOKEN = 0.6  # part that are the picture book's conversations
LONG = 0.7  # part of the storybook's own stories that begin as long ones: most end early, and long ones are wanted
_NAMED = re.compile(rf"\bcalled [A-Z]|\b({'|'.join(NAMES)})\b")
_FREE = frozenset(frame.strip(" .!?").lower() for frame in ANY_STORY)


def story(rng: random.Random, split: Split) -> Story:
    """Tell a conversation that depends only on the state of `rng`, in the wordings of a split.

    In "train", no picture shows a composition (species, place, prop) of another split.

    Raises:
        ValueError: There is no such split.
    """
    while True:
        if rng.random() < SPOKEN:
            found = plainer(rng, rich(rng, split), split)
        else:
            long = rng.random() < LONG
            exchanges = invited(own(rng, split, exchanges=8 if long else None))
            if long and len(exchanges) < 2:
                continue
            found = Story(exchanges, split) if exchanges else None
        if found is not None:
            return found


def invited(told: Iterable[Exchange]) -> tuple[Exchange, ...]:
    """Return the exchanges of a story up to the first one whose pictures show what nobody asked for.

    Somebody, a thing, a light or a weather is asked for if a message names it or a picture has shown it. Who asks for
    any story leaves the choice to the teller. Names end a story, too: its captions do not have them.
    """
    exchanges, before = [], ""
    known: set[str] = {"day", "clear"}
    for exchange in told:
        asked = read(exchange.message, loose=True)
        known |= {*asked.species, *asked.of("prop"), *asked.of("light"), *asked.of("weather")}
        if exchange.user_scene:
            known |= _shown(exchange.user_scene)
        scenes = [panel.scene for panel in exchange.panels]
        if exchange.message.strip(" .!?").lower() in _FREE and scenes:
            known |= _shown(scenes[0])
        named = any(_NAMED.search(panel.text) for panel in exchange.panels)
        if same(before if asks_nothing(exchange.message) else "", exchange.panels):
            break
        if named or any(not _shown(scene) <= known for scene in scenes):
            break
        exchanges.append(exchange)
        before = exchange.panels[-1].caption if exchange.panels else before
    return tuple(exchanges)


def _shown(scene: Scene) -> set[str]:
    """Return who and what a picture shows, its light and its weather."""
    things = {scene.prop} if scene.prop else set()
    return {*(actor.species for actor in scene.characters), *things, scene.light, scene.weather}
