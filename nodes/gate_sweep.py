"""Compares gates: one picture at several gates and seeds, on a sheet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import comfy.model_management
import torch
from comfy_api.latest import io
from torch import Tensor

from ..m3adapter import stages
from ..m3adapter.adapter.features import SlotFeatures
from ..m3adapter.adapter.gate_sweep import MAX_VALUES, Cell, draw_sheet, parse_gates, similarity
from ..m3adapter.adapter.gate_turns import GateTurns
from ..m3adapter.conversation.conversation import Conversation, ReferencePolicy, Slot
from ..m3adapter.diffusion.condition import Condition
from ..m3adapter.events import Event, Step
from ..m3adapter.painter import Painter, PaintRequest
from ..m3adapter.settings import TurnSettings
from ..m3adapter.values import SEED_LIMIT
from . import batching, inputs, wires
from .conversation import open_slot
from .errors import complaint, names_node
from .memory import OUT_OF_MEMORY, Handle, assemble, load_text_encoders, make_ready
from .running import PaintingProgress

if TYPE_CHECKING:
    from ..m3adapter.language.language_model import SlotStates


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
                inputs.adapter(optional=True, tooltip="The M3-Adapter, only for a decoder: other painters do without."),
                inputs.painter(),
                wires.Features.Input(
                    "features",
                    optional=True,
                    tooltip="From Encode Slot, only for a decoder: other painters take conversation.",
                ),
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
                wires.Conversation.Input(
                    "conversation",
                    optional=True,
                    tooltip="For a painter: a conversation with a picture still to be painted.",
                ),
                inputs.slot(optional=True),
                inputs.language_model(
                    optional=True, tooltip="For the starter's painter: says what the picture is about."
                ),
                inputs.memory(),
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
        decoder: Handle | Painter,
        gates: str,
        seeds: int,
        seed: int,
        steps: int,
        guidance: float,
        adapter: Handle | None = None,
        features: SlotFeatures | None = None,
        vision_encoder: Handle | None = None,
        anchor: Condition | None = None,
        width: int = 0,
        height: int = 0,
        batch_size: int = 0,
        conversation: Conversation | None = None,
        slot: int = 0,
        language_model: Handle | None = None,
        memory: ReferencePolicy | None = None,
    ) -> io.NodeOutput:
        """Paint all cells of the sheet."""
        strengths = parse_gates(gates)
        rows = [(seed + row) % SEED_LIMIT for row in range(seeds)]
        settings = TurnSettings(
            steps=steps,
            guidance=guidance,
            width=width,
            height=height,
            batch_size=batch_size or 1,
            references=memory or ReferencePolicy(),
        )
        progress = PaintingProgress(steps * len(strengths) * len(rows))
        if isinstance(decoder, Painter):
            if conversation is None:
                raise ValueError("A painter paints a picture of a conversation: connect conversation.")
            place = open_slot(conversation, slot)
            states = _read(decoder, language_model, vision_encoder, conversation, place)
            requests = [
                PaintRequest(conversation, place, replace(settings, gate=strength), own, states)
                for own in rows
                for strength in strengths
            ]
            images = _painted(decoder, requests, settings, batch_size, progress, steps)
            pictures = [picture.pixels for picture, _ in requests[0].references]
            references = _levels(vision_encoder, pictures) if pictures and vision_encoder is not None else None
        else:
            if adapter is None or features is None:
                missing = "adapter" if adapter is None else "features"
                raise ValueError(
                    f"decoder paints what an M3-Adapter makes: connect {missing} too, or a painter in its place."
                )
            if not batch_size:
                settings = replace(settings, batch_size=batching.batch_size(decoder, width, height))
            conditions = _conditions(adapter, decoder, features, strengths, anchor)
            images = _decoded(
                decoder, conditions * len(rows), [own for own in rows for _ in strengths], settings, progress
            )
            seen = bool(features.vision_mask.any())
            references = features.vision[0][features.vision_mask[0]] if seen else None
        alike: list[float | None] = [None] * len(images)
        if vision_encoder is not None and references is not None:
            alike = [similarity(levels, references) for levels in _levels(vision_encoder, images)]
        cells = iter(Cell(image, value) for image, value in zip(images, alike, strict=True))
        sheet = draw_sheet([[next(cells) for _ in strengths] for _ in rows], strengths, rows)
        return io.NodeOutput(sheet[None], torch.stack(images), [value or 0.0 for value in alike])


def _read(
    painter: Painter,
    language_model: Handle | None,
    vision_encoder: Handle | None,
    conversation: Conversation,
    place: Slot,
) -> SlotStates | None:
    """Return the language model's states of a slot if a painter needs them."""
    if "language_model" not in painter.needs or painter.image_tokens is None:
        return None
    if language_model is None:
        raise ValueError("This painter asks the language model what a picture is about: connect language_model.")
    chat = assemble(language_model, vision_encoder, None, painter)
    shown = stages.UserPictures(language_model.part, chat.vision_encoder, chat.prepare)
    return stages.read_slot(
        language_model.part, painter.image_tokens, conversation, place, shown=shown, prepare=chat.prepare
    )


def _painted(
    painter: Painter,
    requests: list[PaintRequest],
    settings: TurnSettings,
    batch_size: int,
    progress: PaintingProgress,
    steps: int,
) -> list[Tensor]:
    """Paint requests that do not depend on one another."""
    painter.check(settings, requests[0].conversation)
    size = batch_size or batching.batch_size(painter, settings.width, settings.height)
    requests = [replace(each, settings=replace(each.settings, batch_size=size)) for each in requests]

    def on_event(event: Event) -> None:
        if isinstance(event, Step):
            progress.update(len(images) * steps + event.step * steps // event.total, event.preview)

    images: list[Tensor] = []
    with painter.read_ahead(requests, check=comfy.model_management.throw_exception_if_processing_interrupted):
        for image in painter.paint_all(requests, on_event=on_event):
            images.append(image)
    return images


def _conditions(
    adapter: Handle, decoder: Handle, features: SlotFeatures, strengths: list[float], anchor: Condition | None
) -> list[Condition]:
    """Return what the decoder paints at each gate."""
    if anchor is None and adapter.part.config.anchor:
        load_text_encoders(decoder)
        anchor = decoder.part.encode_text(features.captions)
    make_ready(adapter)
    turns = GateTurns()
    return [stages.fuse(adapter.part, features, strength, anchor, turns) for strength in strengths]


def _decoded(
    decoder: Handle, conditions: list[Condition], seeds: list[int], settings: TurnSettings, progress: PaintingProgress
) -> list[Tensor]:
    """Paint conditions."""
    steps = settings.steps

    def on_step(pictures: range, step: int, total: int, preview: Callable[[], Any]) -> None:
        progress.update(pictures.start * steps + len(pictures) * step * steps // total, preview)

    make_ready(decoder)
    return list(
        stages.paint_all(decoder.part, conditions, seeds, settings, on_step=on_step, out_of_memory=OUT_OF_MEMORY)
    )


def _levels(vision_encoder: Handle, images: list[Tensor]) -> Tensor:
    """Return the vision encoder's features of pictures, of all levels."""
    make_ready(vision_encoder)
    return stages.see(vision_encoder.part, images).levels


NODES = [GateSweep]
