"""What the pack has to know of a language model beyond the model's own configuration."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..values import is_whole, shown
from ..weights.model_files import label, read_json

CONFIG_NAME = "m2chat.json"
# What a model is told that nobody has trained for the markup. It is there to be edited.
INSTRUCTIONS = Path(__file__).with_name("illustrator.txt")


@dataclass(frozen=True)
class LanguageModelConfig:
    """What a folder's m2chat.json says.

    Attributes:
        feature_layer: Index into the hidden states that the adapter reads. The last layer only serves the next word's
            choice; the one before knows more.
        picture_token: The token that stands for a user's picture, where a projection makes the model see.
        picture_length: How many of them a picture takes.
        open_tag, close_tag: What the assistant writes around a caption.
        instructions: Put in front of every conversation, see `instructing`; "" for a model that was trained for the
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
        """The configuration in a folder, or that of a model which never heard of this pack.

        Raises ValueError, one sentence, for a file that is damaged or has a value of another kind.
        """
        path = folder / CONFIG_NAME
        if not path.is_file():
            return cls.untrained()
        known = {item.name for item in fields(cls)}
        stored = {name: value for name, value in read_json(path).items() if name in known}
        for name, value in stored.items():
            if wanted := _complaint(name, value):
                raise ValueError(f"{label(path)} has {shown(value)} as {name}: give {wanted}.")
        config = cls(**stored)
        if config.open_tag == config.close_tag:
            raise ValueError(f"{label(path)} has the same open_tag and close_tag: give two different ones.")
        if not config.writes_pictures:
            raise ValueError(
                f"{label(path)} has an open_tag and a close_tag that are not read as a picture's: "
                "give <image> and </image>, say."
            )
        try:
            instructing(config.instructions)
        except ValueError as error:
            raise ValueError(f"{label(path)}: {error}") from error
        return config

    @property
    def writes_pictures(self) -> bool:
        """Whether a caption between the tags is read as a picture."""
        from ..conversation.markup import parse
        from ..conversation.segments import Picture

        read = parse(f"{self.open_tag}a fox{self.close_tag}")
        return len(read) == 1 and isinstance(read[0], Picture)

    @classmethod
    def untrained(cls) -> LanguageModelConfig:
        """That of a model which never heard of this pack.

        Its tags are others: `<image>` is how several models spell a picture that is shown to them.
        """
        instructions = INSTRUCTIONS.read_text(encoding="utf-8").strip()
        return cls(open_tag="<picture>", close_tag="</picture>", instructions=instructions)

    def write(self, folder: Path) -> None:
        """Writes the folder's m2chat.json."""
        (folder / CONFIG_NAME).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def _complaint(name: str, value: Any) -> str | None:
    """What is wanted in place of a value of m2chat.json; None where it is right."""
    if name == "feature_layer":
        return None if is_whole(value, -(2**20), 2**20) else "a whole number, say -2"
    if name == "picture_length":
        return None if is_whole(value, 1, 2**16) else "a whole number from 1, say 4"
    if name == "instructions":
        return None if isinstance(value, str) else "a text"
    return None if isinstance(value, str) and value.strip() else "a text that is not empty"


def instructing(text: str) -> list[tuple[str, list[str]]]:
    """Instructions as messages, each a role and what is said.

    The text's beginning is the system's. Lines `--- user` and `--- assistant`, in alternation, begin the turns of
    examples: small models do as they are shown rather than as they are told.

    Raises:
        ValueError: the turns do not alternate, or the last one is not the assistant's.
    """
    first, *rest = re.split(r"^--- (user|assistant)$", text, flags=re.MULTILINE)
    roles, said = rest[::2], rest[1::2]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise ValueError("The examples in the instructions must be pairs: `--- user`, then `--- assistant`.")
    return [(role, [words.strip()]) for role, words in zip(["system", *roles], [first, *said], strict=True)]
