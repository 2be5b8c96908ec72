"""A gate that closes when a new caption is about a different subject from the reference's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import comfy.sd
import torch
from comfy_api.latest import io
from torch import Tensor

from ..m3adapter.conversation.conversation import Conversation, Picture, Slot, Text, Turn
from ..m3adapter.diffusion.prompt_syntax import escaped, unescaped
from ..m3adapter.ip_adapter.adaptive_gate import OTHER, SAME, Encode, adapted_gate
from ..m3adapter.values import MAX_STRENGTH
from . import inputs, wires
from .errors import names_node
from .memory import Handle, load_text_encoders, make_ready
from .running import ShowsText, shown


class AdaptiveGate(ShowsText, io.ComfyNode):
    """Chooses the strength of the gate by comparing captions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        bounds = {"min": -1.0, "max": 1.0, "step": 0.01, "advanced": True}
        adaptive = [
            io.Float.Input(
                "lowest",
                default=0.0,
                min=0.0,
                max=MAX_STRENGTH,
                step=0.05,
                tooltip="The gate for a picture of a different subject.",
            ),
            io.Float.Input(
                "same",
                default=SAME,
                **bounds,
                tooltip="The likeness at and above which two subjects count as the same.",
            ),
            io.Float.Input(
                "other",
                default=OTHER,
                **bounds,
                tooltip="The likeness at and below which two subjects count as different.",
            ),
        ]
        return io.Schema(
            node_id="M2Chat_AdaptiveGate",
            display_name="Adaptive Gate",
            category="M2Chat/references",
            description="Lowers the gate when a new caption is about a different subject from the reference's.",
            search_aliases=["gate", "consistency", "creativity", "caption similarity", "ip-adapter weight"],
            inputs=[
                io.String.Input("reference_caption", multiline=True, tooltip="What the reference picture shows."),
                io.String.Input("caption", multiline=True, tooltip="What the new picture should show."),
                inputs.gate(),
                io.DynamicCombo.Input(
                    "rule",
                    options=[io.DynamicCombo.Option("adaptive", adaptive), io.DynamicCombo.Option("off", [])],
                    tooltip="adaptive: set by how alike the two subjects are. off: the gate as set above.",
                ),
                io.Clip.Input(
                    "clip", optional=True, tooltip="The text encoders of a stock model, used to compare the captions."
                ),
                wires.Decoder.Input(
                    "decoder", optional=True, tooltip="Or a decoder, whose text encoders compare the captions."
                ),
                inputs.language_model(optional=True, tooltip="Or a language model, which compares the captions."),
            ],
            outputs=[
                io.Float.Output(
                    display_name="gate",
                    tooltip="For the gate of Gate References, Apply IP-Adapter or Fuse M3-Adapter.",
                ),
                io.Float.Output(display_name="likeness", tooltip="How alike the subjects are: 1 is the same."),
                io.String.Output(display_name="report", tooltip="What was compared, in words."),
            ],
        )

    @classmethod
    @names_node
    def execute(
        cls,
        reference_caption: str,
        caption: str,
        gate: float,
        rule: dict[str, Any],
        clip: comfy.sd.CLIP | None = None,
        decoder: Handle | None = None,
        language_model: Handle | None = None,
    ) -> io.NodeOutput:
        """Compare the captions."""
        given = [each for each in (clip, decoder, language_model) if each is not None]
        if len(given) != 1:
            raise ValueError("Either clip, decoder or language_model compares the captions: connect one of the three.")
        encode = encoder(clip=clip, decoder=decoder, language_model=language_model)
        reference_caption, caption = unescaped(reference_caption), unescaped(caption)
        thresholds = {name: value for name, value in rule.items() if name != "rule"}
        verdict = adapted_gate(encode, reference_caption, caption, gate=gate, **thresholds)
        used = gate if rule["rule"] == "off" else verdict.gate
        report = f"gate {used:.2f}: {verdict}"
        return io.NodeOutput(used, verdict.likeness, report, ui=shown(report))


class Remembered:
    """Encodes texts for the rule once: most of them are the same for every pair of captions."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._known: dict[str, Tensor] = {}

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return pooled embeddings [N, P]."""
        if new := [text for text in dict.fromkeys(texts) if text not in self._known]:
            self._known.update(zip(new, self._encode(new).cpu(), strict=True))
        return torch.stack([self._known[text] for text in texts])


def encoder(
    *,
    clip: comfy.sd.CLIP | None = None,
    decoder: Handle | None = None,
    language_model: Handle | None = None,
) -> Encode:
    """Return what encodes texts for the rule, by whichever model is given."""
    if clip is not None:
        return partial(_by_clip, clip)
    if decoder is not None:
        return partial(_by_decoder, decoder)
    assert language_model is not None
    return partial(_by_language_model, language_model)


def _by_clip(clip: comfy.sd.CLIP, texts: Sequence[str]) -> Tensor:
    """Return pooled embeddings [N, P] of texts by the text encoders of a CLIP; their mean if these pool nothing."""
    rows = []
    for text in texts:
        states, pooled = clip.encode_from_tokens(clip.tokenize(escaped(text)), return_pooled=True)
        rows.append(states.float().mean(1) if pooled is None else pooled.float())
    return torch.cat(rows)


def _by_language_model(language_model: Handle, texts: Sequence[str]) -> Tensor:
    """Return the mean states [N, H] of a language model at texts, read as captions of its pictures."""
    make_ready(language_model)
    model = language_model.part
    asked = Turn("user", (Text("Draw a picture."),))
    told = [(Conversation((asked, Turn("assistant", (Picture(caption=text),)))), Slot(1, 0), ()) for text in texts]
    with torch.no_grad():
        states = model.encode_slots(told, torch.empty(0, model.hidden_size))
    return torch.stack([each.text.float().mean(0) for each in states]).cpu()


def _by_decoder(decoder: Handle, texts: Sequence[str]) -> Tensor:
    """Return pooled embeddings [N, P] of texts by the text encoders of a decoder."""
    load_text_encoders(decoder)
    return decoder.part.encode_text(texts).pooled


NODES = [AdaptiveGate]
