"""M2Chat: a language model and a painter, composed to tell illustrated stories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import stages
from .conversation.conversation import Conversation, ReferencePolicy, Slot
from .conversation.outline import messages
from .conversation.seeds import turn_seed
from .events import OnEvent, ShouldStop, StoryEnded
from .m3_painter import M3Painter
from .painter import Painter
from .settings import TurnSettings, changed
from .stages import Prepare, UserPictures, unprepared
from .telling import FAILED_PANEL, Reply, Telling
from .values import check_rerolled, check_rerolls
from .weights.starter import PARTS, STARTER, check_weights

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .adapter.features import SlotFeatures
    from .adapter.m3_adapter import M3Adapter
    from .adapter.official import OfficialAdapter
    from .adapter.vision_encoder import VisionEncoder, VisionFeatures
    from .diffusion.condition import Condition
    from .diffusion.decoder import DiffusionDecoder, OnStep
    from .gate import GateSetting
    from .language.language_model import LanguageModel


@dataclass
class M2Chat:
    """The whole chain, from a conversation to the next illustrated reply. Each stage can also be called on its own.

    It paints with an M3-Adapter and a diffusion decoder, or with any other `painter`:

        M2Chat(language_model, vision_encoder, adapter, decoder)
        M2Chat(language_model, painter=painter)

    Methods that take `settings` also take its fields as keywords, which replace those of `settings`.

    Attributes:
        language_model: Writes the replies, and reads the conversation for each picture.
        vision_encoder: Encodes the pictures of the conversation. Beside a `painter`, it encodes the user's pictures for
            a language model that does not see, and may be left out.
        adapter: Fuses what the two know into a condition, through its gate; None beside a `painter`.
        decoder: Paints the condition; None beside a `painter`.
        prepare: Called with the name of a model just before it works (an attribute's name, or "text_encoders" for
            those of the decoder), so that a memory manager can load its weights.
        painter: What paints in place of adapter and decoder.

    Raises:
        ValueError: There are a painter and an adapter or decoder.
    """

    language_model: LanguageModel
    # Three that are None only beside a painter, when nothing asks for them.
    vision_encoder: VisionEncoder = None  # type: ignore[assignment]
    adapter: M3Adapter | OfficialAdapter = None  # type: ignore[assignment]
    decoder: DiffusionDecoder = None  # type: ignore[assignment]
    prepare: Prepare = unprepared
    painter: Painter | None = None

    def __post_init__(self) -> None:
        if self.painter is not None and (self.adapter is not None or self.decoder is not None):
            raise ValueError("A painter takes the place of adapter and decoder: give either, not both.")

    @classmethod
    def from_starter(cls, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> M2Chat:
        """Load the small M²Chat that comes with the package; FileNotFoundError if its weights are missing."""
        return cls.from_pretrained(STARTER, device=device, dtype=dtype)

    @classmethod
    def from_pretrained(
        cls, directory: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
    ) -> M2Chat:
        """Load the models in `directory`: language_model/, vision_encoder/, adapter.safetensors and decoder/.

        Raises:
            FileNotFoundError: One of them is missing.
        """
        directory = Path(directory)
        check_weights(directory)
        from .adapter.auto import open_adapter
        from .adapter.vision_encoder import VisionEncoder
        from .diffusion.decoder import DiffusionDecoder
        from .language.auto import load_language_model

        language_model, vision_encoder, adapter, decoder = (directory / part for part in PARTS)
        return cls(
            load_language_model(language_model, dtype=dtype, device=device),
            VisionEncoder.from_pretrained(vision_encoder, dtype=dtype, device=device),
            open_adapter(adapter, dtype=dtype, device=device)[0],
            DiffusionDecoder.from_pretrained(decoder, dtype=dtype, device=device),
        )

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the models to `directory`, from which `from_pretrained` loads them.

        Raises:
            ValueError: The decoder has image prompts, which are not part of a model; or another painter paints.
        """
        painter, directory = self._m3(), Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        language_model, vision_encoder, adapter, decoder = (directory / part for part in PARTS)
        self.language_model.save_pretrained(language_model)
        painter.vision_encoder.save_pretrained(vision_encoder)
        painter.adapter.save_pretrained(adapter)
        painter.decoder.save_pretrained(decoder)

    def write(
        self,
        conversation: Conversation,
        settings: TurnSettings | None = None,
        *,
        premise: str | None = None,
        should_stop: ShouldStop | None = None,
        on_event: OnEvent | None = None,
        shown: UserPictures | None = None,
        **changes: Any,
    ) -> Conversation:
        """Write the assistant's next turn; its pictures stay open slots. See `stages.write_reply`."""
        return stages.write_reply(
            self.language_model,
            self.vision_encoder,
            conversation,
            changed(settings, changes),
            premise=premise,
            should_stop=should_stop,
            on_event=on_event,
            prepare=self.prepare,
            shown=shown,
        )

    def see(self, pictures: Sequence[Tensor]) -> VisionFeatures:
        """Return the vision encoder's features of pictures [H, W, 3] in 0..1."""
        self.prepare("vision_encoder")
        return stages.see(self.vision_encoder, pictures)

    def encode(self, conversation: Conversation, slot: Slot, *, references: int | ReferencePolicy = 2) -> SlotFeatures:
        """Return what is known about the assistant's picture at `slot` (batch of 1). See `stages.encode_slot`."""
        painter = self._m3()
        models = (self.language_model, painter.vision_encoder, painter.adapter)
        return stages.encode_slot(*models, conversation, slot, references=references, prepare=self.prepare)

    def fuse(
        self,
        features: SlotFeatures,
        gate: GateSetting | float = 1.0,
        anchor: Condition | None = None,
        *,
        style: str = "",
        negative: str = "",
    ) -> Condition:
        """Return the adapter's condition for the decoder; a number as `gate` is the strength of the learned gate, 0..4.

        An anchored adapter gets `anchor`, by default the decoder's own condition of the captions with `style`, and of
        `negative`.
        """
        return self._m3().fuse(features, gate, anchor, style=style, negative=negative)

    def encode_text(self, prompts: Sequence[str], negative: str = "") -> Condition:
        """Return the decoder's own condition of plain prompts; guidance steers away from `negative`."""
        return self._m3().encode_text(prompts, negative)

    def paint(
        self,
        condition: Condition,
        settings: TurnSettings | None = None,
        *,
        image: Tensor | None = None,
        denoise: float = 0.6,
        refiner: DiffusionDecoder | None = None,
        refiner_condition: Condition | None = None,
        switch_at: float = 0.8,
        on_step: OnStep | None = None,
        **changes: Any,
    ) -> Tensor:
        """Return the picture [H, W, 3] of a condition of batch 1. See `stages.paint`."""
        painter = self._m3()
        painter.prepare("decoder")
        return stages.paint(
            painter.decoder,
            condition,
            changed(settings, changes),
            image=image,
            denoise=denoise,
            refiner=refiner,
            refiner_condition=refiner_condition,
            switch_at=switch_at,
            on_step=on_step,
        )

    def paint_all(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        settings: TurnSettings | None = None,
        **options: Any,
    ) -> Iterator[Tensor]:
        """Paint pictures that do not depend on one another, and yield them; arguments as for `stages.paint_all`."""
        painter = self._m3()
        painter.prepare("decoder")
        return stages.paint_all(painter.decoder, conditions, seeds, settings, **options)

    def turn(
        self,
        conversation: Conversation,
        settings: TurnSettings | None = None,
        *,
        should_stop: ShouldStop | None = None,
        on_event: OnEvent | None = None,
        **changes: Any,
    ) -> Conversation:
        """Take the assistant's next turn: write its text, then paint its pictures.

        The language model does all of its work first, including that for the pictures; then the others work.

        If the last turn is the assistant's and pictures are open, in whichever turn, only these are painted.

        Args:
            conversation: It ends with the user's turn, or has open pictures.
            settings: How to write and paint.
            should_stop: Asked at every chunk of text and every denoising step.
            on_event: Called with each Event as it happens, TurnDone last; an exception that it raises ends the turn.
            **changes: Fields of `settings` to replace.

        Returns:
            The conversation with the reply and all its pictures.

        Raises:
            ValueError: A setting is out of its range or does not suit the models; nothing has been written then.
            ConversationError: There is nothing to do for the assistant.
            ThoughtError, PromptError, NotFinite: The models gave nothing that a reply can be made of.
            Interrupted: should_stop() returned true; its `conversation` is what was told and painted until then.
        """
        settings = changed(settings, changes)
        with self._telling(conversation, settings, should_stop, on_event) as telling:
            slots = conversation.open_slots()
            if slots and conversation.turns[-1].role == "assistant":
                reply = telling.read(conversation, slots, settings)
            else:
                conversation, reply = telling.write(conversation, settings)
            (whole,) = telling.illustrate(conversation, [reply])
        return whole

    def story(
        self,
        premise: str,
        panels: int,
        settings: TurnSettings | None = None,
        *,
        outline: Sequence[str] = (),
        start: Conversation | None = None,
        rerolls: Mapping[int, int] | None = None,
        should_stop: ShouldStop | None = None,
        on_event: OnEvent | None = None,
        **changes: Any,
    ) -> Conversation:
        """Tell a story of `panels` turns (1..32): the user says the premise, then "What happens next?" for each more.

        Panel k (from 0) is `turn` with turn_seed(seed, k), and has at least one picture. The texts of all panels are
        written first, because no word depends on a picture; then they are painted. So a language model and a decoder
        that do not both fit in memory make room for one another once, not at every panel. If a later panel fails
        because of what the models give (nothing but thoughts, a message too long for the context, a picture of NaN),
        the story ends before it, with StoryEnded as its last event; the panels before it are told and painted.

        Args:
            premise: What the story is about.
            panels: How many turns the assistant takes.
            settings, should_stop, on_event, **changes: As for `turn`.
            outline: What the user says in place of "What happens next?", at most a line for each panel; the first line
                follows the premise.
            start: The conversation that the story continues; it must be the user's turn.
            rerolls: Re-roll numbers of pictures, by their number in the story (from 1); see `picture_seed`. ValueError
                before anything is painted if the story has fewer.

        Returns:
            The story as a conversation.

        Raises:
            As `turn`; the models' errors only if the first panel fails.
        """
        told = messages(premise, panels, outline)
        settings = changed(settings, changes)
        check_rerolls(rerolls or {})
        conversation = start = Conversation() if start is None else start
        telling = self._telling(start, settings, should_stop, on_event)
        replies: list[Reply] = []
        failure: Exception | None = None
        with telling:
            for panel, message in enumerate(told):
                before = len(conversation.slots()) - len(start.slots())
                of_panel = {number - before: reroll for number, reroll in (rerolls or {}).items()}
                own = replace(settings, seed=turn_seed(settings.seed, panel))
                try:
                    conversation, reply = telling.write(conversation.user(message), own, premise, of_panel)
                except FAILED_PANEL as error:
                    if not panel:
                        raise
                    failure = error
                    break
                replies.append(reply)
            if failure is None:
                check_rerolled(rerolls or {}, len(conversation.slots()) - len(start.slots()))
            painted: list[Conversation] = []
            try:
                painted.extend(telling.illustrate(conversation, replies))
            except FAILED_PANEL as error:
                if not painted:
                    raise
                painted[-1] = painted[-1].rewind(replies[len(painted) - 1].turn)
                failure = error
            if failure is not None:
                telling.on_event(StoryEnded(painted[-1], len(painted), len(told), str(failure)))
        return painted[-1]

    def _telling(
        self,
        conversation: Conversation,
        settings: TurnSettings,
        should_stop: ShouldStop | None,
        on_event: OnEvent | None,
    ) -> Telling:
        """Return how to tell what follows; ValueError if the painter cannot follow the settings."""
        painter = self.painter or self._m3()
        painter.check(settings, conversation)
        shown = UserPictures(self.language_model, self.vision_encoder, self.prepare)
        return Telling(self, painter, shown, should_stop, on_event)

    def _m3(self) -> M3Painter:
        """Return the painter that adapter and decoder are; ValueError if another one paints in their place."""
        if self.painter is None:
            return M3Painter(self.vision_encoder, self.adapter, self.decoder, self.prepare)
        if isinstance(self.painter, M3Painter):
            return self.painter
        raise ValueError(f"The painter is {self.painter.describe()}, and this takes one with an M3-Adapter.")
