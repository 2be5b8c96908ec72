"""What a user changes in the picture before: each change as clauses that can be said alone or together."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...storybook.wording.choose import allowed
from ..vocabulary import PLACE_PHRASES, PROP_SYNONYMS
from ..words import article
from ..world import FACINGS, LOOKS, MOST_CHARACTERS, PLACES, PROPS, SIDEWAYS, SPECIES
from . import lexicon
from .asking import kind_word, plural
from .stage import Actor, Stage, new_actor, other
from .tale import Split

# Each list: what is said alone. CLAUSES: what can be joined to others ("make it night and add a kite").
TO_PLACE = (
    "now {place}", "{it} goes to the {spot}", "take {them} to the {spot}", "the same {place}", "put {them} {place} instead", "move {them} to the {spot}",
    "same {kind}, but {place}", "off to the {spot}!", "{place} instead", "and now {place}, please", "what about {place}?", "{who} travels to the {spot}",
    "not {old_place}, {place}!", "swap the {old_spot} for the {spot}", "{it} wants to see the {spot}", "change the place: {place}", "only change the place to the {spot}",
    "do it again, but {place}", "another one, but {place}", "one more {place}", "draw the same thing {place}", "and then {it} walked to the {spot}", "let {them} visit the {spot}",
    "no {old_spot} this time, the {spot} please",
)  # fmt: skip
TO_NIGHT = ("make it night", "at night instead", "now at night", "the same at night", "only change the time to night", "turn off the sun", "let it be night", "it gets dark",
            "later that night", "what about midnight?", "and at night?", "put the moon in the sky", "the same under the stars", "night time please", "what does {it} do at night?")  # fmt: skip
TO_SUNSET = ("make it evening", "at sunset instead", "the same at dusk", "let the sun set", "now it is evening", "in the evening light, please", "same thing, but at sunset", "make it a sunset",
             "what about the evening?", "then evening comes")  # fmt: skip
TO_DAY = ("the next morning", "same {kind} the next morning", "make it day again", "not at night, by day!", "but it isn't night", "in the daytime instead", "the sun comes up", "it is morning",
          "same again, next morning", "let there be light", "no night this time", "by day, please", "and when the sun is up?", "now it's bright day")  # fmt: skip
TO_RAIN = ("make it rain", "let it rain", "now it rains", "with rain, please", "it starts to rain", "the same in the rain", "same, but on a rainy day", "add some rain", "and suddenly it pours", "what if it rained?",
           "bad weather please")  # fmt: skip
TO_SNOW = ("make it snow", "let it snow", "now it snows", "with snow, please", "it begins to snow", "the same in winter", "same, but in the snow", "add some snow", "winter comes", "what if it snowed?",
           "make it a winter picture")  # fmt: skip
TO_CLEAR = ("no {weather} this time", "without the {weather}", "the {weather} stops", "do it again but without {weather}", "the {weather} is over", "stop the {weather}", "lose the {weather}", "make the weather nice again",
            "it doesn't {weather} any more", "same again, no {weather} please", "now the {weather} has gone", "I don't want {weather}", "leave out the {weather}")  # fmt: skip
ADD_PROP = ("add {a_prop}", "with {a_prop}, please", "give {them} {a_prop}", "put {a_prop} next to {them}", "{it} finds {a_prop}", "there should be {a_prop}", "and {a_prop}", "I miss {a_prop}", "where is {the_prop}?",
            "with {a_prop} too", "now with {a_prop}", "please add {a_prop} to the picture", "but with {a_prop}")  # fmt: skip
SWAP_PROP = ("{a_prop} instead of the {old_prop}", "with {a_prop} instead", "swap the {old_prop} for {a_prop}", "not {an_old_prop}, {a_prop}!", "replace the {old_prop} with {a_prop}", "turn the {old_prop} into {a_prop}",
             "the {old_prop} becomes {a_prop}", "lose the {old_prop}, add {a_prop}", "make the {old_prop} {a_prop}", "no {old_prop}, I said {a_prop}", "only change the {old_prop} to {a_prop}", "it should be {a_prop}, not {an_old_prop}")  # fmt: skip
DROP_PROP = ("no {old_prop} this time", "without the {old_prop}", "remove the {old_prop}", "take the {old_prop} away", "leave out the {old_prop}", "the {old_prop} is gone", "same again without {an_old_prop}", "lose the {old_prop}",
             "I don't want the {old_prop}", "{it} loses the {old_prop}", "please no {old_prop}")  # fmt: skip
TO_ACTION = {
    "sleeps": ("now {it} sleeps", "let {them} sleep", "{who} is tired and falls asleep", "put {them} to bed", "{it} takes a nap", "time for bed", "{it} should be asleep", "make {them} sleep", "good night, {who}!"),
    "jumps": ("now {it} jumps", "let {them} jump", "{who} jumps for joy", "make {them} hop", "{it} should be jumping", "and {it} leaps into the air", "jumping, please", "{it} bounces up and down"),
    "runs": ("now {it} runs", "let {them} run", "{who} runs away", "make {them} run", "{it} should be running", "and {it} hurries home", "running, please", "faster, {it} must run!", "{it} races off"),
    "swims": ("now {it} swims", "let {them} swim", "{who} goes swimming", "make {them} swim", "{it} should be in the water", "and {it} takes a bath", "swimming, please", "{it} goes for a swim"),
    "hides": ("now {it} hides", "let {them} hide", "{who} is hiding", "make {them} hide", "{it} should be hiding", "and {it} plays hide and seek", "hiding, please", "{it} hides behind something"),
    "stands": ("wake {them} up", "now {it} just stands there", "let {them} stand still", "stop! {it} should stand still", "{who} stops", "{it} waits", "standing, please", "make {them} stand"),
}  # fmt: skip
HOLDING = ("now {it} holds {a_prop}", "let {them} carry {a_prop}", "give {them} {a_prop} to hold", "{who} is holding {a_prop}", "{it} carries {a_prop}", "put {a_prop} into its arms", "{it} brings {a_prop}",
           "and {it} plays with {a_prop}", "{it} picks up {a_prop}")  # fmt: skip
TO_MOOD = {
    "happy": ("cheer {them} up", "make {them} happy", "{it} should be happy", "now {it} smiles", "let {them} laugh", "happier, please", "{who} is glad", "and {it} is happy again", "with a smile", "why so serious? make {them} smile"),
    "sad": ("make {them} sad", "{it} should be sad", "now {it} cries", "let {them} cry", "sadder, please", "{who} is unhappy", "and {it} gets very sad", "with tears", "{it} weeps"),
    "afraid": ("make {them} afraid", "{it} should be scared", "now {it} is frightened", "something scares {them}", "{who} is afraid", "and {it} gets scared", "{it} trembles", "let {them} be afraid", "{it} hears a noise and is scared"),
    "calm": ("{it} is not {mood} any more", "not {mood} this time", "calm {them} down", "{it} should not be {mood}", "no need to be {mood}", "less {mood}, please"),
}  # fmt: skip
TO_LOOK = ("make {the_one} {look}", "{the_one} should be {look}", "paint {the_one} {look}", "{the_one} is {look}", "in {look}, please", "can {the_one} be {look}?", "actually, {look}", "turn {the_one} {look}", "I want {the_one} in {look}", "change the colour to {look}",
           "a {look} {species}, please", "{the_one} turns {look}", "no, a {look} one")  # fmt: skip
TO_WEAR = ("give {the_one} {a_worn}", "let {the_one} wear {a_worn}", "put {a_worn} on {the_one}", "with {a_worn}, please", "{the_one} gets {a_worn}", "and {a_worn}", "{the_one} needs {a_worn}", "add {a_worn}", "{the_one} should wear {a_worn}", "now in {a_worn}")  # fmt: skip
TO_BARE = ("take the {worn} off", "without the {worn}", "no {worn} this time", "{the_one} takes off the {worn}", "remove the {worn}", "lose the {worn}", "{the_one} doesn't wear {a_worn}", "{it} has no {worn}", "the {worn} is gone")  # fmt: skip
TO_FACE = (
    "look to the {side}",
    "let {the_one} look {side}",
    "turn {the_one} to the {side}",
    "facing {side}, please",
    "{the_one} should face the other way",
    "the other way round",
    "{the_one} looks to the {side}",
)
CLOSER = (
    "closer, please",
    "come closer",
    "zoom in",
    "a close-up",
    "make {them} bigger",
    "nearer",
    "show {them} from up close",
    "bring {them} to the front",
)
FARTHER = (
    "farther away, please",
    "step back",
    "zoom out",
    "from far away",
    "make {them} smaller",
    "in the distance",
    "show {them} from afar",
    "farther off",
)
MORE = (
    "two of them",
    "make it two",
    "one more {species}",
    "add another {species}",
    "now there are two",
    "{number} {plural}, please",
    "give {them} a twin",
    "with another {species}",
    "a second {species} comes",
    "draw {number} of them",
    "make {number} of them",
    "{number} instead of one",
)
FRIEND = ("{it} meets {a_friend}", "{a_friend} comes along", "add {a_friend}", "give {them} a friend, {a_friend}", "with {a_friend}, please", "{a_friend} visits {them}", "together with {a_friend}", "and {a_friend}", "now {a_friend} is there too",
          "{who} plays with {a_friend}", "someone comes. It is {a_friend}", "{it} is not alone: {a_friend} is there", "but {a_friend} should be with {them}", "then {a_friend} arrives")  # fmt: skip
LEAVE = (
    "leave out the {gone}",
    "without the {gone}",
    "the {gone} goes home",
    "remove the {gone}",
    "only the {stays}, please",
    "just the {stays}",
    "no {gone} this time",
    "the {gone} says goodbye",
    "the {stays} alone",
    "send the {gone} away",
    "I only want the {stays}",
)
SWAP = ("make it {a_new} instead", "not {an_old}, {a_new}!", "{a_new} instead", "same place, but {a_new}", "the same with {a_new}", "swap the {old} for {a_new}", "turn the {old} into {a_new}", "I meant {a_new}", "no, {a_new}", "replace the {old} with {a_new}", "the {old} should be {a_new}",
        "only change the {old} to {a_new}", "now {a_new}, same place", "and with {a_new}?")  # fmt: skip
NAME_IT = (
    "call {them} {name}",
    "{the_one} is called {name}",
    "its name is {name}",
    "name the {species} {name}",
    "let's call the {species} {name}",
    "the {species} needs a name: {name}",
    "from now on {the_one} is {name}",
    "{name} is its name",
)
OPENERS = (
    "actually, {x}",
    "please {x}",
    "{x}",
    "{x}",
    "{x}",
    "{x}",
    "{x}",
    "and {x}",
    "hm, {x}",
    "can you change it: {x}",
    "nothing else changes but {x}",
    "ok, now {x}",
    "great! {x}",
    "{x}, please",
    "I'd rather: {x}",
    "one change: {x}",
    "wait, {x}",
    "this time {x}",
)
JOINTS = (" and ", ", ", ", and ", "; ", ". Also, ", ". And ", " + ", " but ", ", then ")


@dataclass(frozen=True)
class Edit:
    """A change: what is said, and the stage after it."""

    clause: str
    stage: Stage


class Editor:
    """Changes the stage as users do.

    Args:
        rng: The random numbers.
        split: Whose wordings to use.
    """

    def __init__(self, rng: random.Random, split: Split) -> None:
        self.rng, self.split = rng, split

    def message(self, stage: Stage, count: int) -> Edit | None:
        """Return up to `count` changes in one message, or None if none of them makes sense."""
        kinds = (
            "place",
            "light",
            "weather",
            "prop",
            "action",
            "mood",
            "look",
            "wear",
            "face",
            "near",
            "more",
            "friend",
            "leave",
            "swap",
            "name",
        )
        weights = (18, 12, 11, 11, 16, 8, 7, 8, 2, 3, 4, 7, 6, 8, 3)
        clauses, done = [], set()
        for _ in range(3 * count):
            kind = self.rng.choices(kinds, weights)[0]
            clashes = {
                "more": {"friend", "leave", "swap"},
                "swap": {"look", "name", "more", "friend", "leave"},
                "leave": {"friend", "more", "swap"},
            }
            if kind in done or done & clashes.get(kind, set()) or any(kind in clashes.get(one, ()) for one in done):
                continue
            edit = getattr(self, f"_{kind}")(stage)
            if edit is None:
                continue
            done.add(kind)
            clauses.append(edit.clause)
            stage = edit.stage
            if len(clauses) == count:
                break
        if not clauses:
            return None
        text = clauses[0]
        for clause in clauses[1:]:
            joint = self.rng.choice(JOINTS)
            text = text.rstrip("?!.") + joint + clause
        return Edit(self.pick(OPENERS).format(x=text), stage.normal())

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
            "them": "them" if several else one if rng.random() < 0.3 else {"it": "it", "she": "her", "he": "him"}[pronoun],
            "who": "everybody" if several else one, "kind": "ones" if several and not same else species,
            "the_one": one if several or rng.random() < 0.7 else "it", "species": species, "spot": after.place, "old_spot": stage.place,
            "place": rng.choice(allowed(PLACE_PHRASES[after.place], self.split)), "old_place": PLACE_PHRASES[stage.place][0],
        }  # fmt: skip
        clause = self.pick(items).format_map({**base, **slots})
        return Edit(_agree(clause) if several else clause, after)

    def _place(self, stage: Stage) -> Edit:
        after = replace(stage, place=other(self.rng, PLACES, stage.place))
        if stage.hero.character.action == "swims" and self.rng.random() < 0.7:
            after = after.all_now(action="stands")
        return self._say(TO_PLACE, stage, after)

    def _light(self, stage: Stage) -> Edit:
        light = other(self.rng, ("day", "day", "sunset", "night", "night"), stage.light)
        after = replace(stage, light=light, spoken=stage.spoken | {"light"})
        return self._say({"day": TO_DAY, "sunset": TO_SUNSET, "night": TO_NIGHT}[light], stage, after)

    def _weather(self, stage: Stage) -> Edit:
        weather = other(self.rng, ("clear", "clear", "clear", "rain", "snow"), stage.weather)
        after = replace(stage, weather=weather, spoken=stage.spoken | {"weather"})
        return self._say(
            {"clear": TO_CLEAR, "rain": TO_RAIN, "snow": TO_SNOW}[weather], stage, after, weather=stage.weather
        )

    def _prop(self, stage: Stage) -> Edit | None:
        rng = self.rng
        new = other(rng, PROPS, *stage.things())
        word = rng.choice(PROP_SYNONYMS[new]) if new in PROP_SYNONYMS and rng.random() < 0.2 else new
        slots = {"a_prop": article(word), "the_prop": f"the {word}"}
        if not stage.things():
            return self._say(ADD_PROP, stage, replace(stage, props=(new,)), **slots)
        if len(stage.things()) > 1:
            return None
        old = next(iter(stage.things()))
        slots |= {"old_prop": old, "an_old_prop": article(old)}
        if rng.random() < 0.5:
            held = tuple(actor.now(held=new) if actor.character.held else actor for actor in stage.actors)
            return self._say(
                SWAP_PROP, stage, replace(stage, actors=held, props=(new,) if stage.props else ()), **slots
            )
        dropped = tuple(actor.now(action="stands") if actor.character.held else actor for actor in stage.actors)
        return self._say(DROP_PROP, stage, replace(stage, actors=dropped, props=()), **slots)

    def _action(self, stage: Stage) -> Edit | None:
        rng, now = self.rng, stage.hero.character.action
        action = other(rng, ("sleeps", "jumps", "runs", "swims", "hides", "holds", "stands"), now)
        if action == "stands" and (now == "holds" or len({actor.character.action for actor in stage.actors}) > 1):
            return None
        if action == "holds":
            if len(stage.actors) > 1:
                return None
            prop = next(iter(stage.things())) if stage.things() else rng.choice(PROPS)
            after = replace(stage.with_hero(stage.hero.now(action="holds", held=prop)), props=())
            return self._say(HOLDING, stage, after, a_prop=f"the {prop}" if stage.things() else article(prop))
        return self._say(TO_ACTION[action], stage, stage.all_now(action=action))

    def _mood(self, stage: Stage) -> Edit | None:
        now = stage.hero.character.mood
        if len({actor.character.mood for actor in stage.actors}) > 1:
            return None
        mood = other(
            self.rng,
            ("happy", "happy", "sad", "afraid", "calm"),
            now,
            *(() if now in ("sad", "afraid", "happy") else ("calm",)),
        )
        if mood == "happy" and now in ("sad", "afraid") or len(stage.actors) == 1 or mood == "calm":
            return self._say(TO_MOOD[mood], stage, stage.all_now(mood=mood), mood=now)
        rank = self.rng.randrange(2)  # one of several: "the first one is sad"
        actor = stage.actors[rank]
        if (
            any(one.character.species == actor.character.species for one in stage.actors if one is not actor)
            and not actor.name
        ):
            return None
        last = "last" if len(stage.actors) == 2 and rank == 1 else ("first", "second")[rank]
        whom = self.pick((f"the {last} one", actor.name or f"the {actor.character.species}"))
        actors = tuple(one.now(mood=mood) if one is actor else one for one in stage.actors)
        return Edit(f"{whom} {self.rng.choice(('is', 'should be', 'gets'))} {mood}", replace(stage, actors=actors))

    def _look(self, stage: Stage) -> Edit | None:
        hero = stage.hero
        if _twins(stage):
            return None
        look = other(self.rng, LOOKS, hero.character.look)
        word = (
            "gray"
            if look == "grey" and self.rng.random() < 0.3
            else "violet"
            if look == "purple" and self.rng.random() < 0.2
            else look
        )
        return self._say(TO_LOOK, stage, stage.with_hero(hero.now(look=look).saying("look")), look=word)

    def _wear(self, stage: Stage) -> Edit | None:
        hero = stage.hero
        if _twins(stage):
            return None
        worn = hero.character.accessory
        if worn != "none":
            after = stage.with_hero(hero.now(accessory="none").saying("accessory"))
            return self._say(TO_BARE, stage, after, worn=worn, a_worn=worn if worn == "glasses" else f"a {worn}")
        new = self.rng.choice(("scarf", "hat", "glasses"))
        words = {"scarf": ("a scarf",), "hat": ("a hat", "a top hat"), "glasses": ("glasses", "a pair of glasses")}[new]
        return self._say(
            TO_WEAR, stage, stage.with_hero(hero.now(accessory=new).saying("accessory")), a_worn=self.rng.choice(words)
        )

    def _face(self, stage: Stage) -> Edit | None:
        hero = stage.hero
        if (
            len(stage.actors) > 1
            or hero.character.species not in SIDEWAYS
            or "facing" not in hero.said
            and self.rng.random() < 0.5
        ):
            return None
        side = other(self.rng, FACINGS, hero.character.facing)
        return self._say(TO_FACE, stage, stage.with_hero(hero.now(facing=side).saying("facing")), side=side)

    def _near(self, stage: Stage) -> Edit:
        near = self.rng.random() < 0.6
        after = replace(stage, actors=tuple(actor.now(near=near).saying("near") for actor in stage.actors))
        return self._say(CLOSER if near else FARTHER, stage, after)

    def _more(self, stage: Stage) -> Edit | None:
        hero = stage.hero
        if len(stage.actors) > 1 or hero.name or hero.said:
            return None
        count = self.rng.choice((2, 2, 3))
        twins = [_twin(self.rng, hero, hero.number + 50 + index) for index in range(1, count)]
        items = [item for item in allowed(MORE, self.split) if ("{number}" in item) == (count == 3)] or [MORE[5]]
        number = self.rng.choice({2: ("two", "2"), 3: ("three", "3")}[count])
        species = hero.character.species
        after = replace(stage, actors=(hero, *twins))
        return self._say(
            items if len(items) < 5 else [self.rng.choice(items)], stage, after, number=number, plural=plural(species)
        )

    def _friend(self, stage: Stage) -> Edit | None:
        rng = self.rng
        if len(stage.actors) == MOST_CHARACTERS:
            return None
        species = other(rng, SPECIES, *(actor.character.species for actor in stage.actors))
        friend = new_actor(rng, 100 + max(actor.number for actor in stage.actors), species)
        word = article(kind_word(rng, species, self.split))
        if rng.random() < 0.25 or stage.hero.name and rng.random() < 0.4:
            name, she = lexicon.name(rng, self.split, *(actor.name for actor in stage.actors))
            friend = replace(friend, name=name, she=she)
            word = rng.choice((f"{name} the {species}", f"{name}, {word}", f"{word} named {name}"))
        actors = stage.actors if rng.random() < 0.5 else tuple(actor.now(action="stands") for actor in stage.actors)
        return self._say(FRIEND, stage, replace(stage, actors=(*actors, friend)), a_friend=word)

    def _leave(self, stage: Stage) -> Edit | None:
        if len(stage.actors) != 2 or _twins(stage):
            return None
        gone, stays = self.rng.sample(stage.actors, 2)
        slots = {"gone": gone.character.species, "stays": stays.character.species}
        return self._say(LEAVE, stage, replace(stage, actors=(stays,)), **slots)

    def _swap(self, stage: Stage) -> Edit | None:
        rng, hero = self.rng, stage.hero
        if len(stage.actors) > 1 or hero.name:
            return None
        species = other(rng, SPECIES, hero.character.species)
        new = new_actor(rng, hero.number + 200, species)
        kept = replace(hero.character, species=species, look=new.character.look, accessory="none")
        slots = {
            "a_new": article(kind_word(rng, species, self.split)),
            "old": hero.character.species,
            "an_old": article(hero.character.species),
        }
        return self._say(
            SWAP,
            stage,
            stage.with_hero(Actor(new.number, kept, said=hero.said - {"look", "accessory", "facing"})),
            **slots,
        )

    def _name(self, stage: Stage) -> Edit | None:
        if len(stage.actors) > 1 or stage.hero.name:
            return None
        name, she = lexicon.name(self.rng, self.split)
        return self._say(NAME_IT, stage, stage.with_hero(replace(stage.hero, name=name, she=she)), name=name)


def _twins(stage: Stage) -> bool:
    """Return whether the hero's kind would not tell whom a change is about."""
    alike = [actor for actor in stage.actors if actor.character.species == stage.hero.character.species]
    return len(alike) > 1 and not stage.hero.name


def _twin(rng: random.Random, actor: Actor, number: int) -> Actor:
    return Actor(number, replace(actor.character, look=rng.choice(LOOKS)))


def _agree(clause: str) -> str:
    """Let the verb agree with "they"."""
    words = clause.split(" ")
    fixed = {"goes": "go", "wants": "want", "is": "are", "has": "have", "sleeps": "sleep", "jumps": "jump", "runs": "run", "swims": "swim", "hides": "hide",
             "finds": "find", "takes": "take", "hurries": "hurry", "plays": "play", "waits": "wait", "meets": "meet", "smiles": "smile", "cries": "cry",
             "gets": "get", "weeps": "weep", "trembles": "tremble", "hears": "hear", "bounces": "bounce", "races": "race", "loses": "lose", "leaps": "leap",
             "does": "do", "carries": "carry", "doesn't": "don't", "brings": "bring", "picks": "pick", "holds": "hold"}  # fmt: skip
    for index in range(1, len(words)):
        if words[index - 1] == "they" and words[index] in fixed:
            words[index] = fixed[words[index]]
        if index > 1 and words[index - 2] == "does" and words[index - 1] == "they":
            words[index - 2] = "do"
    return " ".join(words).replace("what does they", "what do they")
