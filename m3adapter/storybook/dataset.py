"""Pictures of stories as samples: what the adapter is trained and measured on."""

from __future__ import annotations

from dataclasses import dataclass

from ..conversation.conversation import Conversation, Slot
from .stories import Panel, Story, Task, to_conversation
from .world import Character, Scene

REFERENCES = 2  # as Conversation.references takes by default: the first picture and the latest


@dataclass(frozen=True)
class Sample:
    """One picture of a story, with all that came before it.

    Attributes:
        conversation: The story up to and including the picture; pictures are open slots.
        slot: Where the picture stands.
        scene: What it shows.
        caption: As the story writes it.
        task: What it has to do with earlier pictures.
        references: The scenes of its reference pictures, oldest first.
        known: Indices of the characters of `scene` that a reference shows and whose look the caption does not name:
            theirs is the look that only the references can tell. The oldest reference that shows a character decides.
        named: Indices of the characters whose look the caption names.
        user_scenes: The scenes of the users' pictures before the slot.
    """

    conversation: Conversation
    slot: Slot
    scene: Scene
    caption: str
    task: Task
    references: tuple[Scene, ...]
    known: tuple[int, ...]
    named: tuple[int, ...]
    user_scenes: tuple[Scene, ...]

    def shown(self, index: int) -> Character | None:
        """The character of `scene` as the oldest reference that has it shows it; None where none has it."""
        species = self.scene.characters[index].species
        for reference in self.references:
            for actor in reference.characters:
                if actor.species == species:
                    return actor
        return None


def aside(sample: Sample) -> str:
    """The caption with the looks that only the references tell: "..., the fox is blue and the owl is red"."""
    parts = []
    for index in sample.known:
        actor = sample.shown(index)
        assert actor is not None  # that is what `known` means
        parts.append(f"the {actor.species} is {actor.look}")
    return f"{sample.caption}, {' and '.join(parts)}" if parts else sample.caption


def samples(told: Story) -> list[Sample]:
    """All pictures of a story."""
    found: list[Sample] = []
    seen: list[Scene] = []  # the scenes of all pictures so far, the users' included
    shown_by_user: list[Scene] = []
    for number, exchange in enumerate(told.exchanges):
        if exchange.user_scene:
            seen.append(exchange.user_scene)
            shown_by_user.append(exchange.user_scene)
        whole = to_conversation(told, number + 1)
        if whole.turns[-1].role == "user":
            whole = Conversation(whole.turns[:-1])
        turn = len(whole.turns) - 1
        slots = [slot for slot in whole.open_slots() if slot.turn == turn]
        for slot, panel in zip(slots, exchange.panels, strict=True):
            found.append(_sample(whole, slot, panel, tuple(seen), tuple(shown_by_user)))
            seen.append(panel.scene)
    return found


def _sample(whole: Conversation, slot: Slot, panel: Panel, seen: tuple[Scene, ...], users: tuple[Scene, ...]) -> Sample:
    references = seen[:1] + seen[1:][-(REFERENCES - 1) :]
    species = {actor.species for scene in references for actor in scene.characters}
    known = tuple(
        index
        for index, actor in enumerate(panel.scene.characters)
        if actor.species in species and index not in panel.named
    )
    return Sample(whole, slot, panel.scene, panel.caption, panel.task, references, known, tuple(panel.named), users)
