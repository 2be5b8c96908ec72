"""M2Chat: language model, vision encoder, adapter and decoder composed into a teller of illustrated stories."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .conversation.conversation import Conversation, ConversationError, Picture, ReferencePolicy, Slot
from .conversation.markup import with_captions
from .conversation.outline import CONTINUE, messages
from .events import (
    Event,
    PictureDone,
    PictureStarted,
    Shortened,
    Step,
    StoryEnded,
    TextChunk,
    TextWithdrawn,
    ThoughtChunk,
    TurnDone,
)
from .language.reply import FAILED_REPLY, PICTURES, ReplyReader
from .limits import check_guidance, check_pictures, check_seed, check_steps
from .request import Request, ShouldStop, check_stop, gate_setting, picture_seed, styled, turn_seed
from .streaming import reports

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .adapter.features import SlotFeatures
    from .adapter.m3_adapter import M3Adapter
    from .adapter.official import OfficialAdapter
    from .adapter.vision_encoder import VisionEncoder, VisionFeatures
    from .diffusion.condition import Condition
    from .diffusion.decoder import DiffusionDecoder
    from .gate import GateSetting
    from .language.language_model import LanguageModel
    from .language.sampling import Sampling

STARTER = Path(__file__).parent / "starter"
__all__ = ["CONTINUE", "STARTER", "M2Chat", "check_weights", "picture_seed", "turn_seed"]

_PARTS = ("language_model", "vision_encoder", "adapter.safetensors", "decoder")


@dataclass
class M2Chat:
    """The whole chain, from a conversation to the next illustrated reply; each link can also be called on its own.

    Attributes:
        prepare: Called with the name of the part that is about to work (another attribute's, or `text_encoders` for the
            decoder's), in the thread of whoever called: who manages memory loads its weights then.
    """

    language_model: LanguageModel
    vision_encoder: VisionEncoder
    adapter: M3Adapter | OfficialAdapter
    decoder: DiffusionDecoder
    prepare: Callable[[str], None] = lambda part: None

    @classmethod
    def from_starter(cls, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> M2Chat:
        """The small M²Chat that ships with the pack. Raises FileNotFoundError where its weights are missing."""
        return cls.from_pretrained(STARTER, device=device, dtype=dtype)

    @classmethod
    def from_pretrained(
        cls, directory: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
    ) -> M2Chat:
        """The parts in `directory`: language_model/, vision_encoder/, adapter.safetensors and decoder/.

        Raises FileNotFoundError, one sentence, where one of them is missing.
        """
        directory = Path(directory)
        check_weights(directory)
        from .adapter.checkpoint import load_adapter
        from .adapter.vision_encoder import VisionEncoder
        from .diffusion.decoder import DiffusionDecoder
        from .language.auto import load_language_model

        return cls(
            load_language_model(directory / "language_model", dtype=dtype, device=device),
            VisionEncoder.from_pretrained(directory / "vision_encoder", dtype=dtype, device=device),
            load_adapter(directory / "adapter.safetensors", dtype=dtype, device=device),
            DiffusionDecoder.from_pretrained(directory / "decoder", dtype=dtype, device=device),
        )

    def write(
        self,
        conversation: Conversation,
        *,
        sampling: Sampling | None = None,
        seed: int = 0,
        on_text: Callable[[str], None] | None = None,
        should_stop: ShouldStop | None = None,
        premise: str | None = None,
        max_pictures: int = PICTURES,
        on_event: Callable[[Event], None] | None = None,
    ) -> Conversation:
        """With the assistant's next turn, its pictures still open slots. `on_text` gets its text, without markup.

        A caption that the model left empty becomes the reply's first sentence; so does, where the `premise` of a story
        is given, that of a reply without any picture (or the premise's, should the reply be empty). The captions of
        more than `max_pictures` are text. What the model thinks is no part of the reply: `on_event` gets it, as
        ThoughtChunk, beside the text. Raises ConversationError where the last turn is not the user's, ValueError for a
        bad seed or number of pictures, ThoughtError for a reply that has nothing but thoughts, Interrupted.
        """
        check_seed(seed)
        check_pictures(max_pictures)
        conversation.check_ready_for_reply()
        writing = self._write(conversation, sampling, seed, should_stop, premise, max_pictures)
        while True:
            try:
                event = next(writing)
            except StopIteration as finished:
                return finished.value
            if on_event:
                on_event(event)
            if on_text and isinstance(event, TextChunk):
                on_text(event.text)

    def see(self, pictures: Sequence[Tensor]) -> VisionFeatures:
        """What the vision encoder sees in pictures [H, W, 3]; ValueError for none."""
        import torch

        self.prepare("vision_encoder")
        with torch.no_grad():
            return self.vision_encoder.encode(list(pictures))

    def encode(self, conversation: Conversation, slot: Slot, *, references: int | ReferencePolicy = 2) -> SlotFeatures:
        """What the language model and the vision encoder know about the assistant's picture at `slot` (batch of 1).

        The vision encoder sees `conversation.references(slot, references)`, of which there are never more than the
        adapter takes, and the language model the users' pictures before the slot. Raises ConversationError where there
        is no picture of the assistant.
        """
        import torch

        from .adapter.features import SlotFeatures

        slot = Slot(*slot)
        if not isinstance(conversation.at(slot), Picture) or conversation.turns[slot.turn].role != "assistant":
            raise ConversationError(f"Only the assistant's pictures can be painted, and {tuple(slot)} is none.")
        how = references if isinstance(references, ReferencePolicy) else ReferencePolicy(count=references)
        how = replace(how, count=min(how.count, self.adapter.config.references))
        chosen = ((image, how.weight(index)) for index, image in enumerate(conversation.references(slot, how)))
        earlier = [(image, weight) for image, weight in chosen if weight > 0 and self._looks()]
        with torch.no_grad():
            seen = self.see([image for image, _ in earlier]) if earlier else None
            visual = self._visual(conversation, before=slot)
            self.prepare("language_model")
            states = self.language_model.encode_slot(conversation, slot, self.adapter.image_tokens, visual=visual)
            features = SlotFeatures.collate([(states, seen)])
        weights = [weight for _, weight in earlier]
        if all(weight == 1 for weight in weights):
            return features
        return replace(features, vision_weight=torch.tensor([weights], device=features.vision.device))

    def fuse(
        self,
        features: SlotFeatures,
        gate: GateSetting | float = 1.0,
        anchor: Condition | None = None,
        *,
        style: str = "",
        negative: str = "",
    ) -> Condition:
        """The adapter's condition for the decoder; a number as `gate` is the strength (0..4) of the learned gate.

        An anchored adapter gets `anchor`, or what the decoder's text encoders make of the captions with `style`, and of
        `negative`, what guidance leads away from.
        """
        import torch

        if anchor is None and self.decoder is not None and self.adapter.config.anchor:
            anchor = self.encode_text([styled(caption, style) for caption in features.captions], negative)
        self.prepare("adapter")
        tokens = self.adapter.image_tokens
        if anchor is not None:
            anchor = anchor.to(tokens.device)
        with torch.no_grad():
            return self.adapter(features.to(tokens.device, tokens.dtype), gate_setting(gate), anchor)

    def encode_text(self, prompts: Sequence[str], negative: str = "") -> Condition:
        """The decoder's own condition of plain prompts, and of what guidance leads away from."""
        self.prepare("text_encoders")
        return self.decoder.encode_text(prompts, negative)

    def paint(
        self,
        condition: Condition,
        *,
        seed: int,
        steps: int = 20,
        guidance: float = 3.0,
        on_step: Callable[[int, int, Callable[[], Any]], None] | None = None,
        **how: Any,
    ) -> Tensor:
        """The picture [H, W, 3] of a condition of batch 1. `on_step(step, total, preview)` may raise to interrupt.

        `how` as `DiffusionDecoder.decode` takes it: a size, a picture to start from, a refiner.
        """
        check_seed(seed)
        check_steps(steps)
        check_guidance(guidance)
        self.prepare("decoder")
        return self._painted(condition, seed=seed, steps=steps, guidance=guidance, on_step=on_step, **how)

    def _painted(
        self,
        condition: Condition,
        *,
        seed: int,
        steps: int,
        guidance: float,
        on_step: Callable[[int, int, Callable[[], Any]], None] | None,
        **how: Any,
    ) -> Tensor:
        import torch

        with torch.no_grad():
            images = self.decoder.decode(condition, seed=seed, steps=steps, guidance=guidance, on_step=on_step, **how)
        if images.shape[0] != 1:
            raise ValueError(f"paint takes a condition of one picture, not of {images.shape[0]}: split it first.")
        return images[0]

    def turn(
        self,
        conversation: Conversation,
        *,
        gate: GateSetting | float = 1.0,
        seed: int = 0,
        steps: int = 20,
        guidance: float = 3.0,
        sampling: Sampling | None = None,
        should_stop: ShouldStop | None = None,
        references: ReferencePolicy | None = None,
        style: str = "",
        negative: str = "",
        width: int = 0,
        height: int = 0,
        max_pictures: int = PICTURES,
    ) -> Iterator[Event]:
        """The assistant's next turn, text first and then its pictures, ending with TurnDone.

        Where that turn has been taken and pictures are still open, whichever turn they are of, these are painted.
        The text has the seed `seed`, the picture number k has `seed` + k. Bad arguments raise ValueError at once;
        `should_stop` is asked at every token and denoising step, and Interrupted raised when it says yes. `style` (put
        behind each caption) and `negative` are read by the decoder's text encoders, so they need an anchored adapter.
        `width` and `height` are the pictures', in pixels, multiples of the VAE's factor; 0 is the decoder's own size.
        Of a reply with more than `max_pictures` (1..32), the captions of the others are text. A reply that has nothing
        but thoughts is a ThoughtError.
        """
        request = Request(
            gate, seed, steps, guidance, sampling, should_stop, references or ReferencePolicy(), style, negative,
            width=width, height=height, max_pictures=max_pictures,
        )  # fmt: skip
        self._check_words(request)
        slots = conversation.open_slots()
        if slots and conversation.turns[-1].role == "assistant":
            return self._illustrate(conversation, slots, request)
        conversation.check_ready_for_reply()
        return self._turn(conversation, request)

    def story(
        self,
        premise: str,
        panels: int,
        *,
        gate: GateSetting | float = 1.0,
        seed: int = 0,
        steps: int = 20,
        guidance: float = 3.0,
        sampling: Sampling | None = None,
        should_stop: ShouldStop | None = None,
        references: ReferencePolicy | None = None,
        style: str = "",
        negative: str = "",
        outline: Sequence[str] = (),
        start: Conversation | None = None,
        rerolls: Mapping[int, int] | None = None,
        width: int = 0,
        height: int = 0,
        max_pictures: int = PICTURES,
    ) -> Iterator[Event]:
        """A story of `panels` turns (1..32): the premise, then "What happens next?" for each further one.

        Panel k is `turn` with turn_seed(seed, k). Every panel gets a picture: the caption of a reply without one is its
        first sentence (of the premise, should the reply be empty). Arguments and interruption as for `turn`.
        Where a later panel fails by what the models give (nothing but thoughts, a message too long for the context, a
        picture of NaN), nothing of the ones before is lost: the story ends there, with StoryEnded as its last event.

        Args:
            outline: What is said in place of "What happens next?", a line for each panel; the first one follows the
                premise. There may be fewer lines than panels.
            start: What the story continues: a conversation that the user may go on with.
            rerolls: For pictures of the story, the first being 1: picture_seed(..., reroll) in place of the plain seed.
        """
        said = messages(premise, panels, outline)
        request = Request(
            gate, seed, steps, guidance, sampling, should_stop, references or ReferencePolicy(), style, negative,
            rerolls or {}, width=width, height=height, max_pictures=max_pictures,
        )  # fmt: skip
        self._check_words(request)
        start = Conversation() if start is None else start
        start.user(premise)  # raises where it is not the user's turn
        return self._story(start, premise, said, request)

    def _story(self, start: Conversation, premise: str, said: Sequence[str], request: Request) -> Iterator[Event]:
        conversation = start
        for panel, message in enumerate(said):
            asked = conversation.user(message)
            told = len(conversation.slots()) - len(start.slots())
            try:
                conversation = yield from self._turn(asked, request.of_panel(panel), premise, told)
            except FAILED_REPLY as error:
                if not panel:
                    raise
                yield StoryEnded(conversation, panel, len(said), str(error))
                return

    def _looks(self) -> bool:
        """Whether the adapter looks at references: an untrained one for another vision encoder does not.

        Raises ValueError for a trained one, since what it has learned would be missing.
        """
        from .adapter.m3_adapter import M3Adapter

        if not isinstance(self.adapter, M3Adapter) or self.vision_encoder is None:
            return True
        return self.adapter.sees_with(self.vision_encoder)

    def _check_words(self, request: Request) -> None:
        """Raises ValueError for a size or references that cannot be, and for a style or negative that nobody reads."""
        if request.references.count:
            self._looks()
        if request.size:
            self.decoder.check_size(request.width, request.height)
        if (request.style.strip() or request.negative.strip()) and not self.adapter.config.anchor:
            raise ValueError(
                "This M3-Adapter is not anchored, so that style and negative are read by nobody: "
                "leave them empty, and say in the premise how pictures are to look."
            )

    def _turn(
        self, conversation: Conversation, request: Request, premise: str | None = None, told: int = 0
    ) -> Generator[Event, None, Conversation]:
        """`told` is how many pictures the story had before this turn."""
        conversation = yield from self._write(
            conversation, request.sampling, request.seed, request.should_stop, premise, request.max_pictures
        )
        slots = [slot for slot in conversation.open_slots() if slot.turn == len(conversation.turns) - 1]
        return (yield from self._illustrate(conversation, slots, request, told))

    def _illustrate(
        self, conversation: Conversation, slots: Sequence[Slot], request: Request, told: int = 0
    ) -> Generator[Event, None, Conversation]:
        for index, slot in enumerate(slots):
            yield PictureStarted(slot, conversation.at(slot).caption, index, len(slots))
            check_stop(request.should_stop)
            features = self.encode(conversation, slot, references=request.references)
            condition = self.fuse(features, request.gate, style=request.style, negative=request.negative)
            seed = picture_seed(request.seed, index, request.rerolls.get(told + index + 1, 0))
            image = yield from self._paint(slot, condition, replace(request, seed=seed))
            conversation = conversation.with_picture(slot, image, seed=seed, gate=request.gate.strength)
            yield PictureDone(slot, conversation.at(slot).image)
        yield TurnDone(conversation)
        return conversation

    def _write(
        self,
        conversation: Conversation,
        sampling: Sampling | None,
        seed: int,
        should_stop: ShouldStop | None,
        premise: str | None = None,
        max_pictures: int = PICTURES,
    ) -> Generator[TextChunk | ThoughtChunk | TextWithdrawn | Shortened, None, Conversation]:
        """Streams the reply's text, returns the conversation with it; a `premise` asks for at least one picture."""
        if sampling is None:
            from .language.sampling import Sampling

            sampling = Sampling()
        check_stop(should_stop)
        visual = self._visual(conversation)
        self.prepare("language_model")
        reply = self.language_model.reply(
            conversation, visual=visual, sampling=sampling, seed=seed, should_stop=should_stop
        )
        reader = ReplyReader(max_pictures)
        for chunk in reply:
            check_stop(should_stop)
            yield from reader.feed(chunk)
        check_stop(should_stop)  # a model that was stopped may just end its reply
        yield from reader.close()
        if note := getattr(reply, "note", ""):  # a plain iterator of texts has none
            yield Shortened(note)
        return conversation.assistant(with_captions(reader.segments(), premise))

    def _visual(self, conversation: Conversation, before: Slot | None = None) -> list[Tensor]:
        """What the language model needs of the vision encoder to see the users' pictures, if it does not see itself."""
        self.language_model.check_sees(conversation)
        pictures = conversation.user_pictures(before=before)
        return list(self.see(pictures).pooled) if pictures and self.language_model.sees != "natively" else []

    def _paint(self, slot: Slot, condition: Condition, request: Request) -> Generator[Step, None, Tensor]:
        def work(emit: Callable[[Step], None]) -> Tensor:
            def on_step(step: int, total: int, preview: Callable[[], Any]) -> None:
                emit(Step(slot, step, total, preview))
                check_stop(request.should_stop)

            how = {"seed": request.seed, "steps": request.steps, "guidance": request.guidance, **request.size}
            return self._painted(condition, **how, on_step=on_step)

        self.prepare("decoder")
        return (yield from reports(work))


def check_weights(directory: Path) -> None:
    """Raises FileNotFoundError, one sentence, unless `directory` has all parts of an M²Chat."""
    missing = [part for part in _PARTS if not (directory / part).exists()]
    if missing:
        raise FileNotFoundError(
            f"The weights in {directory.name} are incomplete ({', '.join(missing)} missing): install the pack again, "
            "or train them with `python -m m3adapter train`."
        )
