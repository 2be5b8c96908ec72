"""Looks at painted pictures, so that the story goes on from what is seen."""

from __future__ import annotations

import comfy.utils
from comfy_api.latest import io

from ..m3adapter.conversation.conversation import Conversation
from ..m3adapter.events import Event, TextChunk
from ..m3adapter.settings import TurnSettings
from ..m3adapter.story_writing import QUESTION, describe_pictures, painted_slots
from . import inputs, wires
from .errors import names_node
from .memory import Handle, make_ready
from .running import LiveText, ShowsText, interruptible, shown

WHICH = ("new", "all")


class DescribePictures(ShowsText, io.ComfyNode):
    """Has a vision-language model describe the assistant's painted pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_DescribePictures",
            display_name="Describe Pictures",
            category="M2Chat/story",
            description="Lets a vision-language model say what the painted pictures really show. Replies that follow "
            "go on from that instead of the captions.",
            search_aliases=["caption images", "VLM", "interrogate", "image to text", "what came out"],
            inputs=[
                inputs.language_model(
                    tooltip="Looks at the pictures: a vision-language model, such as Qwen3-VL or Gemma 3."
                ),
                inputs.conversation("A conversation with painted pictures."),
                io.Combo.Input(
                    "which",
                    options=list(WHICH),
                    default=WHICH[0],
                    tooltip="new: pictures that have no description yet. all: describe the others again too.",
                ),
                io.String.Input(
                    "question",
                    multiline=True,
                    default=QUESTION,
                    tooltip="What the model is asked about each picture.",
                ),
                inputs.seed("The same seed gives the same descriptions."),
                inputs.max_length("The maximum number of tokens of each description."),
                *inputs.thinking(),
            ],
            outputs=[
                wires.Conversation.Output(
                    display_name="conversation", tooltip="The conversation with the descriptions; captions stay."
                ),
                io.String.Output(
                    display_name="descriptions",
                    is_output_list=True,
                    tooltip="What each painted picture shows, in order; the caption where nobody has looked.",
                ),
            ],
        )

    @classmethod
    @names_node
    def execute(
        cls,
        language_model: Handle,
        conversation: Conversation,
        which: str,
        question: str,
        seed: int,
        max_length: int = 256,
        thinking: str = "off",
        max_thinking: int = 4096,
    ) -> io.NodeOutput:
        """Look at the pictures."""
        slots = painted_slots(conversation, again=which == "all")
        sampling = inputs.sampling(max_length, thinking, max_thinking)
        live, bar = LiveText(), comfy.utils.ProgressBar(max(len(slots), 1) * max_length)

        def on_event(event: Event) -> None:
            live.hear(event)
            bar.update(isinstance(event, TextChunk))

        if slots:
            make_ready(language_model)
        with interruptible() as should_stop:
            conversation = describe_pictures(
                language_model.part,
                conversation,
                slots,
                TurnSettings(seed=seed, sampling=sampling),
                question=question,
                should_stop=should_stop,
                on_event=on_event,
            )
        live.show()
        pictures = [conversation.picture(slot) for slot in painted_slots(conversation, again=True)]
        said = [picture.seen or picture.caption for picture in pictures]
        return io.NodeOutput(conversation, said, ui=shown("\n".join(said)) | live.ui)


NODES = [DescribePictures]
