"""Language models of several families with random weights, saved in folders as their makers save them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import toys

WIDTH, LAYERS, CONTEXT = 32, 3, 4096
# Bytes, so that every text has tokens; then the marks of turns and of pictures.
PICTURE_MARKS = ("<pic>", "<vision>", "</vision>", "<video>")
TURN_MARKS = ("<pad>", "<s>", "<|im_end|>", "<|im_start|>", *PICTURE_MARKS)

# Qwen's kind: roles between marks, contents as strings or as parts.
CHATML = """{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{% if p.type == 'image' %}@{% else -%}
{{ p.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
# Gemma's kind: no system turn, and it says so.
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
)


def tokenizer(
    template: str | None = CHATML, *, make: type[PreTrainedTokenizerFast] = PreTrainedTokenizerFast, **more: Any
) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    built = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens(list(TURN_MARKS))
    return make(
        tokenizer_object=built,
        chat_template=template,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="<|im_end|>",
        model_max_length=CONTEXT,
        model_input_names=["input_ids", "attention_mask"],
        **more,
    )


def _text(words: PreTrainedTokenizerFast, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(words),
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
        "initializer_range": 0.3,
        "tie_word_embeddings": True,
        **more,
    }


def _save(folder: Path, model: Any, *parts: Any) -> Path:
    model.eval().save_pretrained(folder)
    for part in parts:
        part.save_pretrained(folder)
    return folder


def llama(folder: Path, *, template: str | None = CHATML, **sizes: Any) -> Path:
    """A Llama, with other numbers in its configuration if given."""
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tokenizer(template)
    return _save(folder, LlamaForCausalLM(LlamaConfig(**_text(words, **sizes))), words)


def qwen3(folder: Path) -> Path:
    """A Qwen 3."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    words = tokenizer()
    return _save(folder, Qwen3ForCausalLM(Qwen3Config(**_text(words))), words)


def gemma3(folder: Path) -> Path:
    """A Gemma 3, whose template refuses system turns."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    words = tokenizer(NO_SYSTEM)
    return _save(folder, Gemma3ForCausalLM(Gemma3TextConfig(**_text(words, sliding_window=64))), words)


def _rope() -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}


def qwen2_5_vl(folder: Path) -> Path:
    """A Qwen 2.5 VL, with positions of three axes."""
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    words = _qwen_words()
    config = Qwen2_5_VLConfig(
        text_config=_text(words, rope_scaling=_rope(), rope_parameters=_rope()),
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": WIDTH,
            "patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1],
        },
        **_qwen_ids(words),
    )  # fmt: skip
    size = {"min_pixels": 28 * 28, "max_pixels": 28 * 28 * 6}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**size), words, Qwen2VLVideoProcessor(), chat_template=words.chat_template
    )
    return _save(folder, Qwen2_5_VLForConditionalGeneration(config), processor)


def qwen3_vl(folder: Path) -> Path:
    """A Qwen 3 VL, whose pictures enter several layers."""
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    words = _qwen_words()
    config = Qwen3VLConfig(
        text_config=_text(words, rope_scaling=_rope(), rope_parameters=_rope()),
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": WIDTH,
            "patch_size": 16, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64,
        },
        **_qwen_ids(words),
    )  # fmt: skip
    size = {"min_pixels": 32 * 32, "max_pixels": 32 * 32 * 6, "patch_size": 16}
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**size), words, Qwen3VLVideoProcessor(), chat_template=words.chat_template
    )
    return _save(folder, Qwen3VLForConditionalGeneration(config), processor)


def _qwen_words() -> PreTrainedTokenizerFast:
    from transformers import Qwen2TokenizerFast

    return tokenizer(
        CHATML.replace("@", "<vision><pic></vision>"),
        make=Qwen2TokenizerFast,
        extra_special_tokens={
            "image_token": "<pic>",
            "video_token": "<video>",
            "vision_start_token": "<vision>",
            "vision_bos_token": "<vision>",
            "vision_end_token": "</vision>",
            "vision_eos_token": "</vision>",
        },
    )


def _qwen_ids(words: PreTrainedTokenizerFast) -> dict[str, Any]:
    image, start, end, video = words.convert_tokens_to_ids(list(PICTURE_MARKS))
    return {
        "image_token_id": image,
        "video_token_id": video,
        "vision_start_token_id": start,
        "vision_end_token_id": end,
        "tie_word_embeddings": True,
    }


def llava(folder: Path) -> Path:
    """A LLaVA: CLIP's patches between the words of a Llama."""
    from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    words = tokenizer(CHATML.replace("@", "<pic>"), extra_special_tokens={"image_token": "<pic>"})
    config = LlavaConfig(
        text_config={"model_type": "llama", **_text(words)},
        vision_config={
            "model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 28, "patch_size": 14, "projection_dim": 16,
        },
        image_token_index=words.convert_tokens_to_ids("<pic>"),
    )  # fmt: skip
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        words,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<pic>",
        chat_template=words.chat_template,
    )
    return _save(folder, LlavaForConditionalGeneration(config), processor)


def smolvlm(folder: Path) -> Path:
    """A SmolVLM, which cuts pictures into tiles."""
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    marks = {"image_token": "<pic>", "fake_image_token": "<vision>", "global_image_token": "</vision>"}
    words = tokenizer(CHATML.replace("@", "<pic>"), extra_special_tokens={**marks, "end_of_utterance_token": "<s>"})
    config = SmolVLMConfig(
        text_config={"model_type": "llama", **_text(words)},
        vision_config={
            "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 32, "patch_size": 8,
        },
        image_token_id=words.convert_tokens_to_ids("<pic>"),
        scale_factor=2,
        pad_token_id=words.pad_token_id,
        tie_word_embeddings=True,
    )  # fmt: skip
    size = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(**size),
        words,
        SmolVLMVideoProcessor(**size, fps=1, num_frames=2),
        image_seq_len=4,
        chat_template=words.chat_template,
    )
    return _save(folder, SmolVLMForConditionalGeneration(config), processor)


TEXT: dict[str, Callable[[Path], Path]] = {"Llama": llama, "Qwen3": qwen3, "Gemma3": gemma3}
VISION: dict[str, Callable[[Path], Path]] = {
    "Qwen2.5-VL": qwen2_5_vl,
    "Qwen3-VL": qwen3_vl,
    "LLaVA": llava,
    "SmolVLM": smolvlm,
}


def build(name: str, folder: Path) -> Path:
    """The folder of a model of this make."""
    torch.manual_seed(0)
    return {**TEXT, **VISION}[name](folder)


def gguf_llama(path: Path, *, template: str | None = CHATML) -> Path:
    """A Llama as a GGUF file, its tokenizer and chat template inside."""
    from gguf import GGUFWriter, TokenType
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    words = tokenizer(template)
    # The format cuts heads of queries and keys into halves; heads of one pair of numbers are the same either way.
    model = LlamaForCausalLM(LlamaConfig(**_text(words, num_attention_heads=16, num_key_value_heads=16, head_dim=2)))
    config = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_name("toy")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(len(words))
    spelled = words.convert_ids_to_tokens(list(range(len(words))))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(spelled)
    writer.add_token_types([TokenType.CONTROL if word in TURN_MARKS else TokenType.NORMAL for word in spelled])
    writer.add_token_scores([0.0] * len(spelled))
    writer.add_bos_token_id(words.bos_token_id)
    writer.add_eos_token_id(words.eos_token_id)
    writer.add_pad_token_id(words.pad_token_id)
    if template:
        writer.add_chat_template(template)
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for name, value in model.state_dict().items():
        if name.startswith("model.layers."):
            _, _, layer, part = name.split(".", 3)
            target = f"blk.{layer}.{names[part.removesuffix('.weight')]}.weight"
        elif name in ("model.embed_tokens.weight", "model.norm.weight"):
            target = "token_embd.weight" if "embed" in name else "output_norm.weight"
        else:  # tied to the embeddings
            continue
        writer.add_tensor(target, value.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def save_models(folder: Path) -> dict[str, Any]:
    """A toy of each model that an adapter connects, saved; returns what a recipe says of them and of a new adapter."""
    toys.save_decoder(folder)
    toys.vision_encoder().save_pretrained(folder / "vision")
    llama(folder / "llm")
    places = {"language": "llm", "vision": "vision", "decoder": "decoder"}
    return {**{name: str(folder / place) for name, place in places.items()}, "width": 64, "blocks": 1}
