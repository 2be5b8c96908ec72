"""Rows about parts of real size, on a GPU: a language model of 8 billion weights, a fresh M³-Adapter, and SDXL base.

All of them have random weights, since time and memory do not depend on their values. One part is in memory at a time.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from ..adapter.config import M3AdapterConfig
from ..adapter.features import SlotFeatures
from ..adapter.m3_adapter import M3Adapter
from ..compat import cache_of, with_cache
from ..diffusion.latents import to_pictures
from ..diffusion.loading import CONFIGS
from .rows import Bench, Group, NotHere, Row
from .timing import Figure, Rounds, figure, interleave, medians, ratio

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
SLOT = 476  # tokens of a slot at turn 1, with the instructions for models that were never trained for the markup
CAPTION, ANSWER = 48, 128  # tokens of a slot that the adapter reads
NEW_TOKENS = 64  # of a reply
REFERENCES, LEVELS, PATCHES, VISION = 2, 3, 256, 1024  # two pictures by CLIP ViT-L/14
STEPS, PIXELS = 25, 1024

LLAMA: dict[str, Any] = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
ADAPTER: dict[str, Any] = {"width": 768, "num_blocks": 4, "num_heads": 12}
# Toy sizes of each part.
SMALL_LLAMA = {name: value // 64 for name, value in LLAMA.items()} | {
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
SMALL_ADAPTER: dict[str, Any] = {"width": 32, "num_blocks": 1, "num_heads": 2}
SMALL_UNET = {
    "block_out_channels": (32, 32, 64),
    "transformer_layers_per_block": (1, 1, 1),
    "attention_head_dim": (1, 1, 2),
    "cross_attention_dim": 64,
    "projection_class_embeddings_input_dim": 6 * 256 + 32,
}
SMALL_VAE = {"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1}

REAL = Group(
    (
        Row("real_reply_over_slot", f"8 B weights: reply of {NEW_TOKENS} tokens / slot of {SLOT} tokens", "x", "wall"),
        Row(
            "real_picture_seconds", f"SDXL size: a picture of {PIXELS} × {PIXELS} pixels in {STEPS} steps", "s", "wall"
        ),
        Row("real_adapter_share", "SDXL size: the adapter's share of slot, fusing and painting", "%", "wall"),
        Row("real_vae_over_step", "SDXL size: decoding by the VAE / one step with guidance", "x", "wall"),
        Row("real_peak_gb", "SDXL size: the most memory that one part takes at work", "GB", "count"),
    ),
    lambda bench: real_size(bench),
)


def real_size(bench: Bench) -> dict[str, Figure | str]:
    """Measure all parts in the order in which a picture needs them; NotHere without a GPU."""
    if torch.device(bench.device).type == "cpu":
        raise NotHere("it needs a GPU with some 20 GB: name it with --device")
    return Parts(bench).measure()


class Parts:
    """Measures one part after the other.

    Args:
        bench: Says where, with which weights, and how often.
        toy: Whether all parts are tiny, to try out the measuring itself.
    """

    def __init__(self, bench: Bench, *, toy: bool = False) -> None:
        self.device, self.dtype, self.toy = torch.device(bench.device), TYPES[bench.dtype], toy
        self.rounds = bench.rounds(9, 3)
        self.side = 64 if toy else PIXELS
        self.peaks: dict[str, float] = {}

    def measure(self) -> dict[str, Figure | str]:
        """Return the figures of all rows."""
        times: Rounds = {}
        for part in (self._language_model, self._adapter, self._unet, self._vae):
            times |= part()
        pictures, shares = [], []
        for slot, fuse, step, decode in zip(*(times[name] for name in ("slot", "fuse", "step", "decode")), strict=True):
            pictures.append(slot + fuse + STEPS * step + decode)
            shares.append(100 * fuse / pictures[-1])
        peak = max(self.peaks.values(), default=0.0)
        return {
            "real_reply_over_slot": ratio(times, "reply", "slot"),
            "real_picture_seconds": figure(pictures, medians(times, "slot", "fuse", "step", "decode")),
            "real_adapter_share": figure(shares),
            "real_vae_over_step": ratio(times, "decode", "step"),
            "real_peak_gb": Figure(peak, (peak, peak), 1, self.peaks)
            if self.peaks
            else "this device does not count its memory",
        }

    def _random(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=self.device, dtype=self.dtype)

    def _language_model(self) -> Rounds:
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(**(SMALL_LLAMA if self.toy else LLAMA), tie_word_embeddings=False)
        ids = torch.randint(config.vocab_size, (1, 16 if self.toy else SLOT), device=self.device)

        def reply(model: Any) -> None:
            out = model(input_ids=ids, use_cache=True, logits_to_keep=1)
            for _ in range(2 if self.toy else NEW_TOKENS):
                chosen = out.logits[:, -1:].argmax(-1)
                out = model(input_ids=chosen, use_cache=True, **with_cache(model, cache_of(out)))

        def slot(model: Any) -> None:
            model.base_model(input_ids=ids, output_hidden_states=True, use_cache=False)

        return self._timed("language model", lambda: LlamaForCausalLM(config), {"reply": reply, "slot": slot})

    def _adapter(self) -> Rounds:
        unet, llama = self.config("unet"), SMALL_LLAMA if self.toy else LLAMA
        config = M3AdapterConfig(
            llm_width=llama["hidden_size"],
            vision_width=VISION,
            vision_levels=LEVELS,
            embed_width=unet["cross_attention_dim"],
            pooled_width=unet["projection_class_embeddings_input_dim"] - 6 * unet["addition_time_embed_dim"],
            **(SMALL_ADAPTER if self.toy else ADAPTER),
        )
        lengths = {"context": CAPTION + config.num_image_tokens, "text": CAPTION + ANSWER}
        masks: dict[str, Any] = {
            f"{name}_mask": torch.ones(1, n, dtype=torch.bool, device=self.device) for name, n in lengths.items()
        }
        features = SlotFeatures(
            context=self._random(1, lengths["context"], config.llm_width),
            text=self._random(1, lengths["text"], config.llm_width),
            **masks,
            vision=self._random(1, REFERENCES, LEVELS, PATCHES, VISION),
            vision_mask=torch.ones(1, REFERENCES, dtype=torch.bool, device=self.device),
            captions=("a fox",),
        )
        return self._timed("adapter", lambda: M3Adapter(config), {"fuse": lambda model: model(features)})

    def _unet(self) -> Rounds:
        from diffusers import UNet2DConditionModel

        config = self.config("unet")
        pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        latents = self._random(2, config["in_channels"], self.side // 8, self.side // 8)
        embeds = self._random(2, 77, config["cross_attention_dim"])
        added = {"text_embeds": self._random(2, pooled), "time_ids": self._random(2, 6)}

        def step(model: Any) -> None:
            model(latents, 500, encoder_hidden_states=embeds, added_cond_kwargs=added)

        return self._timed("UNet", lambda: UNet2DConditionModel.from_config(config), {"step": step})

    def _vae(self) -> Rounds:
        from diffusers import AutoencoderKL

        config = self.config("vae")
        latents = self._random(1, config["latent_channels"], self.side // 8, self.side // 8)

        def decode(model: Any) -> None:
            to_pictures(model, latents)

        return self._timed("VAE", lambda: AutoencoderKL.from_config(config), {"decode": decode})

    def config(self, part: str) -> dict[str, Any]:
        """Return the configuration of SDXL's "unet" or "vae"."""
        from diffusers import AutoencoderKL, UNet2DConditionModel

        model_class, small = {"unet": (UNet2DConditionModel, SMALL_UNET), "vae": (AutoencoderKL, SMALL_VAE)}[part]
        return {**model_class.load_config(CONFIGS / "base" / part), **(small if self.toy else {})}

    @torch.no_grad()
    def _timed(
        self, part: str, make: Callable[[], torch.nn.Module], calls: Mapping[str, Callable[[Any], Any]]
    ) -> Rounds:
        with _default_dtype(self.dtype), self.device:
            model = make().eval()
        module = torch.get_device_module(self.device)
        if counts := hasattr(module, "reset_peak_memory_stats"):
            module.reset_peak_memory_stats(self.device)
        sides = {name: partial(_with_model, call, model) for name, call in calls.items()}
        times = interleave(sides, self.rounds, clock="wall", synchronize=self._synchronize)
        if counts:
            self.peaks[part] = module.max_memory_allocated(self.device) / 1e9
        del model, sides
        gc.collect()
        if counts:
            module.empty_cache()
        return times

    def _synchronize(self) -> None:
        if self.device.type != "cpu":
            torch.get_device_module(self.device).synchronize()


def _with_model(call: Callable[[Any], Any], model: Any, number: int) -> None:
    call(model)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


GROUPS = (REAL,)
