"""What the starter's pictures cost on this machine, beside diffusers' own pipeline and part by part.

    python -m tools.benchmark_starter

Everything is measured in turn, over and over, there and back, and the medians are told. Ratios are those of one round
each, so that what else the machine does falls on both sides of them. Prints two tables in Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from m3adapter.conversation.conversation import Conversation, Picture, Slot, Text
from m3adapter.diffusion.condition import Condition
from m3adapter.pipeline import M2Chat
from m3adapter.weights.starter import STARTER

from .benchmark_sdxl import device_name

GUIDANCE, SEED = 3.0, 7


def story(chat: M2Chat, steps: int) -> tuple[Conversation, Slot]:
    """Two turns with fixed words, the picture of the first one painted; and the slot of the second one's."""
    conversation = Conversation().user("A fox on the beach.")
    conversation = conversation.assistant([Text("The fox found a kite."), Picture("a fox with a kite on the beach")])
    condition = chat.fuse(chat.encode(conversation, Slot(1, 1)))
    image = chat.paint(condition, seed=SEED, steps=steps, guidance=GUIDANCE)
    conversation = conversation.with_picture(Slot(1, 1), image).user("What happens next?")
    conversation = conversation.assistant([Text("Then the fox met an owl."), Picture("a fox and an owl in the forest")])
    return conversation, Slot(3, 1)


Rounds = dict[str, list[float]]


def rounds(calls: dict[str, Callable[[], Any]], repeats: int) -> Rounds:
    """Seconds of each call in each round. A first round does not count, and every other one goes backwards."""
    times: Rounds = {name: [] for name in calls}
    for number in range(repeats + 1):
        for name, call in list(calls.items())[:: -1 if number % 2 else 1]:
            started = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - started)
    return {name: found[1:] for name, found in times.items()}


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """The median of what two calls have to do with each other in a round."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def peers(chat: M2Chat, condition: Condition, steps: int) -> dict[str, Callable[[], Tensor]]:
    """One picture [H, W, 3] by our decoder, and the same one by diffusers' pipeline.

    Both have the same weights in the same place: where weights lie in memory makes several percent.

    Raises RuntimeError where they are not the same to the last bit: then their times tell nothing.
    """
    pipeline = chat.decoder.pipeline  # a StableDiffusionXLPipeline as it was opened
    pipeline.set_progress_bar_config(disable=True)

    def theirs() -> Tensor:
        made = pipeline(
            prompt_embeds=condition.embeds,
            pooled_prompt_embeds=condition.pooled,
            negative_prompt_embeds=condition.negative_embeds,
            negative_pooled_prompt_embeds=condition.negative_pooled,
            generator=torch.Generator().manual_seed(SEED),
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            output_type="pt",
        )
        return made.images[0].permute(1, 2, 0)

    def ours() -> Tensor:
        return chat.paint(condition, seed=SEED, steps=steps, guidance=GUIDANCE)

    if not torch.equal(ours(), theirs()):
        raise RuntimeError("The decoder and diffusers' pipeline paint different pictures.")
    return {"M²Chat's decoder": ours, "diffusers' pipeline": theirs}


def parts(chat: M2Chat, steps: int) -> dict[str, Callable[[], Any]]:
    """What a picture with a reference goes through, each part with what the one before gave it."""
    conversation, slot = story(chat, steps)
    features = chat.encode(conversation, slot)
    condition = chat.fuse(features)
    references = conversation.references(slot)
    return {
        "vision encoder: see the reference": lambda: chat.see(references),
        "language model: read the slot": lambda: chat.encode(conversation, slot, references=0),
        "M³-Adapter: fuse": lambda: chat.fuse(features),
        "decoder: paint": lambda: chat.paint(condition, seed=SEED, steps=steps, guidance=GUIDANCE),
    }


def report(options: argparse.Namespace) -> str:
    """Both tables."""
    chat = M2Chat.from_pretrained(STARTER)
    condition = chat.encode_text(["a fox with a kite on the beach"])
    one = rounds(peers(chat, condition, options.steps), options.repeats)
    ours, theirs = one.values()
    two = rounds(parts(chat, options.steps), options.repeats)
    whole = [sum(times) for times in zip(*two.values(), strict=True)]
    lines = [
        f"{device_name(torch.device('cpu'))}, fp32, torch {torch.__version__}, {options.steps} steps, "
        f"medians of {options.repeats}",
        "",
        "| the same picture by | time (ms) |",
        "|---|---|",
        *(f"| {name} | {1e3 * statistics.median(times):.0f} |" for name, times in one.items()),
        "",
        f"M²Chat's decoder takes {ratio(ours, theirs):.3f} of the time of diffusers' pipeline.",
        "",
        "| part of a picture | time (ms) | share |",
        "|---|---|---|",
        *(
            f"| {name} | {1e3 * statistics.median(times):.1f} | {100 * ratio(times, whole):.1f} % |"
            for name, times in two.items()
        ),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark_starter", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--steps", type=int, default=20, help="denoising steps of a picture (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=9, help="rounds (default: %(default)s)")
    print(report(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
