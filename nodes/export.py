"""Shows a conversation on its node, and writes one to ComfyUI's output folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import io, ui

from ..m3adapter.conversation.conversation import Conversation
from ..m3adapter.conversation.segments import Segment, Text
from ..m3adapter.export.file_names import filled, portable, widget_of
from ..m3adapter.export.story import check_formats, export_story
from . import inputs, wires
from .errors import complaint, names_node
from .pages import page_arguments
from .running import show_text, shown

SPEAKERS = {"system": "System", "user": "You", "assistant": "M2Chat"}


def transcript(conversation: Conversation) -> str:
    """Return the conversation as plain text, with a line in brackets for each picture."""
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


def turns_shown(conversation: Conversation, previews: Iterable[ui.SavedResult]) -> list[dict[str, Any]]:
    """Return the conversation as the page shows it, in reading order.

    Each turn is `{"role", "segments"}`; a segment is `{"text"}` or `{"picture", "caption"}`, where `picture` is a file
    as ComfyUI serves it, or None if it is still open. `previews` are those of the painted pictures, oldest first.
    """
    files = iter(previews)

    def shown_segment(segment: Segment) -> dict[str, Any]:
        if isinstance(segment, Text):
            return {"text": segment.text}
        return {"picture": None if segment.is_open else next(files), "caption": segment.caption}

    return [{"role": turn.role, "segments": list(map(shown_segment, turn.segments))} for turn in conversation.turns]


class ShowConversation(io.ComfyNode):
    """Shows a conversation on its node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_ShowConversation",
            display_name="Show Conversation",
            category="M2Chat/conversation",
            description="Shows a conversation on the node, with its text and all its pictures.",
            search_aliases=["preview", "read", "transcript", "view chat"],
            inputs=[inputs.conversation("The conversation to show.")],
            outputs=[
                wires.Conversation.Output(
                    display_name="conversation", tooltip="The same conversation, to be passed on."
                )
            ],
            is_output_node=True,
        )

    @classmethod
    @names_node
    def execute(cls, conversation: Conversation) -> io.NodeOutput:
        """Show the conversation."""
        text = transcript(conversation)
        show_text(text)
        images = [conversation.picture(slot).pixels for slot in conversation.pictures()]
        # One by one: they may differ in size, and ComfyUI's preview names a batch by its first picture.
        previews = [saved for image in images for saved in ui.PreviewImage(image[None], cls=cls).values]
        return io.NodeOutput(
            conversation, ui={**shown(text), "turns": turns_shown(conversation, previews), "images": previews}
        )


class ExportStory(io.ComfyNode):
    """Writes a conversation as files to read."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        drawn = [inputs.layout("one per page"), inputs.words(), inputs.font()]
        formats = {"html": [], "markdown": [], "pdf": drawn, "epub": [], "pages": [*drawn, inputs.page_width()]}
        return io.Schema(
            node_id="M2Chat_ExportStory",
            display_name="Export Story",
            category="M2Chat/story",
            description="Writes a conversation as a web page, Markdown, PDF, e-book or page images, along "
            "with its pictures.",
            search_aliases=["save", "html", "markdown", "pdf", "epub", "ebook", "storybook", "download"],
            inputs=[
                inputs.conversation("The conversation to write."),
                io.String.Input(
                    "filename_prefix",
                    default="M2Chat/story",
                    tooltip="The folder inside ComfyUI's output folder, to which a number is added. The "
                    "placeholders of Save Image for date, size and widgets work here.",
                ),
                io.DynamicCombo.Input(
                    "format",
                    options=[io.DynamicCombo.Option(name, fields) for name, fields in formats.items()],
                    optional=True,
                    tooltip="html, markdown, epub: the whole conversation. pdf, pages: its pictures with their text.",
                ),
                inputs.title(),
            ],
            outputs=[
                io.String.Output(
                    display_name="page", tooltip="The path of the file to open; for page images, the first one."
                )
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, format: str | dict[str, Any] | None = None) -> bool | str:
        """Refuse a format whose packages are missing before anything runs."""
        name = format.get("format") if isinstance(format, dict) else format
        return complaint(lambda name: check_formats([name]), name)

    @classmethod
    @names_node
    def execute(
        cls,
        conversation: Conversation,
        filename_prefix: str,
        format: dict[str, Any] | None = None,
        title: str = "",
    ) -> io.NodeOutput:
        """Write the conversation to a new folder."""
        if not conversation.turns:
            raise ValueError("The conversation is empty: there is nothing to write.")
        options = dict(format or {"format": "html"})
        name = options.pop("format")
        workflow = (cls.hidden.extra_pnginfo or {}).get("workflow") if cls.hidden else None
        widget = widget_of(cls.hidden.prompt if cls.hidden else None, workflow)
        place, stem, counter, subfolder, _ = folder_paths.get_save_image_path(
            portable(filled(filename_prefix, datetime.now(), widget)),
            folder_paths.get_output_directory(),
            *_size(conversation),
        )
        folder = f"{stem}_{counter:05}"
        story = export_story(
            conversation,
            Path(place) / folder,
            _details(conversation),
            title=title.strip() or None,
            formats=[name],
            layout=page_arguments(**options) if options else None,
            metadata=workflow_metadata(cls.hidden),
        )
        show_text("\n\n".join([str(story.path), *story.notes]))
        written = sorted(story.path.parent.glob("page_*.png" if name == "pages" else "panel_*.png"), key=_number)
        where = str(Path(subfolder) / folder)
        pictures = [ui.SavedResult(path.name, where, io.FolderType.output) for path in written]
        page = ui.SavedResult(story.path.name, where, io.FolderType.output)
        said = shown(str(story.path), *story.notes)
        return io.NodeOutput(str(story.path), ui={**said, "images": pictures, "page": [page]})


def workflow_metadata(hidden: io.HiddenHolder) -> dict[str, str] | None:
    """Return the PNG text chunks in which ComfyUI finds a workflow again; None if metadata is switched off."""
    if args.disable_metadata:
        return None
    chunks = {"prompt": hidden.prompt, **(hidden.extra_pnginfo or {})}
    return {name: json.dumps(value) for name, value in chunks.items() if value is not None}


def _details(conversation: Conversation) -> dict[str, object]:
    """Return how the first picture was painted, as far as known."""
    for slot in conversation.pictures():
        picture = conversation.picture(slot)
        if picture.seed is not None:
            return {"Seed": picture.seed, "Gate": picture.gate}
    return {}


def _size(conversation: Conversation) -> tuple[int, int]:
    """Return the width and height of the first painted picture; 0, 0 if there is none."""
    for slot in conversation.pictures():
        width, height = conversation.picture(slot).size
        return width, height
    return 0, 0


def _number(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


NODES = [ShowConversation, ExportStory]
