"""Pages and books in a real ComfyUI: what the nodes give, write and refuse."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import graphs
from comfy_server import ComfyServer
from graphs import node
from m3adapter.export.pages.fonts import typeface
from runs import picture, text
from tools.comfy import ExecutionFailed, PromptRejected

PAGES = {"layout": "grid", "words": "below", "font": "serif", "page_width": 512}
DRAWN = {f"format__{name}": PAGES[name] for name in ("layout", "words", "font")}


def export(name: str, **inputs: object) -> graphs.Graph:
    """A story of one panel, exported: node `export`."""
    given = {"conversation": ["story", 0], "filename_prefix": f"M2Chat/{name}", **inputs}
    return {**graphs.story(), "export": node("M2Chat_ExportStory", **given)}


def file_of(comfy: ComfyServer, graph: graphs.Graph) -> Path:
    """What the exporting node of a graph wrote."""
    path = Path(text(comfy.run(graph), "export"))
    assert path.is_relative_to(comfy.output_dir)
    return path


def test_pages_are_one_batch_of_equal_pictures(comfy: ComfyServer) -> None:
    graph = graphs.story(panels=2)
    graph["pages"] = node("M2Chat_Pages", conversation=["story", 0], **{**PAGES, "layout": "one per page"}, title="Fox")
    graph["preview"] = node("PreviewImage", images=["pages", 0])
    entry = comfy.run(graph)
    count = len(entry["outputs"]["preview"]["images"])
    assert count >= 3, "a title page, and a page for each picture"
    assert {picture(comfy, entry, "preview", index).size for index in range(count)} == {(512, 666)}


@pytest.mark.parametrize(
    ("inputs", "name", "begins"),
    [
        ({}, "story.html", b"<!DOCTYPE html>"),
        ({"format": "html", "title": "The Fox"}, "story.html", b"<!DOCTYPE html>"),
        ({"format": "markdown", "title": "The Fox"}, "story.md", b"# The Fox"),
        ({"format": "epub"}, "story.epub", b"PK"),
        ({"format": "pdf", **DRAWN}, "story.pdf", b"%PDF"),
        ({"format": "pages", **DRAWN, "format__page_width": 512}, "page_1.png", b"\x89PNG"),
    ],
)
def test_every_format_is_written_below_the_output_folder(
    comfy: ComfyServer, inputs: dict, name: str, begins: bytes
) -> None:
    path = file_of(comfy, export(f"format_{inputs.get('format')}", **inputs))
    assert path.name == name and path.read_bytes().startswith(begins)
    assert {"conversation.json", "panel_1.png"} <= {each.name for each in path.parent.iterdir()}


@pytest.mark.exhaustive
def test_pictures_hold_the_workflow_unless_metadata_is_off(comfy: ComfyServer, tmp_path: Path) -> None:
    graph = export("metadata", format="pages", **DRAWN, format__page_width=512)
    for name in ("page_1.png", "panel_1.png"):
        chunks = Image.open(file_of(comfy, graph).with_name(name)).text
        assert json.loads(chunks["prompt"])["story"]["inputs"]["seed"] == 1
    with ComfyServer(tmp_path, "--disable-metadata") as silent:
        silent.wait_ready()
        folder = file_of(silent, graph).parent
        assert not any(Image.open(path).text for path in folder.glob("*.png"))


def test_a_font_of_the_users_own_is_offered_and_used(comfy: ComfyServer) -> None:
    folder = comfy.base / "models" / "fonts"
    folder.mkdir(exist_ok=True)
    shutil.copy(typeface("sans serif").bold.path, folder / "mine.ttf")
    options = comfy.object_info()["M2Chat_Pages"]["input"]["required"]["font"][1]["options"]
    assert options == ["serif", "sans serif", "comic", "fonts/mine.ttf"]
    drawn = []
    for font in ("serif", "fonts/mine.ttf"):
        graph = export("font", format="pages", **{**DRAWN, "format__font": font}, format__page_width=512)
        drawn.append(Image.open(io.BytesIO(file_of(comfy, graph).read_bytes())).tobytes())
    assert drawn[0] != drawn[1]


def test_mistakes_are_one_sentence(comfy: ComfyServer) -> None:
    graph = graphs.conversation()
    graph["pages"] = node("M2Chat_Pages", conversation=["user", 0], **PAGES, title="")
    graph["preview"] = node("PreviewImage", images=["pages", 0])
    with pytest.raises(ExecutionFailed, match="Lay Out Pages: The conversation has no painted picture: let the assist"):
        comfy.run(graph)
    with pytest.raises(PromptRejected, match="font"):
        comfy.run(graphs.changed(graph, "pages", font="fonts/../../secret.ttf"))
    with pytest.raises(ExecutionFailed, match="outside the output"):
        comfy.run(export("../../outside"))
