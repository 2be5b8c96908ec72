"""Rows about whole stories: what late panels cost, and how often the models take turns."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..conversation.conversation import Conversation, Slot, Text
from ..conversation.segments import Picture
from ..pipeline import M2Chat
from ..settings import TurnSettings
from . import tales
from .rows import TOO_LONG, Bench, Group, Row
from .timing import Figure, Side, figure, interleave, medians

STEPS = 20
# The panels that are measured, by the last of each four.
EARLY, LATE = 8, 100
SERIES = (1, 8, 20, 50, 100)
SEED = 7


@dataclass
class Told:
    """A story of the starter that goes on from a panel, with one picture in every reply.

    Attributes:
        chat: Tells it.
        settings: How.
        conversation: What was told so far.
    """

    chat: M2Chat
    settings: TurnSettings
    conversation: Conversation = field(default_factory=Conversation)

    def tell(self, number: int) -> None:
        """Tell one more panel; `number` chooses its words and its noise."""
        asked = self.conversation.user("What happens next?" if self.conversation.turns else tales.PREMISE)
        self.conversation = self.chat.turn(asked, self.settings, seed=number)


def opening(chat: M2Chat, steps: int) -> Conversation:
    """Return four panels told by the starter, from which long stories are made."""
    told = Told(chat, TurnSettings(steps=steps, max_pictures=1))
    for number in range(4):
        told.tell(SEED + number)
    return told.conversation


def lengthened(story: Conversation, panels: int) -> Conversation:
    """Return a story of this many panels, which repeats itself, with its pictures painted."""
    conversation = Conversation()
    replies = story.turns[1::2]
    for number in range(panels):
        conversation = conversation.user("What happens next?" if number else tales.PREMISE)
        conversation = conversation.assistant(replies[number % len(replies)].segments)
    return conversation


PANELS = Group(
    (
        Row(
            "panel100_over_panel8",
            f"starter: panels {LATE - 3}–{LATE} of a story / panels {EARLY - 3}–{EARLY}",
            goal=1.15,
        ),
        Row("panels_1_to_100", "starter: panel 100 of a story / panel 1"),
    ),
    lambda bench: panels(bench),
)


def panels(bench: Bench) -> dict[str, Figure | str]:
    """Measure panels at several places of long stories, whose earlier panels were told before.

    Four panels of each story are told one after the other, and the time of the four counts; the panel before them is
    told untimed, so that what a running story keeps between panels is there.
    """
    chat = bench.chat
    settings = TurnSettings(steps=STEPS, max_pictures=1)
    first = opening(chat, 2)
    current: dict[int, Told] = {}

    def begin(panel: int, number: int) -> None:
        current[panel] = Told(chat, settings, lengthened(first, max(panel - 5, 0)))
        if panel > 4:
            current[panel].chat.turn(current[panel].conversation.user("What happens next?"), settings, steps=1, seed=99)
            current[panel].conversation = lengthened(first, panel - 4)

    def four(panel: int, number: int) -> None:
        for more in range(4):
            current[panel].tell(100 * number + more + 200)

    def side(panel: int) -> Side:
        return Side(lambda number: four(panel, number), lambda number: begin(panel, number))

    places = (EARLY, LATE) if bench.quick else tuple(dict.fromkeys((4, *SERIES[1:])))
    names = {panel: f"panels {panel - 3} to {panel}" for panel in places}
    times = interleave({names[panel]: side(panel) for panel in places}, bench.rounds(5, 1), clock="CPU", warm=0)
    late, early = times[names[LATE]], times[names[EARLY]]
    found: dict[str, Figure | str] = {
        "panel100_over_panel8": figure(
            [a / b for a, b in zip(late, early, strict=True)], medians(times, *names.values())
        )
    }
    if bench.quick:
        found["panels_1_to_100"] = TOO_LONG
    else:
        starts = times[names[4]]
        found["panels_1_to_100"] = figure(
            [a / b for a, b in zip(late, starts, strict=True)], medians(times, *names.values())
        )
    return found


SWITCHES = Group(
    (
        Row(
            "switches_8_panels",
            "switches between language model and decoder in a story of 8 panels",
            "switches",
            "count",
            1,
        ),
    ),
    lambda bench: switches(bench),
)


def switches(bench: Bench) -> dict[str, Figure | str]:
    """Count how often a story, and the same turn by turn, switches between the two large models."""
    chat = bench.chat
    ready: list[str] = []

    def prepare(part: str) -> None:
        if part in ("language_model", "decoder") and ready[-1:] != [part]:
            ready.append(part)

    watched = M2Chat(chat.language_model, chat.vision_encoder, chat.adapter, chat.decoder, prepare)
    story = watched.story(tales.PREMISE, 8, seed=SEED, steps=1)
    between = float(len(ready) - 1)
    ready.clear()
    told = Told(watched, TurnSettings(steps=1))
    for number in range(8):
        told.tell(SEED + number)
    sides = {"turn by turn": float(len(ready) - 1), "pictures": float(len(story.pictures()))}
    return {"switches_8_panels": Figure(between, (between, between), 1, sides)}


def referring(chat: M2Chat, steps: int) -> tuple[Conversation, Slot]:
    """Return two turns with fixed words and a painted first picture, and the slot of the second picture."""
    conversation = Conversation().user("A fox on the beach.")
    conversation = conversation.assistant([Text("The fox found a kite."), Picture("a fox with a kite on the beach")])
    condition = chat.fuse(chat.encode(conversation, Slot(1, 1)))
    image = chat.paint(condition, seed=SEED, steps=steps)
    conversation = conversation.with_picture(Slot(1, 1), image).user("What happens next?")
    conversation = conversation.assistant([Text("Then the fox met an owl."), Picture("a fox and an owl in the forest")])
    return conversation, Slot(3, 1)


GROUPS = (PANELS, SWITCHES)
