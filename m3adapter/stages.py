"""The stages from a conversation to a picture, as functions that take only the models they need.

`M2Chat` runs `write_reply` and `read_slot` for all replies and pictures, then for each picture `see_references`, `fuse`
and `paint`; `encode_slot` is `read_slot` and `see_references` in one. `prepare` is called with the name of a model (an
attribute of M2Chat) just before that model works.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .adapter.slots import (
    Prepare,
    UserPictures,
    encode_slot,
    read_slot,
    see,
    see_references,
    unprepared,
    uses_references,
)  # fmt: skip
from .conversation.conversation import Conversation
from .conversation.markup import first_sentence, with_captions
from .conversation.segments import Picture, Segment, Text
from .events import OnEvent, Shortened, ShouldStop, check_stop, ignore
from .language.reply import Declined, ReplyReader
from .settings import TurnSettings, changed, gate_setting, styled

if TYPE_CHECKING:
    from torch import Tensor

    from .adapter.features import SlotFeatures
    from .adapter.gate_turns import GateTurns
    from .adapter.m3_adapter import M3Adapter
    from .adapter.official import OfficialAdapter
    from .adapter.vision_encoder import VisionEncoder
    from .diffusion.batches import OnBatchStep
    from .diffusion.condition import Condition
    from .diffusion.decoder import DiffusionDecoder, OnStep
    from .gate import GateSetting
    from .language.language_model import LanguageModel
__all__ = [
    "Prepare", "UserPictures", "check_stop", "encode_slot", "fuse", "ignore", "paint", "paint_all",
    "read_slot", "see", "see_references", "styled", "unprepared", "uses_references", "write_reply",
]  # fmt: skip

QUOTED = 200  # characters of an answer that an error quotes


def write_reply(
    language_model: LanguageModel,
    vision_encoder: VisionEncoder | None,
    conversation: Conversation,
    settings: TurnSettings | None = None,
    *,
    premise: str | None = None,
    should_stop: ShouldStop | None = None,
    on_event: OnEvent | None = None,
    prepare: Prepare = unprepared,
    shown: UserPictures | None = None,
    **changes: Any,
) -> Conversation:
    """Write the assistant's next turn; its pictures stay open slots.

    A picture whose caption the model left empty is captioned with the reply's first sentence.

    Args:
        language_model: Writes the reply.
        vision_encoder: Encodes the user's pictures, unless the language model sees by itself or there are none.
        conversation: It must end with the user's turn.
        settings: Of these, `seed`, `sampling` and `max_pictures` matter here.
        premise: What the story is about. If given, a reply without any picture gets one, captioned with the reply's
            first sentence (of the premise if the reply is empty).
        should_stop: Asked before every chunk of text.
        on_event: Called with TextChunk, TextWithdrawn, ThoughtChunk and Shortened as they happen. Thoughts are not part
            of the reply.
        prepare: See the module.
        shown: Keeps what the vision encoder says of the user's pictures, for further calls; it takes the place of
            `vision_encoder`.
        **changes: Fields of `settings` to replace.

    Returns:
        The conversation with the reply.

    Raises:
        ConversationError: It is not the assistant's turn, or nothing can encode the user's pictures.
        ThoughtError: The reply has nothing but thoughts.
        Declined: A premise is given, and a model that was trained for pictures ended its reply without one: it answers,
            or says what it cannot draw.
        Interrupted: should_stop() returned true.
    """
    settings, on_event = changed(settings, changes), on_event or ignore
    conversation.check_ready_for_reply()
    check_stop(should_stop)
    visual = (shown or UserPictures(language_model, vision_encoder, prepare)).features(conversation)
    prepare("language_model")
    reply = language_model.reply(
        conversation, visual=visual, sampling=settings.sampling, seed=settings.seed, should_stop=should_stop
    )
    reader = ReplyReader(settings.max_pictures)
    for chunk in reply:
        check_stop(should_stop)
        for event in reader.feed(chunk):
            on_event(event)
    check_stop(should_stop)  # a model that was stopped may simply end its reply
    for event in reader.close():
        on_event(event)
    if note := getattr(reply, "note", ""):  # a plain iterator of texts has none
        on_event(Shortened(note))
    segments = reader.segments()
    if premise is not None and getattr(reply, "ended", False) and not language_model.config.instructions:
        check_illustrated(segments)
    return conversation.assistant(with_captions(segments, premise))


def check_illustrated(segments: Sequence[Segment]) -> None:
    """Raise Declined if a reply of a model that was trained for pictures has words, and no picture."""
    said = " ".join("".join(segment.text for segment in segments if isinstance(segment, Text)).split())
    if said and not any(isinstance(each, Picture) for each in segments):
        quoted = said if len(said) <= QUOTED else first_sentence(said, QUOTED)
        raise Declined(f"The language model answers in words alone: “{quoted}” Ask for something that it can draw.")


def fuse(
    adapter: M3Adapter | OfficialAdapter,
    features: SlotFeatures,
    gate: GateSetting | float = 1.0,
    anchor: Condition | None = None,
    turns: GateTurns | None = None,
) -> Condition:
    """Return the adapter's condition for the decoder; a number as `gate` is the strength (0..4) of the learned gate.

    Args:
        adapter: Fuses.
        features: Of slots.
        gate: The setting of the gate.
        anchor: For an anchored adapter, the decoder's own condition of the captions.
        turns: Where the same features are fused at many gates, remembers what does not depend on the gate.

    Raises:
        ValueError: The adapter is anchored and there is no `anchor`, or it does not fit the features.
    """
    import torch

    tokens = adapter.image_tokens
    if anchor is not None:
        anchor = anchor.to(tokens.device)
    with torch.no_grad():
        known = {} if turns is None or (both := turns.both_features(adapter, features)) is None else {"both": both}
        return adapter(features.to(tokens.device, tokens.dtype), gate_setting(gate), anchor, **known)


def paint(
    decoder: DiffusionDecoder,
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
    """Paint a condition of batch 1: `DiffusionDecoder.decode` for one picture.

    Args:
        decoder: Paints.
        condition: What to paint, batch of 1.
        settings: Of these, `seed`, `steps`, `guidance`, `width` and `height` matter here.
        image, denoise, refiner, refiner_condition, switch_at, on_step: As for `DiffusionDecoder.decode`.
        **changes: Fields of `settings` to replace.

    Returns:
        float32 [H, W, 3] in 0..1 on the CPU.

    Raises:
        ValueError: The condition has another batch size or width, or an argument is out of its range.
        NotFinite: A model overflowed.
    """
    settings = changed(settings, changes)
    images = decoder.decode(
        condition,
        seed=settings.seed,
        steps=settings.steps,
        guidance=settings.guidance,
        width=settings.width or None,
        height=settings.height or None,
        image=image,
        denoise=denoise,
        refiner=refiner,
        refiner_condition=refiner_condition,
        switch_at=switch_at,
        on_step=on_step,
    )
    if images.shape[0] != 1:
        raise ValueError(f"paint takes a condition of one picture, not of {images.shape[0]}: split it first.")
    return images[0]


def paint_all(
    decoder: DiffusionDecoder,
    conditions: Sequence[Condition],
    seeds: Sequence[int],
    settings: TurnSettings | None = None,
    *,
    on_step: OnBatchStep | None = None,
    out_of_memory: tuple[type[BaseException], ...] = (),
    **changes: Any,
) -> Iterator[Tensor]:
    """Paint pictures that do not depend on one another, up to `batch_size` at once: see `diffusion.batches.decode_all`.

    Of the settings, `batch_size`, `steps`, `guidance`, `width` and `height` matter here.
    """
    from .diffusion.batches import decode_all

    settings = changed(settings, changes)
    return decode_all(
        decoder,
        conditions,
        seeds,
        batch_size=settings.batch_size,
        on_step=on_step,
        out_of_memory=out_of_memory,
        steps=settings.steps,
        guidance=settings.guidance,
        width=settings.width or None,
        height=settings.height or None,
    )
