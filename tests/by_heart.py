"""A language model of toy size that knows forty replies by heart, thoughts and all, in many formats."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from m3adapter.language.config import LanguageModelConfig
from m3adapter.language.language_model import LanguageModel

ANIMALS = ("fox", "owl", "bear", "cat", "frog", "hen", "crab", "swan")
SPECIAL = (
    "<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>",
    "<|return|>", "<|constrain|>", "[INST]", "[/INST]", "[THINK]", "[/THINK]", "<|START_THINKING|>",
    "<|END_THINKING|>", "<|turn>", "<turn|>", "<|channel>", "<channel|>",
)  # fmt: skip
PLAIN = ("<think>", "</think>")  # known as one token each, but not special, as Qwen's tokenizer has them

_CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
_OPENING = "{% if add_generation_prompt %}<|im_start|>assistant\n"
TEMPLATES = {
    "plain": f"{_CHATML}{_OPENING}{{% endif %}}",
    "opened": f"{_CHATML}{_OPENING}<think>\n{{% endif %}}",
    "thought opened": f"{_CHATML}{_OPENING}<thought>\n{{% endif %}}",
    "switch": f"{_CHATML}{_OPENING}"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
    "harmony": "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}"
    "<|message|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}",
    "brackets": "{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% else %}{{ m.content }}"
    "</s>{% endif %}{% endfor %}",
    "Gemma": "{% for m in messages %}<|turn>{{ m.role }}\n{{ m.content }}<turn|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn>model\n{% endif %}",
}
ENDS = {"harmony": "<|return|>", "brackets": "</s>", "Gemma": "<turn|>"}  # else <|im_end|>
# The template, and the form of a reply.
_HARMONY = "<|channel|>{}<|message|>"
_NEXT = f"<|end|><|start|>assistant{_HARMONY}"
FORMS = (
    ("plain", "<think>{thought}</think>\n\n{said}"),
    ("plain", "<think>\n\n</think>\n\n{said}"),
    ("plain", "<think>{thought}</think>{said}<think>{thought}</think>"),
    ("plain", "{thought}</think>{said}"),
    ("plain", "<thinking>\n{thought}\n</thinking>\n{said}"),
    ("plain", "<seed:think>{thought}</seed:think>{said}"),
    ("plain", "<think>{thought}</think><answer>{said}</answer>"),
    ("plain", "<|START_THINKING|>{thought}<|END_THINKING|>{said}"),
    ("plain", "Here is my thought process:\n{thought}\nHere is my response:\n{said}"),
    ("opened", "{thought}\n</think>\n\n{said}"),
    ("thought opened", "{thought}\n</thought>\n\n{said}"),
    ("switch", "<think>\n{thought}\n</think>\n\n{said}"),
    ("harmony", f"{_HARMONY.format('analysis')}{{thought}}{_NEXT.format('final')}{{said}}"),
    ("harmony", f"{_HARMONY.format('analysis')}{{thought}}{_NEXT.format('commentary')}{{thought}}"
                f"{_NEXT.format('final')}{{said}}"),
    ("harmony", f"{_HARMONY.format('final')}{{said}}"),
    ("harmony", "analysis{thought}assistantfinal{said}"),
    ("brackets", "[THINK]{thought}[/THINK]{said}"),
    ("Gemma", "<|channel>thought\n{thought}<channel|>{said}"),
    ("plain", "{said}"),
    ("plain", "◁think▷{thought}◁/think▷{said}"),
)  # fmt: skip


@dataclass(frozen=True)
class Reply:
    """A reply that a model has learned to give to `asked`: `text` is its output, the rest what should become of it."""

    template: str
    asked: str
    text: str
    said: str
    caption: str
    thinks: bool


def replies() -> list[Reply]:
    """Forty replies: each format twice, about different animals."""
    found = []
    for number in range(2 * len(FORMS)):
        template, form = FORMS[number % len(FORMS)]
        animal = ANIMALS[(3 * number + number // len(FORMS)) % len(ANIMALS)]
        thought = f"A secret plan. <image>a secret {animal}</image> 1. The secret."
        said = f"Tale {number}: a {animal}.\n<image>a {animal} in a wood</image>\nIt ran."
        text = form.format(thought=thought, said=said)
        plain = f"Tale {number}: a {animal}.\n\nIt ran."
        found.append(Reply(template, f"Tell {number}", text, plain, f"a {animal} in a wood", "{thought}" in form))
    return found


def _tokenizer(texts: list[str]) -> Tokenizer:
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    built.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet))
    built.add_special_tokens(list(SPECIAL))
    built.add_tokens([AddedToken(token, normalized=False) for token in PLAIN])
    return built


def learned(steps: int = 250) -> dict[str, LanguageModel]:
    """One model that knows all replies by heart, as a language model with each of the templates."""
    taught = replies()
    words = _tokenizer([each.text for each in taught] + [each.asked for each in taught])
    tokenizers = {
        name: PreTrainedTokenizerFast(
            tokenizer_object=words,
            chat_template=template,
            pad_token="<pad>",
            bos_token="<s>",
            eos_token=ENDS.get(name, "<|im_end|>"),
        )
        for name, template in TEMPLATES.items()
    }
    rows = []
    for each in taught:
        tokenizer = tokenizers[each.template]
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": each.asked}], tokenize=False, add_generation_prompt=True
        )
        start = tokenizer(asked, add_special_tokens=False)["input_ids"]
        reply = tokenizer(each.text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        rows.append((start, reply))
    longest = max(len(start) + len(reply) for start, reply in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for number, (start, reply) in enumerate(rows):
        end = len(start) + len(reply)
        ids[number, :end] = torch.tensor(start + reply)
        labels[number, len(start) : end] = torch.tensor(reply)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizers["plain"]),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=1024,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if loss.item() < 5e-3:
            break
    model.eval().requires_grad_(False)
    model.generation_config.eos_token_id = None
    plain = LanguageModelConfig()
    return {name: LanguageModel(model, tokenizer, config=plain) for name, tokenizer in tokenizers.items()}
