"""How often a language model that was never trained for the markup writes a picture.

    python -m tests.measure_markup MODEL

MODEL is a folder or a .gguf file. For each of 50 premises the model writes one reply. Replies with at least one
captioned picture are counted, as the model wrote them and with what `with_captions` adds. `--tuning` uses the other
premises, with which the instructions were developed. No premise is in both lists.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from m3adapter.conversation.conversation import Conversation, Picture
from m3adapter.conversation.markup import parse, with_captions
from m3adapter.language.auto import load_language_model
from m3adapter.language.sampling import Sampling

TUNING = [
    "A hedgehog who finds a violin in the woods.",
    "Tell me about a dragon who is afraid of fire.",
    "Two sisters build a boat out of an old door.",
    "A robot learns how to bake bread.",
    "The night the moon fell into the lake.",
    "Write a story about a snail that wins a race.",
    "A baker's cat discovers a secret staircase.",
    "An astronaut plants a garden on Mars.",
    "Once there was a king who collected clouds.",
    "A lost mitten travels across the city.",
    "A bear who cannot sleep in winter.",
    "Please tell a story about a brave little ant.",
]
MEASURED = [
    "A fox who finds a kite on the beach.",
    "An old lighthouse keeper befriends a seagull.",
    "A girl discovers a tiny door behind the bookshelf.",
    "Tell me a story about a penguin who wants to fly.",
    "A clockmaker builds a bird that sings at midnight.",
    "Two mice sail across a puddle in a walnut shell.",
    "The last apple on the tree.",
    "A knight who would rather paint than fight.",
    "Write a short story about a whale and a paper boat.",
    "A boy finds a map in a bottle.",
    "A turtle opens a school for young frogs.",
    "How did the owl lose her glasses?",
    "A train that runs only on Sundays.",
    "An elephant learns to dance in the rain.",
    "A witch whose broom refuses to leave the ground.",
    "The snowman who was afraid of spring.",
    "A squirrel hides a golden acorn.",
    "A pirate captain who gets seasick.",
    "Tell me about a village on the back of a giant turtle.",
    "A lonely dragon opens a tea shop.",
    "A mole digs a tunnel to the stars.",
    "Three rabbits and a very long umbrella.",
    "A shy ghost moves into a library.",
    "Write a story about a dog who delivers the mail.",
    "A fisherman catches a talking fish.",
    "The day all colours disappeared from the town.",
    "A young inventor builds a flying bicycle.",
    "A cat who believes she is a lion.",
    "A gardener grows a flower that sings.",
    "An orphan raises a baby griffin.",
    "A wolf who only eats vegetables.",
    "The secret life of a street lamp.",
    "A little star falls into a chimney.",
    "A mermaid visits a swimming pool.",
    "Tell a bedtime story about a sleepy train driver.",
    "A beaver builds a bridge for the king.",
    "A postman crosses the desert with a single letter.",
    "Grandmother's quilt comes alive at night.",
    "A camel in the city looks for water.",
    "A raven steals the crown jewels.",
    "Two brothers get lost in a field of corn.",
    "A musician plays for the trees.",
    "What happens when a giant catches a cold?",
    "A duckling learns to cross the road.",
    "An explorer finds a city under the ice.",
    "A tailor sews a coat for the wind.",
    "A bee that has lost its way home.",
    "The princess who lived in a windmill.",
    "A puppet runs away from the theatre.",
    "A goat climbs the highest mountain.",
]


def has_picture(segments: tuple) -> bool:
    """Whether there is a picture with a caption."""
    return any(isinstance(segment, Picture) and segment.caption for segment in segments)


def main() -> None:
    """Measure, and print every reply and both fractions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tuning", action="store_true", help="the premises for working on the instructions")
    parser.add_argument("--limit", type=int, help="only so many premises")
    parser.add_argument("--temperature", type=float, default=0.7, help="0 takes the likeliest word")
    parser.add_argument("--max-length", type=int, default=120)
    given = parser.parse_args()
    model = load_language_model(given.model)
    sampling = Sampling(do_sample=given.temperature > 0, temperature=given.temperature, max_length=given.max_length)
    premises = (TUNING if given.tuning else MEASURED)[: given.limit]
    own = mended = 0
    started = time.monotonic()
    for number, premise in enumerate(premises, 1):
        reply = "".join(model.reply(Conversation().user(premise), sampling=sampling, seed=number))
        segments = parse(reply)
        own += has_picture(segments)
        mended += has_picture(with_captions(segments, premise))
        print(
            f"--- {number} {premise}\n{reply}\n=> {[s.caption for s in segments if isinstance(s, Picture)]}", flush=True
        )
    count = len(premises)
    print(f"with a picture: {own}/{count} = {own / count:.0%}; counting the mended ones: {mended}/{count}")
    print(f"{time.monotonic() - started:.0f} seconds")


if __name__ == "__main__":
    main()
