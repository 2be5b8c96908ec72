"""Showing a conversation on its node, and writing it to ComfyUI's output folder."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ..m3adapter.conversation import Conversation, Slot
from ..m3adapter.export import export_story
from ..m3adapter.segments import Text
from . import inputs, wires
from .errors import names_node
from .running import show_text

SPEAKERS = {"system": "System", "user": "You", "assistant": "M2Chat"}


def transcript(conversation: Conversation) -> str:
    """The conversation to read as plain text, a line of brackets for each picture."""
    paragraphs = []
    for turn in conversation.turns:
        parts = []
        for segment in turn.segments:
            if isinstance(segment, Text):
                parts.append(segment.text.strip())
            else:
                kind = "picture, not painted yet" if segment.is_open else "picture"
                parts.append(f"[{kind}: {segment.caption}]" if segment.caption else f"[{kind}]")
        paragraphs.append(f"{SPEAKERS[turn.role]}: " + "\n".join(filter(None, parts)))
    return "\n\n".join(paragraphs) or "The conversation is empty."


class ShowConversation(io.ComfyNode):
    """A conversation on its node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_ShowConversation",
            display_name="Show Conversation",
            category="M2Chat/conversation",
            description="Shows a conversation on the node: its text, and all its pictures.",
            search_aliases=["preview", "read", "transcript", "view chat"],
            inputs=[inputs.conversation("The conversation to show.")],
            outputs=[
                wires.Conversation.Output(display_name="conversation", tooltip="The same conversation, to go on with.")
            ],
            is_output_node=True,
        )

    @classmethod
    @names_node
    def execute(cls, conversation: Conversation) -> io.NodeOutput:
        """Show it."""
        text = transcript(conversation)
        show_text(text)
        images = [conversation.at(slot).image for slot in conversation.pictures()]
        # One by one: they may differ in size, and ComfyUI's preview names a batch by its first picture.
        previews = [saved for image in images for saved in ui.PreviewImage(image[None], cls=cls).values]
        return io.NodeOutput(conversation, ui={"text": [text], "images": previews})


class ExportStory(io.ComfyNode):
    """A conversation as a page and as files."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_ExportStory",
            display_name="Export Story",
            category="M2Chat/story",
            description="Writes a conversation as a page to read, story.html, with its pictures beside it.",
            search_aliases=["save", "html", "storybook", "download"],
            inputs=[
                inputs.conversation("The conversation to write."),
                io.String.Input(
                    "filename_prefix",
                    default="M2Chat/story",
                    tooltip="The folder below ComfyUI's output folder, to which a number is added.",
                ),
            ],
            outputs=[io.String.Output(display_name="page", tooltip="The path of story.html: open it in a browser.")],
            is_output_node=True,
        )

    @classmethod
    @names_node
    def execute(cls, conversation: Conversation, filename_prefix: str) -> io.NodeOutput:
        """Write it to a new folder."""
        if not conversation.turns:
            raise ValueError("The conversation is empty: there is nothing to write.")
        place, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        folder = f"{name}_{counter:05}"
        page = export_story(conversation, Path(place) / folder, _details(conversation))
        show_text(str(page))
        count = sum(1 for slot in conversation.pictures() if conversation.turns[slot.turn].role == "assistant")
        where = str(Path(subfolder) / folder)
        panels = [ui.SavedResult(f"panel_{k + 1}.png", where, io.FolderType.output) for k in range(count)]
        return io.NodeOutput(str(page), ui={"text": [str(page)], "images": panels})


def _details(conversation: Conversation) -> dict[str, object]:
    """How the first picture was painted, as far as it is known."""
    for slot in conversation.pictures():
        picture = conversation.at(Slot(*slot))
        if picture.seed is not None:
            return {"Seed": picture.seed, "Gate": picture.gate}
    return {}


NODES = [ShowConversation, ExportStory]
