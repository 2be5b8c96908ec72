"""Opens the models that a recipe names, and the adapter to begin with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..adapter.auto import load_adapter
from ..adapter.config import HEAD_WIDTH, M3AdapterConfig
from ..adapter.m3_adapter import M3Adapter
from ..adapter.new_adapter import new_adapter
from ..adapter.vision_encoder import VisionEncoder
from ..arguments import mendable
from ..diffusion.auto import load_decoder
from ..language.auto import load_language_model
from ..weights.starter import STARTER
from . import options
from .loop import accelerator, native_bfloat16
from .models_at_work import Models
from .sharding import asked_for

if TYPE_CHECKING:
    from .recipe import Recipe

# What an adapter to start from must have in common with one for these models.
OUTER = ("llm_width", "vision_width", "vision_levels", "embed_width", "pooled_width")
STARTER_PARTS = {"language": "language_model", "vision": "vision_encoder", "decoder": "decoder", "adapter": ""}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def place_of(text: str, part: str) -> Path:
    """Return the path of a model that a recipe names; "starter" is the one that comes with the library."""
    if text == "starter":
        return STARTER / STARTER_PARTS[part] if part != "adapter" else STARTER / "adapter.safetensors"
    return Path(text)


def precision(recipe: Recipe) -> str:
    """Return the name of the dtype that is computed in."""
    if recipe.run.precision != "auto":
        return recipe.run.precision
    return "bfloat16" if native_bfloat16() else "float32"


def compute_in(recipe: Recipe) -> Callable[[], AbstractContextManager[None]]:
    """Return what makes the context in which models compute."""
    name = precision(recipe)
    if name == "float32":
        return nullcontext
    return partial(torch.autocast, accelerator().device.type, DTYPES[name])  # type: ignore[return-value]


def open_models(recipe: Recipe) -> Models:
    """Open the models of a recipe, and the adapter to begin with.

    Raises:
        UserError: One cannot be read, or they do not fit together.
    """
    given, device = recipe.models, accelerator().device
    first = torch.device("cpu") if recipe.run.offload and not given.quantization else device
    kind: Any = {"auto": None, **DTYPES}
    paths = {name: place_of(getattr(given, name), name) for name in STARTER_PARTS}
    with mendable(), options.opened("models.language", paths["language"]):
        language = load_language_model(
            paths["language"],
            dtype=kind[given.language_dtype],
            quantization=given.quantization or None,  # type: ignore[arg-type]
            device="cpu" if asked_for() else first,  # the layers are divided one after the other
        )
    language.model.requires_grad_(False)
    with options.opened("models.vision", paths["vision"]):
        vision = VisionEncoder.from_pretrained(paths["vision"], device=first)
    painted_in = kind[given.decoder_dtype]
    if painted_in is None and device.type != "cpu":
        painted_in = DTYPES.get(precision(recipe))
    with options.opened("models.decoder", paths["decoder"]):
        decoder = load_decoder(paths["decoder"], dtype=painted_in, device=first)
    adapter = open_adapter(recipe, language, vision, decoder).to(device)
    layers: tuple[nn.Module, ...] = ()
    if recipe.run.checkpointing:
        decoder.unet.enable_gradient_checkpointing()
        layers = recomputed_layers(language.model)
    return Models(language, vision, decoder, adapter, device, compute_in(recipe), recipe.run.offload, recomputed=layers)


def recomputed_layers(model: Any) -> tuple[nn.Module, ...]:
    """Switch gradient checkpointing of a language model on, and return the layers that do it in training mode."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    if not getattr(model, "supports_gradient_checkpointing", False):
        return ()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    return tuple(layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer))


def open_adapter(recipe: Recipe, language: Any, vision: VisionEncoder, decoder: Any) -> M3Adapter:
    """Open the adapter to begin with, or make a new one.

    Raises:
        UserError: It is for other models.
    """
    given = recipe.models
    width: Any = {"width": given.width, "num_blocks": given.blocks}
    if not given.adapter and given.anchor:
        return new_adapter(language, decoder, vision, **width, seed=recipe.run.seed)
    fitting = M3AdapterConfig(
        llm_width=language.hidden_size,
        vision_width=vision.hidden_size,
        vision_levels=len(vision.levels),
        embed_width=decoder.embed_width,
        pooled_width=decoder.pooled_width,
        num_tokens=decoder.num_tokens,
        **width,
        num_heads=given.width // HEAD_WIDTH,
    )
    if not given.adapter:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(recipe.run.seed)
            return M3Adapter(fitting)
    path = place_of(given.adapter, "adapter")
    with options.opened("models.adapter", path):
        adapter = load_adapter(path)
        options.check_same(adapter.config, fitting, *OUTER)
    return adapter
