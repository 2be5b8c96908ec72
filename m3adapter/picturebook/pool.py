"""Pictures of stories drawn for training: what is rare and hard in stories is frequent here.

References are earlier pictures of the story; or, as a cast's are, pictures of the characters elsewhere: of some of them
only, so that the others are newcomers with looks of their own, in a style that is not the renderer's, or two of one
character in unlike looks, of which the heavier one counts.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field, replace

from .dataset import LOOKS, Sample, Shown, samples
from .foreign import STYLES
from .retyping import retyped
from .stories.tale import Split
from .stories.teller import story
from .words import LONGEST, aside
from .world import ACCESSORIES, PLACES, SPECIES, Character, Scene
from .world import LOOKS as COLOURS

LENGTHS = {1: (1, 1, 2, 3), 2: (1, 2, 2, 3)}  # exchanges of the stories that a stage of M3FT draws
SAID = 0.4  # part of the captions of stage 1 that name what only references show, because stage 2 uses its heads
RETYPED = 0.4  # part of the captions in the words of people
EASY = 0.3  # part that is kept of the samples with a single character
ELSEWHERE = 0.5  # part of the samples of stage 2 whose references are pictures of the characters elsewhere
NEWCOMER = 0.5  # part of the pairs with such references of which only one is shown
FOREIGN, WEIGHTED = 0.3, 0.3  # part of such references in another style, and of those of different weights
WEIGHTS = (2.0, 3.0, 4.0, 10.0)
DRIFTED = 0.3  # part of the samples with several references whose latest one has lost the look; the oldest one counts
ALIKE = 0.6  # part of the exchanged references that show a character's species, perhaps in another look


@dataclass(frozen=True)
class Pool:
    """Samples that a training draws from.

    Attributes:
        samples: The samples.
        showing: For each species, the indices of the samples whose references show it.
    """

    samples: list[Sample]
    showing: dict[str, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        """Index the samples by the species that their references show."""
        showing: dict[str, list[int]] = {name: [] for name in SPECIES}
        for index, sample in enumerate(self.samples):
            for name in {actor.species for shown in sample.references for actor in shown.scene.characters}:
                showing[name].append(index)
        object.__setattr__(self, "showing", showing)

    def exchanged(self, index: int, rng: random.Random) -> tuple[Sample, int]:
        """Return the sample at `index` with the references of another sample, and the index of that sample.

        Whom they show of a character's species is taken for that character: these references are useful, others not.
        """
        sample = self.samples[index]
        alike = self.showing[rng.choice(sample.scene.characters).species]
        for _ in range(16):
            other = rng.choice(alike) if alike and rng.random() < ALIKE else rng.randrange(len(self.samples))
            found = adopted(sample, self.samples[other].references)
            if found is not None and is_short(found):
                return found, other
        return replace(sample, references=()), index


def pool(rng: random.Random, count: int, stage: int, split: Split = "train") -> Pool:
    """Draw what a stage of M3FT trains on.

    Args:
        rng: Chooses the stories.
        count: Number of samples.
        stage: 1 or 2. In stage 1, some captions tell the looks, and no user has shown a picture; in stage 2, references
            are as the head of this file says.
        split: Of the stories.
    """
    drawn: list[Sample] = []
    while len(drawn) < count:
        for sample in samples(story(rng, split, exchanges=rng.choice(LENGTHS[stage]))):
            if (stage == 1 and sample.users) or (len(sample.who) == 1 and rng.random() >= EASY):
                continue
            if rng.random() < RETYPED:
                sample = retyped(rng, sample, split)
            sample = _said(rng, sample) if stage == 1 else _referring(rng, sample)
            if sample.is_clear and is_short(sample):
                drawn.append(sample)
    return Pool(drawn[:count])


def is_short(sample: Sample) -> bool:
    """Return whether the decoder's text encoders can read what a sample means to the end."""
    text = f"{sample.meant}, {sample.told}" if sample.told else sample.meant
    return len(re.findall(r"\w+|[^\w\s]", text)) <= LONGEST


def portrait(rng: random.Random, actor: Character, who: int, **how: object) -> Shown:
    """Return a picture of a character alone, calmly standing at any place, as a cast has it."""
    alone = replace(actor, action="stands", held=None, mood="calm", near=True, facing=rng.choice(("left", "right")))
    scene = Scene((alone,), rng.choice(PLACES), spot=rng.choice(("left", "middle", "right")))
    return Shown(scene, (who,), **how)  # type: ignore[arg-type]


def adopted(sample: Sample, references: tuple[Shown, ...]) -> Sample | None:
    """Return a sample with the references of another; None if they show several of a character's species."""
    own: dict[str, list[int]] = {}
    for actor, who in zip(sample.scene.characters, sample.who, strict=True):
        own.setdefault(actor.species, []).append(who)
    there: dict[str, set[int]] = {}
    for shown in references:
        for actor, who in zip(shown.scene.characters, shown.who, strict=True):
            there.setdefault(actor.species, set()).add(who)
    if any(len(own.get(species, ())) > 1 or species in own and len(whose) > 1 for species, whose in there.items()):
        return None
    found = []
    for shown in references:
        numbers = tuple(own[actor.species][0] if actor.species in own else -1 for actor in shown.scene.characters)
        found.append(replace(shown, who=numbers))
    return replace(sample, references=tuple(found))


def _referring(rng: random.Random, sample: Sample) -> Sample:
    """Return a sample with references that are harder than those of its story, or with those."""
    if rng.random() < ELSEWHERE:
        return replace(sample, references=_elsewhere(rng, sample))
    if len(sample.references) > 1 and rng.random() < DRIFTED:
        *before, latest = sample.references
        actors = tuple(replace(actor, look=rng.choice(COLOURS)) for actor in latest.scene.characters)
        return replace(sample, references=(*before, replace(latest, scene=replace(latest.scene, characters=actors))))
    return sample


def _elsewhere(rng: random.Random, sample: Sample) -> tuple[Shown, ...]:
    """Return pictures of some or all characters of a sample, each alone."""
    pairs = list(zip(sample.scene.characters, sample.who, strict=True))
    if len(pairs) > 1 and rng.random() < NEWCOMER:
        pairs = rng.sample(pairs, rng.randrange(1, len(pairs)))
    dressed = [(_changed(rng, actor) if rng.random() < 0.5 else actor, who) for actor, who in pairs]
    if len(pairs) == 1 and rng.random() < WEIGHTED:
        actor, who = dressed[0]
        other = replace(_changed(rng, actor), look=rng.choice([look for look in COLOURS if look != actor.look]))
        both = [portrait(rng, actor, who), portrait(rng, other, who)]
        heavier = rng.randrange(2)
        both[heavier] = replace(both[heavier], weight=rng.choice(WEIGHTS))
        return tuple(both)
    shown = [
        portrait(rng, actor, who, style=rng.choice(STYLES) if rng.random() < FOREIGN else "render")
        for actor, who in dressed
    ]
    rng.shuffle(shown)
    return tuple(shown)


def _changed(rng: random.Random, actor: Character) -> Character:
    """Return a character in another look."""
    return replace(actor, look=rng.choice(COLOURS), accessory=rng.choices(ACCESSORIES, (3, 1, 1, 1))[0])


def _said(rng: random.Random, sample: Sample) -> Sample:
    """Append looks that the caption does not say, of one character or of all: "..., the fox is blue"."""
    everyone = range(len(sample.who))
    free = {index: [fact for fact in LOOKS if fact not in sample.said.characters[index]] for index in everyone}
    free = {index: facts for index, facts in free.items() if facts}
    if not free or rng.random() >= SAID:
        return sample
    if rng.random() < 0.5:
        free = dict([rng.choice(list(free.items()))])
    told = aside(sample.scene, free, "")
    plain = [frozenset((*said, *free.get(index, ()))) for index, said in enumerate(sample.said.characters)]
    said = replace(sample.said, characters=tuple(plain))
    changed = sample.recaptioned(sample.caption.rstrip(".") + told)
    return replace(changed, said=said, meant=sample.meant + told)
