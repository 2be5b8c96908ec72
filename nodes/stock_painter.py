"""Stock Painter: whatever ComfyUI paints with, as the painter of stories and dialogues."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import comfy.samplers
import comfy.sd
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor

from ..m3adapter.m3_painter import M3Painter
from ..m3adapter.values import MAX_SIDE, MAX_STEPS
from . import attention_patch, stock_checks, stock_sight, wires
from .adaptive_gate import Remembered, encoder
from .errors import names_node
from .memory import Handle, preparing
from .stock import Conditioning
from .stock_painting import ClipTexts, Looks, StockPainter
from .stock_references import ReferenceLatents, ReferencePrompts, SeenReferences
from .stock_sight import Sight

if TYPE_CHECKING:
    import comfy.clip_vision

NONE, LATENTS = "none", "reference latents"
SIGHTS = ALL, FIRST, WORDS = "references", "first reference", "captions only"
MAX_CFG = 100.0


class StockPainterNode(io.ComfyNode):
    """Makes a painter of a stock model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        samplers, schedulers = comfy.samplers.KSampler.SAMPLERS, comfy.samplers.KSampler.SCHEDULERS
        size: dict[str, Any] = {"default": 1024, "min": 16, "max": MAX_SIDE, "step": 8}
        part: dict[str, Any] = {"min": 0.0, "max": 1.0, "step": 0.001, "optional": True, "advanced": True}
        return io.Schema(
            node_id="M2Chat_StockPainter",
            display_name="Stock Painter",
            category="M2Chat/stock",
            description="Lets any stock model paint stories and dialogues, with its LoRAs and ControlNets: for each "
            "picture, what CLIP Text Encode, KSampler and VAE Decode would paint from its caption.",
            search_aliases=[
                "ksampler",
                "flux",
                "qwen",
                "z-image",
                "sdxl",
                "lora",
                "controlnet",
                "painter",
                "any model",
            ],
            inputs=[
                io.Model.Input("model", tooltip="From any loader, with any patches on it, such as LoRAs."),
                io.Clip.Input("clip", tooltip="The text encoders of that model."),
                io.Vae.Input("vae", tooltip="The VAE of that model."),
                io.Int.Input(
                    "steps",
                    default=20,
                    min=0,
                    max=MAX_STEPS,
                    tooltip="Denoising steps for each picture, as the model needs them; 0 is what the story says.",
                ),
                io.Float.Input(
                    "cfg",
                    default=7.0,
                    min=0.0,
                    max=MAX_CFG,
                    step=0.1,
                    tooltip="Scale of guidance, as the model needs it: 1 is none. 0 is what the story says.",
                ),
                io.Combo.Input("sampler_name", options=list(samplers), default="euler", tooltip="As in KSampler."),
                io.Combo.Input("scheduler", options=list(schedulers), default="simple", tooltip="As in KSampler."),
                io.Int.Input("width", **size, tooltip="Width in pixels, where the story or turn has none of its own."),
                io.Int.Input(
                    "height", **size, tooltip="Height in pixels, where the story or turn has none of its own."
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much of image to paint over, as in KSampler: 1 starts from pure noise.",
                ),
                io.String.Input(
                    "negative",
                    multiline=True,
                    default="",
                    tooltip="What pictures should not show, unless the story says it itself.",
                ),
                io.Combo.Input(
                    "references",
                    options=[NONE, LATENTS],
                    default=NONE,
                    tooltip="How earlier pictures are referred to. reference latents: for edit models such as FLUX.2, "
                    "FLUX.1 Kontext and Qwen-Image-Edit. none: by IP-Adapter or M3-Adapter if connected, else not.",
                ),
                io.Conditioning.Input(
                    "positive_like",
                    optional=True,
                    tooltip="Conditioning with a ControlNet, a guidance or an area, which every caption gets too. "
                    "Its own words do not matter.",
                ),
                io.Conditioning.Input(
                    "negative_like",
                    optional=True,
                    tooltip="The same for the negative. Its own words count if negative is empty.",
                ),
                io.Image.Input(
                    "image", optional=True, tooltip="A picture to start from, which also gives the size; see denoise."
                ),
                wires.IPAdapter.Input(
                    "ip_adapter", optional=True, tooltip="For SDXL: refers to earlier pictures by IP-Adapter."
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="The vision encoder that the IP-Adapter was trained with, from Load CLIP Vision.",
                ),
                wires.Adapter.Input(
                    "adapter",
                    optional=True,
                    tooltip="For SDXL: an M3-Adapter, whose condition takes the place of the caption's.",
                ),
                wires.VisionEncoder.Input(
                    "vision_encoder", optional=True, tooltip="What the M3-Adapter sees earlier pictures with."
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    **part,
                    tooltip="Where in the sampling references start to act. Later leaves the composition to the words.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    **part,
                    tooltip="Where in the sampling references stop acting. Earlier leaves the details to the words.",
                ),
                io.Combo.Input(
                    "adaptive_gate",
                    options=["off", "on"],
                    default="off",
                    optional=True,
                    tooltip="on: the gate is lowered for each reference whose caption is about another subject than "
                    "the new one, as Adaptive Gate does. The node that tells the story shows each result.",
                ),
                io.Combo.Input(
                    "text_encoder_sees",
                    options=list(SIGHTS),
                    default=ALL,
                    optional=True,
                    advanced=True,
                    tooltip="With reference latents, which of them a text encoder that takes pictures sees too, by the "
                    "stock node of the model, such as Text Encode Qwen Image Edit Plus. first reference: by that of "
                    "the first Qwen-Image-Edit, which took one picture.",
                ),
            ],
            outputs=[
                wires.Painter.Output(
                    display_name="painter", tooltip="For the decoder of Tell Story, Take Turn or Gate Sweep."
                )
            ],
        )

    @classmethod
    @names_node
    def execute(
        cls,
        model: ModelPatcher,
        clip: comfy.sd.CLIP,
        vae: comfy.sd.VAE,
        references: str,
        positive_like: Conditioning | None = None,
        negative_like: Conditioning | None = None,
        image: Tensor | None = None,
        ip_adapter: Handle | None = None,
        clip_vision: comfy.clip_vision.ClipVisionModel | None = None,
        adapter: Handle | None = None,
        vision_encoder: Handle | None = None,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        adaptive_gate: str = "off",
        text_encoder_sees: str = ALL,
        **settings: Any,
    ) -> io.NodeOutput:
        """Make the painter, and check that its parts fit each other."""
        stock_checks.check_choice("sampler_name", settings["sampler_name"], comfy.samplers.KSampler.SAMPLERS)
        stock_checks.check_choice("scheduler", settings["scheduler"], comfy.samplers.KSampler.SCHEDULERS)
        stock_checks.check_choice("references", references, (NONE, LATENTS))
        if image is not None and len(image) != 1:
            raise ValueError(f"image holds {len(image)} pictures, but only one is started from: pick one of the batch.")
        stock_checks.check_model(model)
        stock_checks.check_vae(model, vae)
        stock_checks.check_choice("text_encoder_sees", text_encoder_sees, SIGHTS)
        looks: Looks | None
        if references == LATENTS:
            looks = _latents(model, clip, vae, clip_vision, text_encoder_sees, start_percent, end_percent)
            if ip_adapter is not None:
                raise ValueError("references is reference latents, and ip_adapter is connected: choose one of the two.")
        else:
            looks = _prompts(model, ip_adapter, clip_vision, start_percent, end_percent)
        painter = StockPainter(
            model,
            clip,
            vae,
            positive_like=positive_like,
            negative_like=negative_like,
            image=image,
            looks=looks,
            m3=_m3(model, clip, adapter, vision_encoder),
            adapt=Remembered(encoder(clip=clip)) if adaptive_gate == "on" else None,
            **settings,
        )
        # The negative is needed anyway, and what encodes it shows whether the CLIP is that of the model.
        stock_checks.check_conditioning(model, painter.negative_conditioning)
        return io.NodeOutput(painter)


def _latents(
    model: ModelPatcher,
    clip: comfy.sd.CLIP,
    vae: comfy.sd.VAE,
    clip_vision: comfy.clip_vision.ClipVisionModel | None,
    sees: str,
    start: float,
    end: float,
) -> ReferenceLatents:
    """Return how references enter an edit model."""
    most = stock_checks.most_references(model)
    family = None if sees == WORDS else stock_sight.family_of(model)
    omni = family is stock_sight.OMNI
    if clip_vision is not None and not omni:
        raise ValueError("An IP-Adapter sees by the vision encoder it was trained with: connect ip_adapter too.")
    if family is None or not (omni or stock_sight.takes_pictures(clip)):
        return ReferenceLatents(vae, start, end, most)
    if sees == FIRST:
        family = stock_sight.FIRST if family is stock_sight.QWEN else replace(family, most=1)
    return SeenReferences(vae, start, end, min(most, family.most), Sight(clip, vae, family, clip_vision))


def _prompts(
    model: ModelPatcher,
    ip_adapter: Handle | None,
    clip_vision: comfy.clip_vision.ClipVisionModel | None,
    start: float,
    end: float,
) -> ReferencePrompts | None:
    """Return how references enter an SDXL model; None if they do not."""
    if ip_adapter is None and clip_vision is None:
        return None
    if ip_adapter is None or clip_vision is None:
        missing = "clip_vision" if clip_vision is None else "ip_adapter"
        raise ValueError(f"An IP-Adapter sees by the vision encoder it was trained with: connect {missing} too.")
    attention_patch.check_model(model)
    return ReferencePrompts(ip_adapter, clip_vision, start, end)


def _m3(
    model: ModelPatcher, clip: comfy.sd.CLIP, adapter: Handle | None, vision_encoder: Handle | None
) -> M3Painter | None:
    """Return what makes conditions through an M3-Adapter."""
    if adapter is None:
        return None
    if vision_encoder is None:
        raise ValueError("An M3-Adapter looks at earlier pictures: connect vision_encoder too.")
    stock_checks.check_adapter(model, adapter.part)
    texts: Any = ClipTexts(clip)
    return M3Painter(
        vision_encoder.part, adapter.part, texts, _ready(preparing(vision_encoder=vision_encoder, adapter=adapter))
    )


def _ready(prepare: Any) -> Any:
    """Return `prepare` for the parts that are ours: a CLIP loads its text encoders itself."""
    return lambda part: None if part == "text_encoders" else prepare(part)


NODES = [StockPainterNode]
