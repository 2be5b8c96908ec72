"""ComfyUI's own vision-language models at toy size with random weights, and what they say of pictures.

To be imported inside a ComfyUI process only, see inside_comfy.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import comfy.clip_model
import comfy.model_management as management
import comfy.sd
import comfy.text_encoders.gemma4 as gemma4
import comfy.text_encoders.llama as llama
import comfy.text_encoders.qwen3vl as qwen3vl
import comfy.text_encoders.qwen35 as qwen35
import comfy.text_encoders.qwen_image as qwen_image
import comfy.text_encoders.qwen_vl as qwen_vl
import torch

import stock_llms
from stock_llms import GREEDY, IMAGE_TOKENS, LENGTH, SMALL, WIDTH, Make, apart
from toys import generator

SIDE = 56  # of pictures: Gemma 3's own size, which no family crops


def _qwen25_vl() -> Make:
    config = llama.Qwen25_7BVLI_Config(**SMALL)
    config.rope_dims = [2, 3, 3]

    def towers(_config: Any, how: dict[str, Any]) -> dict[str, Any]:
        tower = qwen_vl.Qwen2VLVisionTransformer(32, WIDTH, 32, num_heads=2, num_layers=2, window_size=56, **how)
        tower.fullatt_block_indexes = [1]
        return {"visual": tower}

    tokenizer = qwen_image.QwenImageTokenizer
    return Make(config, llama.Llama2_, llama.Qwen25_7BVLI, "qwen25_7b", tokenizer, {}, towers)


def _qwen3_vl() -> Make:
    config = llama.Qwen3VL_4BConfig(**SMALL)
    config.rope_dims = [2, 3, 3]

    def towers(_config: Any, how: dict[str, Any]) -> dict[str, Any]:
        sizes = {**qwen3vl.QWEN3VL_VISION_COMMON, **TOWER, "depth": 2, "deepstack_visual_indexes": [0, 1]}
        return {"visual": qwen3vl.Qwen3VLVisionModel(sizes, **how)}

    tokenizer = qwen3vl.tokenizer("qwen3vl_4b")
    return Make(config, llama.Llama2_, qwen3vl.Qwen3VL, "qwen3vl_4b", tokenizer, {}, towers)


def _qwen35_vl() -> Make:
    def towers(_config: Any, how: dict[str, Any]) -> dict[str, Any]:
        return {"visual": qwen35.Qwen35VisionModel({**qwen35.QWEN35_VISION_DEFAULTS, **TOWER, "depth": 2}, **how)}

    return stock_llms.qwen35_make()._replace(towers=towers)


def _gemma3_vl() -> Make:
    make = stock_llms.gemma3_make()
    make.config.vision_config = {
        **llama.GEMMA3_VISION_CONFIG, "hidden_size": 32, "image_size": 56, "intermediate_size": 32,
        "num_attention_heads": 2, "num_hidden_layers": 2,
    }  # fmt: skip
    make.config.mm_tokens_per_image = 4

    def towers(config: Any, how: dict[str, Any]) -> dict[str, Any]:
        device, dtype, ops = how["device"], how["dtype"], how["ops"]
        return {
            "multi_modal_projector": llama.Gemma3MultiModalProjector(config, dtype, device, ops),
            "vision_model": comfy.clip_model.CLIPVision(config.vision_config, dtype, device, ops),
            "image_size": config.vision_config["image_size"],
        }

    return make._replace(outer=llama.Gemma3_4B_Vision, towers=towers)


def _gemma4_vl() -> Make:
    make = stock_llms.gemma4_make()
    make.config.vision_config = {
        **gemma4.GEMMA4_VISION_CONFIG, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2,
        "num_hidden_layers": 2, "head_dim": 16, "position_embedding_size": 900,
    }  # fmt: skip
    make.config.vision_bidirectional = True
    words = json.loads(make.data["tokenizer_json"])
    number = 258880  # as it really is
    words["model"]["vocab"]["<|image|>"] = number
    words["added_tokens"].append({**words["added_tokens"][-1], "id": number, "content": "<|image|>"})
    make.data["tokenizer_json"] = json.dumps(words).encode()

    def towers(config: Any, how: dict[str, Any]) -> dict[str, Any]:
        encoder = gemma4.Gemma4VisionEncoder(config.vision_config, **how)
        return {"multi_modal_projector": gemma4.Gemma4MultiModalProjector(config, **how), "vision_model": encoder}

    return make._replace(towers=towers)


def _gemma4_unified() -> Make:
    make = _gemma4_vl()
    make.config.vision_config = {**gemma4.GEMMA4_UNIFIED_VISION_CONFIG, "mm_embed_dim": 32, "output_proj_dims": 32}

    def towers(config: Any, how: dict[str, Any]) -> dict[str, Any]:
        projector = gemma4.Gemma4RMSNormProjector(32, WIDTH, **how)
        return {
            "vision_model": gemma4.Gemma4UnifiedVisionEmbedder(config.vision_config, **how),
            "multi_modal_projector": projector,
        }

    return make._replace(outer=gemma4.Gemma4_12B, towers=towers)


TOWER = {
    "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "num_position_embeddings": 64, "out_hidden_size": WIDTH,
}  # fmt: skip
MAKES = {
    "Qwen2.5-VL": _qwen25_vl,
    "Qwen3-VL": _qwen3_vl,
    "Qwen3.5": _qwen35_vl,
    "Gemma3": _gemma3_vl,
    "Gemma4": _gemma4_vl,
    "Gemma4-12B": _gemma4_unified,
}


def clip(name: str) -> comfy.sd.CLIP:
    """A stock CLIP with the engine's vision-language model of one family."""
    return stock_llms.clip(name, MAKES)


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """A red one and a blue one, of 8 bits."""
    grey = (torch.rand(SIDE, SIDE, 1, generator=generator()) * 255).round() / 255
    return grey * torch.tensor([1.0, 0, 0]), grey * torch.tensor([0, 0, 1.0])


def seen(name: str, node: Any) -> dict[str, Any]:
    """What a model says of two pictures in one conversation, and what the engine makes of the same prompts."""
    from m2chat.m3adapter.conversation.conversation import Conversation, Picture, Slot, Text
    from m2chat.m3adapter.language.sampling import Sampling
    from m2chat.nodes import clip_sight
    from m2chat.nodes.memory import make_ready

    stock = clip(name)
    (handle,) = node.execute(clip=stock).result
    model = handle.part.without_instructions()  # which are long for a toy
    encoder = getattr(stock.cond_stage_model, stock.cond_stage_model.clip)
    red, blue = pictures()
    tokens = torch.randn(IMAGE_TOKENS, WIDTH, generator=generator())
    free = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, max_length=8)

    def told(*shown: torch.Tensor) -> Conversation:
        begun = Conversation().user("Look.", shown[:1]).assistant([Text("Once."), Picture("a fox")])
        return begun.user("<|image_pad|> and <|image|> are words; and now?", shown[1:])

    def painted(*shown: torch.Tensor) -> Conversation:
        return told(*shown).assistant([Text("Then."), Picture(caption="an owl")])

    def reply(conversation: Conversation) -> str:
        return "".join(model.reply(conversation, sampling=free, seed=2))

    def first(conversation: Conversation) -> torch.Tensor:
        return model._start(model.prompts.for_reply(conversation, 4000), [])[0]

    slot = Slot(3, 1)
    with torch.inference_mode():
        make_ready(handle)
        prompt = model.prompts.for_reply(told(red, blue), 4000)
        logits, state = model._start(prompt, [])
        written = [int(logits.argmax())]
        while len(written) < LENGTH:
            logits, state = model._step(written[-1], state)
            written.append(int(logits.argmax()))
        states, others = (model.encode_slot(painted(*shown), slot, tokens) for shown in ((red, blue), (blue, red)))
        found: dict[str, Any] = {
            "sees": model.sees,
            "sizes": [sight.embeds.shape[1] for sight in model.prompts.sights(prompt)[0]],
            "places": prompt.ids.count(model.tokenizer.picture_id),
            "written": written,
            "replies": [reply(told(*shown)) for shown in ((red, blue), (red, blue), (blue, red))],
            "moved": [_far(first(told(red, blue)), first(told(*shown))) for shown in ((blue, red), (red, red))],
            "slot": _far(states.context, others.context),
            "odd": [
                bool(sight.isfinite().all()) and sight.shape[1]
                for sight in (model._sight.look(torch.rand(size)).embeds for size in ((1, 1, 3), (10, 8000, 3)))
            ],
        }
        if hasattr(encoder.transformer.model.config, "stop_tokens"):  # or the engine cannot generate
            parts = [(part, 1.0) for part in _parts(stock, model, prompt.ids, (red, blue))]
            found["generated"] = stock.generate({stock.cond_stage_model.clip_name: [parts]}, **GREEDY)
        if not name.startswith("Gemma4"):  # the engine itself can only generate with these
            read = model.prompts.for_slot(painted(red, blue), slot, 4000)
            encoder.set_clip_options({"layer": -2, "execution_device": management.get_torch_device()})
            whole = encoder.encode([[*_parts(stock, model, read.ids, (red, blue)), *tokens]])[0][0]
            end = len(read.ids)
            context = whole[[*read.caption, *range(end, end + IMAGE_TOKENS)]]
            found["read"] = apart(states, context, whole[[*read.answer, *read.caption]])
        held, clip_sight.REMEMBERED = clip_sight.REMEMBERED, model.prompts.sights(prompt)[0][0].size
        found["cramped"] = reply(told(red, blue))
        found["held"], clip_sight.REMEMBERED = len(model._sight._seen), held
        said = first(Conversation().user("A fox."))  # read in the usual blocks, as long as nobody shows a picture
        for weight in (getattr(encoder.transformer, "visual", None) or encoder.transformer.vision_model).parameters():
            weight.zero_()
        (blind,) = node.execute(clip=stock).result
        found["blind"] = blind.part.sees
        model = blind.part.without_instructions()
        found["words"] = torch.equal(said, first(Conversation().user("A fox.")))
        try:
            node.execute(clip=stock, own_pictures=True)
        except ValueError as error:
            found["refusal"] = str(error)
    management.unload_all_models()
    return found | {"left": len(handle.part._sight._seen)}


def _parts(stock: comfy.sd.CLIP, model: Any, ids: Sequence[int], shown: Sequence[torch.Tensor]) -> list[Any]:
    """The prompt with these ids as the engine takes it: each picture, as its tokenizer prepares it, in its place."""
    left, parts = list(shown), []
    for before, number in zip([-1, *ids], ids, strict=False):
        if number != model.tokenizer.picture_id:
            parts.append(number)
        elif before != number:
            batch = left.pop(0)[None]
            tokens = stock.tokenize("a", image=batch, images=[batch], skip_template=False, min_length=1)
            rows = next(iter(tokens.values()))
            parts.append(next(token[0] for row in rows for token in row if isinstance(token[0], dict)))
    return parts


def _far(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())
