"""Parts of an M²Chat with random weights, small enough to build and run in milliseconds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from m3adapter.adapter.config import M3AdapterConfig
from m3adapter.adapter.features import SlotFeatures
from m3adapter.adapter.m3_adapter import M3Adapter
from m3adapter.adapter.vision_encoder import VisionEncoder, VisionFeatures
from m3adapter.diffusion.condition import Condition
from m3adapter.language.language_model import SlotStates

LLM_WIDTH, VISION_WIDTH = 24, 16
LEVELS = (1, 2, 3)
PATCHES = 16
EMBED_WIDTH, POOLED_WIDTH, TOKENS = 96, 32, 32
WIDTH = 32  # of the adapter
SIDE = 32  # of the pictures that the toy decoder paints
CAPTIONS = ("a fox in the forest", "an owl with a kite on the beach at night", "two words")


def generator(seed: int = 0) -> torch.Generator:
    """A source of random tensors."""
    return torch.Generator().manual_seed(seed)


def one_sentence(message: object) -> bool:
    """Whether an error says what it has to say in one sentence on one line."""
    text = str(message)
    return "\n" not in text and text.endswith(".") and not re.search(r"[.!?] [A-Z]", text)


def states(context: int, text: int, *, caption: str = "a fox", seed: int = 0, width: int = LLM_WIDTH) -> SlotStates:
    """Hidden states of one slot, as a language model of `width` may give them."""
    source = generator(seed)
    return SlotStates(
        torch.randn(context, width, generator=source), torch.randn(text, width, generator=source), caption
    )


def seen(references: int, *, seed: int = 0, width: int = VISION_WIDTH, levels: int = len(LEVELS)) -> VisionFeatures:
    """Features of this number of reference pictures."""
    source = generator(seed + 1000)
    return VisionFeatures(
        torch.randn(references, levels, PATCHES, width, generator=source),
        torch.randn(references, 4, width, generator=source),
    )


def slot_features(references: Sequence[int] = (2, 1, 0), **widths: int) -> SlotFeatures:
    """A batch of slots of unequal lengths with this number of references each."""
    language = {"width": widths["llm_width"]} if "llm_width" in widths else {}
    vision = {name: widths[name] for name in ("width", "levels") if name in widths}
    return SlotFeatures.collate(
        [
            (
                states(5 + index, max(1, 9 - 2 * index), caption=CAPTIONS[index % 3], seed=index, **language),
                seen(count, seed=index, **vision) if count else None,
            )
            for index, count in enumerate(references)
        ]
    )


def config(**changes: int) -> M3AdapterConfig:
    """A configuration that fits the other toys."""
    values = {
        "llm_width": LLM_WIDTH,
        "vision_width": VISION_WIDTH,
        "embed_width": EMBED_WIDTH,
        "pooled_width": POOLED_WIDTH,
        "vision_levels": len(LEVELS),
        "num_tokens": TOKENS,
        "width": WIDTH,
        "num_blocks": 2,
        "num_heads": 4,
    }
    return M3AdapterConfig(**{**values, **changes})


def adapter(*, seed: int = 0, **how: Any) -> M3Adapter:
    """An adapter with random weights, its learned vectors large enough to matter; `how` as M3Adapter takes it."""
    torch.manual_seed(seed)
    built = M3Adapter(how.pop("config", None) or config(), **how)
    with torch.no_grad():
        for vectors in (built.queries, built.vision_level, built.vision_reference, built.pool_query):
            vectors.mul_(25)
    return built.eval()


def vision_encoder(*, seed: int = 0) -> VisionEncoder:
    """A CLIP vision model of three layers for pictures of 32 x 32."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(seed)
    model = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=VISION_WIDTH,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=32,
            patch_size=8,
        )
    )
    return VisionEncoder(model, LEVELS)


def condition(batch: int = 1, *, seed: int = 0, gate: bool = True) -> Condition:
    """A random condition that fits the toy decoder."""
    source = generator(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source)

    return Condition(
        draw(batch, TOKENS, EMBED_WIDTH),
        draw(batch, POOLED_WIDTH),
        draw(batch, TOKENS, EMBED_WIDTH),
        draw(batch, POOLED_WIDTH),
        draw(batch, TOKENS, WIDTH).sigmoid() if gate else None,
        tuple(CAPTIONS[index % len(CAPTIONS)] for index in range(batch)),
    )


def save_decoder(folder: Path, *, seed: int = 0) -> Path:
    """A `StableDiffusionXLPipeline` in miniature, saved in diffusers' layout; returns its folder."""
    from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    from m3adapter.training.clip_tokenizer import build_tokenizer
    from m3adapter.training.decoder import scheduler

    build_tokenizer(folder / "words", list(CAPTIONS), vocab_size=560)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "words")
    assert tokenizer.model_max_length == TOKENS
    torch.manual_seed(seed)
    common = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": TOKENS,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.eos_token_id,
        "projection_dim": POOLED_WIDTH,
    }
    pipeline = StableDiffusionXLPipeline(
        vae=AutoencoderKL(
            block_out_channels=(32, 32, 32, 32),
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=32,
            sample_size=SIDE,
        ),
        text_encoder=CLIPTextModel(CLIPTextConfig(hidden_size=32, intermediate_size=32, **common)),
        text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(hidden_size=64, intermediate_size=64, **common)),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=SIDE // 8,
            in_channels=4,
            out_channels=4,
            block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            attention_head_dim=(1, 2),
            norm_num_groups=32,
            use_linear_projection=True,
            cross_attention_dim=EMBED_WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=6 * 256 + POOLED_WIDTH,
        ),
        scheduler=scheduler(),
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder / "decoder")
    return folder / "decoder"


def draw(*shape: int, seed: int) -> Tensor:
    """Weights [..., into], scaled so that normal features stay normal."""
    return torch.randn(*shape, generator=generator(seed)) / shape[-1] ** 0.5


def official_release(width: int, pooled: int, tokens: int, *, llm_width: int = LLM_WIDTH) -> dict[str, Any]:
    """What the official release writes into epochN_queryblock.pkl, in small."""
    layers = ("cross_attn_layers.0", "cross_attn_layers.1")
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (out, into) in {
        "Qlinear": (width, width), "Klinear": (width, llm_width), "Vlinear": (width, llm_width),
        "ffn.ffn.0": (width, width), "ffn.ffn.2": (width, width), "pooled": (pooled, width), "linear": (width, width),
        **{f"{layer}.{part}": (width, width) for layer in layers for part in ("linear", "multihead_attn.out_proj")},
    }.items():  # fmt: skip
        shapes |= {f"{name}.weight": (out, into), f"{name}.bias": (out,)}
    for name, size in {
        "Qnorm": width,
        "Knorm": width,
        "Vnorm": width,
        "linear_norm": width,
        "poolnorm": pooled,
    }.items():
        shapes |= {f"{name}.weight": (size,), f"{name}.bias": (size,)}
    for layer in layers:
        together = f"{layer}.multihead_attn.in_proj_"
        shapes |= {f"{together}weight": (3 * width, width), f"{together}bias": (3 * width,)}
    block = {name: draw(*shape, seed=number) for number, (name, shape) in enumerate(sorted(shapes.items()))}
    return {"sd_query": {"weight": 8 * draw(tokens, width, seed=99)}, "query_block": block, "epoch": 2}


def frozen(pipeline: Any) -> Any:
    """A diffusers pipeline whose weights require no gradients, like those of a decoder; returns it.

    Comparisons to the last bit need this: on some processors, torch multiplies in another order by weights that may
    require gradients, even if none are recorded.
    """
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False)
    return pipeline


def save_refiner(folder: Path, decoder: Path, *, seed: int = 1) -> Path:
    """A refiner for the decoder in a folder, with its autoencoder and second text encoder; returns its own folder."""
    from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline, UNet2DConditionModel

    base = StableDiffusionXLPipeline.from_pretrained(decoder, add_watermarker=False)
    text = base.text_encoder_2.config
    widths = {
        "cross_attention_dim": text.hidden_size,
        "projection_class_embeddings_input_dim": 5 * 256 + text.projection_dim,
    }
    torch.manual_seed(seed)
    pipeline = StableDiffusionXLImg2ImgPipeline(
        vae=base.vae,
        text_encoder=None,
        text_encoder_2=base.text_encoder_2,
        tokenizer=None,
        tokenizer_2=base.tokenizer_2,
        unet=UNet2DConditionModel.from_config(base.unet.config, **widths),
        scheduler=base.scheduler,
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder / "refiner")
    return folder / "refiner"


def save_single_file(path: Path, folder: Path, **more: Tensor) -> Path:
    """The toy decoder or refiner of a folder as a single-file checkpoint with more weights if given; returns `path`."""
    from safetensors.torch import save_file

    from m3adapter.diffusion.decoder import DiffusionDecoder
    from single_file import checkpoint

    parts = DiffusionDecoder.from_pretrained(folder)
    weights = checkpoint(parts.unet, parts.vae, parts.text_encoder, parts.text_encoder_2)
    save_file({name: value.contiguous() for name, value in {**weights, **more}.items()}, path)
    return path


def ip_adapter_weights(unet: Any, kind: str = "base", *, image_width: int = VISION_WIDTH, seed: int = 0) -> dict:
    """Random IP-Adapter weights for a diffusers UNet, by the names in the release's safetensors files."""
    from m3adapter.ip_adapter.ip_adapter import cross_attentions

    width = unet.config.cross_attention_dim
    shapes: dict[str, tuple[int, ...]] = {}
    if kind == "base":
        shapes |= {"image_proj.proj.weight": (4 * width, image_width), "image_proj.proj.bias": (4 * width,)}
        shapes |= {"image_proj.norm.weight": (width,), "image_proj.norm.bias": (width,)}
    else:
        deep = 64  # one head of the resampler
        shapes |= {"latents": (1, 16, deep), "proj_in.weight": (deep, image_width), "proj_in.bias": (deep,)}
        shapes |= {"proj_out.weight": (width, deep), "proj_out.bias": (width,)}
        shapes |= {f"norm_out.{end}": (width,) for end in ("weight", "bias")}
        for layer in range(4):
            shapes |= {
                f"layers.{layer}.{part}.{end}": (deep,)
                for part in ("0.norm1", "0.norm2", "1.0")
                for end in ("weight", "bias")
            }
            shapes |= {f"layers.{layer}.0.{part}.weight": (deep, deep) for part in ("to_q", "to_out")}
            shapes |= {f"layers.{layer}.0.to_kv.weight": (2 * deep, deep)}
            shapes |= {f"layers.{layer}.1.1.weight": (4 * deep, deep), f"layers.{layer}.1.3.weight": (deep, 4 * deep)}
        shapes = {f"image_proj.{name}": shape for name, shape in shapes.items()}
    for number, size in enumerate(cross_attentions(unet).values()):
        shapes |= {f"ip_adapter.{2 * number + 1}.to_{which}_ip.weight": (size, width) for which in "kv"}
    return {
        name: draw(*shape, seed=1000 * seed + number) * (shape[-1] ** 0.5 if len(shape) != 2 else 1)
        for number, (name, shape) in enumerate(shapes.items())
    }


def lora_weights(rank: int = 2) -> dict[str, Tensor]:
    """A LoRA for one attention in the middle of the starter's UNet, 192 wide."""
    name = "lora_unet_middle_block_1_transformer_blocks_0_attn2_to_q"
    down, up = torch.randn(rank, 192, generator=generator(1)), torch.randn(192, rank, generator=generator(2))
    return {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
