"""Assembles the trained parts as the starter: one folder, float16, safetensors only."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file

from ..adapter.auto import load_adapter, save_adapter
from ..adapter.m3_adapter import M3Adapter
from ..adapter.vision_encoder import VisionEncoder
from ..arguments import mendable
from ..diffusion.decoder import DiffusionDecoder
from ..language.auto import load_language_model
from ..language.language_model import LanguageModel
from ..weights.starter import WORLD, WORLDS
from . import options
from .worlds import add_world_option

LEVELS = (1, 2, 4)  # depths of the vision encoder that the adapter sees
# Folders in whose weights transformers 4 expects a prefix that transformers 5 no longer writes; both can read it.
PREFIXES = {
    "decoder/text_encoder": "text_model.",
    "decoder/text_encoder_2": "text_model.",
    "vision_encoder": "vision_model.",
}


def make_portable(starter: Path) -> None:
    """Rewrite a starter in place so that transformers 4 can read it and it contains no path of this machine."""
    for folder, prefix in PREFIXES.items():
        path = starter / folder / "model.safetensors"
        weights = {
            name if name.startswith((prefix, "text_projection.")) else prefix + name: value
            for name, value in load_file(path).items()
        }
        save_file(weights, path, metadata={"format": "pt"})
    for folder in (
        "decoder/tokenizer",
        "decoder/tokenizer_2",
    ):  # transformers 4 needs separate files
        model = json.loads((starter / folder / "tokenizer.json").read_text("utf-8"))["model"]
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
        write(starter / folder / "vocab.json", json.dumps(model["vocab"], ensure_ascii=False))
        write(starter / folder / "merges.txt", "\n".join(["#version: 0.2", *merges, ""]))
    for path in starter.rglob("*.json"):  # where the parts came from is private
        values = json.loads(path.read_text("utf-8"))
        if values.pop("_name_or_path", None) is not None:
            write(path, json.dumps(values, indent=2) + "\n")
    path = starter / "language_model" / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["additional_special_tokens"] = config.pop("extra_special_tokens", config.get("additional_special_tokens"))
    write(path, json.dumps(config, indent=2))


@torch.no_grad()
def strengthen(adapter: M3Adapter, factor: float) -> None:
    """Multiply the low-level feature l by `factor`, in place: a gate of 1 then does what a gate of `factor` did.

    A regression underestimates what it is uncertain of; the factor that corrects this is found with validation stories.
    The learned gate sees l through a layer norm and does not change.
    """
    for parameter in adapter.low_mlp.down.parameters():
        parameter.mul_(factor)


def write(path: Path, text: str) -> None:
    """Write a text file with the same bytes on every system."""
    path.write_bytes(text.encode("utf-8"))


def main(argv: list[str] | None = None) -> None:
    """Run `python -m m3adapter train starter`; see `--help`."""
    parser = options.parser("starter", __doc__)
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--language", type=Path, required=True, help="folder of the language model")
    parser.add_argument("--vision", type=Path, required=True, help="folder of the vision encoder")
    parser.add_argument("--decoder", type=Path, required=True, help="folder of the decoder")
    parser.add_argument("--vae", type=Path, help="a newer autoencoder with the same latents")
    parser.add_argument("--adapter", type=Path, required=True, help="adapter checkpoint")
    parser.add_argument(
        "--low-level", type=options.number(0, 100), default=1.0, metavar="X", help="factor of the low-level feature"
    )
    add_world_option(parser)
    args = parser.parse_args(argv)
    options.check_new(args.output)
    options.check_folders(args, "language", "vision", "decoder", "vae")
    options.check_files(args, "adapter")
    parts = read_parts(args)
    output = args.output.resolve()
    with mendable():
        output.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
            draft = Path(folder, "starter")
            put_together(parts, draft)
            if args.world != WORLDS[0]:
                write(draft / WORLD, json.dumps({"world": args.world}) + "\n")
            if output.is_dir():
                output.rmdir()  # fails unless it is empty
            draft.rename(output)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    print(f"{args.output}: {size / 2**20:.1f} MiB")


class Parts(NamedTuple):
    """The parts of a starter."""

    language: LanguageModel
    vision: VisionEncoder
    decoder: DiffusionDecoder
    adapter: M3Adapter


def read_parts(args: argparse.Namespace) -> Parts:
    """Read the parts that the options name.

    Raises:
        UserError: A part cannot be read.
    """
    with options.opened("language", args.language):
        language = load_language_model(args.language)
        if not (args.language / "tokenizer_config.json").is_file():
            raise ValueError("its tokenizer_config.json is missing")
    with options.opened("vision", args.vision):
        vision = VisionEncoder.from_pretrained(args.vision, dtype=torch.float16)
    with options.opened("decoder", args.decoder):
        decoder = DiffusionDecoder.from_pretrained(args.decoder, dtype=torch.float16)
    if args.vae:
        from diffusers import AutoencoderKL

        with options.opened("vae", args.vae):
            vae = AutoencoderKL.from_pretrained(
                args.vae, torch_dtype=torch.float16, local_files_only=True, trust_remote_code=False
            )
            options.check_same(vae.config, decoder.pipeline.vae.config, "latent_channels")
            decoder.pipeline.vae = vae
    with options.opened("adapter", args.adapter):
        adapter = load_adapter(args.adapter)
        strengthen(adapter, args.low_level)
    return Parts(language, vision, decoder, adapter)


def put_together(parts: Parts, folder: Path) -> None:
    """Write a starter to a new folder, in float16."""
    folder.mkdir()
    parts.language.model.half()
    if parts.language.visual_projection is not None:
        parts.language.visual_projection.to(torch.float16)
    parts.language.save_pretrained(folder / "language_model")
    VisionEncoder(parts.vision.model, LEVELS).save_pretrained(folder / "vision_encoder")
    parts.decoder.save_pretrained(folder / "decoder")
    save_adapter(folder / "adapter.safetensors", parts.adapter, dtype=torch.float16)
    make_portable(folder)
