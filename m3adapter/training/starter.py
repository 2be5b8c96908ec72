"""Puts the trained parts together as the starter: one folder, float16, safetensors only."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from ..checkpoint import load_adapter, save_adapter
from ..diffusion import DiffusionDecoder
from ..language_model import LanguageModel
from ..vision_encoder import VisionEncoder

LEVELS = (1, 2, 4)  # depths of the vision encoder that the adapter sees


def main(argv: list[str] | None = None) -> None:
    """`python -m m3adapter train starter`: see `--help`."""
    parser = argparse.ArgumentParser(prog="m3adapter train starter", description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--language", type=Path, required=True, help="folder of the language model")
    parser.add_argument("--vision", type=Path, required=True, help="folder of the vision encoder")
    parser.add_argument("--decoder", type=Path, required=True, help="folder of the decoder")
    parser.add_argument("--vae", type=Path, help="a newer autoencoder with the same latents")
    parser.add_argument("--adapter", type=Path, required=True, help="adapter checkpoint")
    args = parser.parse_args(argv)
    if args.output.exists():
        shutil.rmtree(args.output)
    args.output.mkdir(parents=True)
    language = LanguageModel.from_pretrained(args.language)
    language.model.to(torch.float16)
    if language.visual_projection is not None:
        language.visual_projection.to(torch.float16)
    language.save_pretrained(args.output / "language_model")
    vision = VisionEncoder.from_pretrained(args.vision, dtype=torch.float16)
    VisionEncoder(vision.model, LEVELS).save_pretrained(args.output / "vision_encoder")
    pipeline = DiffusionDecoder.from_pretrained(args.decoder, dtype=torch.float16).pipeline
    if args.vae:
        from diffusers import AutoencoderKL

        pipeline.vae = AutoencoderKL.from_pretrained(args.vae, torch_dtype=torch.float16)
    pipeline.save_pretrained(args.output / "decoder")
    save_adapter(args.output / "adapter.safetensors", load_adapter(args.adapter), dtype=torch.float16)
    size = sum(path.stat().st_size for path in args.output.rglob("*") if path.is_file())
    print(f"{args.output}: {size / 2**20:.1f} MiB")
