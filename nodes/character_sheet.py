"""The character sheet: what a story's characters look like, for painters that know them by words alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import comfy.utils
from comfy_api.latest import io

from ..m3adapter.conversation.character_sheet import looks_of, sheet
from ..m3adapter.conversation.conversation import Conversation
from ..m3adapter.events import Event, TextChunk
from ..m3adapter.settings import TurnSettings
from ..m3adapter.story_writing import write_sheet
from ..m3adapter.values import check_premise
from . import inputs, wires
from .errors import complaint, names_node
from .memory import Handle, make_ready
from .running import LiveText, ShowsText, interruptible, show_text, shown

if TYPE_CHECKING:
    from ..m3adapter.language.sampling import Sampling


class CharacterSheet(ShowsText, io.ComfyNode):
    """Writes down once what the characters of a story look like."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_CharacterSheet",
            display_name="Character Sheet",
            category="M2Chat/story",
            description="Says once what each character looks like: written by the language model, or typed by hand. "
            "Captions carry it for painters that have no references.",
            search_aliases=["consistent character", "cast", "attributes", "looks", "bible"],
            inputs=[
                inputs.premise(),
                inputs.seed("The same seed gives the same sheet."),
                io.String.Input(
                    "lines",
                    multiline=True,
                    default="",
                    tooltip="The sheet typed by hand, one line for each character, such as Rosa: a small red fox "
                    "with a green scarf. If given, the language model is not used.",
                ),
                inputs.language_model(
                    optional=True,
                    tooltip="Writes the sheet if lines is empty. The starter cannot follow such instructions.",
                ),
                wires.Conversation.Input(
                    "conversation",
                    optional=True,
                    tooltip="A conversation whose cast is described: its names and pictures stay, and so do looks it "
                    "has already. Without one, a new conversation begins.",
                ),
                inputs.max_length("The maximum number of tokens of the sheet, if the language model writes it."),
                *inputs.thinking(),
            ],
            outputs=[
                wires.Conversation.Output(
                    display_name="conversation", tooltip="The conversation with the sheet in its cast, for Tell Story."
                ),
                io.String.Output(display_name="sheet", tooltip="A line for each character: name: looks."),
            ],
        )

    @classmethod
    def validate_inputs(cls, lines: str | None = None) -> bool | str:
        """Refuse lines that are no sheet before anything runs; the premise matters only if there are none."""
        return complaint(looks_of, lines)

    @classmethod
    @names_node
    def execute(
        cls,
        premise: str,
        seed: int,
        lines: str,
        language_model: Handle | None = None,
        conversation: Conversation | None = None,
        max_length: int = 256,
        thinking: str = "off",
        max_thinking: int = 4096,
    ) -> io.NodeOutput:
        """Take the typed sheet, keep the one there is, or write one."""
        conversation = Conversation() if conversation is None else conversation
        looks, live = looks_of(lines), LiveText()
        nameless = [character.name for character in conversation.cast if not character.looks]
        if not looks and (nameless or not conversation.cast):
            check_premise(premise)
            if language_model is None:
                raise ValueError("Nothing can write the character sheet: connect language_model, or type its lines.")
            sampling = inputs.sampling(max_length, thinking, max_thinking)
            looks = cls._asked(language_model, premise, nameless, seed, sampling, live)
        conversation = conversation.with_looks(looks)
        text = sheet(conversation.cast)
        show_text(text)
        return io.NodeOutput(conversation, text, ui=shown(text) | live.ui)

    @classmethod
    def _asked(
        cls, language_model: Handle, premise: str, names: list[str], seed: int, sampling: Sampling, live: LiveText
    ) -> dict[str, str]:
        bar = comfy.utils.ProgressBar(sampling.max_length)

        def on_event(event: Event) -> None:
            live.hear(event)
            bar.update(isinstance(event, TextChunk))

        settings = TurnSettings(seed=seed, sampling=sampling)
        make_ready(language_model)
        with interruptible() as should_stop:
            return write_sheet(
                language_model.part, premise, names, settings, should_stop=should_stop, on_event=on_event
            )


NODES = [CharacterSheet]
