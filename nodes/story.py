"""A whole turn and a whole story, each in one node."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io
from comfy_execution.graph import ExecutionBlocker

from ..m3adapter.conversation.conversation import Conversation, Picture
from ..m3adapter.conversation.outline import beats
from ..m3adapter.painter import Painter
from ..m3adapter.values import MAX_VARIANTS, check_premise
from ..m3adapter.values import rerolls as parse_rerolls
from . import batching, inputs, wires
from .errors import complaint, names_node
from .memory import Handle, assemble
from .running import ShowsText, TurnProgress, shown


def painted(conversation: Conversation, turn: int) -> list[Picture]:
    """Return the painted pictures of a turn."""
    segments = conversation.turns[turn].segments
    return [segment for segment in segments if isinstance(segment, Picture) and not segment.is_open]


class TakeTurn(ShowsText, io.ComfyNode):
    """Takes the user's message, and replies with text and pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_Turn",
            display_name="Take Turn",
            category="M2Chat/story",
            description="Says something and lets the model reply with text and pictures: one round of a "
            "dialogue. Without text, it completes what is open: a reply, or pictures.",
            search_aliases=["chat", "interleaved", "dialogue", "all in one"],
            inputs=[
                *inputs.models(),
                inputs.conversation("A new conversation, or one whose last turn is the assistant's."),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="What the user says. If empty, the conversation's last message is answered, or its "
                    "open pictures are painted.",
                ),
                inputs.gate(),
                inputs.seed("The same seed gives the same reply and pictures."),
                inputs.steps(),
                inputs.guidance(),
                inputs.memory(),
                inputs.style(),
                inputs.negative(),
                *inputs.size(),
                inputs.max_length(),
                inputs.max_pictures(),
                *inputs.thinking(),
                io.Int.Input(
                    "variants",
                    default=1,
                    min=1,
                    max=MAX_VARIANTS,
                    optional=True,
                    advanced=True,
                    tooltip="How many variants of each picture to paint, at once if the memory allows it. The first is "
                    "placed, the others become its versions.",
                ),
            ],
            outputs=[
                wires.Conversation.Output(
                    display_name="conversation", tooltip="The conversation with the message and the reply."
                ),
                io.Image.Output(
                    display_name="images",
                    is_output_list=True,
                    tooltip="The reply's pictures, one by one. If it has none, nodes connected here do not run.",
                ),
                io.String.Output(display_name="text", tooltip="The reply's text."),
                io.String.Output(
                    display_name="thoughts", tooltip="What the model thought before and during its reply; often empty."
                ),
            ],
        )

    @classmethod
    @names_node
    def execute(
        cls,
        language_model: Handle,
        decoder: Handle | Painter,
        conversation: Conversation,
        text: str,
        vision_encoder: Handle | None = None,
        adapter: Handle | None = None,
        **settings: Any,
    ) -> io.NodeOutput:
        """Take the turn."""
        conversation = conversation.user(text) if text.strip() else conversation
        chat = assemble(language_model, vision_encoder, adapter, decoder)
        chosen = inputs.turn_settings(**settings)
        if chosen.variants > 1:
            fitting = batching.batch_size(decoder, chosen.width, chosen.height)
            chosen = replace(chosen, batch_size=min(fitting, chosen.variants))
        progress = TurnProgress(chosen.steps)
        with progress.interruptible() as should_stop:
            conversation = chat.turn(conversation, chosen, should_stop=should_stop, on_event=progress.hear)
        live = progress.text
        live.show()
        images = [picture.pixels[None] for picture in painted(conversation, -1)]
        # ComfyUI cannot run a node on an empty list; a blocker quietly keeps it from running at all.
        reply = conversation.turns[-1].text
        shown_as = shown(reply) | live.ui
        return io.NodeOutput(conversation, images or [ExecutionBlocker(None)], reply, *live.replies(1), ui=shown_as)


class TellStory(ShowsText, io.ComfyNode):
    """Tells a story from a premise."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_Story",
            display_name="Tell Story",
            category="M2Chat/story",
            description="Tells an illustrated story: each panel is a turn of a conversation, with text and a picture.",
            search_aliases=["storybook", "comic", "illustrated story", "interleaved", "panels"],
            inputs=[
                *inputs.models(),
                inputs.premise(),
                inputs.panels(),
                inputs.gate(),
                inputs.seed("The same seed tells the same story."),
                inputs.steps(),
                inputs.guidance(),
                wires.Conversation.Input(
                    "conversation",
                    optional=True,
                    tooltip="What the story continues: a cast, a system text, or the story so far.",
                ),
                inputs.memory(),
                io.String.Input(
                    "outline",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="One line for each panel, from Outline or typed by hand: what the user says in it.",
                ),
                inputs.style(),
                inputs.negative(),
                io.String.Input(
                    "rerolls",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Pictures to paint again with other seeds, such as 3: 1, 5: 2 (the third picture "
                    "with its first alternative).",
                ),
                *inputs.size(),
                inputs.max_length(),
                inputs.max_pictures(),
                *inputs.thinking(),
                inputs.batch_size(
                    ", of those that do not refer to each other (see Memory of Pictures). 1 paints them one by one."
                ),
            ],
            outputs=[
                wires.Conversation.Output(
                    display_name="conversation", tooltip="The story as a conversation, to continue or to export."
                ),
                io.Image.Output(display_name="panels", is_output_list=True, tooltip="The pictures one by one."),
                io.Image.Output(display_name="batch", tooltip="The pictures as one batch."),
                io.String.Output(display_name="texts", is_output_list=True, tooltip="The text of each panel."),
                io.String.Output(
                    display_name="captions", is_output_list=True, tooltip="What each picture should show."
                ),
                io.Int.Output(display_name="seeds", is_output_list=True, tooltip="The seed of each picture."),
                io.Float.Output(display_name="gates", is_output_list=True, tooltip="The gate of each picture."),
                io.String.Output(
                    display_name="thoughts",
                    is_output_list=True,
                    tooltip="What the model thought in each panel; often empty.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, premise: str | None = None) -> bool | str:
        """Refuse an empty premise before anything runs."""
        return complaint(check_premise, premise)

    @classmethod
    @names_node
    def execute(
        cls,
        language_model: Handle,
        decoder: Handle | Painter,
        premise: str,
        panels: int,
        vision_encoder: Handle | None = None,
        adapter: Handle | None = None,
        conversation: Conversation | None = None,
        outline: str = "",
        rerolls: str = "",
        **settings: Any,
    ) -> io.NodeOutput:
        """Tell the story."""
        lines, numbers = beats(outline), parse_rerolls(rerolls)
        start = Conversation() if conversation is None else conversation
        chat = assemble(language_model, vision_encoder, adapter, decoder)
        chosen = inputs.turn_settings(**settings)
        progress = TurnProgress(chosen.steps, panels)
        with progress.interruptible() as should_stop:
            story = chat.story(
                premise,
                panels,
                chosen,
                outline=lines,
                start=start,
                rerolls=numbers,
                should_stop=should_stop,
                on_event=progress.hear,
            )
        live = progress.text
        live.show()
        turns = [
            number for number in range(len(start.turns), len(story.turns)) if story.turns[number].role == "assistant"
        ]
        texts = [story.turns[number].text for number in turns]
        pictures = [picture for number in turns for picture in painted(story, number)]
        images = [picture.pixels[None] for picture in pictures]
        shown_as = shown("\n\n".join(texts)) | live.ui
        return io.NodeOutput(
            story,
            images,
            torch.cat(images),
            texts,
            [picture.caption for picture in pictures],
            [picture.seed for picture in pictures],
            [picture.gate for picture in pictures],
            live.replies(len(texts)),
            ui=shown_as,
        )


NODES = [TakeTurn, TellStory]
