"""Rows about painting: our decoder beside diffusers, the parts of a picture, and batches beside single pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import tales
from .rows import Bench, Group, Row
from .stories import SEED, STEPS, referring
from .timing import Figure, figure, interleave, medians, ratio, seconds

if TYPE_CHECKING:
    from torch import Tensor

    from ..diffusion.condition import Condition
    from ..pipeline import M2Chat

GUIDANCE = 3.0
GATES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
PARTS = {
    "vision encoder": "encoding a reference",
    "language model": "reading the slot",
    "adapter": "fusing",
    "decoder": "painting",
}

DECODER = Group(
    (
        Row("decoder_over_diffusers", "starter: a picture by our decoder / by diffusers' pipeline", goal=1.0),
        Row("picture_seconds", f"starter: a picture of 128 × 128 pixels in {STEPS} steps", "s"),
        *(
            Row(f"{part.replace(' ', '_')}_share", f"starter: {part}, {does}, of a picture with a reference", "%")
            for part, does in PARTS.items()
        ),
    ),
    lambda bench: decoder(bench),
)


def peers(chat: M2Chat, condition: Condition, steps: int) -> dict[str, Callable[[], Tensor]]:
    """Return calls that paint the same picture [H, W, 3] by our decoder and by diffusers' pipeline.

    Both use the same weights in the same place, for the position of weights in memory makes a difference of several
    percent.

    Raises:
        RuntimeError: The pictures are not equal bit by bit, so that comparing the times would be meaningless.
    """
    import torch

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

    if not torch.equal(ours(), theirs().cpu()):
        raise RuntimeError("The decoder and diffusers' pipeline paint different pictures.")
    return {"M²Chat": ours, "diffusers": theirs}


def decoder(bench: Bench, steps: int = STEPS) -> dict[str, Figure | str]:
    """Measure the parts of a picture with a reference and, in the same rounds, its painting by diffusers."""
    chat = bench.chat
    conversation, slot = referring(chat, steps)
    features = chat.encode(conversation, slot)
    condition = chat.fuse(features)
    references = conversation.references(slot)
    ours, theirs = peers(chat, condition, steps).values()
    times = interleave(
        {
            "vision encoder": lambda number: chat.see(references),
            "language model": lambda number: chat.encode(conversation, slot, references=0),
            "adapter": lambda number: chat.fuse(features),
            "decoder": lambda number: ours(),
            "diffusers": lambda number: theirs(),
        },
        bench.rounds(21, 3),
        clock="CPU",
        warm=0 if bench.quick else 1,  # both have painted to be compared
    )
    parts = list(zip(*(times[part] for part in PARTS), strict=True))
    found: dict[str, Figure | str] = {
        "decoder_over_diffusers": ratio(times, "decoder", "diffusers"),
        "picture_seconds": seconds(times, "decoder", "diffusers"),
    }
    for place, part in enumerate(PARTS):
        shares = [100 * row[place] / sum(row) for row in parts]
        found[f"{part.replace(' ', '_')}_share"] = figure(shares, {"seconds": medians(times, part)[part]})
    return found


SWEEP = Group(
    (Row("sweep8_over_singles", "starter: a sweep of 8 gates in one batch / eight pictures", goal=0.55),),
    lambda bench: sweep(bench),
)


def sweep(bench: Bench, steps: int = STEPS) -> dict[str, Figure | str]:
    """Measure eight gates of one slot, painted together and one by one."""
    from .. import stages
    from ..settings import TurnSettings

    chat = bench.chat
    conversation, slot = referring(chat, 2)
    features = chat.encode(conversation, slot)
    conditions, seeds = [chat.fuse(features, gate) for gate in GATES], [SEED] * len(GATES)
    settings = TurnSettings(steps=steps, guidance=GUIDANCE)

    def paint(batch_size: int) -> None:
        list(stages.paint_all(chat.decoder, conditions, seeds, settings, batch_size=batch_size))

    times = interleave(
        {"one batch": lambda number: paint(len(GATES)), "eight pictures": lambda number: paint(1)},
        bench.rounds(7, 1),
        clock="CPU",
        warm=0,  # the first pictures were painted above
    )
    return {"sweep8_over_singles": ratio(times, "one batch", "eight pictures")}


PREVIEWS = Group(
    (
        Row("preview_each_step_over_none", "starter: a picture with a preview at every step / without"),
        Row(
            "vae_preview_each_step_over_none", "starter: a picture that the VAE decodes at every step / only at the end"
        ),
    ),
    lambda bench: previews(bench),
)


def previews(bench: Bench, steps: int = STEPS) -> dict[str, Figure | str]:
    """Measure a picture with previews of both kinds, and without."""
    from ..diffusion.latents import to_pictures

    chat = bench.chat
    condition = chat.encode_text([tales.CAPTIONS[0]])

    def paint(on_step: Any = None) -> None:
        chat.decoder.decode(condition, seed=SEED, steps=steps, guidance=GUIDANCE, on_step=on_step)

    def look(step: int, total: int, preview: Any) -> None:
        preview()

    def decode(step: int, total: int, preview: Any) -> None:
        to_pictures(chat.decoder.vae, preview.latents[:1])

    times = interleave(
        {
            "without": lambda number: paint(),
            "previews": lambda number: paint(look),
            "by the VAE": lambda number: paint(decode),
        },
        bench.rounds(11, 2),
        clock="CPU",
        warm=0 if bench.quick else 1,  # a picture was painted for the rows above
    )
    return {
        "preview_each_step_over_none": ratio(times, "previews", "without"),
        "vae_preview_each_step_over_none": ratio(times, "by the VAE", "without"),
    }


GROUPS = (DECODER, SWEEP, PREVIEWS)
