"""Stories with an arc: a wish or a trouble, a try or several, and the ending that the premise promised.

A plot is a list of beats, one for each picture: a stage, and a sentence that tells what the picture cannot show. Its
premise says the wish or the trouble, and often the ending.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ...storybook.wording.choose import allowed, capitalised
from ..vocabulary import PLACE_PHRASES
from ..words import article
from ..world import PLACES, PROPS, SPECIES
from . import lexicon
from .stage import Actor, Stage, new_actor, other, place_for
from .tale import Split

NUMBERS = {1: ("one", "1", "a single"), 2: ("two", "2"), 3: ("three", "3"), 4: ("four", "4"), 5: ("five", "5"), 6: ("six", "6"),
           7: ("seven", "7"), 8: ("eight", "8")}  # fmt: skip
IN_PICTURES = (
    "{x}, in {n} {p}", "{n} {p}: {x}", "{x} ({n} {p})", "{x}. {n_c} {p}.", "Tell it in {n} {p}: {x}", "{x} - {n} {p} please", "Make {n} {p}. {x}",
    "Give me {n} {p} of this: {x}", "{x}, {n} {p}", "I want {n} {p}. {x}", "A story in {n} {p}: {x}", "{x}\n{n} {p}", "Please draw {n} {p}: {x}",
)  # fmt: skip
PLAIN = (
    "{x}",
    "{x}.",
    "{x}",
    "Tell me this story: {x}",
    "Story: {x}",
    "{x}...",
    "A bedtime story: {x}",
    "Please tell how {x}",
    "Once upon a time {x}",
    "{x}!",
    "It goes like this: {x}",
)
TOPICS = (
    "a story about {who}", "{who} having a day out", "{who} on a journey", "an adventure of {who}", "a tale of {who}", "a bedtime story about {who}",
    "something with {who}", "the story of {who}", "a day in the life of {who}", "{who} and what happens then", "a little book about {who}", "about {who}", "{who}",
)  # fmt: skip
AND_THEN = (
    ". In the end ",
    ". At last ",
    " and then ",
    ", but in the end ",
    " and finally ",
    ". Then ",
    ". Finally ",
    ", and at the end ",
)


@dataclass(frozen=True)
class Beat:
    """A picture of a plot, with a sentence before what the picture shows and one after it."""

    stage: Stage
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Plot:
    """A premise and its beats."""

    premise: str
    beats: tuple[Beat, ...]
    count_said: bool = False


class Plotter:
    """Makes up plots.

    Args:
        rng: The random numbers.
        split: Whose wordings to use.
    """

    def __init__(self, rng: random.Random, split: Split) -> None:
        self.rng, self.split = rng, split

    def plot(self) -> Plot:
        """Return a plot of one to eight beats whose number the premise may say."""
        rng = self.rng
        count_said = rng.random() < 0.6
        count = rng.choices(range(1, 9), (5, 22, 34, 24, 8, 7, 3, 5))[0] if count_said else rng.choice((3, 4))
        makers: Sequence[Callable[[Actor, int], tuple[str, str, list[Beat]]]] = (
            self._journey, self._lost, self._search, self._comfort, self._courage, self._rest, self._friendship, self._learning,
            self._hiding, self._shelter, self._flight, self._sharing,
        )  # fmt: skip
        hero = self._hero()
        maker = rng.choice(makers)
        trouble, ending, beats = maker(hero, count)
        vague = rng.random() < 0.2 and maker in (self._journey, self._rest, self._learning)
        if vague:
            premise = self._pick(TOPICS).format(who=self._new(hero))
        elif ending and (count_said or rng.random() < 0.75):
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
        return Plot(capitalised(premise) if rng.random() < 0.7 else premise, tuple(beats), count_said)

    def _pick(self, items: Sequence[str]) -> str:
        return self.rng.choice(allowed(items, self.split))

    def _hero(self) -> Actor:
        hero = new_actor(self.rng, 0, self.rng.choice(SPECIES))
        if self.rng.random() < 0.3:
            name, she = lexicon.name(self.rng, self.split)
            hero = replace(hero, name=name, she=she)
        return hero

    def _friend(self, hero: Actor, *, number: int = 1) -> Actor:
        friend = new_actor(self.rng, number, other(self.rng, SPECIES, hero.character.species))
        if hero.name and self.rng.random() < 0.6:
            name, she = lexicon.name(self.rng, self.split, hero.name)
            friend = replace(friend, name=name, she=she)
        return friend

    def _new(self, actor: Actor) -> str:
        """Return how a premise speaks of somebody: "a fox", "Milo the fox"."""
        species = actor.character.species
        if actor.name:
            return self.rng.choice(
                (
                    f"{actor.name} the {species}",
                    f"{article(species)} named {actor.name}",
                    f"{actor.name}, {article(species)},",
                )
            )
        return self.rng.choice((article(species), article(species), f"a little {species}", f"the {species}"))

    def _it(self, actor: Actor) -> str:
        if actor.name:
            return "she" if actor.she else "he"
        return self.rng.choice(("it", "it", "he", "she"))

    def _tries(self, count: int, stage: Stage, sentences: Sequence[str], actions: Sequence[str]) -> list[Beat]:
        """Return beats between beginning and ending, each at another place with another action."""
        beats: list[Beat] = []
        taken = [stage.place]
        said = self.rng.sample(list(sentences), len(sentences))
        for index in range(count):
            place = other(self.rng, PLACES, *taken)
            taken.append(place)
            stage = replace(stage, place=place).all_now(action=self.rng.choice(list(actions)), mood="calm")
            beats.append(Beat(stage, said[index % len(said)]))
        return beats

    # Each returns the trouble and the ending in the premise's words, and the beats.

    def _journey(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        home, goal = self.rng.sample(PLACES, 2)
        who, it, spot = self._new(hero), self._it(hero), f"the {goal}"
        trouble = self._pick(
            (
                f"{who} wants to see {spot}",
                f"{who} dreams of {spot}",
                f"{who} has never been to {spot}",
                f"{who} sets out for {spot}",
                f"{who} would love to go to {spot}",
                f"{who} longs for {spot}",
            )
        )
        ending = self._pick(
            (
                f"{it} gets there",
                f"{it} is there",
                f"{it} arrives",
                f"{it} reaches {spot}",
                f"{it} sees {spot}",
                f"{it} makes it to {spot}",
            )
        )
        start = Stage((hero,), home)
        name = hero.name or f"the {hero.character.species}"
        first = Beat(
            start,
            after=capitalised(
                self._pick(
                    (
                        f"{name} dreams of {spot}.",
                        f"how far is it to {spot}?",
                        f"{name} wants to see {spot}.",
                        f"{name} has never seen {spot}.",
                        f"one wish is left: to see {spot}.",
                    )
                )
            ),
        )
        tries = self._tries(
            max(0, count - 2),
            start,
            (
                "The way is long.",
                "On and on it goes.",
                "It is still far.",
                "Not there yet!",
                "A little farther now.",
                "Is this it? Not yet.",
            ),
            ("runs", "jumps", "stands", "runs"),
        )
        last = Beat(
            replace(start, place=goal).all_now(mood="happy", action=self.rng.choice(("stands", "jumps"))),
            self._pick(("At last!", "There it is!", "What a moment!", "Finally!", "The wish has come true.")),
        )
        return trouble, ending, self._fit(count, first, tries, last)

    def _lost(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        place, home = self.rng.sample(PLACES, 2)
        helper = self._friend(hero) if self.rng.random() < 0.6 else None
        who, it = self._new(hero), self._it(hero)
        where = self._pick(PLACE_PHRASES[place])
        trouble = self._pick(
            (
                f"{who} is lost {where}",
                f"{who} cannot find the way home {where}",
                f"{who} has lost its way {where}",
                f"{who} got lost {where}",
                f"{who} does not know where home is",
            )
        )
        if "home is" in trouble:
            trouble += f" and cries {where}"
        ending = (
            self._pick(
                (
                    f"{self._new(helper)} shows the way home to the {home}",
                    f"{self._new(helper)} brings {it.replace('he', 'him') if it == 'he' else 'her' if it == 'she' else 'it'} home to the {home}",
                    f"{self._new(helper)} helps and they get to the {home}",
                )
            )
            if helper
            else self._pick(
                (
                    f"{it} is home at the {home}",
                    f"{it} finds the {home}",
                    f"{it} gets home to the {home}",
                    f"{it} sees the {home}, home again",
                )
            )
        )
        start = Stage((hero.now(mood="sad"),), place)
        first = Beat(
            start,
            after=self._pick(
                (
                    "Which way is home?",
                    "Where is the way home?",
                    "Everything looks the same here.",
                    "Nobody knows the way.",
                    "Home is far away.",
                )
            ),
        )
        tries = self._tries(
            max(0, count - 2 - bool(helper)),
            start,
            (
                "Is home over there? No.",
                "Perhaps this way?",
                "It looks left and right.",
                "This is not home, either.",
                "On with the search!",
            ),
            ("runs", "stands", "runs"),
        )
        if helper and count > 2:
            at = tries[-1].stage.place if tries else place
            tries.append(
                Beat(
                    Stage((hero.now(action="stands"), helper), at),
                    self._pick(
                        (
                            "Help has come!",
                            "Somebody knows the way.",
                            "There is help!",
                            "What luck!",
                            "“I know the way!” says somebody.",
                        )
                    ),
                )
            )
        actors = (hero.now(mood="happy"), helper.now(mood="happy")) if helper else (hero.now(mood="happy"),)
        return (
            trouble,
            ending,
            self._fit(
                count,
                first,
                tries,
                Beat(
                    Stage(actors, home),
                    self._pick(
                        (
                            "Home at last!",
                            "There is home!",
                            "That is home!",
                            "The way was long, but here is home.",
                            "Home, sweet home!",
                        )
                    ),
                ),
            ),
        )

    def _search(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        prop = self.rng.choice(PROPS)
        helper = self._friend(hero) if self.rng.random() < 0.35 else None
        places = self.rng.sample(PLACES, 2)
        who, it, thing = self._new(hero), self._it(hero), f"the {prop}"
        own = f"{'his' if it == 'he' else 'her' if it == 'she' else 'its'} {prop}"
        where = self.rng.choice(("", f" {self._pick(PLACE_PHRASES[places[0]])}"))
        trouble = self._pick(
            (
                f"{who} loses {own}{where}",
                f"{who} has lost {own}{where}",
                f"{who} is looking for {own}{where}",
                f"{who} cannot find {own}{where}",
                f"{who} misses {own}{where}",
                f"{who} searches everywhere for {article(prop)}{where}",
            )
        )
        ending = (
            self._pick(
                (
                    f"{self._new(helper)} finds it",
                    f"{self._new(helper)} brings it back",
                    f"{self._new(helper)} has the {prop}",
                )
            )
            if helper
            else self._pick(
                (
                    f"{it} finds it",
                    f"{it} finds the {prop}",
                    f"the {prop} is found",
                    f"there it is",
                    f"{it} has the {prop} again",
                )
            )
        )
        start = Stage((hero.now(mood="sad"),), places[0])
        name = hero.name or f"the {hero.character.species}"
        first = Beat(
            start,
            after=capitalised(
                self._pick(
                    (
                        f"{thing} is gone!",
                        f"where is {thing}?",
                        f"{name} has lost {thing}.",
                        f"{name} misses {thing}.",
                        f"{thing} is nowhere to be seen.",
                    )
                )
            ),
        )
        tries = self._tries(
            max(0, count - 2),
            start,
            (
                f"No {prop} far and wide.",
                f"Is {thing} here? No.",
                "The search goes on.",
                f"{thing.capitalize()} is not here.",
                "Not here, either!",
            ),
            ("runs", "stands", "jumps"),
        )
        end_place = tries[-1].stage.place if tries and self.rng.random() < 0.5 else places[0]
        if helper:
            last = Stage((hero.now(mood="happy"), helper.now(action="holds", held=prop)), end_place)
        else:
            last = Stage((hero.now(mood="happy", action="holds", held=prop),), end_place)
        return (
            trouble,
            ending,
            self._fit(
                count,
                first,
                tries,
                Beat(
                    last,
                    self._pick(
                        (
                            f"Here is {thing}!",
                            f"{thing.capitalize()} is found!",
                            "The search is over!",
                            f"Look, {thing}!",
                            "Hooray!",
                        )
                    ),
                ),
            ),
        )

    def _comfort(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        prop = self.rng.choice(PROPS)
        place = self.rng.choice(PLACES)
        who, it = self._new(hero), self._it(hero)
        trouble = self._pick(
            (
                f"{who} is sad",
                f"{who} is very unhappy",
                f"{who} cries all day",
                f"{who} has a bad day",
                f"{who} is in tears",
                f"{who} feels sad",
            )
        )
        ending = self._pick(
            (
                f"{it} gets {article(prop)} and is happy again",
                f"{it} finds {article(prop)} and smiles",
                f"{article(prop)} makes everything good",
                f"{article(prop)} cheers {'him' if it == 'he' else 'her' if it == 'she' else 'it'} up",
                f"{it} laughs because of {article(prop)}",
            )
        )
        start = Stage((hero.now(mood="sad"),), place)
        first = Beat(
            start,
            after=self._pick(
                (
                    "What a bad day.",
                    "Nothing is any fun.",
                    "Who can help?",
                    "Even the best place looks grey today.",
                    "If only something nice would happen!",
                )
            ),
        )
        tries = [
            replace(beat, stage=beat.stage.all_now(mood="sad"))
            for beat in self._tries(
                max(0, count - 2),
                start,
                (
                    "A walk does not help.",
                    "It does not get better.",
                    "No luck today.",
                    "Not even this is fun.",
                    "Still no smile.",
                ),
                ("stands", "runs", "hides"),
            )
        ]
        last = replace(start, actors=(hero.now(mood="happy", action="holds", held=prop),))
        return (
            trouble,
            ending,
            self._fit(
                count,
                first,
                tries,
                Beat(
                    last,
                    self._pick(
                        (
                            "What a surprise!",
                            f"But look, {article(prop)}!",
                            "All the tears are gone.",
                            "Now everything is good.",
                            "And the sadness is over.",
                        )
                    ),
                ),
            ),
        )

    def _courage(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        fear = self.rng.choice(("rain", "snow", "dark"))
        sky = {"rain": {"weather": "rain"}, "snow": {"weather": "snow"}, "dark": {"light": "night"}}[fear]
        who, it = self._new(hero), self._it(hero)
        trouble = self._pick(
            (
                f"{who} is afraid of the {fear}",
                f"{who} fears the {fear}",
                f"{who} is scared of the {fear}",
                f"{who} does not dare to go out in the {fear}",
                f"{who} hates the {fear}",
                f"{who} hides from the {fear}",
            )
        )
        ending = self._pick(
            (
                f"{it} learns to love it",
                f"{it} is not afraid any more",
                f"{it} loves the {fear}",
                f"{it} dances in the {fear}",
                f"{it} is brave and happy",
                f"{it} likes it",
            )
        )
        start = Stage(
            (hero.now(mood="afraid", action=self.rng.choice(("hides", "stands"))),), self.rng.choice(PLACES), **sky
        )
        first = Beat(
            start,
            after=self._pick(
                (
                    "If only it were over!",
                    "What was that sound?",
                    "Is there something out there?",
                    "How long will it last?",
                    "It is not easy to be brave.",
                )
            ),
        )
        steps = (
            "One small step.",
            "Perhaps it is not so bad.",
            "A deep breath, and on.",
            "Brave, braver, bravest!",
            "Nothing bad happens.",
        )
        tries = [
            replace(beat, stage=replace(beat.stage, place=start.place))
            for beat in self._tries(max(0, count - 2), start, steps, ("stands", "runs", "jumps"))
        ]
        last = start.all_now(mood="happy", action=self.rng.choice(("jumps", "runs", "stands")))
        return (
            trouble,
            ending,
            self._fit(
                count,
                first,
                tries,
                Beat(
                    last,
                    self._pick(
                        (
                            f"The {fear} is wonderful!",
                            "Nothing to be afraid of!",
                            f"Who is afraid of the {fear}? Nobody!",
                            "Now that is brave.",
                            "The fear is gone.",
                        )
                    ),
                ),
            ),
        )

    def _rest(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        place = self.rng.choice(PLACES)
        night = self.rng.random() < 0.4
        who, it = self._new(hero), self._it(hero)
        trouble = self._pick(
            (
                f"{who} cannot sleep",
                f"{who} is not tired at all",
                f"{who} does not want to go to bed",
                f"{who} is wide awake",
                f"{who} tries to fall asleep",
                f"{who} looks for a place to sleep",
            )
        ) + (" at night" if night else "")
        ending = self._pick(
            (f"{it} falls asleep", f"{it} sleeps", f"{it} is fast asleep", f"{it} goes to bed", f"{it} sleeps well")
        )
        start = Stage((hero,), place, light="night" if night else "day")
        first = Beat(
            start,
            after=self._pick(
                (
                    "Sleep will not come.",
                    "How does one fall asleep?",
                    "Wide awake!",
                    "Is anybody tired? Not yet.",
                    "No yawn, not even a small one.",
                )
            ),
        )
        tries = self._tries(
            max(0, count - 2),
            start,
            ("Perhaps this makes one tired.", "Not tired yet!", "One more round.", "A yawn, at last.", "And now?"),
            ("jumps", "runs", "jumps", "stands"),
        )
        return (
            trouble,
            ending,
            self._fit(
                count,
                first,
                tries,
                Beat(
                    start.all_now(action="sleeps"),
                    self._pick(
                        (
                            "Now it is time to rest.",
                            "The eyes fall shut.",
                            "What a day!",
                            "Good night!",
                            "At last, sleep.",
                        )
                    ),
                ),
            ),
        )

    def _friendship(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        friend, place = self._friend(hero), self.rng.choice(PLACES)
        who, it = self._new(hero), self._it(hero)
        trouble = self._pick(
            (
                f"{who} is lonely",
                f"{who} has no friends",
                f"{who} is all alone and sad",
                f"{who} wants a friend",
                f"{who} looks for somebody to play with",
            )
        )
        ending = self._pick(
            (
                f"{it} meets {self._new(friend)}",
                f"{self._new(friend)} becomes a friend",
                f"{it} finds a friend, {self._new(friend)}",
                f"{self._new(friend)} comes to play",
                f"{it} plays with {self._new(friend)}",
            )
        )
        start = Stage((hero.now(mood="sad"),), place)
        first = Beat(
            start,
            after=self._pick(
                (
                    "Nobody is there to play.",
                    "All alone!",
                    "How nice a friend would be!",
                    "It is quiet, too quiet.",
                    "Is there nobody?",
                )
            ),
        )
        tries = [
            replace(beat, stage=beat.stage.all_now(mood="sad"))
            for beat in self._tries(
                max(0, count - 2),
                start,
                (
                    "Nobody here, either.",
                    "Hello? No answer.",
                    "Still alone.",
                    "Where are all the others?",
                    "On and on, all alone.",
                ),
                ("stands", "runs"),
            )
        ]
        at = tries[-1].stage.place if tries else place
        last = Stage((hero.now(mood="happy", action="stands"), friend.now(mood="happy")), at)
        if self.rng.random() < 0.4:
            last = last.all_now(action="jumps")
        return (
            trouble,
            ending,
            self._fit(
                count,
                first,
                tries,
                Beat(
                    last,
                    self._pick(
                        (
                            "Friends for ever!",
                            "Not alone any more!",
                            "“Shall we play?”",
                            "That is what a friend is.",
                            "Now there are two.",
                        )
                    ),
                ),
            ),
        )

    def _learning(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        action = self.rng.choice(("swims", "jumps", "runs"))
        verb = {"swims": "swim", "jumps": "jump", "runs": "run fast"}[action]
        place = place_for(self.rng, action)
        who, it = self._new(hero), self._it(hero)
        trouble = self._pick(
            (
                f"{who} wants to learn to {verb}",
                f"{who} cannot {verb}",
                f"{who} wishes to {verb}",
                f"{who} is too shy to {verb}",
                f"{who} would like to {verb}",
            )
        )
        ending = self._pick(
            (
                f"{it} can do it",
                f"{it} {action}",
                f"{it} learns to {verb}",
                f"{it} dares to {verb}",
                f"{it} {action} and is happy",
            )
        )
        start = Stage((hero,), place)
        name = hero.name or f"the {hero.character.species}"
        first = Beat(
            start,
            after=capitalised(
                self._pick(
                    (
                        f"{name} wants to {verb}.",
                        f"can {name} learn to {verb}?",
                        f"to {verb} is not easy.",
                        f"how do the others {verb}?",
                        f"{name} has never dared to {verb}.",
                    )
                )
            ),
        )
        steps = (
            "The first try fails.",
            "Once more!",
            "Nearly!",
            "Practice makes perfect.",
            "It is not as easy as it looks.",
            "Do not give up!",
        )
        moods = ("afraid", "sad", "calm")
        tries = [
            replace(beat, stage=replace(beat.stage, place=place).all_now(mood=self.rng.choice(moods)))
            for beat in self._tries(max(0, count - 2), start, steps, ("stands", "stands", "hides"))
        ]
        return (
            trouble,
            ending,
            self._fit(
                count,
                first,
                tries,
                Beat(
                    start.all_now(action=action, mood="happy"),
                    self._pick(
                        (
                            "It works!",
                            "Who would have thought it!",
                            "Look at that!",
                            "Hooray!",
                            "And suddenly it is easy.",
                        )
                    ),
                ),
            ),
        )

    def _hiding(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        friend, place = self._friend(hero), self.rng.choice(PLACES)
        first_name, second = self._new(hero), self._new(friend)
        where = self._pick(PLACE_PHRASES[place])
        trouble = self._pick(
            (
                f"{first_name} and {second} play hide and seek {where}",
                f"{first_name} hides from {second} {where}",
                f"{second} is looking for {first_name} {where}",
                f"a game of hide and seek {where} with {first_name} and {second}",
                f"{second} seeks, {first_name} hides {where}",
            )
        )
        ending = self._pick(
            (
                f"{friend.name or 'the ' + friend.character.species} finds {hero.name or 'the ' + hero.character.species}",
                "both are happy",
                "they laugh together",
                "the game is over and they jump for joy",
                "everybody is found",
            )
        )
        start = Stage((hero, friend), place)
        first = Beat(
            start.with_hero(hero.now(action="hides")),
            self._pick(
                (
                    "Let the game begin!",
                    "One, two, three, I am coming!",
                    "Who is the better one at this game?",
                    "Close your eyes and count!",
                    "A game begins.",
                )
            ),
        )
        tries: list[Beat] = []
        for index in range(max(0, count - 2)):
            seeker = replace(
                start, actors=(hero.now(action="hides"), friend.now(action="runs" if index % 2 == 0 else "stands"))
            )
            tries.append(
                Beat(
                    seeker,
                    self._pick(
                        (
                            "Where can it be?",
                            "Left? Right? Nobody.",
                            "Warm, warmer...",
                            "The search takes a while.",
                            "So close!",
                        )
                    ),
                )
            )
        last = start.all_now(mood="happy", action=self.rng.choice(("stands", "jumps")))
        return (
            trouble,
            ending,
            self._fit(
                count,
                first,
                tries,
                Beat(last, self._pick(("Found!", "There you are!", "What a good game!", "Got you!", "Again, again!"))),
            ),
        )

    def _shelter(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        weather, place = self.rng.choice(("rain", "snow")), self.rng.choice(PLACES)
        cover = other(self.rng, PLACES, place)
        verb = {"rain": "rains", "snow": "snows"}[weather]
        who, it = self._new(hero), self._it(hero)
        trouble = self._pick(
            (
                f"it {verb} and {who} runs away",
                f"{who} runs from the {weather}",
                f"{who} does not like the {weather} and runs",
                f"{who} runs home because it {verb}",
                f"when it {verb}, {who} runs",
            )
        )
        ending = self._pick(
            (
                f"{it} hides at the {cover} until the night",
                f"{it} hides at the {cover}",
                f"{it} sleeps at the {cover}",
                f"{it} finds a dry place at the {cover}",
            )
        )
        start = Stage((hero.now(action="runs"),), place, weather=weather)
        first = Beat(
            start,
            self._pick(
                (
                    "Quick, quick!",
                    "Nobody likes to get wet.",
                    "Away from here!",
                    "What weather!",
                    "Home, as fast as possible!",
                )
            ),
        )
        tries = [
            replace(beat, stage=replace(beat.stage, weather=weather))
            for beat in self._tries(
                max(0, count - 2),
                start,
                ("On and on!", "Where is a good place?", "Not here.", "It does not stop.", "Still so far to go."),
                ("runs", "runs", "jumps"),
            )
        ]
        last = replace(start, place=cover).all_now(action="sleeps" if "sleeps" in ending else "hides")
        last = replace(last, light="night") if "night" in ending else last
        return (
            trouble,
            ending,
            self._fit(
                count,
                first,
                tries,
                Beat(
                    last,
                    self._pick(
                        (
                            "Safe at last!",
                            "A good place to stay.",
                            "Here it is dry.",
                            "That was close!",
                            "Let the weather do what it likes.",
                        )
                    ),
                ),
            ),
        )

    def _flight(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        prop = self.rng.choice(("balloon", "kite", "rocket", "umbrella"))
        who, it = self._new(hero), self._it(hero)
        sky = self.rng.choice(("the moon", "the stars", "the clouds", "the sky"))
        trouble = self._pick(
            (
                f"{who} wants to fly to {sky}",
                f"{who} dreams of flying",
                f"{who} wants to touch {sky}",
                f"{who} wishes to see {sky} from close by",
                f"{who} tries to fly",
            )
        )
        ending = self._pick(
            (
                f"{it} flies with {article(prop)}",
                f"{article(prop)} carries {'him' if it == 'he' else 'her' if it == 'she' else 'it'} up",
                f"{it} takes {article(prop)}",
                f"{it} finds {article(prop)}",
                f"{article(prop)} helps",
            )
        )
        start = Stage((hero,), self.rng.choice(PLACES))
        name = hero.name or f"the {hero.character.species}"
        first = Beat(
            start,
            after=capitalised(
                self._pick(
                    (
                        f"{name} wants to fly.",
                        f"how does one fly to {sky}?",
                        f"{name} dreams of {sky}.",
                        f"{sky} is so far away!",
                        "flying must be wonderful.",
                    )
                )
            ),
        )
        tries = self._tries(
            max(0, count - 2),
            start,
            (
                "Higher, even higher!",
                "That was not high enough.",
                "Without wings it is hard.",
                "Run, jump, and... no.",
                "Once more!",
            ),
            ("jumps", "runs"),
        )
        last = Stage(
            (hero.now(action="holds", held=prop, mood="happy"),), tries[-1].stage.place if tries else start.place
        )
        return (
            trouble,
            ending,
            self._fit(
                count,
                first,
                tries,
                Beat(
                    last,
                    self._pick(
                        (
                            "Up and away!",
                            "It is flying!",
                            f"With {article(prop)} it works.",
                            "Goodbye, ground!",
                            f"{sky.capitalize()} is coming closer.",
                        )
                    ),
                ),
            ),
        )

    def _sharing(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        friend, prop, place = self._friend(hero), self.rng.choice(PROPS), self.rng.choice(PLACES)
        first_name, second = self._new(hero), self._new(friend)
        trouble = self._pick(
            (
                f"{first_name} has {article(prop)} and {second} has none",
                f"{first_name} brings {article(prop)} for {second}",
                f"{first_name} and {second} both want the {prop}",
                f"{second} is sad and {first_name} has {article(prop)}",
                f"{first_name} finds {article(prop)} that {second} has lost",
            )
        )
        ending = self._pick(
            (
                f"they share the {prop}",
                "they share",
                "both are happy",
                "they are friends",
                f"both are happy about the {prop}",
            )
        )
        start = Stage((hero.now(action="holds", held=prop), friend), place)
        first = Beat(
            replace(start, actors=(start.hero, friend.now(mood="sad"))),
            after=self._pick(
                (
                    f"There is only one {prop}.",
                    "What to do?",
                    "One for two, how can that be?",
                    f"Whose {prop} is it?",
                    "Somebody looks sad.",
                )
            ),
        )
        tries = self._tries(
            max(0, count - 2),
            replace(start, actors=(hero, friend)),
            (
                "They think about it.",
                "Perhaps there is a way.",
                "A long walk, and a good talk.",
                "Side by side, they think.",
                "What would a friend do?",
            ),
            ("stands", "runs"),
        )
        tries = [replace(beat, stage=replace(beat.stage, place=place, props=(prop,))) for beat in tries]
        last = Stage((hero.now(mood="happy"), friend.now(mood="happy")), place, props=(prop,))
        return (
            trouble,
            ending,
            self._fit(
                count,
                first,
                tries,
                Beat(
                    last,
                    self._pick(
                        (
                            "Sharing is best!",
                            f"Now the {prop} is for both.",
                            "What is shared is twice as good.",
                            "All is well.",
                            "One for two is enough.",
                        )
                    ),
                ),
            ),
        )

    def _fit(self, count: int, first: Beat, tries: list[Beat], last: Beat) -> list[Beat]:
        """Return as many beats as there are pictures: a single one is the ending."""
        return [last] if count == 1 else [first, *tries[: count - 2], last]
