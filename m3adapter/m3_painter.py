"""M²Chat's own painter: an M3-Adapter and a diffusion decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from . import stages
from .events import OnEvent, Step, ignore
from .painter import Kept, Need, Painter, PaintRequest, nothing
from .settings import TurnSettings, styled
from .stages import Prepare, unprepared

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from .adapter.features import SlotFeatures
    from .adapter.m3_adapter import M3Adapter
    from .adapter.official import OfficialAdapter
    from .adapter.vision_encoder import VisionEncoder
    from .conversation.conversation import Conversation
    from .diffusion.condition import Condition
    from .diffusion.decoder import DiffusionDecoder
    from .gate import GateSetting


@dataclass
class M3Painter(Painter):
    """Paints what an M3-Adapter makes of the language model's states and the references, with a diffusion decoder.

    Attributes:
        vision_encoder: Encodes the references.
        adapter: Fuses what the language model says of a slot with them, through its gate.
        decoder: Paints the condition.
        prepare: Called with the name of a model just before it works: an attribute's name, or "text_encoders".
        out_of_memory: Exceptions beside torch's that say that memory ran out.
    """

    vision_encoder: VisionEncoder
    adapter: M3Adapter | OfficialAdapter
    decoder: DiffusionDecoder
    prepare: Prepare = unprepared
    out_of_memory: tuple[type[BaseException], ...] = ()
    _kept: Kept = field(default_factory=Kept, init=False, repr=False, compare=False)

    needs: ClassVar[frozenset[Need]] = frozenset({"language_model", "vision_encoder", "adapter"})  # type: ignore[misc]

    @property
    def max_references(self) -> int:  # type: ignore[override]
        """How many references the adapter looks at."""
        return self.adapter.config.references

    @property
    def image_tokens(self) -> Tensor:  # type: ignore[override]
        """What the language model reads behind a caption."""
        return self.adapter.image_tokens

    def describe(self) -> str:
        """Return what it is, in one line."""
        return f"M3-Adapter and a diffusion decoder of {self.decoder.native_size} x {self.decoder.native_size} pixels"

    def check(self, settings: TurnSettings, conversation: Conversation) -> None:
        """Raise ValueError if these models cannot follow the settings of a turn."""
        if settings.references.count:
            stages.uses_references(self.adapter, self.vision_encoder)
        if settings.width or settings.height:
            self.decoder.check_size(settings.width, settings.height)
        if (settings.style.strip() or settings.negative.strip()) and not self.adapter.config.anchor:
            raise ValueError(
                "This M3-Adapter is not anchored, so nothing reads style and negative: "
                "leave them empty, and describe in the premise how the pictures should look."
            )

    def fuse(
        self,
        features: SlotFeatures,
        gate: GateSetting | float = 1.0,
        anchor: Condition | None = None,
        *,
        style: str = "",
        negative: str = "",
    ) -> Condition:
        """Return the adapter's condition; see `M2Chat.fuse`."""
        if anchor is None and self.adapter.config.anchor:
            anchor = self.encode_text([styled(caption, style) for caption in features.captions], negative)
        self.prepare("adapter")
        return stages.fuse(self.adapter, features, gate, anchor)

    def encode_text(self, prompts: Sequence[str], negative: str = "") -> Condition:
        """Return the decoder's own condition of plain prompts; see `M2Chat.encode_text`."""
        self.prepare("text_encoders")
        return self.decoder.encode_text(prompts, negative)

    def condition(self, request: PaintRequest) -> Condition:
        """Return what the decoder paints for a request.

        Raises:
            ValueError: The request has no states.
        """
        if request.states is None:
            raise ValueError(
                "An M3-Adapter paints what a language model says of a slot: let the language model read it first."
            )
        settings = request.settings
        features = stages.see_references(
            self.vision_encoder,
            self.adapter,
            request.conversation,
            request.slot,
            request.states,
            references=settings.references,
            prepare=self.prepare,
        )
        return self.fuse(features, settings.gate, self._anchor(request) if self.adapter.config.anchor else None)

    def _anchor(self, request: PaintRequest) -> Condition:
        """Return the decoder's own condition of a request's words."""
        prompt, negative = request.prompt, request.settings.negative
        return self._kept.get((prompt, negative), lambda: self.encode_text([prompt], negative))

    @contextmanager
    def read_ahead(self, requests: Sequence[PaintRequest], *, check: Callable[[], None] = nothing) -> Iterator[None]:
        """Encode the captions for an anchored adapter; see `Painter.read_ahead`."""
        with self._kept.keeping():
            try:
                for request in requests if self.adapter.config.anchor else ():
                    check()
                    self._anchor(request)
            except Exception as error:
                from .diffusion.batches import is_out_of_memory

                if not isinstance(error, self.out_of_memory) and not is_out_of_memory(error):
                    raise
                # The picture that does not fit will say so, when those before it are painted.
            yield

    def paint(self, request: PaintRequest, *, on_event: OnEvent = ignore) -> Tensor:
        """Paint a picture; see `Painter.paint`."""
        return next(self.paint_all([request], on_event=on_event))

    def paint_all(self, requests: Sequence[PaintRequest], *, on_event: OnEvent = ignore) -> Iterator[Tensor]:
        """Paint pictures with equal settings but for the gate, up to `batch_size` at once; yield them in order."""
        conditions: list[Condition] = []
        for number, request in enumerate(requests):
            same = number > 0 and request.differs_by_seed(requests[number - 1])
            conditions.append(conditions[-1] if same else self.condition(request))

        def on_step(pictures: range, step: int, total: int, preview: Callable[[], Image | None]) -> None:
            slots = dict.fromkeys(requests[picture].slot for picture in pictures)
            for number, slot in enumerate(slots):
                on_event(Step(slot, step, total, _unseen if number else preview))

        self.prepare("decoder")
        yield from stages.paint_all(
            self.decoder,
            conditions,
            [request.seed for request in requests],
            requests[0].settings,
            on_step=on_step,
            out_of_memory=self.out_of_memory,
        )


def _unseen() -> Any:
    """Return no preview: only a batch's first picture has one."""
    return None
