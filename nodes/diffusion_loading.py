"""Loads a diffusion model of the user's own as the decoder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import comfy.model_management
import comfy.sd1_clip
import torch
from comfy_api.latest import io

from ..m3adapter.diffusion.schedulers import AS_THE_MODEL_SAYS, PREDICTIONS, SCHEDULERS, SPACINGS
from ..m3adapter.diffusion.vae_loading import BUILT_IN
from . import folders, wires
from .errors import complaint, names_node, with_packages
from .loading import AUTO, TYPES
from .memory import decoder_handle, expect, offload_device

TOKENIZER = Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer"  # CLIP's, which single files come without


def _is_checkpoint(path: Path) -> bool:
    return path.suffix.lower() == ".safetensors" and path.is_file()


def _is_folder(path: Path) -> bool:
    return (path / "model_index.json").is_file()


MODELS = folders.Shelf({"checkpoints": _is_checkpoint, "diffusers": _is_folder, "m2chat": _is_folder})


VAES = folders.Shelf({"vae": lambda path: _is_checkpoint(path) or (path / "config.json").is_file()})


def check_model(name: str, *, own_vae: bool) -> None:
    """Raise ValueError or OSError unless the name is that of an SDXL model, with its VAE if `own_vae`."""
    from ..m3adapter.weights.layouts import check_decoder

    check_decoder(MODELS.find(name), own_vae=own_vae)


def check_vae(name: str) -> None:
    """Raise ValueError or OSError unless the name is that of a VAE, or stands for the model's own."""
    from ..m3adapter.diffusion.vae_loading import check_vae

    if name != BUILT_IN:
        check_vae(VAES.find(name))


def choose_dtype(name: str, parameters: int) -> torch.dtype:
    """Return the data type for a UNet of so many parameters: the chosen one, or what ComfyUI would choose here."""
    if name != AUTO:
        return TYPES[name]
    device = comfy.model_management.get_torch_device()
    known = [torch.float16, torch.bfloat16, torch.float32]
    found = comfy.model_management.unet_dtype(device=device, model_params=parameters, supported_dtypes=known)
    return found if found in known else torch.float16  # --fp8_e4m3fn-unet and its like: diffusers has no such layers


class LoadDecoder(io.ComfyNode):
    """Loads an SDXL model as the decoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_LoadDecoder",
            display_name="Load SDXL Decoder",
            category="M2Chat/loaders",
            description="Loads any SDXL model as the decoder: base, refiner or fine-tune, as a file or a "
            "diffusers folder.",
            search_aliases=["sdxl", "refiner", "checkpoint loader", "diffusers loader", "decoder"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=MODELS.choices(),
                    tooltip="A .safetensors file in models/checkpoints, or a diffusers folder in models/diffusers.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=[AUTO, *TYPES],
                    default=AUTO,
                    tooltip="The data type of the weights. auto chooses for this machine. fp32 takes twice the "
                    "memory of fp16.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=list(SCHEDULERS),
                    default=SCHEDULERS[0],
                    tooltip="How noise is removed step by step. A refiner uses the scheduler of the model that "
                    "it refines.",
                ),
                io.Boolean.Input(
                    "vae_tiling",
                    default=False,
                    advanced=True,
                    tooltip="Passes large pictures through the VAE in tiles: needs much less memory, but may "
                    "leave faint seams.",
                ),
                io.Combo.Input(
                    "spacing",
                    options=list(SPACINGS),
                    default=AS_THE_MODEL_SAYS,
                    optional=True,
                    tooltip="Which steps of the schedule to take. Few-step models (Turbo, Lightning) need trailing.",
                ),
                io.Combo.Input(
                    "prediction",
                    options=list(PREDICTIONS),
                    default=AS_THE_MODEL_SAYS,
                    optional=True,
                    advanced=True,
                    tooltip="What the model predicts, if its file does not say: x0 for Lightning in one step.",
                ),
                io.Combo.Input(
                    "vae",
                    options=[BUILT_IN, *VAES.names()],
                    default=BUILT_IN,
                    optional=True,
                    tooltip="The model's own VAE, or an SDXL one from models/vae (a file, or a diffusers folder).",
                ),
                io.Combo.Input(
                    "vae_dtype",
                    options=[AUTO, *TYPES],
                    default=AUTO,
                    optional=True,
                    advanced=True,
                    tooltip="The data type of the VAE. fp32 if others overflow; auto: the same as dtype, or "
                    "what the VAE asks for.",
                ),
            ],
            outputs=[
                wires.Decoder.Output(
                    display_name="decoder", tooltip="For Paint Picture, as the decoder or as the refiner."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, model: str | None = None) -> bool | str:
        """Refuse anything but SDXL models before anything runs; only the header of a file is read.

        Whether it needs a VAE depends on the input `vae`, so `execute` checks both.
        """
        return complaint(partial(check_model, own_vae=False), model)

    @classmethod
    def fingerprint_inputs(cls, model: str | None, vae: str | None = BUILT_IN, **others: object) -> str:
        """Return a text that changes when the files of the model or of the VAE do."""
        return f"{MODELS.fingerprint(model)} {'' if vae == BUILT_IN else VAES.fingerprint(vae)}"

    @classmethod
    @names_node
    def execute(
        cls,
        model: str,
        dtype: str,
        scheduler: str,
        vae_tiling: bool,
        spacing: str = AS_THE_MODEL_SAYS,
        prediction: str = AS_THE_MODEL_SAYS,
        vae: str = BUILT_IN,
        vae_dtype: str = AUTO,
    ) -> io.NodeOutput:
        """Load it into main memory; ComfyUI moves it to the device when it is used."""
        path = MODELS.find(model)
        with with_packages():
            check_model(model, own_vae=vae == BUILT_IN)
            check_vae(vae)
            from ..m3adapter.diffusion.auto import load_decoder
            from ..m3adapter.diffusion.loading import count_parameters, loaded_bytes

            kind, device = choose_dtype(dtype, count_parameters(path)), offload_device()
            expect(model, loaded_bytes(path, kind), device, comfy.model_management.get_torch_device())
            decoder = load_decoder(
                path,
                dtype=kind,
                device=device,
                scheduler=scheduler,
                tokenizer=TOKENIZER,
                spacing=spacing,
                prediction=prediction,
                vae=None if vae == BUILT_IN else VAES.find(vae),
                vae_dtype=TYPES.get(vae_dtype),
                float8=True,
            )
        decoder.split_vae(tiling=vae_tiling)
        return io.NodeOutput(decoder_handle(decoder))


NODES = [LoadDecoder]
