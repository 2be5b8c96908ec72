"""The pack's settings of a language model, beyond the model's own configuration."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..values import label, shown, whole
from ..weights.model_files import read_json

CONFIG_NAME = "m2chat.json"
# The instructions for a model that was not trained for the markup; edit them as you like.
INSTRUCTIONS = Path(__file__).with_name("illustrator.txt")


@dataclass(frozen=True)
class LanguageModelConfig:
    """The contents of a folder's m2chat.json.

    Attributes:
        feature_layer: Index into the hidden states that the adapter reads. The last layer serves the choice of the next
            token only; the one before carries more.
        picture_token: The token that stands for a user's picture in a model that sees through a projection.
        picture_length: How many of these tokens a picture takes.
        open_tag: What the assistant writes before a caption.
        close_tag: What it writes after a caption.
        instructions: What is put before every conversation, see `instructing`; "" for a model that was trained for the
            markup.
    """

    feature_layer: int = -2
    picture_token: str = "<|picture|>"
    picture_length: int = 4
    open_tag: str = "<image>"
    close_tag: str = "</image>"
    instructions: str = ""

    @classmethod
    def read(cls, folder: Path) -> LanguageModelConfig:
        """Read the configuration in a folder, or return `untrained` if it has none.

        Raises:
            ValueError: The file is damaged or has a wrong value; the message is one sentence.
        """
        path = folder / CONFIG_NAME
        if not path.is_file():
            return cls.untrained()
        known = {item.name for item in fields(cls)}
        stored = {name: value for name, value in read_json(path).items() if name in known}
        for name, value in stored.items():
            _check(f"{name} in {label(path)}", name, value)
        config = cls(**stored)
        if config.open_tag == config.close_tag:
            raise ValueError(f"{label(path)} has the same open_tag and close_tag: make them different.")
        if not config.writes_pictures:
            raise ValueError(
                f"{label(path)} has an open_tag and a close_tag that do not mark a picture: "
                "use <image> and </image>, for example."
            )
        try:
            instructing(config.instructions)
        except ValueError as error:
            raise ValueError(f"{label(path)}: {error}") from error
        return config

    @property
    def writes_pictures(self) -> bool:
        """Whether a caption between the tags is parsed as a picture."""
        from ..conversation.markup import parse
        from ..conversation.segments import Picture

        segments = parse(f"{self.open_tag}a fox{self.close_tag}")
        return len(segments) == 1 and isinstance(segments[0], Picture)

    @classmethod
    def untrained(cls) -> LanguageModelConfig:
        """Return the configuration of a model that was not trained for this pack.

        Its tags differ from the default, since `<image>` is how several models spell a picture that is shown to them.
        """
        instructions = INSTRUCTIONS.read_text(encoding="utf-8").strip()
        return cls(open_tag="<picture>", close_tag="</picture>", instructions=instructions)

    def write(self, folder: Path) -> None:
        """Write the folder's m2chat.json."""
        (folder / CONFIG_NAME).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def _check(field: str, name: str, value: Any) -> None:
    """Raise ValueError unless a value of m2chat.json is right."""
    if name == "feature_layer":
        whole(field, value, -(2**20), 2**20)
    elif name == "picture_length":
        whole(field, value, 1, 2**16)
    elif not isinstance(value, str) or (name != "instructions" and not value.strip()):
        raise ValueError(
            f"{field} is {shown(value)}: give a text{'' if name == 'instructions' else ' that is not empty'}."
        )


def instructing(text: str) -> list[tuple[str, list[str]]]:
    """Parse instructions into messages, each a role and its texts.

    The beginning of the text is the system message. Lines `--- user` and `--- assistant`, alternating, begin the turns
    of examples, which small models follow better than instructions.

    Raises:
        ValueError: The turns do not alternate, or the last one is not the assistant's.
    """
    first, *rest = re.split(r"^--- (user|assistant)$", text, flags=re.MULTILINE)
    roles, texts = rest[::2], rest[1::2]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise ValueError("The examples in the instructions must be pairs: `--- user`, then `--- assistant`.")
    return [(role, [text.strip()]) for role, text in zip(["system", *roles], [first, *texts], strict=True)]
