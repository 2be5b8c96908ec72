"""Measure the time of the starter's pictures on this machine, by part and in comparison with diffusers.

    python -m tools.benchmark_starter

Everything is measured in turn in many rounds, every other one backwards; the medians are reported. Ratios compare times
of the same round, so that other work of the machine affects both sides. Prints two tables in Markdown.
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
    """Return two turns with fixed words and a painted first picture, and the slot of the second picture."""
    conversation = Conversation().user("A fox on the beach.")
    conversation = conversation.assistant([Text("The fox found a kite."), Picture("a fox with a kite on the beach")])
    condition = chat.fuse(chat.encode(conversation, Slot(1, 1)))
    image = chat.paint(condition, seed=SEED, steps=steps, guidance=GUIDANCE)
    conversation = conversation.with_picture(Slot(1, 1), image).user("What happens next?")
    conversation = conversation.assistant([Text("Then the fox met an owl."), Picture("a fox and an owl in the forest")])
    return conversation, Slot(3, 1)


Rounds = dict[str, list[float]]


def rounds(calls: dict[str, Callable[[], Any]], repeats: int) -> Rounds:
    """Return the seconds of each call in each round, without a first round; every other one runs backwards."""
    times: Rounds = {name: [] for name in calls}
    for number in range(repeats + 1):
        for name, call in list(calls.items())[:: -1 if number % 2 else 1]:
            started = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - started)
    return {name: seconds[1:] for name, seconds in times.items()}


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios of two calls in the same rounds."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def peers(chat: M2Chat, condition: Condition, steps: int) -> dict[str, Callable[[], Tensor]]:
    """Return calls that paint the same picture [H, W, 3] by our decoder and by diffusers' pipeline.

    Both use the same weights in the same place, for the position of weights in memory makes a difference of several
    percent.

    Raises:
        RuntimeError: The pictures are not equal bit by bit, so that comparing the times would be meaningless.
    """
    pipeline: Any = chat.decoder.pipeline  # a StableDiffusionXLPipeline
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
    """Return calls of the parts that make a picture with a reference, each with the output of the one before."""
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
    """Measure everything and return both tables."""
    chat = M2Chat.from_pretrained(STARTER)
    condition = chat.encode_text(["a fox with a kite on the beach"])
    compared = rounds(peers(chat, condition, options.steps), options.repeats)
    ours, theirs = compared.values()
    by_part = rounds(parts(chat, options.steps), options.repeats)
    whole = [sum(times) for times in zip(*by_part.values(), strict=True)]
    lines = [
        f"{device_name(torch.device('cpu'))}, fp32, torch {torch.__version__}, {options.steps} steps, "
        f"medians of {options.repeats}",
        "",
        "| the same picture by | time (ms) |",
        "|---|---|",
        *(f"| {name} | {1e3 * statistics.median(times):.0f} |" for name, times in compared.items()),
        "",
        f"M²Chat's decoder takes {ratio(ours, theirs):.3f} of the time of diffusers' pipeline.",
        "",
        "| part of a picture | time (ms) | share |",
        "|---|---|---|",
        *(
            f"| {name} | {1e3 * statistics.median(times):.1f} | {100 * ratio(times, whole):.1f} % |"
            for name, times in by_part.items()
        ),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark_starter", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--steps", type=int, default=20, help="denoising steps of a picture (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=9, help="rounds (default: %(default)s)")
    print(report(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
