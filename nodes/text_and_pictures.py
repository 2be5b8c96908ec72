"""Makes a conversation of what interleaved models give: a text with placeholders, and a batch of pictures."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..m3adapter.conversation.conversation import Conversation, ConversationError
from ..m3adapter.conversation.placeholders import fill_placeholders
from . import wires
from .errors import names_node


class FromTextAndPictures(io.ComfyNode):
    """Makes a turn of a text and its pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_FromTextAndPictures",
            display_name="From Text and Pictures",
            category="M2Chat/conversation",
            description="Makes a conversation of a text with placeholders for pictures and a batch of these, as "
            "interleaved models give them, so that it can be edited, re-rolled, saved and exported.",
            search_aliases=["interleaved", "sensenova", "import", "collect", "text and images", "placeholder"],
            is_input_list=True,
            inputs=[
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="The text, with <image>, <image_2> or [Image 2] where pictures belong, or captions between "
                    "<image> and </image>. A list of texts is joined.",
                ),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="The pictures: a batch or a list. Placeholders without one stay open, to be painted.",
                ),
                io.String.Input(
                    "message",
                    default="Tell me a story.",
                    optional=True,
                    tooltip="What the user has said before the text.",
                ),
                wires.Conversation.Input(
                    "conversation", optional=True, tooltip="What it continues; else it is a new conversation."
                ),
            ],
            outputs=[
                wires.Conversation.Output(
                    display_name="conversation", tooltip="The conversation, which ends with the text and its pictures."
                )
            ],
        )

    @classmethod
    @names_node
    def execute(
        cls,
        text: list[str],
        images: list[Tensor] | None = None,
        message: list[str] | None = None,
        conversation: list[Conversation] | None = None,
    ) -> io.NodeOutput:
        """Make the conversation."""
        whole = "\n\n".join(text)
        if not whole.strip():
            raise ConversationError("text is empty: give what the assistant has written.")
        pictures = [picture for batch in images or [] if batch is not None for picture in batch]
        start = conversation[0] if conversation and conversation[0] is not None else Conversation()
        if not start.turns or start.turns[-1].role != "user":
            start = start.user((message or [""])[0] or "Tell me a story.")
        return io.NodeOutput(start.assistant(fill_placeholders(whole, pictures)))


NODES = [FromTextAndPictures]
