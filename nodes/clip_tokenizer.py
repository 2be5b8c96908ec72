"""ComfyUI's tokenizers with what a dialogue needs: the special tokens around turns."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import comfy.sd1_clip
import tokenizers
from comfy.text_encoders.spiece_tokenizer import SPieceTokenizer


@dataclass(frozen=True)
class Family:
    """How the models of one family write a dialogue; `{}` stands for the text of a turn.

    Attributes:
        marks: The special tokens around turns. The first one identifies the family.
        user, assistant, system: A turn. Without a form for system turns, their text goes into the user's turn.
        opening: The beginning of the assistant's next turn.
        quiet: What follows the opening to tell a model that can think aloud that it has already done so.
        start: The token at the very beginning.
        think: What opens the system's turn of a model that thinks only when asked to.
        picture: The token in whose place a picture stands.
        around: Forms of a picture and what stands around it, `{}` being its token; the first whose tokens are known.
    """

    marks: tuple[str, ...]
    user: str
    assistant: str
    opening: str
    system: str | None = None
    start: str = ""
    quiet: str = ""
    think: str = ""
    picture: str = ""
    around: tuple[str, ...] = ("{}",)
    switch: str = "enable_thinking"  # the name by which ChatTemplate finds that `quiet` can be left out


FAMILIES = (
    Family(
        ("<|im_start|>", "<|im_end|>"),
        user="<|im_start|>user\n{}<|im_end|>\n",
        assistant="<|im_start|>assistant\n{}<|im_end|>\n",
        opening="<|im_start|>assistant\n",
        system="<|im_start|>system\n{}<|im_end|>\n",
        picture="<|image_pad|>",
        around=("<|vision_start|>{}<|vision_end|>",),
    ),
    Family(
        ("<|turn>", "<turn|>"),
        user="<|turn>user\n{}<turn|>\n",
        assistant="<|turn>model\n{}<turn|>\n",
        opening="<|turn>model\n",
        quiet="<|channel>thought\n<channel|>",
        system="<|turn>system\n{}<turn|>\n",
        start="<bos>",
        think="<|think|>\n",
        picture="<|image|>",
        around=("\n\n<|image>{}<image|>\n\n", "\n\n{}\n\n"),
    ),
    Family(
        ("<start_of_turn>", "<end_of_turn>"),
        user="<start_of_turn>user\n{}<end_of_turn>\n",
        assistant="<start_of_turn>model\n{}<end_of_turn>\n",
        opening="<start_of_turn>model\n",
        start="<bos>",
        picture="<image_soft_token>",
        around=("\n\n<start_of_image>{}<end_of_image>\n\n", "\n\n{}\n\n"),
    ),
    Family(
        ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "</s>"),
        user="[INST]{}[/INST]",
        assistant="{}</s>",
        opening="",
        system="[SYSTEM_PROMPT]{}[/SYSTEM_PROMPT]",
        start="<s>",
    ),
)
THOUGHT = "<think>\n\n</think>\n\n"  # Qwen's form of `quiet`, in a family of which not all can think


class StockTokenizer:
    """A stock tokenizer with those parts of transformers' interface that LanguageModel and ChatTemplate use.

    Args:
        stock: The tokenizer of one text encoder.
        thinks: Whether the model thinks aloud unless told not to.

    Raises:
        ValueError: It lacks the special tokens of every known family.
    """

    all_special_ids: tuple[int, ...] = ()  # added_tokens_decoder has them all
    all_special_tokens: tuple[str, ...] = ()
    eos_token_id = None  # the model itself knows

    def __init__(self, stock: comfy.sd1_clip.SDTokenizer, *, thinks: bool = False) -> None:
        inner = stock.tokenizer
        words = _Pieces(inner) if isinstance(inner, SPieceTokenizer) else _Words(inner)
        special = words.special()
        known = {token: number for number, token in special.items()}
        family = next((family for family in FAMILIES if family.marks[0] in known), None)
        if family is None:
            raise ValueError(
                "The text encoder has no tokens for the turns of a chat: load one that was made for conversations."
            )
        quiet = family.quiet or (THOUGHT if thinks else "")
        for token in (family.picture, family.think.strip()):  # not every tokenizer counts them among its special ones
            if token and token not in known and (number := words.number(token)) is not None:
                special[number], known[token] = token, number
        think = family.think if family.think.strip() in known else ""
        self.chat_template = replace(family, quiet=quiet, switch=family.switch if quiet else "", think=think)
        self.picture_id = known.get(family.picture)
        self._picture = self._around(family, words).replace("{}", family.picture)
        self.added_tokens_decoder = {
            number: SimpleNamespace(content=token, special=True) for number, token in special.items()
        }
        self._words, self._known = words, known
        self._marks = re.compile(f"({'|'.join(re.escape(token) for token in known)})")

    def apply_chat_template(
        self,
        messages: list[dict[str, Any]],
        *,
        tokenize: bool,
        add_generation_prompt: bool = False,
        enable_thinking: bool = True,
    ) -> str:
        """Return messages, of texts or of texts and pictures, as the family writes them; `tokenize` must be False."""
        family = self.chat_template
        forms = [(getattr(family, each["role"]), self._content(each["content"])) for each in messages]
        if enable_thinking and family.think and family.system:
            own = forms.pop(0)[1] if messages and messages[0]["role"] == "system" else ""
            forms.insert(0, (family.system, family.think + own))
        said = "".join(form.replace("{}", content) for form, content in forms if form)
        opening = family.opening + ("" if enable_thinking else family.quiet)
        return family.start + said + (opening if add_generation_prompt else "")

    def _content(self, content: str | list[dict[str, str]]) -> str:
        if isinstance(content, str):
            return content
        return "".join(self._picture if part["type"] == "image" else part["text"] for part in content)

    @staticmethod
    def _around(family: Family, words: _Words | _Pieces) -> str:
        """Return the first form of a picture of which the tokenizer knows all tokens."""
        for form in family.around:
            if all(words.number(token) is not None for token in re.findall(r"<[^<>\s]+>", form)):
                return form
        return family.around[-1]

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        """Return the ids of a text, including its special tokens; `add_special_tokens` must be False."""
        ids: list[int] = []
        for part in self._marks.split(text):
            ids += [self._known[part]] if part in self._known else self._words.encode(part)
        return {"input_ids": ids}

    def decode(self, ids: list[int], **_how: bool) -> str:
        """Return the text of ids, including special tokens."""
        return self._words.decode(ids)

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """Return the id of a special token."""
        return self._known.get(token)


class _Words:
    """A tokenizer from transformers or from the package tokenizers."""

    def __init__(self, inner: Any) -> None:
        self.fast: tokenizers.Tokenizer = getattr(inner, "backend_tokenizer", None) or inner.tokenizer

    def special(self) -> dict[int, str]:
        found = self.fast.get_added_tokens_decoder()
        return {number: token.content for number, token in found.items() if token.special}

    def number(self, token: str) -> int | None:
        return self.fast.token_to_id(token)

    def encode(self, text: str) -> list[int]:
        return self.fast.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        return self.fast.decode(ids, skip_special_tokens=False)


class _Pieces:
    """A tokenizer from sentencepiece. The engine's wrapper keeps special tokens in a separate table."""

    def __init__(self, inner: SPieceTokenizer) -> None:
        self.pieces = inner.tokenizer
        self.more = inner.special_tokens or {}

    def special(self) -> dict[int, str]:
        control = {number: self.pieces.id_to_piece(number) for number in range(self.pieces.get_piece_size())
                   if self.pieces.is_control(number)}  # fmt: skip
        marks = (mark for family in FAMILIES for mark in family.marks)
        ids = {self.pieces.piece_to_id(mark): mark for mark in marks}
        ids.pop(self.pieces.unk_id(), None)
        return {**control, **ids, **{number: token for token, number in self.more.items()}}

    def number(self, token: str) -> int | None:
        number = self.more.get(token, self.pieces.piece_to_id(token))
        return None if number == self.pieces.unk_id() else number

    def encode(self, text: str) -> list[int]:
        return self.pieces.encode(text, add_bos=False, add_eos=False)

    def decode(self, ids: list[int]) -> str:
        # Models have a few numbers more than there are pieces, for pictures and to be of an even size.
        return self.pieces.decode([number for number in ids if number < self.pieces.get_piece_size()])
