"""From an open slot to a picture, in three nodes: encode what it is about, fuse it with earlier looks, paint it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management
from comfy_api.latest import io
from torch import Tensor

from ..m3adapter import stages
from ..m3adapter.adapter.features import SlotFeatures
from ..m3adapter.adapter.gate_map import draw_gate
from ..m3adapter.adapter.gate_turns import GateTurns
from ..m3adapter.conversation.conversation import Conversation, ReferencePolicy
from ..m3adapter.diffusion.condition import Condition
from ..m3adapter.diffusion.prompt_syntax import escaped
from ..m3adapter.gate import GateSetting
from ..m3adapter.settings import TurnSettings
from . import inputs, wires
from .conversation import open_slot
from .errors import names_node
from .memory import Handle, load_text_encoders, make_ready, preparing
from .running import PaintingProgress, ShowsText, shown

TURNS = GateTurns()  # of whoever turns the gate of one picture


class EncodeSlot(ShowsText, io.ComfyNode):
    """Encodes what the language model means by a picture, and what earlier pictures look like."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_EncodeSlot",
            display_name="Encode Slot",
            category="M2Chat/picture",
            description="Collects what is known about a picture before it is painted: its meaning, and the "
            "look of earlier pictures.",
            search_aliases=["image features", "hidden states", "reference"],
            inputs=[
                inputs.language_model(),
                inputs.vision_encoder(),
                inputs.adapter(),
                inputs.conversation("A conversation with a picture still to be painted."),
                inputs.slot(),
                io.Int.Input(
                    "references",
                    default=2,
                    min=0,
                    max=8,
                    tooltip="How many earlier pictures to refer to: the first and the latest ones. 0 is none.",
                ),
                inputs.memory("From Memory of Pictures: which earlier pictures to refer to. It overrides references."),
            ],
            outputs=[
                wires.Features.Output(
                    display_name="features", tooltip="What is known about the picture, for Fuse M3-Adapter."
                ),
                io.String.Output(
                    display_name="caption",
                    tooltip="What the picture should show, as a prompt for Encode Text or CLIP Text Encode.",
                ),
            ],
        )

    @classmethod
    @names_node
    def execute(
        cls,
        language_model: Handle,
        vision_encoder: Handle,
        adapter: Handle,
        conversation: Conversation,
        slot: int,
        references: int,
        memory: ReferencePolicy | None = None,
    ) -> io.NodeOutput:
        """Encode the slot."""
        place = open_slot(conversation, slot)
        features = stages.encode_slot(
            language_model.part,
            vision_encoder.part,
            adapter.part,
            conversation,
            place,
            references=references if memory is None else memory,
            prepare=preparing(language_model=language_model, vision_encoder=vision_encoder),
        )
        features = features.to(comfy.model_management.intermediate_device())
        caption = escaped(conversation.picture(place).caption)
        return io.NodeOutput(features, caption, ui=shown(*features.notes))


class FuseM3Adapter(io.ComfyNode):
    """Fuses features into a condition through the gate."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        value = io.Float.Input(
            "value",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.05,
            display_mode=io.NumberDisplay.slider,
            tooltip="How far the gate is open for every token: 1 is as far as the trained gate "
            "typically opens, 0 is shut.",
        )
        return io.Schema(
            node_id="M2Chat_FuseM3Adapter",
            display_name="Fuse M3-Adapter",
            category="M2Chat/picture",
            description="Fuses meaning and look into a condition. The gate balances creativity against consistency.",
            search_aliases=["gate", "consistency", "creativity", "conditioning", "ip-adapter strength"],
            inputs=[
                inputs.adapter(),
                wires.Features.Input("features", tooltip="From Encode Slot."),
                inputs.gate(),
                io.DynamicCombo.Input(
                    "mode",
                    options=[io.DynamicCombo.Option("learned", []), io.DynamicCombo.Option("fixed", [value])],
                    tooltip="learned: the adapter opens the gate as each picture needs. fixed: equally open for all.",
                ),
                wires.Condition.Input(
                    "anchor",
                    optional=True,
                    tooltip="Only for an anchored adapter: the caption as the decoder's text encoders read it, "
                    "from Encode Text.",
                ),
            ],
            outputs=[
                wires.Condition.Output(display_name="condition", tooltip="What to paint, for Paint Picture."),
                io.Image.Output(display_name="gate_map", tooltip="A chart of the gate by token and channel."),
                io.Float.Output(
                    display_name="mean_gate", tooltip="The mean of the gate over all tokens, including the strength."
                ),
            ],
        )

    @classmethod
    @names_node
    def execute(
        cls,
        adapter: Handle,
        features: SlotFeatures,
        gate: float,
        mode: dict[str, Any],
        anchor: Condition | None = None,
    ) -> io.NodeOutput:
        """Fuse the features."""
        fixed = {"mode": "fixed", "value": mode["value"]} if mode["mode"] == "fixed" else {}
        make_ready(adapter)
        condition = stages.fuse(adapter.part, features, GateSetting(strength=gate, **fixed), anchor, TURNS)
        condition = condition.to(comfy.model_management.intermediate_device())
        assert condition.gate is not None  # an adapter always tells it
        picture = draw_gate(condition.gate[0], condition.captions[0])
        return io.NodeOutput(condition, picture[None], float(condition.gate.mean()))


class Decode(io.ComfyNode):
    """Paints a condition."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_Decode",
            display_name="Paint Picture",
            category="M2Chat/picture",
            description="Paints a condition by diffusion, with a preview as it goes.",
            search_aliases=["sampler", "diffusion", "paint", "generate image"],
            inputs=[
                inputs.decoder(),
                wires.Condition.Input("condition", tooltip="From Fuse M3-Adapter."),
                inputs.seed(),
                inputs.steps(),
                inputs.guidance(),
                io.Image.Input(
                    "image", optional=True, tooltip="A picture to start from, which also gives the size; see denoise."
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="How much of image to paint over: low values keep most of it, 1 starts from pure noise.",
                ),
                wires.Decoder.Input(
                    "refiner",
                    optional=True,
                    tooltip="An SDXL refiner from Load SDXL Decoder, to paint the last steps.",
                ),
                io.Float.Input(
                    "switch_at",
                    default=0.8,
                    min=0.05,
                    max=0.95,
                    step=0.05,
                    optional=True,
                    tooltip="When the refiner takes over: at 0.8 it paints the last fifth.",
                ),
                *inputs.size("that of image, or the decoder's own"),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The picture.")],
        )

    @classmethod
    @names_node
    def execute(
        cls,
        decoder: Handle,
        condition: Condition,
        seed: int,
        steps: int,
        guidance: float,
        image: Tensor | None = None,
        denoise: float = 1.0,
        refiner: Handle | None = None,
        switch_at: float = 0.8,
        width: int = 0,
        height: int = 0,
    ) -> io.NodeOutput:
        """Paint the picture."""
        if image is not None and len(image) != 1:
            raise ValueError(
                f"image holds {len(image)} pictures, but only one is painted: pick one of the batch first."
            )
        settings = TurnSettings(seed=seed, steps=steps, guidance=guidance, width=width, height=height)
        refiner_condition = None
        if refiner is not None:
            load_text_encoders(refiner)
            refiner_condition = refiner.part.encode_captions(condition)
        progress = PaintingProgress(steps)

        def on_step(step: int, total: int, preview: Callable[[], Any]) -> None:
            progress.update(step * steps // total, preview)  # a part of the steps, or more than one call for each

        painted = stages.paint(
            decoder.part,
            condition,
            settings,
            image=None if image is None else image[0],
            denoise=denoise,
            refiner=None if refiner is None else refiner.part,
            refiner_condition=refiner_condition,
            switch_at=switch_at,
            on_step=on_step,
        )
        return io.NodeOutput(painted[None])


NODES = [EncodeSlot, FuseM3Adapter, Decode]
