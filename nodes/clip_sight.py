"""How the engine's own language models see pictures, and prompts that have pictures in them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import comfy.sd
import comfy.sd1_clip
import comfy.text_encoders.qwen_vl as qwen_vl
import comfy.utils
import torch
from torch import Tensor

from ..m3adapter.conversation.segments import Picture, Turn
from ..m3adapter.language.chat_template import ChatTemplate
from ..m3adapter.language.config import LanguageModelConfig
from ..m3adapter.language.prompts import Prompt, PromptWriter
from ..m3adapter.language.vision_language_model import presentable
from .clip_tokenizer import StockTokenizer

MOST_PIXELS = 1024 * 1024  # of a picture: what is larger says no more to these models, and takes thousands of tokens
REMEMBERED = 2**29  # bytes of what was seen: a large picture takes 20 MB for a model of 7 B, more with features
_TOWERS = ("visual", "vision_model")


class Sight(NamedTuple):
    """A picture as a language model reads it.

    Attributes:
        embeds: Its embeddings [1, n, H] in the prompt, float32 on the model's device.
        extra: What else the engine has to say of it: its grid, and features for some layers.
    """

    embeds: Tensor
    extra: Any

    @property
    def size(self) -> int:
        """The bytes that it takes."""
        values = self.extra.values() if isinstance(self.extra, dict) else [self.extra]
        parts = [part for value in values for part in (value if isinstance(value, (list, tuple)) else [value])]
        return sum(part.numel() * part.element_size() for part in (self.embeds, *parts) if isinstance(part, Tensor))


class StockSight:
    """The eyes of a text encoder of the engine's: its tokenizer prepares a picture, its vision tower encodes it.

    What was seen is remembered, until the weights leave the device.

    Args:
        clip: A stock CLIP.
        encoder: The text encoder in it that can write.
        device: Where it works.
    """

    def __init__(self, clip: comfy.sd.CLIP, encoder: comfy.sd1_clip.SDClipModel, device: torch.device) -> None:
        self._tokenizer, self._transformer, self._device = clip.tokenizer, encoder.transformer, device
        self._seen: OrderedDict[bytes, Sight] = OrderedDict()

    @property
    def usable(self) -> bool:
        """Whether the tokenizer takes pictures, and the model has a vision tower with the weights of one."""
        if not hasattr(self._transformer, "preprocess_embed"):
            return False
        towers = _towers(self._transformer)
        return bool(towers) and all(map(_is_loaded, towers)) and self._prepared(torch.zeros(64, 64, 3)) is not None

    def forget(self) -> None:
        """Free the memory of what was seen."""
        self._seen.clear()

    @torch.no_grad()
    def look(self, image: Tensor) -> Sight:
        """Return what the model makes of a picture [H, W, 3] in 0..1."""
        key = hashlib.sha256(f"{tuple(image.shape)}".encode() + image.contiguous().numpy().tobytes()).digest()
        if key not in self._seen:
            prepared = self._prepared(self._presentable(image))
            assert prepared is not None
            embeds, extra = self._transformer.preprocess_embed(prepared, device=self._device)
            self._seen[key] = Sight(embeds.reshape(1, -1, embeds.shape[-1]).to(self._device, torch.float32), extra)
        self._seen.move_to_end(key)
        while len(self._seen) > 1 and sum(sight.size for sight in self._seen.values()) > REMEMBERED:
            self._seen.popitem(last=False)
        return self._seen[key]

    def beside(self, sights: Sequence[Sight], starts: Sequence[int], embeds: Tensor) -> dict[str, Any]:
        """Return what the text model takes in addition to embeddings [1, L, H] with pictures at `starts`."""
        info = [
            {"type": "image", "index": start, "size": sight.embeds.shape[1], "extra": sight.extra}
            for start, sight in zip(starts, sights, strict=True)
        ]
        found: dict[str, Any] = {"embeds_info": info}
        if hasattr(self._transformer, "build_image_inputs"):
            names = ("position_ids", "visual_pos_masks", "deepstack_embeds")
            found |= zip(names, self._transformer.build_image_inputs(embeds, info), strict=True)
        elif isinstance(sights[0].extra, Tensor):  # a grid: the positions of what is seen have three axes
            found["position_ids"] = qwen_vl.qwen2vl_mrope_position_ids(info, embeds.shape[1], embeds.device)
        return found

    def _presentable(self, image: Tensor) -> Tensor:
        """Return a picture of a shape that every one of the engine's preparations takes, without cutting any of it."""
        import numpy

        picture = presentable(image)
        if (shrink := (MOST_PIXELS / (picture.width * picture.height)) ** 0.5) < 1:
            picture = picture.resize((max(round(picture.width * shrink), 1), max(round(picture.height * shrink), 1)))
        if side := getattr(self._transformer, "image_size", 0):  # it would see the middle of others
            picture = picture.resize((side, side))
        return torch.from_numpy(numpy.array(picture)).float() / 255

    def _prepared(self, image: Tensor) -> dict[str, Any] | None:
        """Return a picture as the engine's tokenizer hands it to the model; None if it takes none."""
        batch = image[None]
        options = {"images": [batch], "image": batch, "skip_template": False, "min_length": 1}
        tokens = self._tokenizer.tokenize_with_weights("a", **options)
        found = [token[0] for rows in tokens.values() for row in rows for token in row if isinstance(token[0], dict)]
        return next((dict(each) for each in found if each.get("type") == "image"), None)


def towers_loaded(model: torch.nn.Module) -> bool:
    """Return whether every vision tower in a text encoder, of which there may be none, has weights."""
    return all(_is_loaded(tower) for module in model.modules() for tower in _towers(module))


def _towers(module: torch.nn.Module) -> list[torch.nn.Module]:
    return [tower for name in _TOWERS if isinstance(tower := getattr(module, name, None), torch.nn.Module)]


def _is_loaded(tower: torch.nn.Module) -> bool:
    """Return whether a vision tower has weights: where a file has none, the engine leaves them as they come."""
    scales = [value for name, value in tower.named_parameters() if value.dim() == 1 and name.endswith("weight")]
    if not scales or any(value.is_meta for value in scales):
        return False
    return all(bool(value.isfinite().all()) for value in scales) and any(bool(value.any()) for value in scales)


class SeeingPromptWriter(PromptWriter):
    """Writes prompts in which a picture takes as many places as it has embeddings.

    Args:
        tokenizer: The tokenizer.
        config: The pack's settings of the model.
        sight: The model's eyes.
    """

    tokenizer: StockTokenizer  # type: ignore[assignment]  # it has what is used

    def __init__(self, tokenizer: StockTokenizer, config: LanguageModelConfig, sight: StockSight) -> None:
        self.sight = sight
        super().__init__(tokenizer, config)  # type: ignore[arg-type]

    def _chat_template(self) -> ChatTemplate:
        return ChatTemplate(self.tokenizer, shows_pictures=True)

    def _begun(self, turns: Sequence[Turn]) -> tuple[list[int], dict[str, Tensor]]:
        ids: list[int] = []
        shown = [s.pixels for turn in turns if turn.role == "user" for s in turn.segments if isinstance(s, Picture)]
        left = iter(shown)
        for number in self._tokens(self._rendered(turns)):
            repeats = self.sight.look(next(left)).embeds.shape[1] if number == self.tokenizer.picture_id else 1
            ids += [number] * repeats
        return ids, {str(place): image for place, image in enumerate(shown)}

    def sights(self, prompt: Prompt) -> tuple[list[Sight], list[int]]:
        """Return the pictures of a prompt, and where they start."""
        sights = [self.sight.look(image) for image in prompt.inputs.values()]
        starts, place, picture = [], 0, self.tokenizer.picture_id
        for sight in sights:
            assert picture is not None
            place = prompt.ids.index(picture, place)
            starts.append(place)
            place += sight.embeds.shape[1]
        return sights, starts
