"""MM-Relevance: the language model answers the conversations of a data set itself, and CLIP compares the replies.

A reply and the data's turn are sequences of texts and pictures, both up to their last picture.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ..conversation.conversation import Conversation, ConversationError
from ..conversation.segments import Picture, Segment, Text
from ..datasets.sample import Dataset, Sample
from ..language.reply import FAILED_REPLY
from ..pipeline import M2Chat
from .figures import mm_relevance
from .networks import TextEmbedder

logger = logging.getLogger(__name__)


class Replies:
    """Replies to the messages of a data set, written once and painted at every gate.

    A reply that the language model fails to give, nothing but thoughts for example, counts 0.

    Args:
        model: Replies and paints.
        data: The data set.
        count: How many replies to write, at most.
        network: CLIP.
        seed: Chooses the messages, and with what noise replies are painted.
        settings: How to paint, as for `M2Chat.turn`.
    """

    def __init__(
        self, model: M2Chat, data: Dataset, count: int, network: TextEmbedder, seed: int, settings: dict[str, Any]
    ) -> None:
        self.model, self.network, self.seed, self.settings = model, network, seed, settings
        self.asked = asked(data, count, random.Random(f"evaluate replies {seed}"))
        self._truths: list[Tensor] = []
        self._written: list[Conversation | None] = []

    def measure(self, gate: float, on_progress: Callable[[int, int], None]) -> float:
        """Return the mean MM-Relevance of the replies at a gate, in CLIP's own scale: about 100 times a cosine."""
        found = []
        for number, sample in enumerate(self.asked):
            if number == len(self._written):
                self._written.append(self._write(sample, number))
                turn = sample.conversation.turns[-1].segments[: sample.slot.segment]
                self._truths.append(self._embedded([*turn, sample.picture]))
            conversation = self._written[number]
            reply = () if conversation is None else self._painted(conversation, gate, number)
            found.append(mm_relevance(self._embedded(reply), self._truths[number]))
            on_progress(number + 1, len(self.asked))
        return self.network.scale * sum(found) / len(found)

    def _write(self, sample: Sample, number: int) -> Conversation | None:
        before = sample.conversation.rewind(sample.slot.turn - 1)
        try:
            return self.model.write(before, seed=self.seed + number)
        except (*FAILED_REPLY, ConversationError) as error:
            logger.warning("There is no reply to %s: %s", sample.source, error)
            return None

    def _painted(self, conversation: Conversation, gate: float, number: int) -> Sequence[Segment]:
        """Return the last turn with its pictures painted, up to the last of them."""
        turn = len(conversation.turns) - 1
        slots = [slot for slot in conversation.open_slots() if slot.turn == turn]
        for place, slot in enumerate(slots):
            condition = self.model.fuse(self.model.encode(conversation, slot), gate)
            (image,) = self.model.paint_all([condition], [self.seed + number + place], **self.settings)
            conversation = conversation.with_picture(slot, image)
        segments = conversation.turns[turn].segments
        return segments[: slots[-1].segment + 1] if slots else segments

    def _embedded(self, segments: Sequence[Segment]) -> Tensor:
        """Return CLIP's embeddings of texts and pictures [N, D]; texts that say nothing do not count."""
        import torch

        rows = [
            self.network.embed([segment.pixels]) if isinstance(segment, Picture) else self._text(segment)
            for segment in segments
            if isinstance(segment, Picture) or segment.text.strip()
        ]
        return torch.cat(rows) if rows else torch.zeros(0, 1)

    def _text(self, segment: Text) -> Tensor:
        return self.network.embed_texts([" ".join(segment.text.split())])


def asked(data: Dataset, count: int, rng: random.Random) -> list[Sample]:
    """Return `count` samples at most, each the last picture of the turn in which it stands."""
    found: list[Sample] = []
    for index in rng.sample(range(len(data)), len(data)):
        if len(found) == count:
            break
        sample = data[index]
        following = data[index + 1] if index + 1 < len(data) else None
        if following is None or not _same_turn(sample, following):
            found.append(sample)
    return found


def _same_turn(sample: Sample, other: Sample) -> bool:
    if (
        sample.source != other.source
        or other.slot.turn != sample.slot.turn
        or other.slot.segment <= sample.slot.segment
    ):
        return False
    turn, later = sample.conversation.turns[-1].segments, other.conversation.turns[-1].segments
    texts = [[part.text for part in side[: sample.slot.segment] if isinstance(part, Text)] for side in (turn, later)]
    return texts[0] == texts[1]
