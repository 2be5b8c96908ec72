"""Pictures of the picture book's stories as samples on which the adapter is trained and evaluated."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..conversation.conversation import Conversation, Slot
from .labels import covered
from .stories.tale import Panel, Story, to_conversation
from .words import Said, article, aside
from .world import Character, Scene

REFERENCES = 2  # the default of Conversation.references: the first picture and the latest
RENDERED = "render"  # the style of pictures that the picture book draws
LOOKS = ("look", "accessory")  # the facts that references tell


@dataclass(frozen=True)
class Shown:
    """A reference picture.

    Attributes:
        scene: What it shows.
        who: For each of its characters, a number; who has the same number in a sample is the same character.
        weight: How much it counts.
        style: RENDERED, or a style of `foreign`, which shows the first character only, in its main colour.
    """

    scene: Scene
    who: tuple[int, ...]
    weight: float = 1.0
    style: str = RENDERED


@dataclass(frozen=True)
class Sample:
    """One picture of a story, with all that came before it.

    Attributes:
        conversation: The story up to and including the picture; pictures are open slots.
        slot: The place of the picture.
        scene: What it shows.
        caption: As the slot has it.
        said: What the caption says.
        names: What the characters are called, "" for those without a name.
        who: For each character, its number.
        references: The reference pictures, in the order in which the adapter sees them.
        users: What users' pictures before the slot show.
        met: The numbers of the characters of earlier pictures, whom captions may call by their names alone.
        meant: The canonical caption without names: what the decoder is to paint, but for what references tell.
    """

    conversation: Conversation
    slot: Slot
    scene: Scene
    caption: str
    said: Said
    names: tuple[str, ...]
    who: tuple[int, ...]
    references: tuple[Shown, ...]
    users: tuple[Scene, ...]
    met: frozenset[int]
    meant: str

    @property
    def known(self) -> dict[int, dict[str, str]]:
        """What references alone tell: for the index of each such character, "look" and perhaps "accessory".

        The heaviest reference decides, of equal ones the oldest. A foreign picture has no accessories, and somebody in
        bed, in the water or hidden does not show whether it wears a scarf.
        """
        found: dict[int, dict[str, str]] = {}
        for index, number in enumerate(self.who):
            told: dict[str, str] = {}
            for reference in sorted(self.references, key=lambda shown: -shown.weight):
                for actor, who in zip(reference.scene.characters, reference.who, strict=True):
                    if who != number:
                        continue
                    told.setdefault("look", actor.look)
                    if reference.style == RENDERED and not covered(actor):
                        told.setdefault("accessory", actor.accessory)
            told = {fact: value for fact, value in told.items() if fact not in self.said.characters[index]}
            if told:
                found[index] = told
        return found

    @property
    def painted(self) -> Scene:
        """The scene that the picture should show, given the references."""
        actors = list(self.scene.characters)
        for index, told in self.known.items():
            actor = actors[index]
            look, accessory = told.get("look", actor.look), told.get("accessory", actor.accessory)
            actors[index] = replace(actor, look=look, accessory=accessory)
        return replace(self.scene, characters=tuple(actors))

    @property
    def told(self) -> str:
        """The words that only references tell: "the fox is blue and wears a scarf"."""
        whole = aside(self.painted, {index: tuple(told) for index, told in self.known.items()}, "")
        return whole.removeprefix(", ")

    @property
    def newcomers(self) -> tuple[int, ...]:
        """The indices of the characters whom no reference shows, of whose colour the caption says nothing."""
        shown = {who for reference in self.references for who in reference.who}
        return tuple(
            index
            for index, who in enumerate(self.who)
            if who not in shown and "look" not in self.said.characters[index]
        )

    def recaptioned(self, caption: str) -> Sample:
        """Return the sample with other words in its slot that mean the same."""
        return replace(self, conversation=self.conversation.with_caption(self.slot, caption), caption=caption)

    @property
    def is_clear(self) -> bool:
        """Whether references of somebody's kind show nobody else of that kind: nothing says which fox is meant."""
        own = {(actor.species, who) for actor, who in zip(self.scene.characters, self.who, strict=True)}
        kinds = {species for species, _ in own}
        for reference in self.references:
            pairs = list(zip(reference.scene.characters, reference.who, strict=True))
            if any(actor.species in kinds and (actor.species, who) not in own for actor, who in pairs):
                return False
            places = [self.who.index(who) for _, who in pairs if who in self.who]
            if places != sorted(places) and len(kinds) < len(own):  # "the first fox" is not the first one there
                return False
        return True


def unnamed(caption: str, names: Iterable[str]) -> str:
    """Return a canonical caption without names: "a fox and another fox" for "Milo the fox and Lily the fox"."""
    seen: set[str] = set()
    for name in filter(None, names):
        match = re.search(rf"\b{re.escape(name)} the ((?:\w+ )*?)(\w+)(?= |,|$)", caption)
        if match is None:
            continue
        noun = _noun(caption, match.start(1))
        before = caption[: match.start()]
        other = noun.split(" ")[-1] in seen or re.search(rf"\b{noun.split(' ')[-1]}\b", before)
        seen.add(noun.split(" ")[-1])
        caption = before + (f"another {noun}" if other else article(noun)) + caption[match.start(1) + len(noun) :]
    return caption


def _noun(caption: str, start: int) -> str:
    """Return the adjectives and the species that stand at a place of a caption."""
    from .world import SPECIES

    words: list[str] = []
    for word in re.findall(r"[\w-]+", caption[start:]):
        words.append(word)
        if word in SPECIES:
            break
    return " ".join(words)


def samples(told: Story) -> list[Sample]:
    """Return all pictures of a story as samples."""
    result: list[Sample] = []
    seen: list[Shown] = []  # all pictures so far, including those of users
    users: list[Scene] = []
    numbers = _Numbers()
    for count, exchange in enumerate(told.exchanges):
        panels = [(panel, numbers.of(panel)) for panel in exchange.panels]
        if exchange.user_scene:
            seen.append(Shown(exchange.user_scene, panels[0][1][:1]))
            users.append(exchange.user_scene)
        whole = to_conversation(told, count + 1)
        if whole.turns[-1].role == "user":
            whole = Conversation(whole.turns[:-1])
        turn = len(whole.turns) - 1
        slots = [slot for slot in whole.open_slots() if slot.turn == turn]
        for slot, (panel, who) in zip(slots, panels, strict=True):
            result.append(_sample(whole, slot, panel, who, seen, users))
            seen.append(Shown(panel.scene, who))
    return result


class _Numbers:
    """Numbers for characters that hold through a whole conversation, in which new stories may begin."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[int, Character]] = {}
        self.next = 0

    def of(self, panel: Panel) -> tuple[int, ...]:
        """Return the number of each character of a panel."""
        found = []
        for number, actor, said in zip(panel.who, panel.scene.characters, panel.said, strict=True):
            own, before = self.known.get(number, (-1, actor))
            same = before.species == actor.species and (before.look == actor.look or "look" in said)
            if own < 0 or not same:
                own, self.next = self.next, self.next + 1
            self.known[number] = (own, actor)
            found.append(own)
        return tuple(found)


def _sample(
    whole: Conversation, slot: Slot, panel: Panel, who: tuple[int, ...], seen: Sequence[Shown], users: Sequence[Scene]
) -> Sample:
    references = (*seen[:1], *seen[1:][-(REFERENCES - 1) :])
    met = frozenset(number for shown in seen for number in shown.who)
    said, meant = Said(panel.said, panel.facts), unnamed(panel.caption, panel.names)
    return Sample(
        whole, slot, panel.scene, panel.caption, said, panel.names, who, references, tuple(users), met, meant
    )  # fmt: skip
