"""Write the example data set that the template train_adapter learns from: stories whose captions are as people type.

    .run/venv/bin/python -m tools.example_data

Each conversation shows a character twice. The first caption is worded as the starter's own stories are, "a fox in the
forest"; the second one, in three stories of four, as people type, "fox with kite on beach", a wording that the starter
has never read. It always writes the same pictures.
"""

from __future__ import annotations

import json
import random
import shutil

from PIL import Image

from m3adapter.storybook import world
from m3adapter.storybook.render import render
from m3adapter.storybook.world import Scene

from . import environment

FOLDER = environment.REPO / "m3adapter" / "datasets" / "examples" / "short-captions"
STORIES = 88  # four of each species
QUALITY = 75  # of JPEG


def short(scene: Scene, rng: random.Random) -> str:
    """Return a caption without articles, as people type one: "fox with kite on beach at night"."""
    place = world.PLACE_PHRASES[scene.place]
    words = [
        scene.characters[0].species,
        f"with {scene.prop}" if scene.prop else "",
        place if rng.random() < 0.5 else place.replace(" the ", " "),
        world.LIGHT_PHRASES[scene.light],
        world.WEATHER_PHRASES[scene.weather].replace(" the ", " "),
    ]
    text = " ".join(filter(None, words))
    return text.capitalize() if rng.random() < 0.5 else text


def scene_of(species: str, look: str, rng: random.Random) -> Scene:
    """Return a random scene with this character."""
    drawn = world.random_scene(rng, characters=1)
    return Scene((world.Character(species, look),), drawn.prop, drawn.place, drawn.light, drawn.weather)


def main() -> None:
    """Write the data set in place of the one that is there."""
    rng = random.Random(19)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    lines = []
    looks = [look for _ in range(STORIES) for look in rng.sample(world.LOOKS, len(world.LOOKS))][:STORIES]
    for number, look in enumerate(looks):
        species = world.SPECIES[number % len(world.SPECIES)]
        first, second = scene_of(species, look, rng), scene_of(species, look, rng)
        pictures = []
        for part, scene in enumerate((first, second)):
            name = f"{number + 1:02}{'ab'[part]}.jpg"
            Image.fromarray(render(scene, rng.randrange(2**31))).save(FOLDER / name, quality=QUALITY, optimize=True)
            pictures.append(name)
        usual = number >= STORIES - len(world.SPECIES)  # so that references stay useful for the wording of stories
        typed = world.caption(second) if usual else short(second, rng)
        messages = [
            said("user", f"A story about {world.article(species)}."),
            said("assistant", "Once upon a time.", path=pictures[0], caption=world.caption(first)),
            said("user", typed),
            said("assistant", "Here it is.", path=pictures[1], caption=typed, told=f"the {species} is {look}"),
        ]
        lines.append(json.dumps({"messages": messages}))
    (FOLDER / "stories.jsonl").write_text("\n".join(lines) + "\n", "utf-8", newline="\n")
    size = sum(path.stat().st_size for path in FOLDER.iterdir())
    print(f"{STORIES} stories, {size / 1000:.0f} kB")


def said(role: str, text: str, **picture: str) -> dict[str, object]:
    """Return a message, with a picture behind its words if one is given."""
    content: list[dict[str, str]] = [{"type": "text", "text": text}]
    return {"role": role, "content": [*content, {"type": "image", **picture}] if picture else content}


if __name__ == "__main__":
    main()
