"""Paints slots with a stock MODEL, CLIP and VAE: what the stock graph does for one caption, for each of a story.

It calls the functions that CLIP Text Encode, Empty Latent, VAE Encode, KSampler and VAE Decode call, so that the same
caption, seed and settings give the same picture, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import comfy.model_management
import comfy.sample
import comfy.sd
import comfy.utils
import node_helpers
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

import nodes as stock_nodes

from ..m3adapter.conversation.conversation import Conversation, Slot
from ..m3adapter.conversation.pictures import normalised
from ..m3adapter.diffusion.batches import is_out_of_memory
from ..m3adapter.diffusion.condition import Condition
from ..m3adapter.diffusion.prompt_syntax import escaped
from ..m3adapter.events import GateAdapted, NotFinite, OnEvent, OutOfMemory, Step, ignore
from ..m3adapter.ip_adapter.adaptive_gate import Encode, adapted_gate, compared
from ..m3adapter.m3_painter import M3Painter
from ..m3adapter.painter import Kept, Need, Painter, PaintRequest, nothing
from ..m3adapter.settings import TurnSettings
from .memory import OUT_OF_MEMORY
from .previews import StockPreview
from .stock import Conditioning, to_conditioning
from .stock_references import SeenReferences
from .stock_sight import Seen


class Looks(Protocol):
    """How references enter a stock model."""

    @property
    def max_references(self) -> int:
        """How many it takes."""

    def check(self, conversation: Conversation) -> None:
        """Raise ValueError if a picture that is already there cannot be a reference."""

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
        """Return model and conditioning with the references of a request, for a picture of `area` pixels.

        The weight of each reference is multiplied by its factor, if there are any. What is encoded goes by `kept`.
        """

    def read_ahead(self, request: PaintRequest, area: int, kept: Kept) -> None:
        """Encode the references of a request into `kept`."""


@dataclass(frozen=True, eq=False)
class StockPainter(Painter):
    """Paints with a stock model.

    Attributes:
        model, clip, vae: As stock loaders give them.
        sampler_name, scheduler, denoise: As KSampler takes them.
        steps: Denoising steps; 0 are those of the turn.
        cfg: Scale of guidance; 0 is that of the turn.
        width, height: In pixels, where the turn does not say another size.
        negative: What guidance steers away from, where the turn does not say something else.
        positive_like: Conditioning whose settings, such as ControlNets, every caption gets; its words do not matter.
        negative_like: The same for what guidance steers away from; its words count if nobody gives others.
        image: A picture [1, H, W, C] to start from; it has its own size, unless the turn says another.
        looks: How references enter; None if they do not.
        adapt: Encodes captions, so that the gate is lowered for references of another subject; None leaves it as it is.
        m3: What makes the condition in place of the text encoders: an M3-Adapter.
    """

    model: ModelPatcher
    clip: comfy.sd.CLIP
    vae: comfy.sd.VAE
    sampler_name: str
    scheduler: str
    steps: int
    cfg: float
    width: int
    height: int
    denoise: float = 1.0
    negative: str = ""
    positive_like: Conditioning | None = None
    negative_like: Conditioning | None = None
    image: Tensor | None = None
    looks: Looks | None = None
    m3: M3Painter | None = None
    adapt: Encode | None = None
    _kept: Kept = field(default_factory=Kept, init=False, repr=False)

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """Which other models work while it paints."""
        texts: frozenset[Need] = frozenset({"text_encoders"})
        return texts if self.m3 is None else texts | self.m3.needs

    @property
    def image_tokens(self) -> Tensor | None:  # type: ignore[override]
        """What the language model reads behind a caption."""
        return None if self.m3 is None else self.m3.image_tokens

    @property
    def max_references(self) -> int:  # type: ignore[override]
        """How many references it looks at."""
        return max((each.max_references for each in (self.looks, self.m3) if each is not None), default=0)

    def describe(self) -> str:
        """Return what it is, in one line."""
        return f"a stock model of the kind {type(self.model.model).__name__}, by {self.sampler_name}"

    def check(self, settings: TurnSettings, conversation: Conversation) -> None:
        """Raise ValueError, before a word is written, if it cannot follow the settings of a turn."""
        self._latent_size(*self._size(settings))
        if self.m3 is not None:
            self.m3.check(self._with_negative(settings), conversation)
        if self.looks is not None and settings.references.count:
            self.looks.check(conversation)

    @contextmanager
    def read_ahead(self, requests: Sequence[PaintRequest], *, check: Callable[[], None] = nothing) -> Iterator[None]:
        """Encode captions, then the references that are painted; see `Painter.read_ahead`."""
        with ExitStack() as context:
            context.enter_context(self._kept.keeping())
            try:
                if self.m3 is not None:
                    own = [replace(each, settings=self._with_negative(each.settings)) for each in requests]
                    context.enter_context(self.m3.read_ahead(own, check=check))
                for read in (self._read_words, self._read_references):
                    pending = {request.slot for request in requests}
                    for request in requests:
                        check()
                        read(request, pending)
            except Exception as error:
                if not isinstance(error, OUT_OF_MEMORY) and not is_out_of_memory(error):
                    raise
                # The picture that does not fit will say so, when those before it are painted.
            yield

    def _read_words(self, request: PaintRequest, pending: Collection[Slot]) -> None:
        """Encode what a picture is painted from, apart from its references."""
        factors: list[float] = []
        waits = self.looks is not None and self._awaits(request, pending)
        if self.adapt is not None and self.looks is not None and request.gate.strength:
            captions = (picture.caption for picture, _ in request.references[: self.max_references])
            self.adapt(compared(*(each for each in (request.caption, *captions) if each.strip())))
            factors = [] if waits else self._factors(request, ignore)
        if self.m3 is None and not (waits and isinstance(self.looks, SeenReferences)):
            self._words(request, factors)

    def _read_references(self, request: PaintRequest, pending: Collection[Slot]) -> None:
        """Encode the references of a picture, if they are all there."""
        if self.looks is not None and request.gate.strength and not self._awaits(request, pending):
            width, height = self._size(request.settings)
            self.looks.read_ahead(request, width * height, self._kept)

    def _awaits(self, request: PaintRequest, pending: Collection[Slot]) -> bool:
        """Return whether references of a picture are yet to be painted."""
        policy = request.settings.references
        policy = replace(policy, count=min(policy.count, self.max_references))
        return request.conversation.awaits(request.slot, policy, pending)

    def paint(self, request: PaintRequest, *, on_event: OnEvent = ignore) -> Tensor:
        """Paint a picture; see `Painter.paint`."""
        try:
            return self._paint(request, on_event)
        except Exception as error:
            if not isinstance(error, OUT_OF_MEMORY) and not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                "A picture does not fit in memory: choose a smaller width and height in Stock Painter, or a smaller "
                "model."
            ) from error

    def _paint(self, request: PaintRequest, on_event: OnEvent) -> Tensor:
        settings = request.settings
        steps, cfg = self.steps or settings.steps, self.cfg or settings.guidance
        latent = self._latent(settings)
        width, height = self._size(settings)
        factors = self._factors(request, on_event)
        model, positive, negative = self.model, *self._conditioning(request, width, height, factors)
        if self.looks is not None:
            model, positive, negative = self.looks.apply(
                model, positive, negative, request, width * height, factors, self._kept
            )
        layout = model.get_model_object("latent_format")

        def on_step(step: int, clean: Any, noisy: Any, total: int) -> None:
            on_event(Step(request.slot, step + 1, total, StockPreview(clean, layout)))

        noise = comfy.sample.prepare_noise(latent, request.seed)
        samples = comfy.sample.sample(
            model,
            noise,
            steps,
            cfg,
            self.sampler_name,
            self.scheduler,
            positive,
            negative,
            latent,
            denoise=self.denoise,
            callback=on_step,
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=request.seed,
        )
        if not bool(samples.isfinite().all()):
            raise NotFinite(
                "The model computed NaN or infinity: load it with another dtype, or choose another sampler."
            )
        (images,) = stock_nodes.VAEDecode().decode(self.vae, {"samples": samples})
        return normalised(images[0])

    def _factors(self, request: PaintRequest, on_event: OnEvent) -> list[float]:
        """Return by how much the gate is lowered for each reference; [] if it does not adapt."""
        strength = request.gate.strength
        if self.adapt is None or not strength:
            return []
        factors = []
        for picture, _ in request.references[: self.max_references]:
            if not picture.caption.strip():  # as a user's picture, of which nobody says what it shows
                factors.append(1.0)
                continue
            verdict = adapted_gate(self.adapt, picture.caption, request.caption, gate=strength)
            factors.append(verdict.gate / strength)
            on_event(GateAdapted(request.slot, f"gate {verdict.gate:.2f}: {verdict}"))
        return factors

    def _size(self, settings: TurnSettings) -> tuple[int, int]:
        """Return width and height in pixels."""
        width, height = self.width, self.height
        if self.image is not None:
            height, width = self.image.shape[1:3]
        return settings.width or width, settings.height or height

    def _latent_size(self, width: int, height: int) -> tuple[int, int]:
        """Return rows and columns of the latent, as the nodes that make empty ones round them."""
        ratio = getattr(self.model.get_model_object("latent_format"), "spacial_downscale_ratio", 8)
        rows, columns = height // ratio, width // ratio
        if not rows or not columns:
            raise ValueError(f"A picture of {width} x {height} pixels is too small: give at least {ratio} x {ratio}.")
        return rows, columns

    def _latent(self, settings: TurnSettings) -> Tensor:
        """Return what the sampler starts from, without noise."""
        width, height = self._size(settings)
        rows, columns = self._latent_size(width, height)
        if self.image is None:
            channels = self.model.get_model_object("latent_format").latent_channels
            latent = torch.zeros(
                (1, channels, rows, columns),
                device=comfy.model_management.intermediate_device(),
                dtype=comfy.model_management.intermediate_dtype(),
            )
        else:
            pixels = self.image[..., :3]
            if tuple(pixels.shape[1:3]) != (height, width):
                pixels = comfy.utils.common_upscale(pixels.movedim(-1, 1), width, height, "lanczos", "center")
                pixels = pixels.movedim(1, -1)
            latent = self.vae.encode(pixels)
        return comfy.sample.fix_empty_latent_channels(self.model, latent)

    def _conditioning(
        self, request: PaintRequest, width: int, height: int, factors: Sequence[float]
    ) -> tuple[Conditioning, Conditioning]:
        """Return what to paint, and what guidance steers away from."""
        if self.m3 is not None:
            condition = self.m3.condition(replace(request, settings=self._with_negative(request.settings)))
            positive, negative = to_conditioning(condition, width, height)
            return dressed(positive, self.positive_like), dressed(negative, self.negative_like)
        return self._words(request, factors)

    def _words(self, request: PaintRequest, factors: Sequence[float]) -> tuple[Conditioning, Conditioning]:
        """Return the conditioning of a picture's words, and of what guidance steers away from.

        A text encoder that sees references has seen them.
        """
        settings = self._with_negative(request.settings)
        if isinstance(self.looks, SeenReferences):
            size = self._size(settings)
            if (seen := self.looks.encode(request, settings.negative, size, factors, self._kept)) is not None:
                positive, negative = dressed(seen.positive, self.positive_like), self._unwanted(settings, seen)
                values = node_helpers.conditioning_set_values
                return values(positive, seen.beside, append=True), values(negative, seen.beside, append=True)
        positive = dressed(self._encoded(request.prompt), self.positive_like)
        if settings.negative == self.negative:
            return positive, self.negative_conditioning
        return positive, dressed(self._encoded(settings.negative), self.negative_like)

    def _unwanted(self, settings: TurnSettings, seen: Seen) -> Conditioning:
        """Return what guidance steers away from where the text encoder sees references."""
        if self.negative_like is not None and not settings.negative.strip():
            return self.negative_like
        return dressed(seen.negative, self.negative_like)

    def _encoded(self, text: str) -> Conditioning:
        """Return the conditioning of a text, which is encoded once while pictures are painted."""
        return self._kept.get(text, lambda: encoded(self.clip, text))

    @cached_property
    def negative_conditioning(self) -> Conditioning:
        """What guidance steers away from, if the turn does not say something else."""
        if self.negative_like is not None and not self.negative.strip():
            return self.negative_like
        return dressed(encoded(self.clip, self.negative), self.negative_like)

    def _with_negative(self, settings: TurnSettings) -> TurnSettings:
        return settings if settings.negative.strip() else replace(settings, negative=self.negative)


class ClipTexts:
    """The text encoders of a CLIP, as `M3Painter` asks a decoder for them: the anchors of an anchored adapter."""

    def __init__(self, clip: comfy.sd.CLIP) -> None:
        self._clip = clip

    def encode_text(self, prompts: list[str], negative: str = "") -> Condition:
        """Return the condition of plain prompts."""
        unwanted = encoded(self._clip, negative)
        return Condition.concatenate(
            [Condition.from_conditioning(encoded(self._clip, prompt), unwanted) for prompt in prompts]
        )

    def check_size(self, width: int, height: int) -> None:
        """Take any size: the latents are not made here."""


def encoded(clip: comfy.sd.CLIP, text: str) -> Conditioning:
    """Return the conditioning of a text that is not a prompt yet, as CLIP Text Encode makes it."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(escaped(text)))


def dressed(words: Conditioning, like: Conditioning | None) -> Conditioning:
    """Return the conditioning of a text with the settings of another one, each of whose entries it replaces.

    What a text encoder gives beside its embeddings, such as the pooled ones, stays that of the text.
    """
    if like is None:
        return words
    return [[embeds, {**settings, **extra}] for _, settings in like for embeds, extra in words]
