"""Building a conversation: its start, the user's messages, and the pictures that fill its slots."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..m3adapter.conversation.conversation import Conversation, ConversationError, Slot
from . import inputs, wires
from .errors import names_node


def open_slot(conversation: Conversation, index: int) -> Slot:
    """Return open slot number `index` (from 0); ConversationError if there is none."""
    slots = conversation.open_slots()
    if not slots:
        raise ConversationError(
            "The conversation has no picture to be painted: let the assistant reply with one first."
        )
    if not 0 <= index < len(slots):
        count = "one picture" if len(slots) == 1 else f"{len(slots)} pictures"
        raise ConversationError(
            f"slot is {index}, but {count} can be painted: choose 0"
            + (f" to {len(slots) - 1}." if len(slots) > 1 else ".")
        )
    return slots[index]


class StartConversation(io.ComfyNode):
    """Starts a conversation, empty or with a system turn."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_Conversation",
            display_name="Start Conversation",
            category="M2Chat/conversation",
            description="Starts a conversation. The system text, if any, tells the model how to behave throughout.",
            search_aliases=["chat", "session", "history", "system prompt"],
            inputs=[
                io.String.Input(
                    "system",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="Instructions for the whole conversation; may be empty.",
                )
            ],
            outputs=[
                wires.Conversation.Output(
                    display_name="conversation", tooltip="The conversation, which has no messages yet."
                )
            ],
        )

    @classmethod
    @names_node
    def execute(cls, system: str = "") -> io.NodeOutput:
        """Start the conversation."""
        conversation = Conversation()
        return io.NodeOutput(conversation.system(system) if system.strip() else conversation)


class UserMessage(io.ComfyNode):
    """Adds what the user says and shows."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        picture = io.Image.Input(
            "picture",
            optional=True,
            tooltip="A picture to show to the model. A batch of three images is three pictures.",
        )
        return io.Schema(
            node_id="M2Chat_UserMessage",
            display_name="User Message",
            category="M2Chat/conversation",
            description="Adds a message from the user to a conversation: text, pictures, or both.",
            search_aliases=["prompt", "say", "ask", "chat message"],
            inputs=[
                inputs.conversation(
                    "Where the message goes: a new conversation, or one whose last turn is the assistant's."
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="What to say. May be empty if a picture is connected.",
                ),
                io.Autogrow.Input(
                    "pictures",
                    template=io.Autogrow.TemplatePrefix(picture, prefix="picture_", min=0, max=8),
                    optional=True,
                    tooltip="Pictures that belong to the message, of any size. An alpha channel is composited "
                    "over white.",
                ),
            ],
            outputs=[
                wires.Conversation.Output(display_name="conversation", tooltip="The conversation with the message.")
            ],
        )

    @classmethod
    @names_node
    def execute(
        cls, conversation: Conversation, text: str, pictures: dict[str, Tensor | None] | None = None
    ) -> io.NodeOutput:
        """Add the message, with its pictures in the order of the inputs."""
        batches = [batch for batch in (pictures or {}).values() if batch is not None]
        return io.NodeOutput(conversation.user(text, [image for batch in batches for image in batch]))


class PlacePicture(io.ComfyNode):
    """Puts a painted picture into its slot."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_PlacePicture",
            display_name="Place Picture",
            category="M2Chat/conversation",
            description="Puts a painted picture where the assistant asked for one, so that later turns see it.",
            search_aliases=["insert image", "fill slot"],
            inputs=[
                inputs.conversation("A conversation with a picture still to be painted."),
                inputs.slot(),
                io.Image.Input("image", tooltip="The picture: one image, of any size."),
                io.Int.Input(
                    "seed",
                    optional=True,
                    force_input=True,
                    tooltip="The seed it was painted with, kept for reference.",
                ),
                io.Float.Input(
                    "gate",
                    optional=True,
                    force_input=True,
                    tooltip="The gate it was painted with, kept for reference.",
                ),
            ],
            outputs=[
                wires.Conversation.Output(
                    display_name="conversation", tooltip="The conversation with the picture in it."
                )
            ],
        )

    @classmethod
    @names_node
    def execute(
        cls, conversation: Conversation, slot: int, image: Tensor, seed: int | None = None, gate: float | None = None
    ) -> io.NodeOutput:
        """Place the picture."""
        if len(image) != 1:
            raise ConversationError(
                f"image holds {len(image)} pictures, but a slot takes only one: pick one of the batch first."
            )
        place = open_slot(conversation, slot)
        return io.NodeOutput(conversation.with_picture(place, image[0], seed=seed, gate=gate))


NODES = [StartConversation, UserMessage, PlacePicture]
