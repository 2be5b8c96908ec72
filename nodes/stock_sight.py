"""Text encoders that are shown the references of an edit model, as the engine's own Text Encode nodes show them.

The nodes themselves are called, so that sizes, templates and latents are theirs: what is painted is, to the bit, what a
stock graph with the node paints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import comfy.model_base
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from .clip_sight import towers_loaded
from .stock import Conditioning

if TYPE_CHECKING:
    import comfy.clip_vision

# What the nodes give beside the embeddings of the words.
LISTS = ("reference_latents", "clip_vision_outputs", "reference_latents_text_embeds")


class Shown(NamedTuple):
    """What a text encoder is shown.

    Attributes:
        prompt, negative: What to paint, and what guidance steers away from, as prompts.
        pictures: The references [1, H, W, 3], at least one.
        size: Width and height of the painted picture.
    """

    prompt: str
    negative: str
    pictures: Sequence[Tensor]
    size: tuple[int, int]


class Seen(NamedTuple):
    """What it makes of that.

    Attributes:
        positive, negative: Conditioning of the words with the pictures.
        beside: What the model is given of the pictures beside it, for both: latents, and features.
    """

    positive: Conditioning
    negative: Conditioning
    beside: dict[str, list[Any]]


Encode = Callable[[Any, "Sight", Shown], Seen]


@dataclass(frozen=True)
class Family:
    """How a class of models shows references to its text encoder.

    Attributes:
        node: The module and the name of the engine's node.
        most: How many pictures it takes.
        encode: Calls the node.
    """

    node: tuple[str, str]
    most: int
    encode: Encode


@dataclass(frozen=True, eq=False)
class Sight:
    """A text encoder that sees references.

    Attributes:
        clip: The text encoder.
        vae: Encodes the latents that the model is given beside its words.
        family: How the model's references are shown.
        image_encoder: A vision encoder beside it, for models that have one; None is without.
    """

    clip: comfy.sd.CLIP
    vae: comfy.sd.VAE
    family: Family
    image_encoder: comfy.clip_vision.ClipVisionModel | None = None

    def look(self, shown: Shown) -> Seen:
        """Return the conditioning of words and pictures."""
        module, name = self.family.node
        return self.family.encode(getattr(import_module(f"comfy_extras.{module}"), name), self, shown)


def _both(node: Any, sight: Sight, shown: Shown, **how: Any) -> Seen:
    """Call a node once for each of the two prompts, and have the latents encoded once."""
    positive = _result(node, clip=sight.clip, prompt=shown.prompt, vae=sight.vae, **how)
    negative = _result(node, clip=sight.clip, prompt=shown.negative, **how)
    return _apart(positive[0], negative[0])


def _qwen(node: Any, sight: Sight, shown: Shown) -> Seen:
    return _both(node, sight, shown, **_numbered("image{}", shown.pictures))


def _omni(node: Any, sight: Sight, shown: Shown) -> Seen:
    pictures = _numbered("image{}", shown.pictures)
    return _both(node, sight, shown, image_encoder=sight.image_encoder, **pictures)


def _one(node: Any, sight: Sight, shown: Shown) -> Seen:
    return _both(node, sight, shown, image=shown.pictures[0])


def _joy(node: Any, sight: Sight, shown: Shown) -> Seen:
    return _both(node, sight, shown, images=_numbered("image{}", shown.pictures))


def _boogu(node: Any, sight: Sight, shown: Shown) -> Seen:
    how = {"clip": sight.clip, "vae": sight.vae, "images": _numbered("image_{}", shown.pictures)}
    return _apart(*_result(node, prompt=shown.prompt, negative_prompt=shown.negative, **how))


def _mage(node: Any, sight: Sight, shown: Shown) -> Seen:
    how = {"clip": sight.clip, "vae": sight.vae, "images": _numbered("image_{}", shown.pictures)}
    width, height = shown.size
    found = _result(node, prompt=shown.prompt, negative_prompt=shown.negative, width=width, height=height, **how)
    return _apart(*found[:2])


def _numbered(name: str, pictures: Sequence[Tensor]) -> dict[str, Tensor]:
    return {name.format(number): picture for number, picture in enumerate(pictures, 1)}


def _result(node: Any, **given: Any) -> tuple[Any, ...]:
    return node.execute(**given).result


def _apart(positive: Conditioning, negative: Conditioning) -> Seen:
    """Take what the nodes give beside the words out of the conditioning."""
    beside = {name: positive[0][1][name] for name in LISTS if name in positive[0][1]}
    return Seen(_words(positive), _words(negative), beside)


def _words(conditioning: Conditioning) -> Conditioning:
    return [
        [embeds, {name: each for name, each in extra.items() if name not in LISTS}] for embeds, extra in conditioning
    ]


QWEN, ONE = Family(("nodes_qwen", "TextEncodeQwenImageEditPlus"), 3, _qwen), ("nodes_qwen", "TextEncodeQwenImageEdit")
FIRST = Family(ONE, 1, _one)
OMNI = Family(("nodes_zimage", "TextEncodeZImageOmni"), 3, _omni)
# By the class of the model, which is looked for among its bases too; LongCat comes before FLUX, whose kind it is.
FAMILIES = {
    "QwenImage": QWEN,
    "LongCatImage": FIRST,
    "Boogu": Family(("nodes_boogu", "TextEncodeBooguEdit"), 16, _boogu),
    "MageFlow": Family(("nodes_mage", "TextEncodeMageFlowEdit"), 16, _mage),
    "JoyImage": Family(("nodes_joyimage", "TextEncodeJoyImageEdit"), 6, _joy),
}


def family_of(model: ModelPatcher) -> Family | None:
    """Return how the references of a model are shown to its text encoder; None if they are not."""
    inner = model.model
    if getattr(inner.diffusion_model, "siglip_embedder", None) is not None:
        return OMNI
    return next((FAMILIES[each.__name__] for each in type(inner).__mro__ if each.__name__ in FAMILIES), None)


def takes_pictures(clip: comfy.sd.CLIP) -> bool:
    """Return whether the tokenizer of a CLIP takes pictures, and its vision tower, if it has one, has weights."""
    try:
        tokens = clip.tokenize("a", images=[torch.zeros(1, 64, 64, 3)])
    except TypeError:  # a tokenizer that knows of no pictures
        return False
    found = (token[0] for rows in tokens.values() for row in rows for token in row)
    return any(not isinstance(each, Integral) for each in found) and towers_loaded(clip.cond_stage_model)
