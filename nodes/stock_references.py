"""How references enter a stock model: as latents, which its text encoder may see too, or through an IP-Adapter.

All of them have the gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import comfy.sd
import comfy.utils
import node_helpers
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..m3adapter.conversation.conversation import Conversation, Picture
from ..m3adapter.diffusion.prompt_syntax import escaped
from ..m3adapter.diffusion.reference_gate import ReferenceGate
from ..m3adapter.ip_adapter.image_prompt import ImageGate, ImagePrompt
from ..m3adapter.painter import Kept, PaintRequest
from . import attention_patch
from .ip_adapter import References, encode_references
from .memory import Handle
from .reference_gate import gate_references
from .stock import Conditioning
from .stock_checks import MOST_REFERENCES
from .stock_sight import Seen, Shown, Sight

if TYPE_CHECKING:
    import comfy.clip_vision

    from ..m3adapter.conversation.references import Reference

STEP = 16  # pixels: sides of references are multiples of it, which every VAE and every patch size divides


@dataclass(frozen=True, eq=False)
class ReferenceLatents:
    """References as latents that an edit model reads beside the picture.

    Attributes:
        vae: Encodes them.
        start, end: Between which parts of the schedule they act, 0..1.
        max_references: How many the model takes.
    """

    vae: comfy.sd.VAE
    start: float = 0.0
    end: float = 1.0
    max_references: int = MOST_REFERENCES

    def check(self, conversation: Conversation) -> None:
        """Raise ValueError if a picture of the conversation or its cast is too narrow."""
        for slot in conversation.pictures():
            check_sides(*conversation.picture(slot).size)
        for character in conversation.cast:
            for picture in character.pictures:
                check_sides(*picture.size)

    def apply(
        self,
        model: ModelPatcher,
        positive: Conditioning,
        negative: Conditioning,
        request: PaintRequest,
        area: int,
        factors: Sequence[float] = (),
        kept: Kept | None = None,
    ) -> tuple[ModelPatcher, Conditioning, Conditioning]:
        """Return model and conditioning with the references; without a gate, they stay as they are."""
        references = request.references[: self.max_references]
        if not references or request.gate.strength == 0:
            return model, positive, negative
        latents = self._latents(references, area, kept or Kept())
        gate = ReferenceGate(request.gate.strength, self.start, self.end, tuple(scaled(references, factors)))
        given = {"reference_latents": latents}
        return (
            gate_references(model, gate),
            node_helpers.conditioning_set_values(positive, given, append=True),
            node_helpers.conditioning_set_values(negative, given, append=True),
        )

    def read_ahead(self, request: PaintRequest, area: int, kept: Kept) -> None:
        """Encode the references of a request into `kept`."""
        self._latents(request.references[: self.max_references], area, kept)

    def _latents(self, references: Sequence[Reference], area: int, kept: Kept) -> list[Tensor]:
        """Return the latents of pictures, of at most `area` pixels each."""

        def encode(picture: Picture) -> tuple[Picture, Tensor]:
            return picture, self.vae.encode(fitted(picture.pixels[None], area))  # with the picture, whose id it lends

        return [kept.get((id(each), area), partial(encode, each))[1] for each, _ in references]


@dataclass(frozen=True, eq=False)
class SeenReferences(ReferenceLatents):
    """References that the text encoder of an edit model sees too, as the engine's node for that model shows them.

    Attributes:
        sight: The text encoder.
    """

    sight: Sight = None  # type: ignore[assignment]  # always given: a default stands before it

    def encode(
        self, request: PaintRequest, negative: str, size: tuple[int, int], factors: Sequence[float], kept: Kept
    ) -> Seen | None:
        """Return the conditioning of a picture's words and references; None if it has none that count."""
        pictures = [picture for picture, _ in self._counting(request, factors)]
        if not pictures:
            return None

        def look() -> tuple[list[Picture], Seen]:  # with the pictures, whose ids are those of the key
            seen = [picture.pixels[None] for picture in pictures]
            for each in seen:
                check_sides(each.shape[2], each.shape[1])
            return pictures, self.sight.look(Shown(escaped(request.prompt), escaped(negative), seen, size))

        return kept.get((request.prompt, negative, size, *map(id, pictures)), look)[1]

    def apply(
        self,
        model: ModelPatcher,
        positive: Conditioning,
        negative: Conditioning,
        request: PaintRequest,
        area: int,
        factors: Sequence[float] = (),
        kept: Kept | None = None,
    ) -> tuple[ModelPatcher, Conditioning, Conditioning]:
        """Return the model with the gate; the conditioning has the references already."""
        weights = [weight for _, weight in self._counting(request, factors)]
        gate = ReferenceGate(request.gate.strength, self.start, self.end, tuple(weights))
        return gate_references(model, gate) if weights else model, positive, negative

    def read_ahead(self, request: PaintRequest, area: int, kept: Kept) -> None:
        """Do nothing: who encodes the words sees the references."""

    def _counting(self, request: PaintRequest, factors: Sequence[float]) -> list[Reference]:
        """Return the references that count, with their weights."""
        references = request.references[: self.max_references] if request.gate.strength else ()
        pairs = zip(references, scaled(references, factors if references else ()), strict=True)
        return [each._replace(weight=weight) for each, weight in pairs if weight]


@dataclass(frozen=True, eq=False)
class ReferencePrompts:
    """References as image prompts of an IP-Adapter.

    Attributes:
        ip_adapter: The weights.
        clip_vision: The vision encoder that they were trained with.
        start, end: Between which parts of the schedule they act, 0..1.
        max_references: As many as wanted.
    """

    ip_adapter: Handle
    clip_vision: comfy.clip_vision.ClipVisionModel
    start: float = 0.0
    end: float = 1.0
    max_references: int = MOST_REFERENCES

    def check(self, conversation: Conversation) -> None:
        """Accept every picture: the vision encoder looks at its middle square."""

    def apply(
        self,
        model: ModelPatcher,
        positive: Conditioning,
        negative: Conditioning,
        request: PaintRequest,
        area: int,
        factors: Sequence[float] = (),
        kept: Kept | None = None,
    ) -> tuple[ModelPatcher, Conditioning, Conditioning]:
        """Return the model with the references in its attentions."""
        references = request.references[: self.max_references]
        if not references or request.gate.strength == 0:
            return model, positive, negative
        found = self._encoded(references, kept or Kept())
        weights = scaled(references, factors)
        found = replace(
            found, items=tuple(replace(each, weight=own) for each, own in zip(found.items, weights, strict=True))
        )
        found.load()
        prompt = ImagePrompt(found.items, ImageGate(request.gate.strength, self.start, self.end))
        return attention_patch.apply(model, prompt), positive, negative

    def read_ahead(self, request: PaintRequest, area: int, kept: Kept) -> None:
        """Encode the references of a request into `kept`."""
        if references := request.references[: self.max_references]:
            self._encoded(references, kept)

    def _encoded(self, references: Sequence[Reference], kept: Kept) -> References:
        """Return pictures as references of weight 1."""
        pictures = [picture for picture, _ in references]

        def encode() -> tuple[list[Picture], References]:
            shown = [picture.pixels for picture in pictures]
            return pictures, encode_references(self.ip_adapter, self.clip_vision, shown, [1.0] * len(shown))

        return kept.get(tuple(map(id, pictures)), encode)[1]


def scaled(references: Sequence[Reference], factors: Sequence[float]) -> list[float]:
    """Return the weights of references, times a factor for each if there are any."""
    return [weight * factor for (_, weight), factor in zip(references, factors or [1.0] * len(references), strict=True)]


def check_sides(width: int, height: int) -> None:
    """Raise ValueError if a picture cannot be scaled to a reference of sensible sides."""
    if max(width, height) > 16 * min(width, height) or min(width, height) < STEP:
        raise ValueError(
            f"A picture of {width} x {height} pixels cannot be a reference: crop or enlarge it to at least {STEP} "
            "pixels a side, none more than 16 times the other."
        )


def fitted(pixels: Tensor, area: int) -> Tensor:
    """Return a picture [1, H, W, 3] scaled down to at most `area` pixels; a smaller one as it is."""
    height, width = pixels.shape[1:3]
    check_sides(width, height)
    if height * width <= area:
        return pixels
    scale = (area / (height * width)) ** 0.5
    sides = [max(STEP, round(side * scale / STEP) * STEP) for side in (width, height)]
    return comfy.utils.common_upscale(pixels.movedim(-1, 1), *sides, "lanczos", "disabled").movedim(1, -1)
