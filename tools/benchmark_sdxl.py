"""Measure the time and memory that the parts of an M²Chat of real size take.

    python -m tools.benchmark_sdxl --device cuda

A language model of 8 billion weights, a fresh M3-Adapter and SDXL base, all of them with random weights, since time and
memory do not depend on their values. One part is in memory at a time. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from m3adapter.adapter.config import M3AdapterConfig
from m3adapter.adapter.features import SlotFeatures
from m3adapter.adapter.m3_adapter import M3Adapter
from m3adapter.diffusion.latents import to_pictures
from m3adapter.diffusion.loading import CONFIGS

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
CAPTION, ANSWER = 48, 256  # tokens
REFERENCES, LEVELS, PATCHES, VISION = 2, 3, 256, 1024  # two pictures by CLIP ViT-L/14

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


@dataclass(frozen=True)
class Measurement:
    """The time and memory that a part takes.

    Attributes:
        part: Its name.
        parameters: Number of its weights.
        weights: Their size in bytes.
        seconds: Median time of a call.
        peak: Peak memory during the calls in bytes; None if the device does not count it.
    """

    part: str
    parameters: int
    weights: int
    seconds: float
    peak: int | None


class Bench:
    """Measures one part after the other.

    Args:
        options: Options of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        """Take the device, the dtype and the size."""
        self.device, self.dtype = torch.device(options.device), TYPES[options.dtype]
        self.repeats, self.toy = options.repeats, options.toy
        self.side = 64 if options.toy else options.size

    def run(self) -> list[Measurement]:
        """Measure all parts in the order in which a picture needs them."""
        return [self._language_model(), self._adapter(), self._unet(), self._vae()]

    def _random(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=self.device, dtype=self.dtype)

    def _language_model(self) -> Measurement:
        from transformers import LlamaConfig, LlamaModel

        config = LlamaConfig(**(SMALL_LLAMA if self.toy else LLAMA))
        tokens = self._random(1, CAPTION + ANSWER, config.hidden_size)

        def call(model: Any) -> None:
            model(inputs_embeds=tokens, output_hidden_states=True, use_cache=False)

        return self._measure("language model, one slot", lambda: LlamaModel(config), call)

    def _adapter(self) -> Measurement:
        unet, llama = self._config("unet"), SMALL_LLAMA if self.toy else LLAMA
        config = M3AdapterConfig(
            llm_width=llama["hidden_size"],
            vision_width=VISION,
            vision_levels=LEVELS,
            embed_width=unet["cross_attention_dim"],
            pooled_width=unet["projection_class_embeddings_input_dim"] - 6 * unet["addition_time_embed_dim"],
            **(SMALL_ADAPTER if self.toy else ADAPTER),
        )
        lengths = {"context": CAPTION + config.num_image_tokens, "text": CAPTION + ANSWER}
        masks = {f"{name}_mask": torch.ones(1, n, dtype=torch.bool, device=self.device) for name, n in lengths.items()}
        features = SlotFeatures(
            **{name: self._random(1, length, config.llm_width) for name, length in lengths.items()},
            **masks,
            vision=self._random(1, REFERENCES, LEVELS, PATCHES, VISION),
            vision_mask=torch.ones(1, REFERENCES, dtype=torch.bool, device=self.device),
            captions=("a fox",),
        )
        return self._measure("M3-Adapter", lambda: M3Adapter(config), lambda model: model(features))

    def _unet(self) -> Measurement:
        from diffusers import UNet2DConditionModel

        config = self._config("unet")
        pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        latents = self._random(2, config["in_channels"], self.side // 8, self.side // 8)
        embeds = self._random(2, 77, config["cross_attention_dim"])
        added = {"text_embeds": self._random(2, pooled), "time_ids": self._random(2, 6)}

        def call(model: Any) -> None:
            model(latents, 500, encoder_hidden_states=embeds, added_cond_kwargs=added)

        return self._measure("UNet, one step with guidance", lambda: UNet2DConditionModel.from_config(config), call)

    def _vae(self) -> Measurement:
        from diffusers import AutoencoderKL

        config = self._config("vae")
        latents = self._random(1, config["latent_channels"], self.side // 8, self.side // 8)

        def call(model: Any) -> None:
            to_pictures(model, latents)

        return self._measure("VAE, decoding", lambda: AutoencoderKL.from_config(config), call)

    def _config(self, part: str) -> dict[str, Any]:
        from diffusers import AutoencoderKL, UNet2DConditionModel

        model_class, small = {"unet": (UNet2DConditionModel, SMALL_UNET), "vae": (AutoencoderKL, SMALL_VAE)}[part]
        return {**model_class.load_config(CONFIGS / "base" / part), **(small if self.toy else {})}

    @torch.no_grad()
    def _measure(self, part: str, make: Callable[[], torch.nn.Module], call: Callable[[Any], Any]) -> Measurement:
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            with self.device:
                model = make().eval()
        finally:
            torch.set_default_dtype(before)
        weights = list(model.parameters())
        call(model)  # the first call also chooses kernels
        if counts := self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        times = []
        for _ in range(self.repeats):
            self._synchronize()
            started = time.perf_counter()
            call(model)
            self._synchronize()
            times.append(time.perf_counter() - started)
        measurement = Measurement(
            part,
            sum(weight.numel() for weight in weights),
            sum(weight.nbytes for weight in weights),
            statistics.median(times),
            torch.cuda.max_memory_allocated(self.device) if counts else None,
        )
        del model, weights
        gc.collect()
        if counts:
            torch.cuda.empty_cache()
        return measurement

    def _synchronize(self) -> None:
        if self.device.type != "cpu":
            getattr(torch, self.device.type).synchronize()


def device_name(device: torch.device) -> str:
    """Return the name of a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.processor() or platform.machine()}, {torch.get_num_threads()} threads)"


def table(options: argparse.Namespace, measurements: Sequence[Measurement]) -> str:
    """Return the figures in Markdown, with the time of a whole picture."""
    language, adapter, unet, vae = (part.seconds for part in measurements)
    whole = language + adapter + options.steps * unet + vae
    device, side = torch.device(options.device), 64 if options.toy else options.size
    lines = [
        f"{device_name(device)}, {options.dtype}, torch {torch.__version__}, {side} x {side} pixels"
        + (", toy size" if options.toy else ""),
        "",
        "| part | parameters (M) | weights (GB) | time (ms) | peak memory (GB) |",
        "|---|---|---|---|---|",
    ]
    for part in measurements:
        peak = "not counted" if part.peak is None else f"{part.peak / 1e9:.2f}"
        millions, size, time_ms = part.parameters / 1e6, part.weights / 1e9, part.seconds * 1e3
        lines.append(f"| {part.part} | {millions:.1f} | {size:.2f} | {time_ms:.1f} | {peak} |")
    return "\n".join(
        [
            *lines,
            "",
            f"A picture of {options.steps} steps takes {whole:.2f} s; "
            f"the M3-Adapter's share of it is {100 * adapter / whole:.2f} %.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark_sdxl", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps, ... (default: %(default)s)")
    parser.add_argument("--dtype", choices=TYPES, default="bf16", help="of the weights (default: %(default)s)")
    parser.add_argument("--size", type=int, default=1024, help="side of the picture in pixels (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=25, help="denoising steps of the picture (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="calls of each part (default: %(default)s)")
    parser.add_argument("--toy", action="store_true", help="small models and pictures, to see whether it runs")
    options = parser.parse_args(arguments)
    print(table(options, Bench(options).run()))


if __name__ == "__main__":
    main()
