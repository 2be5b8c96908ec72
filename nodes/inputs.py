"""Inputs shared by several nodes, so that they have the same names, bounds and explanations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..m3adapter.conversation.references import ReferencePolicy
from ..m3adapter.export.pages.fonts import FILES, FONTS
from ..m3adapter.export.pages.panels import WORDS
from ..m3adapter.export.pages.styles import LAYOUTS, MAX_WIDTH, MIN_WIDTH
from ..m3adapter.language.reply import PICTURES
from ..m3adapter.language.sampling import Sampling
from ..m3adapter.settings import TurnSettings
from ..m3adapter.values import (
    MAX_BATCH,
    MAX_GUIDANCE,
    MAX_PANELS,
    MAX_PICTURES,
    MAX_SIDE,
    MAX_STEPS,
    MAX_STRENGTH,
    SEED_LIMIT,
)
from . import folders, wires

if TYPE_CHECKING:
    from ..m3adapter.language.language_model import LanguageModel


def _is_font(path: Path) -> bool:
    """Return whether a file is a font, judging by its name."""
    return path.suffix.lower() in FILES and path.is_file()


FONT_FILES = folders.Shelf({"fonts": _is_font})


def language_model(*, optional: bool = False, tooltip: str = "") -> io.Input:
    """Return the input for the model that writes."""
    tooltip = tooltip or "Writes the replies and says what each picture is about. From any of the loaders."
    return wires.LanguageModel.Input("language_model", optional=optional, tooltip=tooltip)


def own_pictures() -> io.Input:
    """Return the input for whether a model that sees is shown the assistant's pictures, for nodes that got it later."""
    return io.Boolean.Input(
        "own_pictures",
        default=False,
        optional=True,
        advanced=True,
        tooltip="Whether a model that sees pictures is also shown its own painted ones before it replies. "
        "Its words then depend on them.",
    )


def check_own_pictures(language_model: LanguageModel, wished: bool) -> None:
    """Raise ValueError if a model that does not see natively is to be shown its own pictures."""
    if wished and language_model.sees != "natively":
        raise ValueError(
            "own_pictures is on, but this language model does not see pictures by itself: switch it off, or load a "
            "vision-language model such as Qwen3-VL."
        )


def vision_encoder(*, optional: bool = False, tooltip: str = "") -> io.Input:
    """Return the input for the model that sees."""
    tooltip = tooltip or "Encodes the pictures of the conversation. From Load M2Chat Starter."
    return wires.VisionEncoder.Input("vision_encoder", optional=optional, tooltip=tooltip)


def adapter(*, optional: bool = False, tooltip: str = "") -> io.Input:
    """Return the input for the M3-Adapter."""
    tooltip = tooltip or "The M3-Adapter between language model and decoder. From Load M2Chat Starter."
    return wires.Adapter.Input("adapter", optional=optional, tooltip=tooltip)


def decoder() -> io.Input:
    """Return the input for the model that paints."""
    return wires.Decoder.Input("decoder", tooltip="Paints the pictures. From Load M2Chat Starter or Load SDXL Decoder.")


def painter() -> io.Input:
    """Return the input for whatever paints, which took only decoders once."""
    return wires.Painter.Input(
        "decoder",
        tooltip="Paints the pictures: the painter of Load M2Chat Starter, Stock Painter, or a decoder with an adapter.",
    )


def models() -> list[io.Input]:
    """Return the inputs for language model and painter, and for what a decoder needs beside it."""
    return [
        language_model(),
        vision_encoder(
            optional=True,
            tooltip="Needed for a decoder, and for pictures of yours that the language model cannot see by itself.",
        ),
        adapter(optional=True, tooltip="The M3-Adapter, only for a decoder: other painters do without."),
        painter(),
    ]


def conversation(tooltip: str) -> io.Input:
    """Return an input for a conversation."""
    return wires.Conversation.Input("conversation", tooltip=tooltip)


def premise() -> io.Input:
    """Return the input for what a story is about."""
    return io.String.Input(
        "premise",
        multiline=True,
        default="A fox who finds a kite on the beach.",
        tooltip="What the story is about, in a sentence or two.",
    )


def panels(default: int = 4, tooltip: str = "How many parts, each with a picture.") -> io.Input:
    """Return the input for the length of a story."""
    return io.Int.Input("panels", default=default, min=1, max=MAX_PANELS, tooltip=tooltip)


def slot(*, optional: bool = False) -> io.Input:
    """Return the input that chooses an open picture of a conversation."""
    return io.Int.Input(
        "slot",
        default=0,
        min=0,
        max=31,
        optional=optional,
        tooltip="Which of the pictures still to be painted: 0 is the first in the conversation.",
    )


def memory(tooltip: str = "") -> io.Input:
    """Return the input for which earlier pictures a new one refers to."""
    tooltip = (
        tooltip
        or "From Memory of Pictures: which earlier pictures each one refers to; by default, the first and the last."
    )
    return wires.Memory.Input("memory", optional=True, tooltip=tooltip)


def style() -> io.Input:
    """Return the input for words added to every caption."""
    return io.String.Input(
        "style",
        default="",
        optional=True,
        advanced=True,
        tooltip="How pictures should look, added to every caption. An M3-Adapter must be anchored for it.",
    )


def negative() -> io.Input:
    """Return the input for what guidance steers away from."""
    return io.String.Input(
        "negative",
        default="",
        optional=True,
        advanced=True,
        tooltip="What pictures should not show. An M3-Adapter must be anchored for it.",
    )


def max_length(tooltip: str = "The maximum number of tokens of each reply; it may end earlier by itself.") -> io.Input:
    """Return the input for the length of a reply, for nodes that got it later."""
    return io.Int.Input("max_length", default=256, min=1, max=32768, optional=True, advanced=True, tooltip=tooltip)


def max_pictures() -> io.Input:
    """Return the input for how many pictures a reply may have."""
    return io.Int.Input(
        "max_pictures",
        default=PICTURES,
        min=1,
        max=MAX_PICTURES,
        optional=True,
        advanced=True,
        tooltip="The maximum number of pictures in one reply; the captions of any more stay in its text.",
    )


def thinking() -> list[io.Input]:
    """Return the inputs for whether and how long the language model may think before it replies."""
    return [
        io.Combo.Input(
            "thinking",
            options=["off", "on"],
            default="off",
            optional=True,
            advanced=True,
            tooltip="Whether models that can think first should do so. Some always do. Thoughts are "
            "not part of the reply.",
        ),
        io.Int.Input(
            "max_thinking",
            default=4096,
            min=0,
            max=131072,
            optional=True,
            advanced=True,
            tooltip="The maximum number of tokens of thought for one reply. max_length is for the reply alone.",
        ),
    ]


def sampling(max_length: int, thinking: str, max_thinking: int, **choice: Any) -> Sampling:
    """Return what these inputs say to the language model; `choice` are further fields of Sampling."""
    return Sampling(max_length=max_length, thinking=thinking == "on", max_thinking=max_thinking, **choice)


def turn_settings(
    *,
    memory: ReferencePolicy | None = None,
    max_length: int = 256,
    thinking: str = "off",
    max_thinking: int = 4096,
    **fields: Any,
) -> TurnSettings:
    """Return the settings that a node's inputs stand for; `fields` are inputs named like the fields of TurnSettings."""
    words = sampling(max_length, thinking, max_thinking)
    return TurnSettings(references=memory or ReferencePolicy(), sampling=words, **fields)


def gate() -> io.Input:
    """Return the input for the strength of the gate."""
    return io.Float.Input(
        "gate",
        default=1.0,
        min=0.0,
        max=MAX_STRENGTH,
        step=0.05,
        display_mode=io.NumberDisplay.slider,
        tooltip="Creativity against consistency: 0 paints the words alone, 1 is as trained, and up "
        "to 4 keeps closer to earlier pictures.",
    )


def seed(tooltip: str = "The same seed gives the same picture, on every device.") -> io.Input:
    """Return the input for a seed, with ComfyUI's control beside it."""
    return io.Int.Input("seed", default=0, min=0, max=SEED_LIMIT - 1, control_after_generate=True, tooltip=tooltip)


def steps() -> io.Input:
    """Return the input for denoising steps."""
    return io.Int.Input(
        "steps",
        default=20,
        min=1,
        max=MAX_STEPS,
        tooltip="Denoising steps for each picture: more are slower and cleaner.",
    )


def guidance() -> io.Input:
    """Return the input for the scale of classifier-free guidance."""
    return io.Float.Input(
        "guidance",
        default=2.0,
        min=0.0,
        max=MAX_GUIDANCE,
        step=0.1,
        tooltip="How closely a picture follows its condition. 1 is no guidance; too much burns the colours.",
    )


def size(otherwise: str = "the decoder's own") -> list[io.Input]:
    """Return the inputs for width and height of pictures, for nodes that got them later."""
    return [
        io.Int.Input(
            side,
            default=0,
            min=0,
            max=MAX_SIDE,
            step=8,
            optional=True,
            advanced=True,
            tooltip=f"The picture's {side} in pixels; 0 is {otherwise}.",
        )
        for side in ("width", "height")
    ]


def batch_size(tooltip: str, default: int = 1) -> io.Input:
    """Return the input for how many pictures are painted at once; `default` is the least as well."""
    return io.Int.Input(
        "batch_size",
        default=default,
        min=default,
        max=MAX_BATCH,
        optional=True,
        advanced=True,
        tooltip=f"How many pictures to paint at once{tooltip}",
    )


def layout(default: str) -> io.Input:
    """Return the input for how pictures are arranged on a page."""
    return io.Combo.Input(
        "layout",
        options=list(LAYOUTS),
        default=default,
        tooltip="grid: two by two. strip: four in a row. large and small: one above three. one per page: picture book.",
    )


def words() -> io.Input:
    """Return the input for where the text of a page goes."""
    return io.Combo.Input(
        "words",
        options=list(WORDS),
        default="below",
        tooltip="below: the text under its picture. balloons: text in quotation marks as speech balloons.",
    )


def font() -> io.Input:
    """Return the input for the font of a page."""
    return io.Combo.Input(
        "font",
        options=[*FONTS, *FONT_FILES.names()],
        default="serif",
        tooltip="An installed font of that kind, or a file from models/fonts. Scripts it lacks are "
        "drawn with other installed fonts.",
    )


def page_width() -> io.Input:
    """Return the input for the width of a page."""
    return io.Int.Input(
        "page_width",
        default=1600,
        min=MIN_WIDTH,
        max=MAX_WIDTH,
        step=8,
        tooltip="In pixels. The height follows from the layout and is the same for all pages.",
    )


def title() -> io.Input:
    """Return the input for the title of a book."""
    return io.String.Input(
        "title",
        default="",
        optional=True,
        tooltip="Shown at the beginning. If empty, the first sentence of the first message.",
    )
