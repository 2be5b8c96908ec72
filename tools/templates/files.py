"""The public files that the templates name: their addresses, their folders and their hashes.

The addresses are those of ComfyUI's own templates or of the release that the file comes from. Hashes are SHA-256.
"""

from __future__ import annotations

from typing import Any


def _file(name: str, directory: str, url: str, hash: str = "") -> dict[str, Any]:
    checked = {"hash": hash, "hash_type": "SHA256"} if hash else {}  # ComfyUI's own templates state none for most files
    return {"name": name, "url": url, **checked, "directory": directory}


_FACE = "https://huggingface.co"
SDXL = _file(
    "sd_xl_base_1.0.safetensors",
    "checkpoints",
    f"{_FACE}/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors",
    "31e35c80fc4829d14f90153f4c74cd59c90b779f6afe05a74cd6120b893f7e5b",
)
LORA = _file(
    "sd_xl_offset_example-lora_1.0.safetensors",
    "loras",
    f"{_FACE}/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_offset_example-lora_1.0.safetensors",
    "4852686128f953d0277d0793e2f0335352f96a919c9c16a09787d77f55cbdf6f",
)
QWEN = _file(
    "qwen_3_4b.safetensors",
    "text_encoders",
    f"{_FACE}/Comfy-Org/z_image_turbo/resolve/main/split_files/text_encoders/qwen_3_4b.safetensors",
    "6c671498573ac2f7a5501502ccce8d2b08ea6ca2f661c458e708f36b36edfc5a",
)
Z_IMAGE = _file(
    "z_image_turbo_bf16.safetensors",
    "diffusion_models",
    f"{_FACE}/Comfy-Org/z_image_turbo/resolve/main/split_files/diffusion_models/z_image_turbo_bf16.safetensors",
    "2407613050b809ffdff18a4ac99af83ea6b95443ecebdf80e064a79c825574a6",
)
FLUX_VAE = _file(
    "ae.safetensors",
    "vae",
    f"{_FACE}/Comfy-Org/z_image_turbo/resolve/main/split_files/vae/ae.safetensors",
    "afc8e28272cd15db3919bacdb6918ce9c1ed22e96cb12c4d5ed0fba823529e38",
)
IP_ADAPTER = _file(
    "ip-adapter-plus_sdxl_vit-h.safetensors",
    "ipadapter",
    f"{_FACE}/h94/IP-Adapter/resolve/main/sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors",
    "3f5062b8400c94b7159665b21ba5c62acdcd7682262743d7f2aefedef00e6581",
)
CLIP_VISION = _file(
    "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors",
    "clip_vision",
    f"{_FACE}/h94/IP-Adapter/resolve/main/models/image_encoder/model.safetensors",
    "6ca9667da1ca9e0b0f75e46bb030f7e011f44f86cbfb8d5a36590fcd7507b030",
)
_COMFY = f"{_FACE}/Comfy-Org"
KLEIN = _file(
    "flux-2-klein-4b.safetensors",
    "diffusion_models",
    f"{_COMFY}/flux2-klein/resolve/main/split_files/diffusion_models/flux-2-klein-4b.safetensors",
)
FLUX2_VAE = _file(
    "flux2-vae.safetensors", "vae", f"{_COMFY}/flux2-dev/resolve/main/split_files/vae/flux2-vae.safetensors"
)
QWEN_EDIT = _file(
    "qwen_image_edit_2511_fp8mixed.safetensors",
    "diffusion_models",
    f"{_COMFY}/Qwen-Image-Edit_ComfyUI/resolve/main/split_files/diffusion_models/"
    "qwen_image_edit_2511_fp8mixed.safetensors",
)
QWEN_EDIT_FAST = _file(
    "Qwen-Image-Edit-2511-Lightning-4steps-V1.0-bf16.safetensors",
    "loras",
    f"{_FACE}/lightx2v/Qwen-Image-Edit-2511-Lightning/resolve/main/"
    "Qwen-Image-Edit-2511-Lightning-4steps-V1.0-bf16.safetensors",
)
QWEN_VL = _file(
    "qwen_2.5_vl_7b_fp8_scaled.safetensors",
    "text_encoders",
    f"{_COMFY}/Qwen-Image_ComfyUI/resolve/main/split_files/text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors",
)
QWEN_VAE = _file(
    "qwen_image_vae.safetensors",
    "vae",
    f"{_COMFY}/Qwen-Image_ComfyUI/resolve/main/split_files/vae/qwen_image_vae.safetensors",
)


def option(file: dict[str, Any]) -> str:
    """Return the name by which a node of the pack lists a file: with its folder."""
    return f"{file['directory']}/{file['name']}"


def listed(file: dict[str, Any]) -> dict[str, Any]:
    """Return a file for a node of the pack: ComfyUI finds missing files by the names that nodes list."""
    return {**file, "name": option(file)}
