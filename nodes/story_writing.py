"""A story for stock models: written first, painted by any nodes, and put together at the end."""

from __future__ import annotations

import comfy.utils
from comfy_api.latest import io
from torch import Tensor

from ..m3adapter.conversation.conversation import Conversation, ConversationError
from ..m3adapter.conversation.seeds import story_seeds
from ..m3adapter.diffusion.prompt_syntax import escaped
from ..m3adapter.events import Event, TextChunk, TurnDone
from ..m3adapter.language.reply import PICTURES
from ..m3adapter.settings import TurnSettings
from ..m3adapter.story_writing import write_story
from ..m3adapter.values import check_premise
from . import inputs, wires
from .errors import complaint, names_node
from .memory import Handle, make_ready
from .running import LiveText, ShowsText, interruptible, shown


class WriteStory(ShowsText, io.ComfyNode):
    """Writes the text of a story, and the captions of its pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_WriteStory",
            display_name="Write Story",
            category="M2Chat/story",
            description="Writes a story without painting it. Its captions are a list: the nodes that "
            "follow run once for each.",
            search_aliases=["storybook", "captions", "prompts", "ksampler story", "panels"],
            inputs=[
                inputs.language_model(),
                inputs.premise(),
                inputs.panels(default=6),
                inputs.seed("The same seed writes the same story."),
                io.Int.Input(
                    "max_length",
                    default=256,
                    min=1,
                    max=32768,
                    tooltip="The maximum number of tokens of each part; it may end earlier by itself.",
                ),
                inputs.max_pictures(),
                *inputs.thinking(),
                wires.Conversation.Input(
                    "conversation",
                    optional=True,
                    tooltip="A conversation that the story continues, for example from Character Sheet: captions then "
                    "say what its cast looks like.",
                ),
            ],
            outputs=[
                wires.Conversation.Output(
                    display_name="conversation", tooltip="The story with its pictures still open, for Place Pictures."
                ),
                io.String.Output(
                    display_name="captions",
                    is_output_list=True,
                    tooltip="What each picture should show, as prompts for CLIP Text Encode, with brackets escaped.",
                ),
                io.Int.Output(
                    display_name="seeds",
                    is_output_list=True,
                    tooltip="A seed for each picture, the same as Tell Story's.",
                ),
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
        premise: str,
        panels: int,
        seed: int,
        max_length: int,
        max_pictures: int = PICTURES,
        thinking: str = "off",
        max_thinking: int = 4096,
        conversation: Conversation | None = None,
    ) -> io.NodeOutput:
        """Write the story."""
        start = Conversation() if conversation is None else conversation
        if start.open_slots():
            raise ConversationError("The conversation has open pictures: paint them before the story goes on.")
        sampling = inputs.sampling(max_length, thinking, max_thinking)
        settings = TurnSettings(seed=seed, max_pictures=max_pictures, sampling=sampling)
        text, bar = LiveText(), comfy.utils.ProgressBar(panels * max_length)
        written = 0

        def on_event(event: Event) -> None:
            nonlocal written
            text.hear(event)
            bar.update(isinstance(event, TextChunk))
            if isinstance(event, TurnDone):
                written += 1
                bar.update_absolute(written * max_length)
                text.end_reply()

        make_ready(language_model)
        with interruptible() as should_stop:
            story = write_story(
                language_model.part, premise, panels, settings, start=start, should_stop=should_stop, on_event=on_event
            )
        text.show()
        captions = [escaped(story.described(slot)) for slot in story.open_slots()]
        told = Conversation(story.turns[len(start.turns) :])
        texts = [turn.text.strip() for turn in told.turns if turn.role == "assistant"]
        shown_as = shown("\n\n".join(texts)) | text.ui
        return io.NodeOutput(story, captions, story_seeds(told, seed), text.replies(len(texts)), ui=shown_as)


class PlacePictures(io.ComfyNode):
    """Puts painted pictures into all open slots."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_PlacePictures",
            display_name="Place Pictures",
            category="M2Chat/story",
            description="Puts a list of painted pictures into the open slots of a story, in order.",
            search_aliases=["fill slots", "storybook", "collect images"],
            is_input_list=True,
            inputs=[
                inputs.conversation("A story from Write Story, or any conversation with open pictures."),
                io.Image.Input(
                    "images", tooltip="The pictures, of any size: a list, for example from VAE Decode, or a batch."
                ),
            ],
            outputs=[
                wires.Conversation.Output(
                    display_name="conversation", tooltip="The story with its pictures: for Export Story."
                )
            ],
        )

    @classmethod
    @names_node
    def execute(cls, conversation: list[Conversation], images: list[Tensor]) -> io.NodeOutput:
        """Place the pictures."""
        story, pictures = conversation[0], [picture for batch in images for picture in batch]
        slots = story.open_slots()
        if len(slots) != len(pictures):
            raise ConversationError(
                f"images holds {len(pictures)} pictures, but the conversation has {len(slots)} open: give as many."
            )
        for slot, picture in zip(slots, pictures, strict=True):
            story = story.with_picture(slot, picture)
        return io.NodeOutput(story)


NODES = [WriteStory, PlacePictures]
