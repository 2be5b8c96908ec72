"""The stages from a conversation to a picture, as functions that take only the models they need.

`M2Chat` runs them in turn: `write_reply`, then for each picture `encode_slot`, `fuse` and `paint`. `prepare` is called
with the name of a model (an attribute of M2Chat) just before that model works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .conversation.conversation import Conversation, ConversationError, Picture, ReferencePolicy, Slot
from .conversation.markup import with_captions
from .events import Interrupted, OnEvent, Shortened, ShouldStop
from .language.reply import ReplyReader
from .settings import TurnSettings, changed, gate_setting

if TYPE_CHECKING:
    from torch import Tensor

    from .adapter.features import SlotFeatures
    from .adapter.m3_adapter import M3Adapter
    from .adapter.official import OfficialAdapter
    from .adapter.vision_encoder import VisionEncoder, VisionFeatures
    from .diffusion.condition import Condition
    from .diffusion.decoder import DiffusionDecoder, OnStep
    from .gate import GateSetting
    from .language.language_model import LanguageModel

Prepare = Callable[[str], None]


def unprepared(part: str) -> None:
    """Do nothing: the weights of every part are already where they work."""


def ignore(event: object) -> None:
    """Do nothing with an event."""


def check_stop(should_stop: ShouldStop | None) -> None:
    """Raise Interrupted if the caller wants to stop."""
    if should_stop and should_stop():
        raise Interrupted("The reply was stopped.")


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
        **changes: Fields of `settings` to replace.

    Returns:
        The conversation with the reply.

    Raises:
        ConversationError: It is not the assistant's turn, or nothing can encode the user's pictures.
        ThoughtError: The reply has nothing but thoughts.
        Interrupted: should_stop() returned true.
    """
    settings, on_event = changed(settings, changes), on_event or ignore
    conversation.check_ready_for_reply()
    check_stop(should_stop)
    visual = _visual_inputs(language_model, vision_encoder, conversation, None, prepare)
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
    return conversation.assistant(with_captions(reader.segments(), premise))


def see(vision_encoder: VisionEncoder, pictures: Sequence[Tensor]) -> VisionFeatures:
    """Return the vision encoder's features of pictures [H, W, 3] in 0..1; ValueError if there are none."""
    import torch

    with torch.no_grad():
        return vision_encoder.encode(list(pictures))


def encode_slot(
    language_model: LanguageModel,
    vision_encoder: VisionEncoder,
    adapter: M3Adapter | OfficialAdapter,
    conversation: Conversation,
    slot: Slot,
    *,
    references: int | ReferencePolicy = 2,
    prepare: Prepare = unprepared,
) -> SlotFeatures:
    """Return what language model and vision encoder know about the assistant's picture at `slot` (batch of 1).

    The vision encoder sees `conversation.references(slot, references)`, at most as many as the adapter takes; the
    language model sees the user's pictures before the slot.

    Raises:
        ConversationError: There is no picture of the assistant at `slot`.
    """
    import torch

    from .adapter.features import SlotFeatures

    slot = Slot(*slot)
    if not isinstance(conversation.at(slot), Picture) or conversation.turns[slot.turn].role != "assistant":
        raise ConversationError(f"Only the assistant's pictures can be painted, and {tuple(slot)} is not one of them.")
    rule = references if isinstance(references, ReferencePolicy) else ReferencePolicy(count=references)
    rule = replace(rule, count=min(rule.count, adapter.config.references))
    weighted = ((image, rule.weight(index)) for index, image in enumerate(conversation.references(slot, rule)))
    weighted_references = [
        (image, weight) for image, weight in weighted if weight > 0 and uses_references(adapter, vision_encoder)
    ]
    vision = None
    if weighted_references:
        prepare("vision_encoder")
        vision = see(vision_encoder, [image for image, _ in weighted_references])
    with torch.no_grad():
        visual = _visual_inputs(language_model, vision_encoder, conversation, slot, prepare)
        prepare("language_model")
        states = language_model.encode_slot(conversation, slot, adapter.image_tokens, visual=visual)
        features = SlotFeatures.collate([(states, vision)])
    weights = [weight for _, weight in weighted_references]
    if all(weight == 1 for weight in weights):
        return features
    return replace(features, vision_weight=torch.tensor([weights], device=features.vision.device))


def fuse(
    adapter: M3Adapter | OfficialAdapter,
    features: SlotFeatures,
    gate: GateSetting | float = 1.0,
    anchor: Condition | None = None,
) -> Condition:
    """Return the adapter's condition for the decoder; a number as `gate` is the strength (0..4) of the learned gate.

    Raises:
        ValueError: The adapter is anchored and there is no `anchor`, or it does not fit the features.
    """
    import torch

    tokens = adapter.image_tokens
    if anchor is not None:
        anchor = anchor.to(tokens.device)
    with torch.no_grad():
        return adapter(features.to(tokens.device, tokens.dtype), gate_setting(gate), anchor)


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


def styled(caption: str, style: str) -> str:
    """Return a caption followed by a style, as prompts are written."""
    return f"{caption.rstrip(' .')}, {style.strip()}" if style.strip() else caption


def uses_references(adapter: M3Adapter | OfficialAdapter, vision_encoder: VisionEncoder) -> bool:
    """Return whether the adapter reads reference pictures: an untrained one for another vision encoder does not.

    Raises:
        ValueError: It was trained for another vision encoder, so what it has learned would be missing.
    """
    from .adapter.m3_adapter import M3Adapter

    return not isinstance(adapter, M3Adapter) or adapter.sees_with(vision_encoder)


def check_settings(
    settings: TurnSettings,
    vision_encoder: VisionEncoder,
    adapter: M3Adapter | OfficialAdapter,
    decoder: DiffusionDecoder,
) -> None:
    """Raise ValueError if these models cannot follow the settings of a turn."""
    if settings.references.count:
        uses_references(adapter, vision_encoder)
    if settings.width or settings.height:
        decoder.check_size(settings.width, settings.height)
    if (settings.style.strip() or settings.negative.strip()) and not adapter.config.anchor:
        raise ValueError(
            "This M3-Adapter is not anchored, so nothing reads style and negative: "
            "leave them empty, and describe in the premise how the pictures should look."
        )


def _visual_inputs(
    language_model: LanguageModel,
    vision_encoder: VisionEncoder | None,
    conversation: Conversation,
    before: Slot | None,
    prepare: Prepare,
) -> list[Tensor]:
    """Return pooled features [K, D] of each of the user's pictures for a language model that does not see by itself."""
    language_model.check_sees(conversation)
    pictures = conversation.user_pictures(before=before)
    if not pictures or language_model.sees == "natively":
        return []
    if vision_encoder is None:
        raise ConversationError("The user shows pictures, but nothing encodes them: connect vision_encoder.")
    prepare("vision_encoder")
    return list(see(vision_encoder, pictures).pooled)
