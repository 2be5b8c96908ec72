"""Where the tokens of reference latents are among the keys of a stock model's attentions, for each class that has them.

What a class does with references is known by its name; `tests/test_reference_gate.py` confirms it by changing a
reference and looking which keys change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..m3adapter.diffusion.reference_gate import GatedKeys, Keys, Span, tokens_of_mask

Options = dict[str, Any]


class Counted(NamedTuple):
    """How often one reference counts: a number, and the masks that say what of it."""

    copies: float
    masks: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Scene:
    """What a model is called with.

    Attributes:
        model: The inner diffusion model.
        latent: The noisy latent.
        words: How many tokens of text there are.
        references: Latents of the references.
        captions: Texts of references, where the model takes them [B, T, C].
        features: Features of references by a vision encoder, where the model takes them [B, h, w, C].
        counted: How often each reference counts.
    """

    model: Any
    latent: Tensor
    words: int
    references: Sequence[Tensor]
    captions: Sequence[Tensor]
    features: Sequence[Tensor]
    counted: Sequence[Counted]


class Layout:
    """The references' keys in one call of a model, attention by attention."""

    def __init__(self, scene: Scene, patch: int) -> None:
        self.scene = scene
        self.grids = [grid(each, patch) for each in scene.references]
        self.lengths = [prod(each) for each in self.grids]
        self.picture = prod(grid(scene.latent, patch))
        self._known: dict[tuple[str, int], GatedKeys] = {}

    def keys(self, count: int, options: Options) -> GatedKeys | None:
        """Return how often the keys of the next attention count; None if it has none of a reference."""
        raise NotImplementedError

    def copies(self, reference: int) -> float | Tensor:
        """Return how often the tokens of a reference count: a number, or a tensor with one for each."""
        copies, masks = self.scene.counted[reference]
        if not masks:
            return copies
        frames, height, width = self.grids[reference]
        shown = [tokens_of_mask(mask, height, width).repeat(frames) for mask in masks]
        return copies * torch.stack(shown).prod(0)

    def run(self, start: int, lengths: Sequence[int] | None = None) -> list[Span]:
        """Return the spans of all references, one behind the other; `lengths` with padding, if there is any."""
        spans = []
        for index, length in enumerate(lengths or self.lengths):
            spans += self.spans(start, length, index)
            start += length
        return spans

    def spans(self, start: int, length: int, reference: int) -> list[Span]:
        """Return the spans of the tokens of a reference that begin at `start`, and of the padding behind them."""
        copies, tokens = self.copies(reference), self.lengths[reference]
        if not isinstance(copies, Tensor) or length == tokens:
            return [Span(start, length, copies)]
        padding = Span(start + tokens, length - tokens, self.scene.counted[reference].copies)
        return [Span(start, tokens, copies), padding]

    def gated(self, kind: str, count: int, make: Callable[[], list[Span]]) -> GatedKeys:
        """Return what is made once for all attentions of one kind in a call."""
        if (kind, count) not in self._known:
            spans = tuple(make())
            plain = not any(isinstance(span.copies, Tensor) for span in spans)
            self._known[kind, count] = _of_spans(count, spans) if plain else GatedKeys(Keys(count, spans))
        return self._known[kind, count]


@lru_cache(maxsize=16)
def _of_spans(count: int, spans: tuple[Span, ...]) -> GatedKeys:
    """Return what is the same in all steps of a picture, and mostly from one picture to the next."""
    return GatedKeys(Keys(count, spans))


def grid(latent: Tensor, patch: int) -> tuple[int, int, int]:
    """Return how many frames, rows and columns of tokens a latent has."""
    frames = latent.shape[2] if latent.dim() == 5 else 1
    height, width = (-(-side // patch) for side in latent.shape[-2:])
    return frames, height, width


class Last(Layout):
    """Behind text and picture, in every attention of a block; the model says how many they are."""

    def keys(self, count: int, options: Options) -> GatedKeys | None:
        """Return how often the keys of the next attention count."""
        numbers = options.get("reference_image_num_tokens")
        if not numbers or "block_index" not in options:  # Krea 2 reads its text before the blocks
            return None
        if [*numbers] != self.lengths:
            raise ValueError(
                f"Gate References: the model has references of {[*numbers]} tokens where {self.lengths} were expected: "
                "remove the patch that changes its tokens."
            )
        return self.gated("", count, lambda: self.run(count - sum(numbers)))


class BehindPicture(Layout):
    """Between picture and text (JoyImage)."""

    def keys(self, count: int, options: Options) -> GatedKeys | None:
        """Return how often the keys of the next attention count."""
        if count != self.picture + sum(self.lengths) + self.scene.words:
            return None
        return self.gated("", count, lambda: self.run(self.picture))


class BeforePicture(Layout):
    """Between text and picture, in attentions on all three (OmniGen2), or on references and picture (Boogu).

    The three are refined apart first. References that attend to each other alone count relatively to one another.
    """

    def __init__(self, scene: Scene, patch: int) -> None:
        super().__init__(scene, patch)
        model = scene.model
        self.refined = len(model.context_refiner) * ["words"] + len(model.noise_refiner) * ["picture"]
        self.refined += len(model.ref_image_refiner) * ["references"]

    def keys(self, count: int, options: Options) -> GatedKeys | None:
        """Return how often the keys of the next attention count."""
        references, words = sum(self.lengths), self.scene.words
        if self.refined:
            kind = self.refined.pop(0)
            alike = len({each.copies for each in self.scene.counted}) == 1 and not any(
                each.masks for each in self.scene.counted
            )
            return None if kind != "references" or alike else self.gated(kind, count, self._relative)
        if count == words + references + self.picture:
            return self.gated("all", count, lambda: self.run(words))
        if count == references + self.picture:
            return self.gated("pictures", count, lambda: self.run(0))
        return None

    def _relative(self) -> list[Span]:
        """Return spans of which the one that counts most counts once."""
        spans = self.run(0)
        most = max(float(torch.as_tensor(span.copies).max()) for span in spans)
        return [Span(span.start, span.length, span.copies / most) for span in spans]


class Lumina(Layout):
    """Captions of references, and what an encoder sees in them, before their tokens and those of the picture.

    The three are refined apart, and then attended to together. Each is padded. A model that has an encoder's features
    adds empty ones of the picture as soon as there is a reference; they count at most as often as the references do.
    """

    def __init__(self, scene: Scene, patch: int) -> None:
        super().__init__(scene, patch)
        model, n = scene.model, len(scene.references)
        for latent in scene.references:
            height, width = latent.shape[-2:]
            if height % patch or width % patch:
                raise ValueError(
                    f"Gate References: a reference latent of {width} x {height} places has sides that are no multiples "
                    f"of {patch}, as Z-Image and Lumina need them: resize the picture to multiples of 16 pixels."
                )
        self.multiple = model.pad_tokens_multiple or 1
        empty = [self.multiple] * n
        known = [self._padded(each.shape[1]) for each in scene.captions]
        self.captions = [*known[:n], *empty[len(known) :]]
        self.words = self._padded(scene.words) + sum(known[n:])
        self.seen: list[int] = []
        if model.siglip_embedder is not None:
            known = [self._padded(prod(each.shape[1:3])) for each in scene.features][:n]
            self.seen = [*known, *empty[len(known) :], self.multiple]
            if model.siglip_pad_token is None:
                self.seen = [*known]
        self.tokens = [self._padded(each) for each in self.lengths]
        self.picture = self._padded(self.picture)
        self.refined = len(model.context_refiner) * ["words"]
        self.refined += len(model.siglip_refiner) * ["seen"] if self.seen else []
        self.refined += len(model.noise_refiner) * ["pictures"]

    def _padded(self, count: int) -> int:
        return -(-count // self.multiple) * self.multiple

    def keys(self, count: int, options: Options) -> GatedKeys | None:
        """Return how often the keys of the next attention count."""
        if self.refined:
            kind = self.refined.pop(0)
            make = {"words": self._words, "seen": self._seen, "pictures": self._pictures}[kind]
            return self.gated(kind, count, lambda: make(0))
        words, seen = sum(self.captions) + self.words, sum(self.seen)
        if count != words + seen + sum(self.tokens) + self.picture:
            return None
        return self.gated("all", count, lambda: [*self._words(0), *self._seen(words), *self._pictures(words + seen)])

    def _words(self, start: int) -> list[Span]:
        return self._plain(start, self.captions)

    def _seen(self, start: int) -> list[Span]:
        return self._plain(start, self.seen)

    def _pictures(self, start: int) -> list[Span]:
        return self.run(start, self.tokens)

    def _plain(self, start: int, lengths: Sequence[int]) -> list[Span]:
        copies = [each.copies for each in self.scene.counted]
        spans = []
        for length, each in zip(lengths, [*copies, min(1.0, max(copies))], strict=False):
            spans.append(Span(start, length, each))
            start += length
        return spans


@dataclass(frozen=True)
class Family:
    """What is known of a class of models.

    Attributes:
        name: How people call it.
        layout: Where the references are.
        patch: The attribute that has the side of its patches.
        table: The attribute with a row for each reference that it can tell apart; none for any number.
        needs_method: Whether it looks at references only by a method that the conditioning names.
    """

    name: str
    layout: type[Layout]
    patch: str = "patch_size"
    table: str = ""
    needs_method: bool = False

    def side(self, model: Any) -> int:
        """Return the side of a patch, in places of the latent."""
        patch = getattr(model, self.patch)
        return int(patch if isinstance(patch, int) else patch[-1])

    def most(self, model: Any) -> int | None:
        """Return how many references it takes; None for any number."""
        return len(getattr(model, self.table)) if self.table else None


FAMILIES = {
    "comfy.ldm.flux.model.Flux": Family("FLUX", Last),
    "comfy.ldm.qwen_image.model.QwenImageTransformer2DModel": Family("Qwen-Image", Last),
    "comfy.ldm.mage_flow.model.MageFlowTransformer2DModel": Family("Mage-Flow", Last),
    "comfy.ldm.krea2.model.SingleStreamDiT": Family("Krea 2", Last, patch="patch", needs_method=True),
    "comfy.ldm.joyimage.model.JoyImageTransformer3DModel": Family("JoyImage", BehindPicture),
    "comfy.ldm.omnigen.omnigen2.OmniGen2Transformer2DModel": Family(
        "OmniGen2", BeforePicture, table="image_index_embedding"
    ),
    "comfy.ldm.boogu.model.BooguTransformer2DModel": Family("Boogu", BeforePicture, table="image_index_embedding"),
    "comfy.ldm.lumina.model.NextDiT": Family("Z-Image and Lumina", Lumina),
}


def family_of(model: Any) -> Family | None:
    """Return what is known of an inner diffusion model; None if it is of no class that reads references."""
    names = (f"{each.__module__}.{each.__qualname__}" for each in type(model).__mro__)
    return next((FAMILIES[name] for name in names if name in FAMILIES), None)
