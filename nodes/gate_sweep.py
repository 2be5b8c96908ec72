"""Compares gates: one picture at several gates and seeds, on a sheet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io

from ..m3adapter import stages
from ..m3adapter.adapter.features import SlotFeatures
from ..m3adapter.adapter.gate_sweep import MAX_VALUES, Cell, draw_sheet, parse_gates, similarity
from ..m3adapter.diffusion.condition import Condition
from ..m3adapter.limits import SEED_LIMIT
from ..m3adapter.settings import TurnSettings
from . import batching, inputs, wires
from .errors import complaint, names_node
from .memory import Handle, load_text_encoders, make_ready
from .running import PaintingProgress


class GateSweep(io.ComfyNode):
    """Paints features at several gates and seeds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_GateSweep",
            display_name="Gate Sweep",
            category="M2Chat/picture",
            description="Paints one picture at several gates and seeds, and measures how similar each is "
            "to its reference.",
            search_aliases=["gate lab", "xy plot", "grid", "compare", "similarity"],
            inputs=[
                inputs.adapter(),
                inputs.decoder(),
                wires.Features.Input("features", tooltip="From Encode Slot."),
                io.String.Input(
                    "gates",
                    default="0, 0.25, 0.5, 0.75, 1",
                    tooltip=f"The gates to paint with, one column each: up to {MAX_VALUES} numbers from 0 to 4.",
                ),
                io.Int.Input(
                    "seeds", default=2, min=1, max=MAX_VALUES, tooltip="How many seeds to paint with, one row each."
                ),
                inputs.seed("The seed of the first row; each further row uses the next one."),
                inputs.steps(),
                inputs.guidance(),
                inputs.vision_encoder(
                    optional=True, tooltip="Measures how similar pictures and references are. May be left unconnected."
                ),
                wires.Condition.Input(
                    "anchor",
                    optional=True,
                    tooltip="Only for an anchored adapter: the caption as the decoder's text encoders read it, "
                    "from Encode Text.",
                ),
                *inputs.size(),
                inputs.batch_size("; 0 is as many as fit in memory.", default=0),
            ],
            outputs=[
                io.Image.Output(display_name="sheet", tooltip="All pictures, labelled: gates across, seeds down."),
                io.Image.Output(display_name="images", tooltip="The pictures as a batch, row by row."),
                io.Float.Output(
                    display_name="similarities",
                    is_output_list=True,
                    tooltip="How similar each picture is to its reference, at most 1; 0 if there is no reference.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, gates: str | None = None) -> bool | str:
        """Refuse anything but a list of gates before anything runs."""
        return complaint(parse_gates, gates)

    @classmethod
    @names_node
    def execute(
        cls,
        adapter: Handle,
        decoder: Handle,
        features: SlotFeatures,
        gates: str,
        seeds: int,
        seed: int,
        steps: int,
        guidance: float,
        vision_encoder: Handle | None = None,
        anchor: Condition | None = None,
        width: int = 0,
        height: int = 0,
        batch_size: int = 0,
    ) -> io.NodeOutput:
        """Paint all cells of the sheet."""
        strengths = parse_gates(gates)
        settings = TurnSettings(steps=steps, guidance=guidance, width=width, height=height, batch_size=batch_size or 1)
        rows = [(seed + row) % SEED_LIMIT for row in range(seeds)]
        if anchor is None and adapter.part.config.anchor:
            load_text_encoders(decoder)
            anchor = decoder.part.encode_text(features.captions)
        make_ready(adapter)
        conditions = [stages.fuse(adapter.part, features, strength, anchor) for strength in strengths]
        progress = PaintingProgress(steps * len(strengths) * len(rows))

        def on_step(pictures: range, step: int, total: int, preview: Callable[[], Any]) -> None:
            progress.update(pictures.start * steps + len(pictures) * step * steps // total, preview)

        make_ready(decoder)
        if not batch_size:
            settings = replace(settings, batch_size=batching.batch_size(decoder, width, height))
        images = list(
            stages.paint_all(
                decoder.part,
                conditions * len(rows),
                [own for own in rows for _ in strengths],
                settings,
                on_step=on_step,
                out_of_memory=batching.OUT_OF_MEMORY,
            )
        )
        alike: list[float | None] = [None] * len(images)
        if vision_encoder is not None and bool(features.vision_mask.any()):
            references = features.vision[0][features.vision_mask[0]]
            make_ready(vision_encoder)
            seen = stages.see(vision_encoder.part, images)
            alike = [similarity(levels, references) for levels in seen.levels]
        cells = iter(Cell(image, value) for image, value in zip(images, alike, strict=True))
        sheet = draw_sheet([[next(cells) for _ in strengths] for _ in rows], strengths, rows)
        return io.NodeOutput(sheet[None], torch.stack(images), [value or 0.0 for value in alike])


NODES = [GateSweep]
