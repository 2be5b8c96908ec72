"""A model's own chat template, used alike however it treats system turns, pictures and thinking."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .thought_marks import marked
from .thoughts import ThoughtSplitter

# The variables of templates that switch thinking off (or shorten it), and on; None leaves a variable out.
_SWITCHES: dict[str, tuple[Any, Any]] = {
    "enable_thinking": (False, True),
    "thinking": (False, True),
    "thinking_budget": (0, None),
    "reasoning_effort": ("low", None),
}

Message = tuple[str, Sequence[str | None]]  # the role and its parts: texts, and None for each picture

# A conversation that every template must pass on word for word.
_SAID = ("a lighthouse keeper", "the lamp was lit", "and then it rained")


def untemplated(name: str) -> str:
    """Return the error message for a model without a chat template."""
    return (
        "The language model has no chat template, so it was not made for conversations: "
        f"choose the variant of {name} that is called chat or instruct."
    )


class ChatTemplate:
    """Writes messages in the form that a model was trained to read.

    Args:
        source: The tokenizer or processor that has the template.
        shows_pictures: Whether the template takes pictures, and therefore lists of parts as messages.
        name: The name of the model in error messages.

    Raises:
        ValueError: There is no template, or it leaves out texts or pictures of a conversation.
    """

    def __init__(self, source: Any, *, shows_pictures: bool = False, name: str = "the language model") -> None:
        if not getattr(source, "chat_template", None):
            raise ValueError(untemplated(name))
        self.source = source
        self.shows_pictures = shows_pictures
        self._variables: dict[str, Any] = {}
        self._in_parts = self._understood(name)
        self._variables = self._quiet = self._switched()  # by default, models are asked not to think
        self._takes_system = self._heeds_system()

    def with_thinking(self) -> ChatTemplate:
        """Return the same template, which lets the model think before it replies."""
        other = copy.copy(self)
        other._variables = {name: _SWITCHES[name][1] for name in self._quiet if _SWITCHES[name][1] is not None}
        return other

    @property
    def switches(self) -> bool:
        """Whether the template can ask the model not to think, or to think less."""
        return bool(self._quiet)

    @property
    def thinks(self) -> bool:
        """Whether the model is likely to think before it replies."""
        opening = self.opening()
        return ThoughtSplitter(opening).thinking or (marked(str(self.source.chat_template)) and not marked(opening))

    def opening(self) -> str:
        """Return the beginning of the assistant's turn: its mark and, in some templates, the opening of a thought."""
        text = "Yes indeed"
        return self._written([("user", [text])], add_generation_prompt=True).rpartition(text)[2]

    def render(self, messages: Sequence[Message]) -> str:
        """Write messages, a system message first if there is one, and the beginning of the assistant's next turn."""
        if messages and messages[0][0] == "system" and not self._takes_system:
            (_, system), *messages = messages
            role, parts = messages[0] if messages else ("user", ())
            messages = [(role, (*system, "\n\n", *parts)), *messages[1:]]
        return self._written(messages, add_generation_prompt=True)

    def ending(self) -> str:
        """Return what follows the assistant's words at the end of its turn."""
        text = "Yes indeed"
        return self._written([("user", ["Hello"]), ("assistant", [text])]).rpartition(text)[2]

    def _written(
        self,
        messages: Sequence[Message],
        in_parts: bool | None = None,
        *,
        add_generation_prompt: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        in_parts = self._in_parts if in_parts is None else in_parts
        return self.source.apply_chat_template(
            [{"role": role, "content": self._content(parts, in_parts)} for role, parts in messages],
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            **{**self._variables, **(variables or {})},
        )

    @staticmethod
    def _content(parts: Sequence[str | None], in_parts: bool) -> str | list[dict[str, str]]:
        if not in_parts:
            return "".join(part or "" for part in parts)
        return [{"type": "image"} if part is None else {"type": "text", "text": part} for part in parts]

    def _understood(self, name: str) -> bool:
        """Return whether the template needs messages as lists of parts for their texts to reach the prompt.

        Raises:
            ValueError: Texts reach it in neither form, or pictures do not.
        """
        asked, replied, more = _SAID
        messages: list[Message] = [("user", [asked]), ("assistant", [replied]), ("user", [more])]
        trouble = ""
        for in_parts in (True,) if self.shows_pictures else (False, True):
            try:
                written = self._written(messages, in_parts, add_generation_prompt=True)
                with_picture = self._written([("user", [None, asked])], in_parts) if self.shows_pictures else ""
                without = self._written([("user", [asked])], in_parts) if self.shows_pictures else ""
            except _failures() as error:
                trouble = trouble or " ".join(str(error).split())[:100].split(". ")[0].rstrip(".")
                continue
            places = [written.find(text) for text in _SAID]
            # A template that takes only strings writes lists as Python would print them.
            if -1 in places or places != sorted(places) or "'type'" in written:
                continue
            if self.shows_pictures and (with_picture == without or "'type'" in with_picture):
                raise ValueError(
                    f"The chat template of {name} leaves out users' pictures: "
                    "get its chat_template.json or chat_template.jinja again."
                )
            return in_parts
        reason = f" ({trouble})" if trouble else ""
        raise ValueError(
            f"The chat template of {name} leaves out messages of a conversation{reason}: "
            "get the model's own chat template again, or another variant of the model."
        )

    def _switched(self) -> dict[str, Any]:
        """Return the values of the template's variables that keep the model from thinking."""
        source = str(self.source.chat_template)
        variables: dict[str, Any] = {}
        for name, (value, _) in _SWITCHES.items():
            if not re.search(rf"\b{name}\b", source):
                continue
            if name == "reasoning_effort" and re.search(r"""['"]none['"]""", source):
                value = "none"
            try:
                self._written([("user", ["Hello"])], variables={name: value})
            except _failures():  # the variable means something else in this template
                continue
            variables[name] = value
        return variables

    def _heeds_system(self) -> bool:
        """Return whether a system turn reaches the prompt: some templates refuse one, others skip it."""
        rule, asked = "be brief as a bell", _SAID[0]
        try:
            written = self._written([("system", [rule]), ("user", [asked])])
        except _failures():
            return False
        return rule in written and asked in written


def _failures() -> tuple[type[Exception], ...]:
    """Return the exceptions that a template may raise, being a program of its own."""
    from jinja2 import TemplateError

    return (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
