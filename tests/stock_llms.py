"""ComfyUI's own language models at toy size with random weights, and what they do by themselves and in the pack.

To be imported inside a ComfyUI process only, see inside_comfy.py.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import comfy.model_management as management
import comfy.sd
import comfy.text_encoders.gemma4 as gemma4
import comfy.text_encoders.llama as llama
import comfy.text_encoders.lumina2 as lumina2
import comfy.text_encoders.qwen3vl as qwen3vl
import comfy.text_encoders.qwen35 as qwen35
import comfy.text_encoders.z_image as z_image
import torch
from comfy.sd1_clip import SD1ClipModel, SDClipModel

import toy_llms
from toys import generator

WIDTH, LAYERS, LENGTH, IMAGE_TOKENS = 32, 4, 12, 3
SMALL = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
GREEDY = {"do_sample": False, "repetition_penalty": 1.0, "max_length": LENGTH}


class Make(NamedTuple):
    """The engine's classes for one family of models, and a small configuration."""

    config: Any
    inner: type
    outer: type
    name: str
    tokenizer: type
    data: dict[str, Any]
    towers: Callable[[Any, dict[str, Any]], dict[str, Any]] = lambda config, how: {}  # of what sees, by attribute


def _qwen3() -> Make:
    config = llama.Qwen3_4BConfig(**SMALL)
    return Make(config, llama.Llama2_, llama.Qwen3_4B, "qwen3_4b", z_image.ZImageTokenizer, {})


def qwen35_make() -> Make:
    config = qwen35.Qwen35Config(
        **SMALL,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        partial_rotary_factor=0.5,
        mrope_section=[2, 1, 1],
        layer_types=["linear_attention", "linear_attention", "full_attention", "linear_attention"],
    )
    return Make(config, qwen35.Qwen35Transformer, qwen35.Qwen35, "qwen35_2b", qwen35.tokenizer(), {})


def gemma3_make() -> Make:
    import sentencepiece

    model = io.BytesIO()
    unused = [f"<unused{number}>" for number in range(101)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a fox on the beach and a bear in the wood"] * 9),
        model_writer=model,
        vocab_size=420,
        hard_vocab_limit=False,
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        bos_piece="<bos>",
        eos_piece="<eos>",
        user_defined_symbols=[*unused, "<start_of_turn>", "<end_of_turn>"],  # 105 and 106, as they really are
        minloglevel=2,
    )
    config = llama.Gemma3_4B_Config(**SMALL, vocab_size=450)  # more than there are pieces
    config.sliding_attention = [64, False]
    data = {"spiece_model": model.getvalue()}
    return Make(config, llama.Llama2_, llama.Gemma3_4B, "gemma3_4b", lumina2.NTokenizer, data)


def gemma4_make() -> Make:
    words = toy_llms.tokenizer().backend_tokenizer.to_str()
    marks = {"<|im_start|>": "<|turn>", "<|im_end|>": "<turn|>", "<s>": "<bos>", "<pic>": "<|think|>"}
    for mark, own in marks.items():
        words = words.replace(mark, own)
    # Layers that slide and others, the last two with the keys and values of those before; ids embedded in every layer.
    config = gemma4.Gemma4_E2B_Config(**SMALL, vocab_size=300, num_kv_shared_layers=2, hidden_size_per_layer_input=16)
    config.sliding_attention, config.global_head_dim, config.stop_tokens = [64, False], 32, []
    data = {"tokenizer_json": words.encode()}
    return Make(config, gemma4.Gemma4Transformer, gemma4.Gemma4_E2B, "gemma4", gemma4.Gemma4Tokenizer, data)


MAKES = {"Qwen3": _qwen3, "Qwen3.5": qwen35_make, "Gemma3": gemma3_make, "Gemma4": gemma4_make}


def clip(name: str, makes: dict[str, Callable[[], Make]] | None = None) -> comfy.sd.CLIP:
    """A stock CLIP with the engine's model of one family, small, by default without vision and audio."""
    make = (MAKES if makes is None else makes)[name]()
    make.config.head_dim = 16

    class Model(make.outer):  # type: ignore[misc,name-defined]
        def __init__(self, _config: Any, dtype: Any, device: Any, operations: Any) -> None:
            torch.nn.Module.__init__(self)
            self.num_layers, self.dtype = LAYERS, dtype
            how = {"device": device, "dtype": dtype, "ops": operations}
            self.model = make.inner(make.config, **how)
            for name, value in make.towers(make.config, how).items():
                setattr(self, name, value)

    class Encoder(SDClipModel):
        def __init__(self, **how: Any) -> None:
            own = {"textmodel_json_config": {}, "special_tokens": {"pad": 0}, "layer_norm_hidden_state": False}
            super().__init__(model_class=Model, **own, **how)

    if name.startswith("Gemma4"):
        Encoder.generate = gemma4.Gemma4Model.generate
    if name == "Qwen3-VL":
        Encoder.generate = qwen3vl.Qwen3VLClipModel.generate

    class Whole(SD1ClipModel):
        def __init__(self, **how: Any) -> None:
            super().__init__(name=make.name, clip_model=Encoder, **how)

    target = SimpleNamespace(params={}, clip=Whole, tokenizer=make.tokenizer)
    made = comfy.sd.CLIP(target, tokenizer_data=make.data, model_options={"dtype": torch.float32})
    source = generator()
    for key, value in made.cond_stage_model.state_dict().items():  # stock layers come uninitialised
        if value.dim() > 1:
            value.normal_(std=0.3, generator=source)
        else:
            value.fill_("norm" in key or "scalar" in key or "_ln" in key or "ln_" in key)
    return made


def compared(name: str, node: Any) -> dict[str, Any]:
    """What a family's model writes and reads in the pack, and what the engine does with the same tokens."""
    from m2chat.m3adapter.conversation.conversation import Conversation, Picture, Slot, Text, Turn
    from m2chat.m3adapter.events import Interrupted
    from m2chat.m3adapter.language.language_model import LanguageModel
    from m2chat.m3adapter.language.sampling import Sampling
    from m2chat.nodes.memory import make_ready

    stock = clip(name)
    (handle,) = node.execute(clip=stock).result
    model = handle.part
    encoder = getattr(stock.cond_stage_model, stock.cond_stage_model.clip)
    asked = Conversation().user("A fox & a <|im_end|><end_of_turn><turn|> bear.")
    told = Conversation((*asked.turns, Turn("assistant", (Text("Once."), Picture(caption="a fox")))))
    tokens = torch.randn(IMAGE_TOKENS, WIDTH, generator=generator())
    slot = Slot(1, 1)

    with torch.inference_mode():
        make_ready(handle)
        chunks = list(model.reply(asked, sampling=Sampling(**GREEDY)))
        prompt = model.prompts.for_reply(asked, 2000)
        logits, state = model._start(prompt, [])
        written = [int(logits.argmax())]
        while len(written) < LENGTH:
            logits, state = model._step(written[-1], state)
            written.append(int(logits.argmax()))
        key = stock.cond_stage_model.clip_name
        expected = stock.generate({key: [[(number, 1.0) for number in prompt.ids]]}, **GREEDY)

        seeded = ["".join(model.reply(asked, sampling=Sampling(max_length=8), seed=seed)) for seed in (1, 1, 2)]
        answers = iter([False, False, True])
        try:
            list(model.reply(asked, sampling=Sampling(**GREEDY), should_stop=lambda: next(answers)))
            stopped = False
        except Interrupted:
            stopped = True

        read = model.prompts.for_slot(told, slot, 2000)
        states = model.encode_slot(told, slot, tokens)
        others = model.encode_slot(told, slot, tokens.flip(0))
        found: dict[str, Any] = {"moved": float((states.context - others.context).abs().max())}
        found |= _remembered(model, told.user("Go on.").assistant([Text("Twice."), Picture("an owl")]), tokens)
        if name == "Gemma4":  # the engine itself can only generate with these
            assert states.context.isfinite().all()
        else:
            encoder.set_clip_options({"layer": -2, "execution_device": management.get_torch_device()})
            whole = encoder.encode([[*read.ids, *tokens]])[0][0]
            end = len(read.ids)
            found["apart"] = apart(states, whole[[*read.caption, *range(end, end + IMAGE_TOKENS)]],
                                    whole[[*read.answer, *read.caption]])  # fmt: skip
        if name == "Qwen3":
            from transformers import Qwen3Config, Qwen3ForCausalLM

            sizes = {**SMALL, "vocab_size": encoder.transformer.model.config.vocab_size, "head_dim": 16}
            other = Qwen3ForCausalLM(Qwen3Config(**sizes, rope_theta=1e6, tie_word_embeddings=True)).eval()
            other.load_state_dict(encoder.transformer.state_dict(), strict=False)
            words = getattr(stock.tokenizer, stock.tokenizer.clip).tokenizer
            quiet = "assistant\n<think>\n\n</think>\n\n{% endif %}"
            words.chat_template = toy_llms.CHATML.replace("assistant\n{% endif %}", quiet)
            ours = LanguageModel(other, words, config=model.config)
            found["transformers"] = {
                "ids": ours.prompts.for_reply(asked, 2000).ids == prompt.ids,
                "said": "".join(ours.reply(asked, sampling=Sampling(max_length=8), seed=1)) == seeded[0],
                "apart": apart(states, *vars(ours.encode_slot(told, slot, tokens)).values()),
            }
    found |= {
        "prompt": model.tokenizer.decode(prompt.ids),
        "thinking": model.tokenizer.decode(model.prompts.with_thinking().for_reply(asked, 2000).ids),
        "special": [model.tokenizer.added_tokens_decoder[n].content for n in prompt.ids
                    if n in model.tokenizer.added_tokens_decoder],
        "chunks": len(chunks),
        "written": written,
        "expected": expected,
        "seeded": seeded,
        "stopped": stopped,
        "caption": model.tokenizer.decode([read.ids[place] for place in read.caption]),
        "scale": float(states.context.std()),
        "width": model.hidden_size,
        "managed": stock.patcher in [each.model for each in management.current_loaded_models],
    }  # fmt: skip
    management.unload_all_models()
    return found | {"left": len(model.prefixes)}


def _remembered(model: Any, told: Any, tokens: torch.Tensor) -> dict[str, Any]:
    """What a model remembers of a longer story, and by how much that changes what it reads and writes."""
    from m2chat.m3adapter.language.sampling import Sampling

    model.forget()
    asked, slot = told.user("And then?"), told.open_slots()[-1]

    def both() -> tuple[str, Any]:
        return "".join(model.reply(asked, sampling=Sampling(**GREEDY))), model.encode_slot(told, slot, tokens)

    said, states = both()
    blocks, warm = len(model.prefixes), both()
    usual, model.prefixes.limit = model.prefixes.limit, 0
    off = both()
    model._reader._parted, parted = False, model._reader._parted
    whole = both()
    model._reader._parted, model.prefixes.limit = parted, usual
    both()
    return {
        "blocks": blocks,
        "same": all(other[0] == said and apart(states, *vars(other[1]).values()) == 0 for other in (warm, off)),
        "whole": (whole[0] == said, apart(states, *vars(whole[1]).values())),
    }


def apart(states: Any, context: torch.Tensor, text: torch.Tensor, *_: Any) -> float:
    return max(float((states.context - context).abs().max()), float((states.text - text).abs().max()))


def painted(handles: dict[str, Any]) -> bool:
    """Whether the first picture of a story is that of its caption alone."""
    from m2chat.m3adapter.language.sampling import Sampling
    from m2chat.nodes.memory import assemble

    chat = assemble(**handles)
    with torch.inference_mode():
        short = Sampling(max_length=16)  # later it begins to think, and never stops
        story = chat.story("A fox.", 1, steps=2, seed=1, sampling=short)
        (slot,) = story.pictures()
        picture = story.at(slot)
        plain = chat.paint(chat.encode_text([picture.caption]), seed=1, steps=2)
    return torch.equal(picture.image, plain)
