"""How a change is said: a clause about everybody in the picture, or about the first one, and the stage after it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ...storybook.wording.choose import allowed
from ..vocabulary import PLACE_PHRASES
from .stage import Stage
from .tale import Split


@dataclass(frozen=True)
class Edit:
    """A change: what is said, and the stage after it."""

    clause: str
    stage: Stage


class Clauses:
    """Says changes as users do.

    Args:
        rng: The random numbers.
        split: Whose wordings to use.
    """

    def __init__(self, rng: random.Random, split: Split) -> None:
        self.rng, self.split = rng, split

    def pick(self, items: Sequence[str]) -> str:
        """Return a random wording of those that the split may use."""
        return self.rng.choice(allowed(items, self.split))

    def _say(self, items: Sequence[str], stage: Stage, after: Stage, **slots: str) -> Edit:
        """Fill a clause about all actors, or about the first one."""
        rng, hero, several = self.rng, stage.hero, len(stage.actors) > 1
        pronoun = rng.choice(("it", "she", "he")) if not hero.name else "she" if hero.she else "he"
        species = hero.character.species
        same = len({actor.character.species for actor in stage.actors}) == 1
        one = hero.name if hero.name else f"the {species}"
        base = {
            "it": "they" if several else one if rng.random() < 0.3 else pronoun,
            "them": "them" if several else one if rng.random() < 0.3 else {"it": "it", "she": "her",
            "he": "him"}[pronoun],
            "who": "everybody" if several else one, "kind": "ones" if several and not same else species,
            "the_one": one if several or rng.random() < 0.7 else "it", "species": species, "spot": after.place,
            "old_spot": stage.place,
            "place": rng.choice(allowed(PLACE_PHRASES[after.place], self.split)),
            "old_place": PLACE_PHRASES[stage.place][0],
        }  # fmt: skip
        clause = self.pick(items).format_map({**base, **slots})
        return Edit(_agree(clause) if several else clause, after)


def twins(stage: Stage) -> bool:
    """Return whether the hero's kind would not tell whom a change is about."""
    alike = [actor for actor in stage.actors if actor.character.species == stage.hero.character.species]
    return len(alike) > 1 and not stage.hero.name


def _agree(clause: str) -> str:
    """Let the verb agree with "they"."""
    words = clause.split(" ")
    fixed = {"goes": "go", "wants": "want", "is": "are", "has": "have", "sleeps": "sleep", "jumps": "jump",
    "runs": "run", "swims": "swim", "hides": "hide",
             "finds": "find", "takes": "take", "hurries": "hurry", "plays": "play", "waits": "wait", "meets": "meet",
             "smiles": "smile", "cries": "cry",
             "gets": "get", "weeps": "weep", "trembles": "tremble", "hears": "hear", "bounces": "bounce",
             "races": "race", "loses": "lose", "leaps": "leap",
             "does": "do", "carries": "carry", "doesn't": "don't", "brings": "bring", "picks": "pick",
             "holds": "hold"}  # fmt: skip
    for index in range(1, len(words)):
        if words[index - 1] == "they" and words[index] in fixed:
            words[index] = fixed[words[index]]
        if index > 1 and words[index - 2] == "does" and words[index - 1] == "they":
            words[index - 2] = "do"
    return " ".join(words).replace("what does they", "what do they")
