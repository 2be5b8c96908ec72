"""Pictures of stories as samples on which the adapter is trained and evaluated."""

from __future__ import annotations

from dataclasses import dataclass

from ..conversation.conversation import Conversation, Slot
from .stories import Panel, Story, Task, to_conversation
from .world import Character, Scene

REFERENCES = 2  # the default of Conversation.references: the first picture and the latest


@dataclass(frozen=True)
class Sample:
    """One picture of a story, with all that came before it.

    Attributes:
        conversation: The story up to and including the picture; pictures are open slots.
        slot: The place of the picture.
        scene: What it shows.
        caption: As the story writes it.
        task: How it relates to earlier pictures.
        references: The scenes of its reference pictures, oldest first.
        known: Indices of the characters of `scene` whose look only the references show, because the caption does not
            name it. The oldest reference that shows a character decides.
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
        """Return a character of `scene` as the oldest reference shows it, or None if no reference does."""
        species = self.scene.characters[index].species
        for reference in self.references:
            for actor in reference.characters:
                if actor.species == species:
                    return actor
        return None


def aside(sample: Sample) -> str:
    """Return the caption with the looks that only references show: "..., the fox is blue and the owl is red"."""
    parts = []
    for index in sample.known:
        actor = sample.shown(index)
        assert actor is not None  # by the definition of `known`
        parts.append(f"the {actor.species} is {actor.look}")
    return f"{sample.caption}, {' and '.join(parts)}" if parts else sample.caption


def samples(told: Story) -> list[Sample]:
    """Return all pictures of a story as samples."""
    result: list[Sample] = []
    seen: list[Scene] = []  # the scenes of all pictures so far, including those of users
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
            result.append(_sample(whole, slot, panel, tuple(seen), tuple(shown_by_user)))
            seen.append(panel.scene)
    return result


def _sample(whole: Conversation, slot: Slot, panel: Panel, seen: tuple[Scene, ...], users: tuple[Scene, ...]) -> Sample:
    references = seen[:1] + seen[1:][-(REFERENCES - 1) :]
    species = {actor.species for scene in references for actor in scene.characters}
    known = tuple(
        index
        for index, actor in enumerate(panel.scene.characters)
        if actor.species in species and index not in panel.named
    )
    return Sample(whole, slot, panel.scene, panel.caption, panel.task, references, known, tuple(panel.named), users)
