"""Conversations to measure with: their words are fixed, so that every run reads and writes the same amount."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..conversation.conversation import Conversation, Picture, Slot, Text
from ..conversation.outline import CONTINUE

if TYPE_CHECKING:
    from torch import Tensor

PREMISE = "A fox who finds a kite on the beach, and looks for the one who lost it."
# A reply is two of these with a picture in between.
PARAGRAPHS = (
    "The fox ran along the beach and found a red kite in the sand. It had a long tail of paper bows, and it pulled at "
    "its line as if it wanted to go home.",
    "An owl came down from the old pine, and both looked at the sea for a long while. The waves brought shells, a "
    "bottle and one wet boot, and nobody came to fetch them.",
    "Behind the dunes stood a house with a blue door. The fox knocked three times with the stick of the kite, and "
    "somebody inside began to laugh.",
    "In the evening the wind turned. The kite rose above the lighthouse, and its line drew a circle in the sand that "
    "no wave could wash away.",
    "The ferryman knew every child on the island by name. He scratched his beard, looked at the paper bows, and "
    "rowed them to the other side without a word.",
)
CAPTIONS = (
    "a fox with a red kite on the beach, an old lighthouse behind it",
    "a fox and an owl under a pine by the sea at dusk",
    "a fox before a house with a blue door, a kite in its paw",
)


def reply(number: int, image: Tensor | None = None, *, tail: str = "") -> tuple[Text | Picture, ...]:
    """Return reply `number`, from 0, with its picture; `tail` is added to its last words."""
    first, second = (PARAGRAPHS[(number + more) % len(PARAGRAPHS)] for more in (0, 2))
    return Text(first), Picture(CAPTIONS[number % len(CAPTIONS)], image), Text(second + tail)


def asked(turn: int, *, image: Tensor | None = None, tail: str = "") -> Conversation:
    """Return a conversation that waits for the assistant's reply `turn`, from 1; `tail` ends the reply before it."""
    conversation = Conversation()
    for number in range(turn):
        conversation = conversation.user(CONTINUE if number else PREMISE)
        if number < turn - 1:
            last = number == turn - 2
            conversation = conversation.assistant(reply(number, image, tail=tail if last else ""))
    return conversation


def replied(conversation: Conversation, number: int) -> tuple[Conversation, Slot]:
    """Return a conversation with reply `number`, and the slot of its picture."""
    conversation = conversation.assistant(reply(number))
    return conversation, conversation.slots()[-1]


def variants(count: int) -> Sequence[str]:
    """Return different words to end a reply with, so that conversations differ only in these."""
    return [f" That was day {number}." for number in range(1, count + 1)]
