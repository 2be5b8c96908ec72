"""Samples whose captions leave out what the answer says, from which an anchored adapter learns to bring it along.

An anchored adapter changes the decoder's own embeddings of the caption, and the embeddings of the caption are what the
first stage aims at: there would be nothing to learn. The language model knows more than the caption, though: what the
answer says around it. So in a part of the samples some words of the caption stand in the answer instead. The anchor
then lacks them, the target has them, and the adapter learns to say what it has read in the decoder's own language;
which is what the second stage needs of it.
"""

from __future__ import annotations

import random
from dataclasses import replace

from ..conversation.conversation import Conversation, Slot
from ..conversation.segments import Segment, Text
from ..datasets.sample import Sample


def reworded(sample: Sample) -> Sample:
    """Return a sample whose caption is a part of the whole one and whose answer says the rest, always in the same way.

    The words that only references tell are left to the answer if they are known, and otherwise some of the caption's.
    A caption of one word stays as it is.
    """
    rng = random.Random(sample.words_key)
    if sample.told:
        caption, said = sample.caption, sample.told
    else:
        words = sample.caption.split()
        if len(words) < 2:
            return sample
        place = rng.randrange(1, len(words))
        caption, said = " ".join(words[:place]), " ".join(words[place:])
        if rng.random() < 0.5:
            caption, said = said, caption
    turn, place = sample.slot
    segments: list[Segment] = list(sample.conversation.turns[turn].segments)
    segments[place] = sample.conversation.picture(sample.slot).changed(caption=caption)
    before = segments[place - 1] if place else None
    if isinstance(before, Text):
        segments[place - 1] = Text(f"{before.text.rstrip()} {said}. ")
        slot = sample.slot
    else:
        segments.insert(place, Text(f"{said}. "))
        slot = Slot(turn, place + 1)
    turns = list(sample.conversation.turns)
    turns[turn] = replace(turns[turn], segments=tuple(segments))
    conversation = Conversation(tuple(turns), sample.conversation.cast)
    return replace(sample, conversation=conversation, slot=slot)
