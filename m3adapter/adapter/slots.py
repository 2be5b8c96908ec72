"""What language model and vision encoder know about a picture that is yet to be painted.

`encode_slot` asks both; `read_slot` and `see_references` ask one each, so that the language model can be done with a
whole story before its pictures are painted. `prepare` is called with the name of a model (an attribute of M2Chat) just
before that model works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..conversation.conversation import Conversation, ConversationError, Picture, ReferencePolicy, Slot

if TYPE_CHECKING:
    from torch import Tensor

    from ..conversation.references import Reference
    from ..language.language_model import LanguageModel, SlotStates
    from .features import SlotFeatures
    from .m3_adapter import M3Adapter
    from .official import OfficialAdapter
    from .vision_encoder import VisionEncoder, VisionFeatures

Prepare = Callable[[str], None]


def unprepared(part: str) -> None:
    """Do nothing: the weights of every part are already where they work."""


def see(vision_encoder: VisionEncoder, pictures: Sequence[Tensor]) -> VisionFeatures:
    """Return the vision encoder's features of pictures [H, W, 3] in 0..1; ValueError if there are none."""
    import torch

    with torch.no_grad():
        return vision_encoder.encode(list(pictures))


class UserPictures:
    """Pooled features of users' pictures, for a language model that does not see by itself.

    The same pictures are encoded once, so that a story's slots reuse what its replies have encoded.

    Args:
        language_model: Reads the features.
        vision_encoder: Makes them; it may be missing as long as no user shows a picture.
        prepare: Called with the name of a model (an attribute of M2Chat) just before it works.
    """

    def __init__(
        self, language_model: LanguageModel, vision_encoder: VisionEncoder | None, prepare: Prepare = unprepared
    ) -> None:
        self._language_model, self._vision_encoder, self._prepare = language_model, vision_encoder, prepare
        self._seen: tuple[tuple[Picture, ...], list[Tensor]] = ((), [])

    def features(self, conversation: Conversation, before: Slot | None = None) -> list[Tensor]:
        """Return the features [K, D] of each of the user's pictures, only those before a slot if one is given.

        Raises:
            ConversationError: Nothing can encode the user's pictures.
        """
        self._language_model.check_sees(conversation)
        pictures = tuple(map(conversation.picture, conversation.user_slots(before=before)))
        if not pictures or self._language_model.sees == "natively":
            return []
        if self._vision_encoder is None:
            raise ConversationError("The user shows pictures, but nothing encodes them: connect vision_encoder.")
        seen, features = self._seen
        if len(seen) != len(pictures) or any(one is not other for one, other in zip(seen, pictures, strict=True)):
            self._prepare("vision_encoder")
            features = list(see(self._vision_encoder, [picture.pixels for picture in pictures]).pooled)
            self._seen = (pictures, features)
        return features


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
    _references(vision_encoder, adapter, conversation, slot, references)  # report unusable references first
    shown = UserPictures(language_model, vision_encoder, prepare)
    states = read_slot(language_model, adapter.image_tokens, conversation, slot, shown=shown, prepare=prepare)
    return see_references(vision_encoder, adapter, conversation, slot, states, references=references, prepare=prepare)


def read_slot(
    language_model: LanguageModel,
    image_tokens: Tensor,
    conversation: Conversation,
    slot: Slot,
    *,
    shown: UserPictures,
    prepare: Prepare = unprepared,
) -> SlotStates:
    """Return the language model's hidden states for the assistant's picture at `slot`; painted pictures do not count.

    `image_tokens` [N, width] are the adapter's.

    Raises:
        ConversationError: There is no picture of the assistant at `slot`.
    """
    import torch

    slot = conversation.checked_slot(slot)
    with torch.no_grad():
        visual = shown.features(conversation, slot)
        prepare("language_model")
        return language_model.encode_slot(conversation, slot, image_tokens, visual=visual)


def see_references(
    vision_encoder: VisionEncoder,
    adapter: M3Adapter | OfficialAdapter,
    conversation: Conversation,
    slot: Slot,
    states: SlotStates,
    *,
    references: int | ReferencePolicy = 2,
    prepare: Prepare = unprepared,
) -> SlotFeatures:
    """Return the features (batch of 1) of hidden states from `read_slot` and the references of that slot."""
    import torch

    from .features import SlotFeatures

    weighted = _references(vision_encoder, adapter, conversation, slot, references)
    vision = None
    if weighted:
        prepare("vision_encoder")
        vision = see(vision_encoder, [picture.pixels for picture, _ in weighted])
    features = SlotFeatures.collate([(states, vision)])
    weights = [weight for _, weight in weighted]
    if all(weight == 1 for weight in weights):
        return features
    return replace(features, vision_weight=torch.tensor([weights], device=features.vision.device))


def _references(
    vision_encoder: VisionEncoder,
    adapter: M3Adapter | OfficialAdapter,
    conversation: Conversation,
    slot: Slot,
    references: int | ReferencePolicy,
) -> list[Reference]:
    """Return the references of a slot that the adapter looks at, with their weights above 0."""
    slot = conversation.checked_slot(slot)
    rule = references if isinstance(references, ReferencePolicy) else ReferencePolicy(count=references)
    rule = replace(rule, count=min(rule.count, adapter.config.references))
    weighted = conversation.weighted_references(slot, rule)
    return list(weighted) if weighted and uses_references(adapter, vision_encoder) else []


def uses_references(adapter: M3Adapter | OfficialAdapter, vision_encoder: VisionEncoder) -> bool:
    """Return whether the adapter reads reference pictures: an untrained one for another vision encoder does not.

    Raises:
        ValueError: It was trained for another vision encoder, so what it has learned would be missing.
    """
    from .m3_adapter import M3Adapter

    return not isinstance(adapter, M3Adapter) or adapter.sees_with(vision_encoder)
