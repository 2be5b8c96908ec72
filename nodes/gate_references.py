"""The gate on reference latents, and reference pictures without what is around their subject."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor

from ..m3adapter.diffusion.reference_gate import ReferenceGate, parse_weights
from ..m3adapter.diffusion.reference_pictures import subjects_on_grey
from . import inputs
from .errors import complaint, names_node
from .reference_gate import gate_references


class GateReferences(io.ComfyNode):
    """Puts a gate on the references that an edit model reads."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        part = {"min": 0.0, "max": 1.0, "step": 0.001}
        return io.Schema(
            node_id="M2Chat_GateReferences",
            display_name="Gate References",
            category="M2Chat/references",
            description="Says how strongly an edit model looks at its reference latents: FLUX.2, FLUX.1 Kontext, "
            "Qwen-Image-Edit, Z-Image, OmniGen2, Krea 2, JoyImage and their relatives.",
            search_aliases=[
                "reference latent strength",
                "kontext strength",
                "reference weight",
                "edit model",
                "consistency",
                "gate",
            ],
            inputs=[
                io.Model.Input("model", tooltip="An edit model, with any patches on it."),
                inputs.gate(),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    **part,
                    tooltip="Where in the sampling the references start to act. A later start leaves the composition "
                    "to the words.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    **part,
                    tooltip="Where in the sampling they stop acting. An earlier end leaves the details to the words.",
                ),
                io.String.Input(
                    "weights",
                    default="",
                    optional=True,
                    tooltip="How often each reference counts, in the order of ReferenceLatent: 1, 0.5. Those without "
                    "a number count once, and 0 removes one.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="What of a reference counts: the white area, say its subject. One mask for the first "
                    "reference, or a batch with one for each.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For KSampler, or another Gate References.")],
        )

    @classmethod
    def validate_inputs(cls, weights: str | None = None) -> bool | str:
        """Check the weights before anything runs."""
        return complaint(parse_weights, weights)

    @classmethod
    @names_node
    def execute(
        cls,
        model: ModelPatcher,
        gate: float,
        start_percent: float,
        end_percent: float,
        weights: str = "",
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        """Patch a copy of the model."""
        masks = () if mask is None else tuple(mask)
        setting = ReferenceGate(gate, start_percent, end_percent, parse_weights(weights), masks)
        return io.NodeOutput(gate_references(model, setting))


class ReferenceOnGrey(io.ComfyNode):
    """Takes away what is around the subject of a reference."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_ReferenceOnGrey",
            display_name="Reference on Grey",
            category="M2Chat/references",
            description="Puts the subject of a reference picture on grey, so that new pictures take over neither its "
            "background nor, if cropped, its framing.",
            search_aliases=["cut out", "remove background", "reference background", "subject mask", "grey"],
            inputs=[
                io.Image.Input("image", tooltip="The reference picture, or a batch of them."),
                io.Mask.Input("mask", tooltip="White where the subject is. One mask, or one for each picture."),
                io.Boolean.Input(
                    "crop",
                    default=False,
                    tooltip="Whether to cut the picture to the subject, so that it says nothing of the framing.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image", tooltip="For VAE Encode and ReferenceLatent, Add to Cast or User Message."
                ),
                io.Mask.Output(display_name="mask", tooltip="The mask of that picture, for Gate References."),
            ],
        )

    @classmethod
    @names_node
    def execute(cls, image: Tensor, mask: Tensor, crop: bool) -> io.NodeOutput:
        """Paint the rest grey."""
        return io.NodeOutput(*subjects_on_grey(image, mask, crop=crop))


NODES = [GateReferences, ReferenceOnGrey]
