"""A small edit model of FLUX's class: references are tokens beside those of the picture, as FLUX.1 Kontext reads them.

It predicts velocities of a straight path from pictures to noise (flow matching), from the noisy latent, prompt
embeddings, and latents of references. Tokens are squares of 2 x 2 places of a latent; those of a reference lie at index
1 of the first axis of positions, and the picture's at 0.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .reference_gate import GatedKeys, Keys, ReferenceGate, Span

PATCH = 2  # side of a token in places of the latent
HEAD = 64
WORDS = 24  # tokens of a text; the longest captions of the starter's world have 21
AXES = (16, 24, 24)  # channels of a head for index, row and column
SHIFT = 1.15  # of the schedule in logarithms, as the engine has it for FLUX

Transformer = Any  # a FluxTransformer2DModel: type checkers only see the placeholder that diffusers has for it


def build(channels: int, embed_width: int, pooled_width: int, *, width: int, double: int, single: int) -> Transformer:
    """Return an untrained edit model.

    Args:
        channels: Channels of the latents.
        embed_width: Width of the prompt embeddings.
        pooled_width: Width of the pooled embeddings.
        width: Of the tokens; a multiple of HEAD.
        double: Number of blocks with weights of their own for text.
        single: Number of blocks with the same weights for all tokens.
    """
    from diffusers import FluxTransformer2DModel

    made: Transformer = FluxTransformer2DModel(
        patch_size=1,  # the tokens are made here
        in_channels=channels * PATCH**2,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=HEAD,
        num_attention_heads=width // HEAD,
        joint_attention_dim=embed_width,
        pooled_projection_dim=pooled_width,
        axes_dims_rope=AXES,
    )
    made.set_attn_processor(ReferenceAttention())
    return made


def open_model(folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Transformer:
    """Open an edit model that `train edit` wrote.

    Raises:
        OSError: There is none in the folder.
    """
    from diffusers import FluxTransformer2DModel

    model = FluxTransformer2DModel.from_pretrained(
        folder, torch_dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True
    ).to(device)
    model.set_attn_processor(ReferenceAttention())
    return model.eval().requires_grad_(False)


class ReferenceAttention:
    """Attention on text, picture and references, with a gate on the references' keys."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        gate: GatedKeys | None = None,
    ) -> Any:
        """Attend as diffusers' `FluxAttnProcessor` does, to text, picture and references in this order."""
        heads = (-1, attn.head_dim)
        query, key, value = (part(hidden_states).unflatten(-1, heads) for part in (attn.to_q, attn.to_k, attn.to_v))
        query, key = _normalised(attn.norm_q, query), _normalised(attn.norm_k, key)
        words = 0
        if encoder_hidden_states is not None:
            words = encoder_hidden_states.shape[1]
            more = [
                part(encoder_hidden_states).unflatten(-1, heads)
                for part in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
            ]
            query = torch.cat((_normalised(attn.norm_added_q, more[0]), query), 1)
            key = torch.cat((_normalised(attn.norm_added_k, more[1]), key), 1)
            value = torch.cat((more[2], value), 1)
        assert image_rotary_emb is not None  # the model gives it to all of its attentions
        query, key = (_turned(part, *image_rotary_emb).to(value.dtype) for part in (query, key))
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        found = _attended(query, key, value, gate).transpose(1, 2).flatten(2)
        if encoder_hidden_states is None:
            return found
        return attn.to_out[0](found[:, words:]), attn.to_add_out(found[:, :words])


def _attended(query: Tensor, key: Tensor, value: Tensor, gate: GatedKeys | None) -> Tensor:
    """Return the attention [B, H, Q, d]."""
    if gate is not None:
        found = gate.merged(query, key, value)
        if found is None:
            found = gate.padded(query, key, value, _joined).unflatten(-1, (query.shape[1], -1)).transpose(1, 2)
        return found
    if query.requires_grad and not query.is_cuda:  # several times faster than the backward of torch's kernel there
        weights = (query @ key.mT * query.shape[-1] ** -0.5).float().softmax(-1)
        return weights.to(value.dtype) @ value
    return functional.scaled_dot_product_attention(query, key, value)


def _joined(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return the attention [B, Q, H · d]."""
    return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def _normalised(norm: Any, x: Tensor) -> Tensor:
    """Normalise heads in float32, for which torch has a kernel."""
    return functional.rms_norm(x.float(), x.shape[-1:], norm.weight.float(), norm.eps)


def _turned(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn pairs of channels [B, N, H, d] by the angles of their positions [N, d]."""
    turn = torch.complex(cosines[:, ::2].float(), sines[:, ::2].float())[:, None]
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turn).flatten(-2)


def tokens_of(latents: Tensor) -> Tensor:
    """Return latents [B, C, H, W] as tokens [B, H/2 · W/2, 4 C]."""
    return functional.pixel_unshuffle(latents, PATCH).flatten(2).mT


def latents_of(tokens: Tensor, height: int, width: int) -> Tensor:
    """Return tokens as latents [B, C, height, width]."""
    return functional.pixel_shuffle(tokens.mT.unflatten(-1, (height // PATCH, width // PATCH)), PATCH)


@lru_cache(maxsize=64)
def positions(height: int, width: int, index: int = 0, row: int = 0, column: int = 0) -> Tensor:
    """Return the places [N, 3] of the tokens of a latent on the three axes."""
    rows, columns = torch.arange(height // PATCH) + row // PATCH, torch.arange(width // PATCH) + column // PATCH
    grid = torch.cartesian_prod(torch.tensor([index]), rows, columns)
    return grid.float()


def velocity(
    model: Transformer,
    noisy: Tensor,
    times: Tensor,
    embeds: Tensor,
    pooled: Tensor,
    references: Tensor | None = None,
    *,
    corner: tuple[int, int] = (0, 0),
    gate: ReferenceGate | None = None,
) -> Tensor:
    """Predict the velocities [B, C, H, W] from pictures to noise.

    Args:
        model: The edit model.
        noisy: Noisy latents [B, C, H, W], of whole pictures or of windows of them.
        times: Parts of noise in them [B], 0..1.
        embeds: Prompt embeddings [B, N, D].
        pooled: Pooled embeddings [B, P].
        references: Latents of one reference each [B, C, h, w], or the same windows of them; None for no references.
        corner: Row and column of the windows' top left place, even numbers.
        gate: On the references; as the model was trained by default.
    """
    height, width = noisy.shape[-2:]
    copies = 1.0 if gate is None else gate.copies(0)
    references = references if copies else None
    tokens, places = [tokens_of(noisy)], [positions(height, width, 0, *corner)]
    if references is not None:
        tokens.append(tokens_of(references))
        places.append(positions(*references.shape[-2:], 1, *corner))
    device, keys = noisy.device, None
    if references is not None and copies != 1:
        before, own = embeds.shape[1] + tokens[0].shape[1], tokens[1].shape[1]
        keys = _gated(before, own, copies)
    found = model(
        hidden_states=torch.cat(tokens, 1),
        encoder_hidden_states=embeds,
        pooled_projections=pooled,
        timestep=times,
        img_ids=torch.cat(places).to(device),
        txt_ids=torch.zeros(embeds.shape[1], 3, device=device),
        joint_attention_kwargs={"gate": keys},
    ).sample
    return latents_of(found[:, : tokens[0].shape[1]], height, width)


@lru_cache(maxsize=16)
def _gated(before: int, own: int, copies: float) -> GatedKeys:
    return GatedKeys(Keys(before + own, (Span(before, own, copies),)))


def schedule(steps: int) -> Tensor:
    """Return the parts of noise [steps + 1] from 1 to 0, as FLUX has them: more steps where there is much noise."""
    times, factor = torch.linspace(1, 0, steps + 1), math.exp(SHIFT)
    return factor * times / (1 + (factor - 1) * times)


@torch.no_grad()
def paint(
    model: Transformer,
    embeds: Tensor,
    pooled: Tensor,
    references: Tensor | None,
    noise: Tensor,
    *,
    gate: ReferenceGate | None = None,
    times: Tensor | None = None,
    guidance: float = 3.0,
) -> Tensor:
    """Paint latents [B, C, H, W] by Euler's method.

    Args:
        model: The edit model.
        embeds: Prompt embeddings [B, N, D].
        pooled: Pooled embeddings [B, P].
        references: Latents of one reference for each picture [B, C, h, w].
        noise: Where to begin [B, C, H, W].
        gate: On the references; as the model was trained by default.
        times: Parts of noise from step to step; `schedule(20)` by default.
        guidance: How far to go from what the references alone suggest towards what the caption says.
    """
    times = schedule(20) if times is None else times
    words, whole = (torch.cat((part, torch.zeros_like(part))) for part in (embeds, pooled))
    seen = None if references is None else torch.cat((references, references))
    x = noise
    for now, then in pairwise(times.tolist()):
        level = torch.full((2 * len(x),), now, device=x.device, dtype=x.dtype)
        told, untold = velocity(model, torch.cat((x, x)), level, words, whole, seen, gate=gate).float().chunk(2)
        x = x + (then - now) * (untold + guidance * (told - untold))
    return x


def published(model: Transformer) -> dict[str, Tensor]:
    """Return the weights with the names of the release, which ComfyUI reads."""
    state, found = dict(model.state_dict()), {}

    def put(name: str, *sources: str) -> None:
        for kind in ("weight", "bias"):
            parts = [state.pop(f"{source}.{kind}") for source in sources if f"{source}.{kind}" in state]
            if parts:
                found[f"{name}.{kind}"] = torch.cat(parts)

    def put_norms(name: str, query: str, key: str) -> None:
        found[f"{name}.query_norm.scale"] = state.pop(f"{query}.weight")
        found[f"{name}.key_norm.scale"] = state.pop(f"{key}.weight")

    put("img_in", "x_embedder")
    put("txt_in", "context_embedder")
    for index, layer in ((1, "in_layer"), (2, "out_layer")):
        put(f"time_in.{layer}", f"time_text_embed.timestep_embedder.linear_{index}")
        put(f"vector_in.{layer}", f"time_text_embed.text_embedder.linear_{index}")
    for number in range(len(model.transformer_blocks)):
        ours, theirs = f"transformer_blocks.{number}", f"double_blocks.{number}"
        for kind, end, projections, out in (
            ("img", "", ("to_q", "to_k", "to_v"), "to_out.0"),
            ("txt", "_context", ("add_q_proj", "add_k_proj", "add_v_proj"), "to_add_out"),
        ):
            put(f"{theirs}.{kind}_mod.lin", f"{ours}.norm1{end}.linear")
            put(f"{theirs}.{kind}_attn.qkv", *(f"{ours}.attn.{each}" for each in projections))
            put(f"{theirs}.{kind}_attn.proj", f"{ours}.attn.{out}")
            put(f"{theirs}.{kind}_mlp.0", f"{ours}.ff{end}.net.0.proj")
            put(f"{theirs}.{kind}_mlp.2", f"{ours}.ff{end}.net.2")
        put_norms(f"{theirs}.img_attn.norm", f"{ours}.attn.norm_q", f"{ours}.attn.norm_k")
        put_norms(f"{theirs}.txt_attn.norm", f"{ours}.attn.norm_added_q", f"{ours}.attn.norm_added_k")
    for number in range(len(model.single_transformer_blocks)):
        ours, theirs = f"single_transformer_blocks.{number}", f"single_blocks.{number}"
        put(f"{theirs}.modulation.lin", f"{ours}.norm.linear")
        put(f"{theirs}.linear1", *(f"{ours}.{each}" for each in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")))
        put(f"{theirs}.linear2", f"{ours}.proj_out")
        put_norms(f"{theirs}.norm", f"{ours}.attn.norm_q", f"{ours}.attn.norm_k")
    put("final_layer.linear", "proj_out")
    put("final_layer.adaLN_modulation.1", "norm_out.linear")
    for kind in ("weight", "bias"):  # scale and shift are there the other way round
        name = f"final_layer.adaLN_modulation.1.{kind}"
        found[name] = torch.cat(found[name].chunk(2)[::-1])
    assert not state, f"left over: {sorted(state)}"
    return found
