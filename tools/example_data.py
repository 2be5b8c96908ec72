"""Write the example data set that the template train_adapter learns from: stories whose captions are German.

    .run/venv/bin/python -m tools.example_data

Each conversation shows a character twice. The first caption is worded as the starter's own stories are, "a fox in the
forest"; the second one, in three stories of four, is "Fuchs mit Drachen am Strand", in words that the starter has never
read. It always writes the same pictures.
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

FOLDER = environment.REPO / "m3adapter" / "datasets" / "examples" / "german-captions"
STORIES = 88  # four of each species
QUALITY = 75  # of JPEG
GERMAN = {
    "rabbit": "Hase", "squirrel": "Eichhörnchen", "hedgehog": "Igel", "turtle": "Schildkröte", "elephant": "Elefant",
    "dinosaur": "Dinosaurier", "snail": "Schnecke", "duck": "Ente", "penguin": "Pinguin", "owl": "Eule", "cat": "Katze",
    "dog": "Hund", "pig": "Schwein", "sheep": "Schaf", "mouse": "Maus", "giraffe": "Giraffe", "kangaroo": "Känguru",
    "frog": "Frosch", "bear": "Bär", "fox": "Fuchs", "lion": "Löwe", "monkey": "Affe",
    "balloon": "Luftballon", "kite": "Drachen", "umbrella": "Regenschirm", "guitar": "Gitarre", "cake": "Kuchen",
    "key": "Schlüssel", "gift": "Geschenk", "ball": "Ball", "drum": "Trommel", "book": "Buch",
    "sunflower": "Sonnenblume", "bucket": "Eimer",
    "forest": "im Wald", "beach": "am Strand", "desert": "in der Wüste", "mountains": "in den Bergen",
    "city": "in der Stadt", "meadow": "auf der Wiese", "castle": "am Schloss", "village": "im Dorf",
    "volcano": "am Vulkan", "camp": "im Lager",
    "sunset": "bei Sonnenuntergang", "night": "bei Nacht", "rain": "im Regen", "snow": "im Schnee",
}  # fmt: skip


def german(scene: Scene) -> str:
    """Return a caption in German: "Fuchs mit Drachen am Strand bei Nacht"."""
    words = [
        GERMAN[scene.characters[0].species],
        f"mit {GERMAN[scene.prop]}" if scene.prop else "",
        GERMAN[scene.place],
        GERMAN.get(scene.light, ""),
        GERMAN.get(scene.weather, ""),
    ]
    return " ".join(filter(None, words))


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
        written = world.caption(second) if usual else german(second)
        messages = [
            said("user", f"A story about {world.article(species)}."),
            said("assistant", "Once upon a time.", path=pictures[0], caption=world.caption(first)),
            said("user", written),
            said(
                "assistant",
                "Here it is.",
                path=pictures[1],
                caption=written,
                told=f"the {species} is {look}",
                meant=world.caption(second),
            ),
        ]
        lines.append(json.dumps({"messages": messages}, ensure_ascii=False))
    (FOLDER / "stories.jsonl").write_text("\n".join(lines) + "\n", "utf-8", newline="\n")
    size = sum(path.stat().st_size for path in FOLDER.iterdir())
    print(f"{STORIES} stories, {size / 1000:.0f} kB")


def said(role: str, text: str, **picture: str) -> dict[str, object]:
    """Return a message, with a picture behind its words if one is given."""
    content: list[dict[str, str]] = [{"type": "text", "text": text}]
    return {"role": role, "content": [*content, {"type": "image", **picture}] if picture else content}


if __name__ == "__main__":
    main()
