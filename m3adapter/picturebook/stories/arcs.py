"""Stories with an arc: a wish or a trouble, a try or several, and the ending that the premise promised."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ...storybook.wording.choose import capitalised
from .arcs_alone import Alone
from .arcs_together import Together
from .plotting import AND_THEN, IN_PICTURES, NUMBERS, PLAIN, TOPICS, Beat, Plot
from .stage import Actor


class Plotter(Alone, Together):
    """Makes up plots.

    Args:
        rng: The random numbers.
        split: Whose wordings to use.
    """

    def plot(self) -> Plot:
        """Return a plot of one to eight beats whose number the premise may say."""
        rng = self.rng
        count_said = rng.random() < 0.6
        count = rng.choices(range(1, 9), (5, 22, 34, 24, 8, 7, 3, 5))[0] if count_said else rng.choice((3, 4))
        makers: Sequence[Callable[[Actor, int], tuple[str, str, list[Beat]]]] = (
            self._journey, self._lost, self._search, self._comfort, self._courage, self._rest, self._friendship,
                self._learning,
            self._hiding, self._shelter, self._flight, self._sharing,
        )  # fmt: skip
        hero = self._hero()
        maker = rng.choice(makers)
        trouble, ending, beats = maker(hero, count)
        plain = maker in (self._journey, self._rest, self._learning) and beats[0].stage.light == "day"
        vague = plain and rng.random() < 0.4
        if vague:
            premise = self._pick(TOPICS).format(who=self._new(hero))
        elif ending and (count_said or rng.random() < 0.75):
            told = re.match(r"((?:an?|the) (?:little )?\w+) (?!named )(.+)", trouble)
            same = re.match(r"(?:it|he|she) (.+)", ending)
            if told and same and rng.random() < 0.2:  # "a fox who dreams of the sea gets there"
                at_last = rng.choice(("", "finally ", "at last "))
                premise = f"{told[1]} {rng.choice(('who', 'that'))} {told[2]} {at_last}{same[1]}"
            else:
                premise = trouble + rng.choice(AND_THEN) + ending
        else:
            premise = trouble
        number = self._pick(NUMBERS[count])
        pictures = rng.choice(("picture", "picture", "panel", "image", "part", "page", "drawing")) + (
            "" if count == 1 else "s"
        )
        if count_said:
            premise = self._pick(IN_PICTURES).format(x=premise, n=number, n_c=number.capitalize(), p=pictures)
        else:
            premise = self._pick(PLAIN).format(x=premise)
        premise = re.sub(r",(?=[,.!:;])|,$", "", premise)  # after "Milo, a fox,"
        return Plot(capitalised(premise) if rng.random() < 0.7 else premise, tuple(beats), count_said)
