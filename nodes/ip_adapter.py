"""IP-Adapter as the low-level path: the reference pictures, and the gate of a MODEL or a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.clip_vision
import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor

from ..m3adapter.conversation.pictures import normalised
from ..m3adapter.ip_adapter.image_prompt import (
    PRESETS,
    ImageGate,
    ImagePrompt,
    Reference,
)
from ..m3adapter.values import MAX_STRENGTH
from . import attention_patch, inputs, wires
from .errors import names_node
from .memory import Handle, load, with_decoder

CUSTOM = "custom"


@dataclass(frozen=True)
class References:
    """What travels on the wire: reference pictures as tokens, and the IP-Adapters that made them."""

    items: tuple[Reference, ...]
    adapters: tuple[Handle, ...]

    def load(self) -> None:
        """Load the weights of the IP-Adapters."""
        load(*(each.patcher for each in self.adapters), streams=True)


class IPAdapterReference(io.ComfyNode):
    """Encodes reference pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_IPReference",
            display_name="IP-Adapter Reference",
            category="M2Chat/references",
            description="Says which pictures to refer to, where, and with what weight. References can be chained.",
            search_aliases=["ip-adapter encode", "reference image", "character reference", "image prompt", "mask"],
            inputs=[
                wires.IPAdapter.Input("ip_adapter", tooltip="From Load IP-Adapter."),
                io.ClipVision.Input(
                    "clip_vision",
                    tooltip="From Load CLIP Vision: the vision encoder that the IP-Adapter was trained with.",
                ),
                io.Image.Input(
                    "image",
                    tooltip="The picture; its middle square is used. Each picture of a batch is a reference.",
                ),
                io.Float.Input(
                    "weight",
                    default=1.0,
                    min=0.0,
                    max=MAX_STRENGTH,
                    step=0.05,
                    tooltip="How much it counts relative to other references; also a factor of the gate.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where in the new picture it acts: the white area. It is stretched over the whole picture.",
                ),
                wires.References.Input(
                    "references",
                    optional=True,
                    tooltip="Other references to add to, of any size and from any IP-Adapter.",
                ),
            ],
            outputs=[
                wires.References.Output(
                    display_name="references",
                    tooltip="For Apply IP-Adapter, Apply IP-Adapter to Decoder, or another IP-Adapter Reference.",
                )
            ],
        )

    @classmethod
    @names_node
    def execute(
        cls,
        ip_adapter: Handle,
        clip_vision: comfy.clip_vision.ClipVisionModel,
        image: Tensor,
        weight: float,
        mask: Tensor | None = None,
        references: References | None = None,
    ) -> io.NodeOutput:
        """Encode the pictures."""
        if mask is not None and len(mask) not in (1, len(image)):
            raise ValueError(
                f"mask holds {len(mask)} masks and image {len(image)} pictures: give one mask, or one for each."
            )
        pictures = [normalised(picture) for picture in image]
        masks = None if mask is None else mask.expand(len(pictures), -1, -1)
        found = encode_references(ip_adapter, clip_vision, pictures, [weight] * len(pictures), masks)
        before = references or References((), ())
        adapters = before.adapters if ip_adapter in before.adapters else (*before.adapters, ip_adapter)
        return io.NodeOutput(References((*before.items, *found.items), adapters))


def encode_references(
    ip_adapter: Handle,
    clip_vision: comfy.clip_vision.ClipVisionModel,
    pictures: Sequence[Tensor],
    weights: Sequence[float],
    masks: Sequence[Tensor | None] | Tensor | None = None,
) -> References:
    """Return pictures [H, W, 3] of any sizes, with a weight and a mask [h, w] each, as references."""
    kind = ip_adapter.part.config.kind
    alike = len({picture.shape for picture in pictures}) == 1
    batches = [torch.stack(list(pictures))] if alike else [picture[None] for picture in pictures]
    found = [_features(clip_vision, batch, kind) for batch in batches]
    seen, unseen = torch.cat([one for one, _ in found]), found[0][1]
    ip_adapter.part.config.check_image_width(seen.shape[-1])
    load(ip_adapter.patcher, streams=True)
    rest = comfy.model_management.intermediate_device()
    tokens, negative = (ip_adapter.part.encode(each).to(rest) for each in (seen, unseen))
    items = tuple(
        Reference(ip_adapter.part, one, negative[0], weight, where)
        for one, weight, where in zip(
            tokens, weights, masks if masks is not None else [None] * len(tokens), strict=True
        )
    )
    return References(items, (ip_adapter,))


def _features(stock: comfy.clip_vision.ClipVisionModel, pictures: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Return a stock vision model's features of pictures [B, H, W, 3] and of no picture, for a kind of IP-Adapter."""
    found = stock.encode_image(pictures)
    if kind == "base":
        return found["image_embeds"], torch.zeros_like(found["image_embeds"][:1])
    # The release shows its encoder zeros in place of a normalised picture, which no picture of 8 bits is quite.
    nothing = torch.zeros(1, 3, stock.image_size, stock.image_size, device=stock.load_device)
    unseen = stock.model(pixel_values=nothing, intermediate_output=-2)[1]
    return found["penultimate_hidden_states"], unseen


def _gate_inputs() -> list[io.Input]:
    """Return the inputs of the gate, the same for a MODEL and a decoder."""
    table = io.String.Input(
        "table",
        multiline=True,
        default="down.2.1 = 1, up.0.1 = 1",
        tooltip="A strength for each block of the UNet: down.1.0 to up.1.2 and mid in SDXL; up "
        "means all blocks on the way up.",
    )
    part = {"min": 0.0, "max": 1.0, "step": 0.001}
    return [
        wires.References.Input("references", tooltip="From IP-Adapter Reference."),
        inputs.gate(),
        io.Float.Input(
            "start_percent",
            default=0.0,
            **part,
            tooltip="Where in the sampling it starts to act. A later start leaves the composition to the words.",
        ),
        io.Float.Input(
            "end_percent",
            default=1.0,
            **part,
            tooltip="Where in the sampling it stops acting. An earlier end leaves the details to the words.",
        ),
        io.DynamicCombo.Input(
            "weight_type",
            options=[*(io.DynamicCombo.Option(name, []) for name in PRESETS), io.DynamicCombo.Option(CUSTOM, [table])],
            tooltip="What to take from the references: everything, only the composition, only the "
            "style, or by a table of your own.",
        ),
    ]


def _prompt(
    references: References, gate: float, start_percent: float, end_percent: float, weight_type: dict[str, Any]
) -> ImagePrompt:
    chosen = weight_type["table"] if weight_type["weight_type"] == CUSTOM else weight_type["weight_type"]
    return ImagePrompt(references.items, ImageGate(gate, start_percent, end_percent, chosen))


class ApplyIPAdapter(io.ComfyNode):
    """Applies references to a stock MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_ApplyIPAdapter",
            display_name="Apply IP-Adapter",
            category="M2Chat/references",
            description="Lets a stock SDXL model refer to pictures while it samples. The gate says how strongly.",
            search_aliases=["ip-adapter", "ipadapter apply", "consistent character", "style transfer", "gate"],
            inputs=[io.Model.Input("model", tooltip="A stock SDXL base model or fine-tune."), *_gate_inputs()],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="For KSampler, a LoRA loader, or another Apply IP-Adapter."
                )
            ],
        )

    @classmethod
    @names_node
    def execute(
        cls,
        model: ModelPatcher,
        references: References,
        gate: float,
        start_percent: float,
        end_percent: float,
        weight_type: dict[str, Any],
    ) -> io.NodeOutput:
        """Patch a copy of the model."""
        prompt = _prompt(references, gate, start_percent, end_percent, weight_type)
        references.load()
        return io.NodeOutput(attention_patch.apply(model, prompt))


class DecoderIPAdapter(io.ComfyNode):
    """Applies references to M²Chat's decoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_DecoderIPAdapter",
            display_name="Apply IP-Adapter to Decoder",
            category="M2Chat/references",
            description="Lets the decoder refer to pictures in everything it paints, in addition to the "
            "M3-Adapter's condition.",
            search_aliases=["ip-adapter", "consistent character", "story character", "gate"],
            inputs=[inputs.decoder(), *_gate_inputs()],
            outputs=[
                wires.Decoder.Output(display_name="decoder", tooltip="For Paint Picture, Take Turn or Tell Story.")
            ],
        )

    @classmethod
    @names_node
    def execute(
        cls,
        decoder: Handle,
        references: References,
        gate: float,
        start_percent: float,
        end_percent: float,
        weight_type: dict[str, Any],
    ) -> io.NodeOutput:
        """Add them to a copy of the decoder."""
        prompt = _prompt(references, gate, start_percent, end_percent, weight_type)
        part = decoder.part.with_image_prompt(prompt)
        patchers = tuple(each.patcher for each in references.adapters if each.patcher not in decoder.helpers)
        return io.NodeOutput(with_decoder(decoder, part, *patchers))


NODES = [IPAdapterReference, ApplyIPAdapter, DecoderIPAdapter]
