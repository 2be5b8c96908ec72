"""What `save_pretrained` writes, `from_pretrained` opens; files of the version before open too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import toys
from m3adapter.adapter.auto import load_adapter, save_adapter
from m3adapter.adapter.config import OLD_NAMES, M3AdapterConfig
from m3adapter.adapter.m3_adapter import M3Adapter
from m3adapter.adapter.vision_encoder import VisionEncoder
from m3adapter.diffusion.auto import load_decoder
from m3adapter.diffusion.decoder import DiffusionDecoder
from m3adapter.ip_adapter.image_prompt import ImageGate, ImagePrompt, Reference
from m3adapter.ip_adapter.ip_adapter import IPAdapter, cross_attentions, new_base
from tools import environment

FIXTURES = Path(__file__).parent / "fixtures"


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    expected, state = one.state_dict(), other.state_dict()
    return state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", ["folder", "adapter.safetensors"])
def test_an_adapter_comes_back_from_a_folder_and_from_a_file(tmp_path: Path, name: str) -> None:
    saved = toys.adapter(config=toys.config(num_tokens=5, num_heads=2, anchor=True))
    saved.save_pretrained(tmp_path / name)
    for opened in (M3Adapter.from_pretrained(tmp_path / name), load_adapter(tmp_path / name)):
        assert type(opened) is M3Adapter and opened.config == saved.config and same(saved, opened)


def test_a_vision_encoder_comes_back(tmp_path: Path) -> None:
    saved = toys.vision_encoder()
    saved.save_pretrained(tmp_path / "vision")
    opened = VisionEncoder.from_pretrained(tmp_path / "vision")
    assert type(opened) is VisionEncoder and same(saved.model, opened.model)
    assert (opened.levels, opened.mean, opened.std) == (saved.levels, saved.mean, saved.std)


@pytest.mark.slow
@pytest.mark.parametrize("refiner", [False, True])
def test_a_decoder_comes_back_as_its_own_class(tmp_path: Path, refiner: bool) -> None:
    folder = toys.save_decoder(tmp_path / "first")
    saved = DiffusionDecoder.from_pretrained(toys.save_refiner(tmp_path, folder) if refiner else folder)
    saved.save_pretrained(tmp_path / "again")
    for opened in (DiffusionDecoder.from_pretrained(tmp_path / "again"), load_decoder(tmp_path / "again")):
        assert type(opened) is DiffusionDecoder and opened.is_refiner == refiner
        assert same(saved.unet, opened.unet) and same(saved.vae, opened.vae)
        assert opened.pipeline.scheduler.config == saved.pipeline.scheduler.config


def test_a_decoder_opens_folders_alone_and_is_saved_without_image_prompts(tmp_path: Path) -> None:
    folder = toys.save_decoder(tmp_path)
    decoder = DiffusionDecoder.from_pretrained(folder)
    file = toys.save_single_file(tmp_path / "model.safetensors", folder)
    with pytest.raises(ValueError, match="model.safetensors is a file .* open it with load_decoder"):
        DiffusionDecoder.from_pretrained(file)
    adapter = new_base(8, decoder.embed_width, list(cross_attentions(decoder.unet).values()))
    tokens = torch.zeros(4, decoder.embed_width)
    prompted = decoder.with_image_prompt(ImagePrompt((Reference(adapter, tokens, tokens),), ImageGate()))
    with pytest.raises(ValueError, match="with image prompts cannot be saved"):
        prompted.save_pretrained(tmp_path / "prompted")


# Fixtures of the version before (0.1)


def test_an_adapter_of_the_version_before_opens() -> None:
    adapter = M3Adapter.from_pretrained(FIXTURES / "adapter-0.1.safetensors")
    assert adapter.config == M3AdapterConfig(
        llm_width=4, vision_width=4, embed_width=6, pooled_width=4, vision_levels=2, num_tokens=5, width=6,
        num_blocks=1, num_heads=3, num_image_tokens=2, references=3, anchor=True, open_gate=0.25,
    )  # fmt: skip
    stored = load_file(FIXTURES / "adapter-0.1.safetensors")
    assert torch.equal(adapter.gate_projection.weight, stored["gate.weight"].float())


def test_the_version_before_opens_what_is_written_today(tmp_path: Path) -> None:
    """It asks for the old names in the header, and for the weights by the names that they have always had."""
    before = FIXTURES / "adapter-0.1.safetensors"
    save_adapter(tmp_path / "a.safetensors", M3Adapter.from_pretrained(before), dtype=torch.float16)
    with safe_open(before, "pt") as old, safe_open(tmp_path / "a.safetensors", "pt") as new:
        assert set(old.keys()) == set(new.keys()) and all(
            torch.equal(old.get_tensor(name), new.get_tensor(name))
            for name in old.keys()  # noqa: SIM118 (not a dict)
        )
        old_config, new_config = (json.loads(file.metadata()["config"]) for file in (old, new))
        assert old.metadata()["format"] == new.metadata()["format"]
    assert old_config.items() <= new_config.items() and new_config.keys() - old_config.keys() == OLD_NAMES.keys()


def test_an_ip_adapter_of_the_version_before_opens(tmp_path: Path) -> None:
    before = FIXTURES / "ip-adapter-0.1.safetensors"
    adapter = IPAdapter.from_pretrained(before)
    assert (adapter.config.kind, adapter.config.num_tokens, adapter.config.layer_widths) == ("base", 4, (16, 32, 16))
    adapter.save_pretrained(tmp_path)
    again = load_file(tmp_path / "ip_adapter.safetensors")
    assert again.keys() == load_file(before).keys()


# What importing the decoder loads


@pytest.mark.slow
def test_the_decoder_is_imported_without_adapters_and_loaders() -> None:
    code = (
        "import sys, m3adapter.diffusion, m3adapter.diffusion.decoder;"
        "print(*sorted(name for name in sys.modules if name.startswith('m3adapter.')))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=environment.REPO, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    loaded = result.stdout.split()
    assert "m3adapter.diffusion.decoder" in loaded
    unwanted = ("m3adapter.adapter", "m3adapter.language", "m3adapter.diffusion.loading", "m3adapter.diffusion.auto")
    assert [name for name in loaded if name.startswith(unwanted)] == []
