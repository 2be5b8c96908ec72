"""Changes a conversation: what was said, what a picture shows, and where to continue from."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..m3adapter.conversation.conversation import Conversation, ConversationError
from . import inputs, wires
from .errors import names_node

MOST = 9999


def numbered(name: str, number: int, count: int) -> int:
    """Return the index (from 0) of item number `number` (from 1) of `count`; ConversationError if there is none."""
    if not 1 <= number <= count:
        cure = f"choose 1 to {count}" if count else "let the assistant reply first"
        raise ConversationError(f"{name} is {number}, but the conversation has {count}: {cure}.")
    return number - 1


class EditConversation(io.ComfyNode):
    """Changes one thing in a conversation."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""

        def count(name: str, tooltip: str) -> io.Input:
            return io.Int.Input(name, default=1, min=1, max=MOST, tooltip=tooltip)

        turn = count("turn", "Which turn: 1 is the first of the conversation, whoever speaks.")
        picture = count("picture", "Which of the assistant's pictures, painted or not: 1 is the first.")
        text = io.String.Input(
            "text", multiline=True, default="", tooltip="The new text of this turn. Its pictures stay."
        )
        caption = io.String.Input(
            "caption", multiline=True, default="", tooltip="The new caption. The picture itself stays as it is."
        )
        version = count("version", "Which version, in the order they were made: 1 is the first.")
        return io.Schema(
            node_id="M2Chat_EditConversation",
            display_name="Edit Conversation",
            category="M2Chat/session",
            description="Goes back to a turn, rewrites a text or caption, redoes a reply or picture, or "
            "restores an earlier version.",
            search_aliases=["rewind", "undo", "re-roll", "repaint", "change message", "branch", "swipe", "version"],
            inputs=[
                inputs.conversation("The conversation to change."),
                io.DynamicCombo.Input(
                    "edit",
                    options=[
                        io.DynamicCombo.Option("rewind", [turn]),
                        io.DynamicCombo.Option("text", [turn, text]),
                        io.DynamicCombo.Option("caption", [picture, caption]),
                        io.DynamicCombo.Option("repaint", [picture]),
                        io.DynamicCombo.Option("retell", [turn]),
                        io.DynamicCombo.Option("turn version", [turn, version]),
                        io.DynamicCombo.Option("picture version", [picture, version]),
                    ],
                    tooltip="rewind drops later turns. text and caption rewrite one. repaint reopens a "
                    "picture's slot and retell removes a reply to write it again; both keep the old "
                    "one as a version, which the last two choices restore.",
                ),
            ],
            outputs=[
                wires.Conversation.Output(display_name="conversation", tooltip="The conversation with the change.")
            ],
        )

    @classmethod
    @names_node
    def execute(cls, conversation: Conversation, edit: dict[str, Any]) -> io.NodeOutput:
        """Make the change."""
        kind = edit["edit"]
        if kind in ("rewind", "text", "retell", "turn version"):
            turn = numbered("turn", edit["turn"], len(conversation.turns))
            if kind == "rewind":
                changed = conversation.rewind(turn)
            elif kind == "text":
                changed = conversation.with_text(turn, edit["text"])
            elif kind == "retell":
                changed = conversation.retell(turn)
            else:
                changed = _chosen(conversation, edit["version"], turn)
            return io.NodeOutput(changed)
        slots = conversation.slots()
        slot = slots[numbered("picture", edit["picture"], len(slots))]
        if kind == "repaint":
            changed = conversation.without_picture(slot)
        elif kind == "caption":
            changed = conversation.with_caption(slot, edit["caption"])
        else:
            changed = _chosen(conversation, edit["version"], *slot)
        return io.NodeOutput(changed)


def _chosen(conversation: Conversation, number: int, turn: int, segment: int | None = None) -> Conversation:
    """Return the conversation with version number `number` (from 1) of a turn or a picture."""
    count = conversation.versions(turn, segment).count
    if not 1 <= number <= count:
        there = f"there are {count}: choose 1 to {count}" if count > 1 else "there is only one: it was never made again"
        raise ConversationError(f"version is {number}, but {there}.")
    return conversation.with_version(number - 1, turn, segment)


NODES = [EditConversation]
