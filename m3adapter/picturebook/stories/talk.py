"""Messages that ask for no story, or for one that cannot be drawn, and the sentence or two that answer them."""

from __future__ import annotations

import random
from collections.abc import Callable

from ...storybook.wording.choose import allowed, capitalised
from ..vocabulary import PLACE_PHRASES
from ..words import article
from ..world import PLACES, SPECIES
from . import lexicon
from . import talk_words as said
from .asking import kind_word, listed, plural
from .tale import Exchange, Split
from .typing import nonsense, typed


class Talk:
    """Exchanges without pictures.

    Args:
        rng: The random numbers.
        split: Whose wordings to use.
    """

    def __init__(self, rng: random.Random, split: Split) -> None:
        self.rng, self.split = rng, split

    def pick(self, items: tuple[str, ...]) -> str:
        """Return a random wording of those that the split may use."""
        return self.rng.choice(allowed(items, self.split))

    def any(self, *, begun: bool) -> Exchange:
        """Return a random exchange; thanks and farewells only after a story has `begun`."""
        kinds: list[tuple[Callable[[], Exchange], int]] = [
            (self.unknown, 34), (self.question, 14), (self.foreign, 9), (self.senseless, 6), (self.hello, 9),
            (self.name, 5),
            (self.able, 9), (self.crowd, 8), (self.long, 5), (self.coat, 5),
        ]  # fmt: skip
        if begun:
            kinds += [(self.thanks, 40), (self.farewell, 14)]
        return self.rng.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]()

    def hello(self) -> Exchange:
        """Greet."""
        answer = self.pick(said.HELLO_ANSWERS)
        return self._exchange(
            self.pick(said.HELLOS), f"{answer} {self._offer()}" if self.rng.random() < 0.4 else answer
        )

    def name(self) -> Exchange:
        """Say who answers."""
        answer = self.pick(said.NAME_ANSWERS)
        return self._exchange(
            self.pick(said.NAMES_ASKED), f"{answer} {self._offer()}" if self.rng.random() < 0.4 else answer
        )

    def able(self) -> Exchange:
        """Say what can be drawn."""
        return self._exchange(self.pick(said.ABLE), self.offering(said.ABLE_ANSWERS))

    def thanks(self) -> Exchange:
        """Take thanks."""
        return self._exchange(self.pick(said.THANKS), self.pick(said.THANKS_ANSWERS))

    def farewell(self) -> Exchange:
        """Say goodbye."""
        return self._exchange(self.pick(said.FAREWELLS), self.pick(said.FAREWELL_ANSWERS))

    def unknown(self) -> Exchange:
        """Refuse an animal, a person or a thing that is not in the picture book."""
        rng = self.rng
        kinds = (lexicon.ANIMALS, lexicon.PEOPLE, lexicon.THINGS, lexicon.OWN, lexicon.SIGHTS)
        items = rng.choices(kinds, (40, 18, 14, 20, 5))[0]
        bare = self.pick(items)
        own = items in (lexicon.OWN, lexicon.SIGHTS)
        thing = bare if own else article(bare)
        named = "that" if own else thing
        species = rng.choice(SPECIES)
        slots = {
            "thing": thing, "bare": bare, "bares": "" if own else plural_of(bare),
            "place": rng.choice(PLACE_PHRASES[rng.choice(PLACES)]),
            "friend": article(kind_word(rng, species, self.split)), "name": lexicon.name(rng, self.split)[0],
        }  # fmt: skip
        message = self.pick(said.OWNS if own else said.ASKED).format_map(slots)
        names = (slots["name"],) if slots["name"] in message else ()
        message = typed(rng, message if rng.random() < 0.5 else capitalised(message), names=names)
        return Exchange(
            message, answer=self.offering(said.REFUSALS, thing=named, thing_c=named[:1].upper() + named[1:])
        )

    def question(self) -> Exchange:
        """Refuse what is no story: questions, letters, code."""
        rng = self.rng
        slots = {
            "country": rng.choice(said.COUNTRIES), "language": rng.choice(("German", "French", "Latin", "Dutch")),
            "n": rng.randrange(2, 30), "m": rng.randrange(2, 5000),
            "title": rng.choice(said.TITLES), "person": rng.choice(said.PERSONS), "other": rng.choice(said.PERSONS),
        }  # fmt: skip
        message = self.pick(rng.choices((said.QUESTIONS, said.PROSE, said.CODE), (5, 2, 3))[0]).format_map(slots)
        return Exchange(message.lower() if rng.random() < 0.15 else message, answer=self.offering(said.OFF))

    def foreign(self) -> Exchange:
        """Ask for English."""
        frames, things = self.rng.choice(list(said.LANGUAGES.values()))
        message = self.pick(frames).format(x=self.rng.choice(things))
        return Exchange(
            message[:1].upper() + message[1:] if self.rng.random() < 0.5 else message,
            answer=self.offering(said.FOREIGN),
        )

    def senseless(self) -> Exchange:
        """Say that a message makes no sense, however long it is."""
        return Exchange(nonsense(self.rng), answer=self.offering(said.SENSELESS))

    def crowd(self) -> Exchange:
        """Refuse more characters than a picture has room for."""
        rng = self.rng
        species = rng.choice(SPECIES)
        if rng.random() < 0.3:
            several = rng.sample(SPECIES, rng.choice((4, 4, 5, 6)))
            what = listed([article(name) for name in several])
        else:
            what = f"{self.pick(said.MANY)} {plural(kind_word(rng, species, self.split))}"
        place = f" {rng.choice(PLACE_PHRASES[rng.choice(PLACES)])}" if rng.random() < 0.4 else ""
        message = rng.choice(
            ("{x}", "{x}", "draw {x}", "Please draw {x}.", "{x}!", "A story about {x}", "I want to see {x}.")
        ).format(x=what + place)
        answer = self.offering(said.CROWDS, three=rng.choice(("two", "three")), as_=plural(species))
        return self._exchange(message, answer)

    def long(self) -> Exchange:
        """Refuse more pictures than a story has."""
        rng = self.rng
        count, species = self.pick(said.PAGES), article(rng.choice(SPECIES))
        pages = rng.choice(("pictures", "panels", "pages", "images", "drawings", "pictures"))
        frames = (
            "a story about {a} in {n} {p}",
            "{n} {p} of {a}",
            "{a}, {n} {p}",
            "Tell me a story in {n} {p}.",
            "Draw {n} {p} about {a}.",
            "make {n} {p} please",
            "{n} {p}: {a}",
            "I need {n} {p} with {a}.",
        )
        message = self.pick(frames).format(a=species, n=count, p=pages)
        few = f"{rng.choice(('three', 'four', 'five', 'six', 'eight'))} pictures"
        return self._exchange(message, self.offering(said.LONG, few=few))

    def coat(self) -> Exchange:
        """Refuse coats that are not in the paint box."""
        rng = self.rng
        species, pattern = rng.choice(SPECIES), self.pick(lexicon.PATTERNS)
        thing = article(f"{pattern} {species}")
        message = self.pick(("{x}", "{x} {place}", "draw {x}", "Please draw {x}.", "{x}!", "A story about {x}",
            "{x} with a hat", "I want {x}")).format(
            x=thing, place=rng.choice(PLACE_PHRASES[rng.choice(PLACES)])
        )  # fmt: skip
        first, second = rng.sample(("red", "orange", "yellow", "green", "blue", "purple", "pink", "grey"), 2)
        return self._exchange(
            message,
            self.offering(said.COATS, thing=thing, coats=f"{article(f'{first} {species}')} or {article(second)} one"),
        )

    def _exchange(self, message: str, answer: str) -> Exchange:
        return Exchange(typed(self.rng, message), answer=answer)

    def _offer(self) -> str:
        return self.offering(
            (
                "Shall I draw {a}?",
                "I could draw {a} {place}.",
                "How about {a} or {b}?",
                "Ask me for {a} {place}, for example.",
            )
        )

    def offering(self, frames: tuple[str, ...], **slots: str) -> str:
        """Fill an answer that offers animals of the picture book."""
        species = self.rng.sample(SPECIES, 3)
        offered = {letter: article(name) for letter, name in zip("abc", species, strict=True)}
        plurals = {key: plural(name) for key, name in zip(("as_", "bs", "cs"), species, strict=True)}
        place = PLACE_PHRASES[self.rng.choice(PLACES)][0]
        number = {"three_c": slots["three"].capitalize()} if "three" in slots else {}
        return capitalised(self.pick(frames).format_map({**offered, **plurals, "place": place, **number, **slots}))


def plural_of(noun: str) -> str:
    """Return the plural of something that is not in the picture book: "wolves", "foxes", "fairies"."""
    irregular = {"wolf": "wolves", "goose": "geese", "man": "men", "woman": "women", "child": "children",
        "fish": "fish", "deer": "deer",
                 "fireman": "firemen", "policeman": "policemen", "snowman": "snowmen", "elf": "elves",
                 "dwarf": "dwarves"}  # fmt: skip
    if noun in irregular:
        return irregular[noun]
    if " of " in noun:
        head, _, rest = noun.partition(" of ")
        return f"{plural_of(head)} of {rest}"
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    return noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeiou" else noun + "s"
