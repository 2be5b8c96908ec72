"""What the judge must see in pictures of the picture book, so that they count as right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..picturebook.dataset import Sample
from ..picturebook.judge import Verdict
from ..picturebook.labels import covered
from ..picturebook.world import LIGHTS, PLACES, SPECIES, WEATHERS, Scene
from .figures import mean


def scores(chosen: Sequence[Sample], verdict: Verdict) -> dict[str, float]:
    """Return how often the judge sees what captions say, and the looks that only references tell.

    Returns:
        By picture: `species` and their `count`, `scene`, `light`, `weather`, and `prop`, all things and no others, of
        those pictures that have some. By character: `action` and `mood` as the caption says them, `appearance_kept`
        and `accessory_kept`. Of several of one kind, what differs between them is not counted: the judge tells kinds.
    """
    found: dict[str, list[bool]] = {name: [] for name in _FIGURES}
    for row, sample in enumerate(chosen):
        scene = sample.painted
        kinds = Counter(actor.species for actor in scene.characters)
        found["species"].append(verdict.species(row, len(kinds)) == {*kinds})
        found["count"].append(_counted(verdict, row, kinds))
        for name, values in (("place", PLACES), ("light", LIGHTS), ("weather", WEATHERS)):
            right = values[int(verdict.wholes[name][row])] == getattr(scene, name)
            found["scene" if name == "place" else name].append(right)
        if wanted := things(scene):
            found["prop"].append(verdict.things(row) == wanted)
        for index, actor in enumerate(scene.characters):
            if kinds[actor.species] > 1:
                continue
            for fact in ("action", "mood"):
                if fact in sample.said.characters[index]:
                    found[fact].append(verdict.word(row, actor.species, fact) == getattr(actor, fact))
            told = sample.known.get(index, {})
            if "look" in told:
                found["appearance_kept"].append(verdict.word(row, actor.species, "look") == told["look"])
            if "accessory" in told and not covered(actor):
                found["accessory_kept"].append(verdict.word(row, actor.species, "accessory") == told["accessory"])
    return {name: mean(values) for name, values in found.items()}


def looks_kept(chosen: Sequence[Sample], verdict: Verdict) -> float:
    """Return how many pictures have all looks that only references tell."""
    return mean(
        all(
            verdict.word(row, sample.scene.characters[index].species, "look") == told["look"]
            for index, told in sample.known.items()
            if "look" in told
        )
        for row, sample in enumerate(chosen)
    )


def heros_look(chosen: Sequence[Sample], verdict: Verdict) -> float:
    """Return how many newcomers have the look of the character that references show, which chance gives to 12.5 %."""
    found = []
    for row, sample in enumerate(chosen):
        look = next(told["look"] for told in sample.known.values() if "look" in told)
        (index,) = sample.newcomers
        found.append(verdict.word(row, sample.scene.characters[index].species, "look") == look)
    return mean(found)


def named_looks(chosen: Sequence[Sample], verdict: Verdict) -> float:
    """Return how many pictures have all looks that their captions name."""
    return mean(
        all(
            verdict.word(row, actor.species, "look") == actor.look
            for actor, said in zip(sample.scene.characters, sample.said.characters, strict=True)
            if "look" in said
        )
        for row, sample in enumerate(chosen)
    )


def things(scene: Scene) -> set[str]:
    """Return all props of a scene, standing or held."""
    return {*scene.props, *(actor.held for actor in scene.characters if actor.held)}


_FIGURES = (
    "species", "count", "scene", "light", "weather", "prop", "action", "mood", "appearance_kept", "accessory_kept",
)  # fmt: skip


def _counted(verdict: Verdict, row: int, kinds: Counter[str]) -> bool:
    counts = verdict.actors["count"][row]
    return all(int(counts[SPECIES.index(name)]) + 1 == count for name, count in kinds.items())
