"""The sentences of the assistant's paragraphs: they tell all that the picture's caption says, and nothing else.

Slots: {who} ("a fox", "the fox", "Milo"), {does} ("is sleeping"), {place} ("in the forest"), {it} for whom it is about.
[one|several] are alternatives for one actor or several.
"""

from __future__ import annotations

import random
from collections.abc import Collection

from ...storybook.wording.choose import allowed, capitalised, fill
from ..vocabulary import PLACE_PHRASES
from ..words import article
from ..world import ROCKY
from .asking import listed, plural
from .stage import Actor, Stage
from .tale import Split

FIRST = (
    "{place}, {who} {does}.", "{who} {does} {place}.", "here [is|are] {who} {place}. {it} {does}.",
    "one day, {who} {does} {place}.", "look {place}: {who} {does}!", "{place} we find {who}. {it} {does}.",
    "once upon a time there [was|were] {who} {place}. {it} {does}.", "our story begins {place}, where {who} {does}.",
    "do you see {who} {place}? {it} {does}.", "{place}, not far from here, {who} {does}.",
    "this is the story of {who} {place}. {it} {does}.", "see how {who} {does} {place}!",
    "{who}! {it} {does} {place}.",
)  # fmt: skip
FIRST_STILL = (
    "{place}, {who} [is|are] waiting for an adventure.", "here [is|are] {who} {place}.",
    "{who} [looks|look] around {place}.", "once upon a time there [was|were] {who} {place}.",
    "{place} [lives|live] {who}.", "this is the story of {who} {place}.",
    "{who} [has|have] come all the way to be {place}.", "{place}, {who} [stands|stand] still and [listens|listen].",
    "do you see {who} {place}?", "look, {who} {place}!", "today {who} [is|are] {place}.",
    "meet {who}, at home {place}.",
)  # fmt: skip
NEXT = (
    "now {who} {does} {place}.", "{place}, {who} {does}.", "{who} {does} {place}.", "then {who} {does} {place}.",
    "look {place}: {who} {does}!", "and {who} {does} {place}.", "see how {who} {does} {place}.",
    "soon {who} {does} {place}.", "this time {who} {does} {place}.",
)  # fmt: skip
NEXT_STILL = (
    "now {who} [is|are] {place}.", "here [is|are] {who} {place}.", "{who} [looks|look] around {place}.",
    "{place}, {who} [takes|take] a deep breath.", "{place} [stands|stand] {who}.", "{who} [stands|stand] {place}.",
    "{who} [stays|stay] {place} for a while.", "and here [is|are] {who}, {place}.",
    "{place}, {who} [stands|stand] very still.", "there {who} [is|are], {place}.",
)  # fmt: skip
LIGHTS = {
    "day": ("The sun is up.", "It is day.", "It is a new day.", "It is bright day."),
    "sunset": ("It is evening.", "The sun is setting.", "The sky glows at sunset.", "The evening sun is low.",
         "The day comes to its end."),
    "night": ("It is night.", "The moon is out.", "It is dark, and the stars are out.", "The night is quiet.",
         "Night has come."),
}  # fmt: skip
WEATHERS = {
    "clear": ("The weather is fine.", "The sky is clear.", "There is not a cloud in the sky.", "What fine weather!"),
    "rain": ("It is raining.", "Rain is falling.", "It rains and rains.", "Raindrops fall all around.",
         "The rain goes drip, drop."),
    "snow": ("It is snowing.", "Snow is falling.", "Everything is white with snow.", "Snowflakes dance in the air.",
         "The snow is deep and soft."),
}  # fmt: skip
BESIDE = (
    "Beside {them} there is {props}.", "There is {props} close by.", "{props} is right there, too.",
    "And look, {props}!", "Next to {them} we see {props}.",
)  # fmt: skip
WORN = {
    "scarf": ("wears a scarf", "has a scarf on"), "hat": ("wears a hat", "has a hat on"),
    "glasses": ("wears glasses", "has glasses on"), "none": ("wears nothing special", "has nothing special on"),
}  # fmt: skip
MOODS = {
    "happy": ("{name} is happy.", "How happy {name} is!", "{name} smiles.", "{name} has a big smile.",
         "{name} could not be happier."),
    "sad": ("{name} is sad.", "A tear runs down {name_s} cheek.", "{name} feels sad.", "{name} is crying.",
         "Poor thing, {name} is so sad."),
    "afraid": ("{name} is afraid.", "{name} is scared.", "How afraid {name} is!", "{name} trembles with fear.",
         "{name} feels frightened."),
    "calm": ("{name} is calm.", "{name} is quiet again."),
}  # fmt: skip
# What might be added, by action; it brings nothing that a picture would have to show.
CODAS = {
    "stands": ("What will happen next?", "Everything is quiet.", "It is a good place to be.",
         "There is so much to see.", "A story is in the air."),
    "sleeps": ("Shh, not a sound!", "Sweet dreams!", "Somebody snores very softly.", "Good night!",
         "What a long day it was."),
    "jumps": ("Hop, hop, hop!", "Higher and higher!", "Up, and down again!", "What a jump!", "One, two, three, hop!"),
    "runs": ("Faster and faster!", "Nobody can catch up.", "How quick that is!", "There is no time to lose.",
         "Off like the wind!"),
    "swims": ("Splash!", "The water is lovely.", "What fun it is to swim!", "Splish, splash!",
         "The water is cool and clear."),
    "holds": ("It is a real treasure.", "How carefully it is carried!", "Nothing is better than that.",
         "It must not get lost.", "What a find!"),
    "hides": ("Can you see anybody?", "Nobody must know.", "Psst, not a word!", "What a good hiding place!",
         "Quiet now!"),
}  # fmt: skip
DOES = {
    "stands": (("stands still", "stand still"), ("waits", "wait"), ("is waiting", "are waiting"),
         ("stands there", "stand there")),
    "sleeps": (("is sleeping", "are sleeping"), ("sleeps", "sleep"), ("is fast asleep", "are fast asleep"),
         ("takes a nap", "take a nap"), ("is asleep", "are asleep")),
    "jumps": (("is jumping", "are jumping"), ("jumps", "jump"), ("jumps up and down", "jump up and down"),
         ("leaps into the air", "leap into the air"), ("jumps high", "jump high")),
    "runs": (("is running", "are running"), ("runs", "run"), ("runs along", "run along"),
         ("runs very fast", "run very fast"), ("hurries along", "hurry along")),
    "swims": (("is swimming", "are swimming"), ("swims", "swim"), ("splashes in the water", "splash in the water"),
         ("goes for a swim", "go for a swim"), ("paddles in the water", "paddle in the water")),
    "holds": (("is holding {held}", "are holding {held}"), ("holds {held}", "hold {held}"),
         ("carries {held}", "carry {held}"), ("is carrying {held}", "are carrying {held}"),
         ("holds up {held}", "hold up {held}")),
    "hides": (("is hiding behind {cover}", "are hiding behind {cover}"),
         ("hides behind {cover}", "hide behind {cover}"), ("is hiding", "are hiding"), ("hides", "hide"),
         ("peeks out from behind {cover}", "peek out from behind {cover}")),
}  # fmt: skip
ACKS = (
    "Gladly!", "Of course.", "Here you are.", "With pleasure.", "All right.", "Yes!", "Done.", "As you wish.",
    "Like this?", "Sure.", "That is easy.", "Good idea.",
)  # fmt: skip


class Teller:
    """Writes the paragraph of a stage.

    Args:
        rng: Chooses the wordings.
        split: Whose wordings to use.
    """

    def __init__(self, rng: random.Random, split: Split) -> None:
        self.rng, self.split = rng, split
        self._said: list[str] = []  # the sentences of the last paragraphs
        self._worn: dict[int, tuple[str, str]] = {}  # look and accessory that were told of each actor

    def fresh(self, items: Collection[str]) -> str:
        """Return a random sentence that the split may use, none of the last ones if there are others."""
        usable = allowed(tuple(items), self.split)
        started = {text.split(" ")[0] for text in self._said[-1:]}
        new = [item for item in usable if item not in self._said and item.split(" ")[0] not in started] or usable
        chosen = self.rng.choice(new)
        self._said = [*self._said, chosen][-9:]
        return chosen

    def forget(self) -> None:
        """Begin a new story, with new characters."""
        self._worn = {}

    def pick(self, items: Collection[str]) -> str:
        """Return a random wording of those that the split may use."""
        return self.rng.choice(allowed(tuple(items), self.split))

    def paragraph(
        self, stage: Stage, known: Collection[int] = (), *, before: str = "", after: str = "", coda: bool = True
    ) -> str:
        """Return a paragraph that tells what the stage shows.

        Args:
            stage: What the picture shows.
            known: The numbers of the actors that the story has told of before.
            before: Sentences to begin with.
            after: Sentences to end with, in place of a coda.
            coda: Whether a sentence of no consequence may follow.
        """
        sentences = [before] if before else []
        started = any(actor.number in known for actor in stage.actors)
        sentences.append(self._main(stage, known, started))
        sentences += self._rest(stage)
        if after:
            sentences.append(after)
        elif coda and stage.hero.character.mood in ("calm", "happy") and self.rng.random() < 0.4:
            sentences.append(self.fresh(CODAS[stage.hero.character.action]))
        return " ".join(sentences)

    def who(self, actor: Actor, known: Collection[int] = (), *, other: bool = False) -> str:
        """Return how a paragraph speaks of an actor: "a fox", "the blue fox", "Milo the fox", "Milo"."""
        seen = actor.number in known
        noun = actor.character.species
        if "look" in actor.said and not (seen and actor.name):
            noun = f"{actor.character.look} {noun}"
        if actor.name:
            return actor.name if seen else f"{actor.name} the {noun}"
        return f"the {noun}" if seen else f"another {noun}" if other else article(noun)

    def everybody(self, stage: Stage, known: Collection[int] = ()) -> str:
        """Return how a paragraph speaks of all actors: "two foxes", "the fox and an owl"."""
        actors = stage.actors
        plain = not any(actor.name or "look" in actor.said for actor in actors)
        if len(actors) > 1 and plain and len({actor.character.species for actor in actors}) == 1:
            number = {2: "two", 3: "three"}[len(actors)]
            many = plural(actors[0].character.species)
            seen = [actor.number in known for actor in actors]
            return f"the {number} {many}" if all(seen) else f"{number} {many}"
        species: set[str] = set()
        parts = []
        for actor in actors:
            parts.append(self.who(actor, known, other=actor.character.species in species))
            species.add(actor.character.species)
        text = listed(parts)
        if plain:
            for kind in species:
                text = text.replace(f"{article(kind)}, another {kind}", f"two {plural(kind)}")
                text = text.replace(f"the {kind}, the {kind}", f"the two {plural(kind)}")
        return text

    def _does(self, actor: Actor, stage: Stage, several: bool) -> str:
        cover = "a rock" if stage.place in ROCKY else "a bush"
        held = article(actor.character.held) if actor.character.held else ""
        return self.pick([forms[several] for forms in DOES[actor.character.action]]).format(held=held, cover=cover)

    def _main(self, stage: Stage, known: Collection[int], started: bool) -> str:
        actors, several = stage.actors, len(stage.actors) > 1
        place = self.rng.choice([phrase for phrase in PLACE_PHRASES[stage.place][:3] if stage.place in phrase])
        doing = {(actor.character.action, actor.character.held) for actor in actors}
        slots = {"who": self.everybody(stage, known), "place": place, "it": "they" if several else _it(stage.hero)}
        if len(doing) == 1:
            still = stage.hero.character.action == "stands"
            frames = (NEXT_STILL if still else NEXT) if started else (FIRST_STILL if still else FIRST)
            slots["does"] = "" if still else self._does(stage.hero, stage, several)
            return fill(self.pick(frames), slots, plural=several)
        parts: list[str] = []
        species: set[str] = set()
        done: set[int] = set()
        for actor in actors:
            alike = [one for one in actors if not one.name and _alike(one, actor)]
            if actor.number in done:
                continue
            if len(alike) > 1 and not actor.name:
                seen = all(one.number in known for one in alike)
                name = f"{'the ' if seen else ''}two {plural(actor.character.species)}"
                done |= {one.number for one in alike}
            else:
                name = self.who(actor, known, other=actor.character.species in species)
            species.add(actor.character.species)
            parts.append(f"{name} {self._does(actor, stage, len(alike) > 1 and not actor.name)}")
        return capitalised(f"{place}, {listed(parts)}.")

    def _rest(self, stage: Stage) -> list[str]:
        """Say what the first sentence did not say: moods, clothes, light, weather and things."""
        sentences: list[str] = []
        alone = len(stage.actors) == 1
        moods = {actor.character.mood for actor in stage.actors}
        if not alone and len(moods) == 1 and moods <= {"happy", "sad", "afraid"}:
            sentences.append(f"{'All' if len(stage.actors) > 2 else 'Both'} of them are {moods.pop()}.")
        else:
            for actor in stage.actors:
                if "mood" in _told(actor):
                    name = _it(actor) if alone else actor.name or f"the {actor.character.species}"
                    whose = {"it": "its", "he": "his", "she": "her"}.get(name, f"{name}'s")
                    sentences.append(
                        capitalised(self.fresh(MOODS[actor.character.mood]).format(name=name, name_s=whose))
                    )
        for actor in stage.actors:
            name = _it(actor) if alone else actor.name or f"the {actor.character.species}"
            look, accessory = actor.character.look, actor.character.accessory
            told = self._worn.get(actor.number, ("", ""))
            self._worn[actor.number] = (look, accessory)
            if "look" in actor.said and actor.name and told[0] not in ("", look):
                sentences.append(capitalised(f"{name} is {look} now."))
            if "accessory" in actor.said and (told[1] != accessory or accessory != "none" and self.rng.random() < 0.4):
                sentences.append(capitalised(f"{name} {self.pick(WORN[actor.character.accessory])}."))
            if "facing" in actor.said:
                sentences.append(capitalised(f"{name} looks to the {actor.character.facing}."))
            if "near" in actor.said:
                where = "very close to us" if actor.character.near else "far away"
                everybody = all(
                    "near" in one.said and one.character.near == actor.character.near for one in stage.actors
                )
                whose = "they are" if everybody and not alone else f"{name} is"
                sentences.append(capitalised(f"{whose} {where}."))
        sentences = list(dict.fromkeys(sentences))
        facts = stage.said().scene
        if "light" in facts:
            sentences.append(self.fresh(LIGHTS[stage.light]))
        if "weather" in facts:
            sentences.append(self.fresh(WEATHERS[stage.weather]))
        if stage.props:
            them = "them" if not alone else {"he": "him", "she": "her", "it": "it"}[_it(stage.hero)]
            props = listed([article(prop) for prop in stage.props])
            frame = self.fresh(BESIDE) if len(stage.props) == 1 else "Beside {them} there are {props}."
            sentences.append(capitalised(frame.format(them=them, props=props)))
        return sentences


def _it(actor: Actor) -> str:
    return "it" if not actor.name else "she" if actor.she else "he"


def _alike(one: Actor, other: Actor) -> bool:
    """Return whether two without a name are of the same kind and do the same."""
    first, second = one.character, other.character
    return (first.species, first.action, first.held) == (second.species, second.action, second.held)


def _told(actor: Actor) -> set[str]:
    return {*actor.said, *({"mood"} if actor.character.mood != "calm" else ())}
