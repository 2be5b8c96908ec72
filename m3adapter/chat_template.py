"""A model's own chat template, whatever it makes of system turns and of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Message = tuple[str, Sequence[str | None]]  # the role, and what it says: texts, and None for each picture


class ChatTemplate:
    """Writes messages as the model was trained to read them.

    Args:
        source: The tokenizer or processor that has the template.
        shows_pictures: Whether the template takes pictures, and so its messages as lists of parts; else as strings.

    Raises:
        ValueError: there is no template.
    """

    def __init__(self, source: Any, *, shows_pictures: bool = False) -> None:
        if not getattr(source, "chat_template", None):
            raise ValueError(
                "The language model has no chat template, so it was not made for conversations: "
                "choose the variant of it that is called chat or instruct."
            )
        self.source = source
        self.shows_pictures = shows_pictures
        # Models that can think aloud are asked not to.
        self._how = {"enable_thinking": False} if "enable_thinking" in str(source.chat_template) else {}
        self._takes_system = self._heeds_system()

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

    def _written(self, messages: Sequence[Message], **how: Any) -> str:
        given = [{"role": role, "content": self._content(said)} for role, said in messages]
        return self.source.apply_chat_template(given, tokenize=False, **self._how, **how)

    def _content(self, said: Sequence[str | None]) -> str | list[dict[str, str]]:
        if not self.shows_pictures:
            return "".join(part or "" for part in said)
        return [{"type": "image"} if part is None else {"type": "text", "text": part} for part in said]

    def _heeds_system(self) -> bool:
        """Whether a system turn reaches the prompt: some templates refuse one, some pass it over."""
        from jinja2 import TemplateError

        rule = "Be brief"
        try:
            return rule in self._written([("system", [rule]), ("user", ["Hello"])])
        except TemplateError:
            return False
