"""Trains the tokenizer of the decoder's text encoders."""

from __future__ import annotations

import json
from pathlib import Path

MAX_LENGTH = 32


def build_tokenizer(directory: Path, texts: list[str], vocab_size: int = 1536, length: int = MAX_LENGTH) -> None:
    """Train a CLIP tokenizer (lower case, byte-level BPE, `</w>` at the ends of words) and save it.

    Args:
        directory: The folder to save it in.
        texts: Captions to train it on.
        vocab_size: Number of tokens before those that are added for the ends of words.
        length: Of a caption in tokens.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    special = ["<|startoftext|>", "<|endoftext|>"]
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=special[1]))
    bpe.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True) for token in special],
        initial_alphabet=sorted(alphabet),
        end_of_word_suffix="</w>",
    )
    bpe.train_from_iterator(texts, trainer)
    directory.mkdir(parents=True, exist_ok=True)
    vocab_path, _ = (Path(path) for path in bpe.model.save(str(directory)))
    vocab = json.loads(vocab_path.read_text("utf-8"))
    for byte in sorted(alphabet):  # any byte may end a word, even if none did in the training texts
        vocab.setdefault(byte + "</w>", len(vocab))
    vocab_path.write_text(json.dumps(vocab, ensure_ascii=False), "utf-8")
    tokenizer = CLIPTokenizer.from_pretrained(
        directory,
        pad_token=special[1],
        unk_token=special[1],
        bos_token=special[0],
        eos_token=special[1],
        model_max_length=length,
        local_files_only=True,
    )
    tokenizer.save_pretrained(directory)
