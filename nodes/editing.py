"""Changing a conversation: what was said, what a picture shows, and where to go on from."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..m3adapter.conversation import Conversation, ConversationError
from . import inputs, wires
from .errors import names_node

MOST = 9999


def numbered(name: str, number: int, count: int) -> int:
    """The index, from 0, of the thing number `number`, from 1, of `count`. Raises ConversationError, one sentence."""
    if not 1 <= number <= count:
        cure = f"choose 1 to {count}" if count else "let the assistant reply first"
        raise ConversationError(f"{name} is {number}, but the conversation has {count}: {cure}.")
    return number - 1


class EditConversation(io.ComfyNode):
    """A conversation with one thing changed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""

        def count(name: str, tooltip: str) -> io.Input:
            return io.Int.Input(name, default=1, min=1, max=MOST, tooltip=tooltip)

        turn = count("turn", "Which turn: 1 is the first one of the conversation, whoever speaks.")
        picture = count("picture", "Which of the assistant's pictures, painted or not: 1 is the first one.")
        text = io.String.Input(
            "text", multiline=True, default="", tooltip="What is said in this turn instead. Its pictures stay."
        )
        caption = io.String.Input(
            "caption", multiline=True, default="", tooltip="Its new caption. The picture itself stays as it is."
        )
        return io.Schema(
            node_id="M2Chat_EditConversation",
            display_name="Edit Conversation",
            category="M2Chat/session",
            description="Goes back to a turn, rewrites a text or a caption, or has a picture painted again.",
            search_aliases=["rewind", "undo", "re-roll", "repaint", "change message", "branch"],
            inputs=[
                inputs.conversation("The conversation to change."),
                io.DynamicCombo.Input(
                    "edit",
                    options=[
                        io.DynamicCombo.Option("rewind", [turn]),
                        io.DynamicCombo.Option("text", [turn, text]),
                        io.DynamicCombo.Option("caption", [picture, caption]),
                        io.DynamicCombo.Option("repaint", [picture]),
                    ],
                    tooltip="rewind drops later turns, text and caption rewrite one, repaint opens a picture's slot.",
                ),
            ],
            outputs=[
                wires.Conversation.Output(display_name="conversation", tooltip="The conversation with the change.")
            ],
        )

    @classmethod
    @names_node
    def execute(cls, conversation: Conversation, edit: dict[str, Any]) -> io.NodeOutput:
        """Change it."""
        kind = edit["edit"]
        if kind in ("rewind", "text"):
            turn = numbered("turn", edit["turn"], len(conversation.turns))
            changed = conversation.rewind(turn) if kind == "rewind" else conversation.with_text(turn, edit["text"])
        else:
            slots = conversation.slots()
            slot = slots[numbered("picture", edit["picture"], len(slots))]
            if kind == "repaint":
                changed = conversation.without_picture(slot)
            else:
                changed = conversation.with_caption(slot, edit["caption"])
        return io.NodeOutput(changed)


NODES = [EditConversation]
