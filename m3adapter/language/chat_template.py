"""A model's own chat template, whatever it makes of system turns, of pictures and of thinking."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

from .thought_marks import marked
from .thoughts import ThoughtSplitter

# The variables by which templates keep a model from thinking, or from thinking long, and let it think; None is to leave
# a variable out.
_SWITCHES: dict[str, tuple[Any, Any]] = {
    "enable_thinking": (False, True),
    "thinking": (False, True),
    "thinking_budget": (0, None),
    "reasoning_effort": ("low", None),
}

Message = tuple[str, Sequence[str | None]]  # the role, and what it says: texts, and None for each picture

# A conversation that every template must pass on, word by word.
_SAID = ("a lighthouse keeper", "the lamp was lit", "and then it rained")


def untemplated(name: str) -> str:
    """What is to be said of a model without a chat template."""
    return (
        "The language model has no chat template, so it was not made for conversations: "
        f"choose the variant of {name} that is called chat or instruct."
    )


class ChatTemplate:
    """Writes messages as the model was trained to read them.

    Args:
        source: The tokenizer or processor that has the template.
        shows_pictures: Whether the template takes pictures, and so its messages as lists of parts; else as strings, if
            it understands them.
        name: What the model is called in errors.

    Raises:
        ValueError: there is no template, or it does not pass on all that is said and shown.
    """

    def __init__(self, source: Any, *, shows_pictures: bool = False, name: str = "the language model") -> None:
        if not getattr(source, "chat_template", None):
            raise ValueError(untemplated(name))
        self.source = source
        self.shows_pictures = shows_pictures
        self._how: dict[str, Any] = {}
        self._in_parts = self._understood(name)
        self._how = self._quiet = self._switched()  # models that can think aloud are asked not to
        self._takes_system = self._heeds_system()

    def aloud(self) -> ChatTemplate:
        """The same template, letting the model think before it replies."""
        other = copy.copy(self)
        other._how = {name: _SWITCHES[name][1] for name in self._quiet if _SWITCHES[name][1] is not None}
        return other

    @property
    def switches(self) -> bool:
        """Whether it can ask the model not to think, or not to think long."""
        return bool(self._quiet)

    @property
    def thinks(self) -> bool:
        """Whether the model may be expected to think before it replies."""
        opening = self.opening()
        return ThoughtSplitter(opening).thinking or (marked(str(self.source.chat_template)) and not marked(opening))

    def opening(self) -> str:
        """What the template writes of the assistant's turn itself: its mark, and in some the beginning of a thought."""
        said = "Yes indeed"
        return self._written([("user", [said])], add_generation_prompt=True).rpartition(said)[2]

    def render(self, messages: Sequence[Message]) -> str:
        """The messages, the system's first if any, and the beginning of the assistant's next one."""
        if messages and messages[0][0] == "system" and not self._takes_system:
            (_, told), *messages = messages
            first, said = messages[0] if messages else ("user", ())
            messages = [(first, (*told, "\n\n", *said)), *messages[1:]]
        return self._written(messages, add_generation_prompt=True)

    def ending(self) -> str:
        """What follows the assistant's words where its turn ends."""
        said = "Yes indeed"
        return self._written([("user", ["Hello"]), ("assistant", [said])]).rpartition(said)[2]

    def _written(self, messages: Sequence[Message], in_parts: bool | None = None, **how: Any) -> str:
        in_parts = self._in_parts if in_parts is None else in_parts
        given = [{"role": role, "content": self._content(said, in_parts)} for role, said in messages]
        return self.source.apply_chat_template(given, tokenize=False, **self._how, **how)

    @staticmethod
    def _content(said: Sequence[str | None], in_parts: bool) -> str | list[dict[str, str]]:
        if not in_parts:
            return "".join(part or "" for part in said)
        return [{"type": "image"} if part is None else {"type": "text", "text": part} for part in said]

    def _understood(self, name: str) -> bool:
        """Whether messages are given as lists of parts: the form in which all that is said reaches the prompt.

        Raises ValueError where none does it, or where pictures do not.
        """
        asked, replied, more = _SAID
        messages: list[Message] = [("user", [asked]), ("assistant", [replied]), ("user", [more])]
        trouble = ""
        for in_parts in (True,) if self.shows_pictures else (False, True):
            try:
                written = self._written(messages, in_parts, add_generation_prompt=True)
                shown = self._written([("user", [None, asked])], in_parts) if self.shows_pictures else ""
                alone = self._written([("user", [asked])], in_parts) if self.shows_pictures else ""
            except _failures() as error:
                trouble = trouble or " ".join(str(error).split())[:100].split(". ")[0].rstrip(".")
                continue
            places = [written.find(said) for said in _SAID]
            # A template that takes only strings writes lists as Python does.
            if -1 in places or places != sorted(places) or "'type'" in written:
                continue
            if self.shows_pictures and (shown == alone or "'type'" in shown):
                raise ValueError(
                    f"The chat template of {name} leaves out the pictures that users show: "
                    "get its chat_template.json or chat_template.jinja again."
                )
            return in_parts
        said = f" ({trouble})" if trouble else ""
        raise ValueError(
            f"The chat template of {name} leaves out what is said in a conversation{said}: "
            "get the model's own chat template again, or another variant of the model."
        )

    def _switched(self) -> dict[str, Any]:
        """The values of the template's variables that keep the model from thinking."""
        source, how = str(self.source.chat_template), {}
        for name, (value, _) in _SWITCHES.items():
            if not re.search(rf"\b{name}\b", source):
                continue
            if name == "reasoning_effort" and re.search(r"""['"]none['"]""", source):
                value = "none"
            try:
                self._written([("user", ["Hello"])], **{name: value})
            except _failures():  # the name means something else there
                continue
            how[name] = value
        return how

    def _heeds_system(self) -> bool:
        """Whether a system turn reaches the prompt: some templates refuse one, some pass it over."""
        rule, asked = "be brief as a bell", _SAID[0]
        try:
            written = self._written([("system", [rule]), ("user", [asked])])
        except _failures():
            return False
        return rule in written and asked in written


def _failures() -> tuple[type[Exception], ...]:
    """What a template may raise, being a program of its own."""
    from jinja2 import TemplateError

    return (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
