"""The names that SDXL's weights have in a single-file checkpoint, from those that they have in diffusers' layout."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

Weights = dict[str, Tensor]

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def checkpoint(unet: Any, vae: Any, first: Any | None, second: Any) -> Weights:
    """A single-file checkpoint of the parts of a base model, or of a refiner, which has no first text encoder."""
    found = {f"model.diffusion_model.{name}": value for name, value in unet_weights(unet).items()}
    found |= {f"first_stage_model.{name}": value for name, value in vae_weights(vae).items()}
    if first is not None:
        prefix = "conditioner.embedders.0.transformer.text_model."
        found |= {prefix + plain(name): value for name, value in first.state_dict().items()}
        places = torch.arange(first.config.max_position_embeddings)[None]
        found[f"{prefix}embeddings.position_ids"] = places.to(first.device)
    prefix = f"conditioner.embedders.{0 if first is None else 1}.model."
    return found | {prefix + name: value for name, value in open_clip_weights(second).items()}


def plain(name: str) -> str:
    """A text encoder's weight without the prefix that some versions of transformers give it."""
    return name.removeprefix("text_model.")


def unet_weights(unet: Any) -> Weights:
    """The UNet's weights by their names in the original code."""
    layers = unet.config.layers_per_block
    attends = [kind.startswith("CrossAttn") for kind in unet.config.up_block_types]
    return {unet_name(name, layers, attends): value for name, value in unet.state_dict().items()}


def unet_name(name: str, layers: int, attends: list[bool]) -> str:
    for ours, theirs in ENDS.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    if name.startswith("mid_block"):
        kind, index, rest = re.fullmatch(r"mid_block\.(\w+)\.(\d)\.(.*)", name).groups()
        return f"middle_block.{1 if kind == 'attentions' else 2 * int(index)}.{resnet(kind, rest)}"
    way, block, kind, index, rest = re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name).groups()
    start = int(block) * (layers + 1) + (way == "down")
    if kind == "downsamplers":
        return f"input_blocks.{start + layers}.0.{rest.replace('conv', 'op')}"
    if kind == "upsamplers":
        return f"output_blocks.{start + layers}.{2 if attends[int(block)] else 1}.{rest}"
    place = f"{'input' if way == 'down' else 'output'}_blocks.{start + int(index)}"
    return f"{place}.{int(kind == 'attentions')}.{resnet(kind, rest)}"


def resnet(kind: str, rest: str) -> str:
    layer, _, parameter = rest.rpartition(".")
    return f"{RESNET[layer]}.{parameter}" if kind == "resnets" else rest


def vae_weights(vae: Any) -> Weights:
    """The autoencoder's weights by their names in the original code, whose attention consists of convolutions."""
    found, last = {}, len(vae.config.up_block_types) - 1
    for name, value in vae.state_dict().items():
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", name)
        name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets", lambda match: f"up.{last - int(match[1])}.block", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda match: f"up.{last - int(match[1])}.upsample", name)
        if "mid_block.attentions.0." in name:
            head, layer = name.split("mid_block.attentions.0.")
            layer, _, parameter = layer.rpartition(".")
            name = f"{head}mid.attn_1.{VAE_ATTENTION[layer]}.{parameter}"
            if value.ndim == 2:
                value = value[:, :, None, None]
        found[name] = value
    return found


def open_clip_weights(encoder: Any) -> Weights:
    """The second text encoder's weights by OpenCLIP's names: attention's three projections are one there."""
    found: Weights = {"logit_scale": torch.zeros((), device=encoder.device)}
    weights = {plain(name): value for name, value in encoder.state_dict().items()}
    for name, value in weights.items():
        if match := re.fullmatch(r"encoder\.layers\.(\d+)\.(.*)\.(weight|bias)", name):
            index, layer, parameter = match.groups()
            place = f"transformer.resblocks.{index}."
            if layer == "self_attn.q_proj":
                three = [weights[name.replace("q_proj", f"{which}_proj")] for which in "qkv"]
                found[f"{place}attn.in_proj_{parameter}"] = torch.cat(three)
            elif layer in OPEN_CLIP:
                found[f"{place}{OPEN_CLIP[layer]}.{parameter}"] = value
    found["token_embedding.weight"] = weights["embeddings.token_embedding.weight"]
    found["positional_embedding"] = weights["embeddings.position_embedding.weight"]
    found |= {f"ln_final.{name}": weights[f"final_layer_norm.{name}"] for name in ("weight", "bias")}
    found["text_projection"] = weights["text_projection.weight"].T
    return found
