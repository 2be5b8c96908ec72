"""Names of exported folders: filled in as Save Image's are, and kept by every system."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest

import graphs
from comfy_server import ComfyServer
from graphs import node
from m3adapter.export.file_names import filled, portable, widget_of
from toys import one_sentence

NOW = datetime(2026, 3, 7, 9, 5, 1)
PROMPT: dict[str, Any] = {
    "1": {
        "class_type": "M2Chat_Story",
        "inputs": {"seed": 7, "gate": 0.5, "premise": 'a/b: "c"?', "adapter": ["2", 0]},
    },
    "2": {"class_type": "Loader", "inputs": {"file": "x.safetensors"}, "_meta": {"title": "My loader"}},
}
WORKFLOW = {"nodes": [{"id": 1, "title": "Fox", "properties": {"Node name for S&R": "Teller"}}, {"id": 2}]}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("%date:yyyy-MM-dd%/x", "2026-03-07/x"),
        ("%date:yy.M.d h_m_s%", "26.3.7 9_5_1"),
        ("%date:hh:mm:ss%", "09_05_01"),
        ("%date:yyyyMMddhhmmss% %date:yyy%", "20260307090501 yyy"),
        ("%year%-%month% %width%x%height%", "%year%-%month% %width%x%height%"),
        ("%Teller.seed%_%Fox.gate%_%M2Chat_Story.seed%", "7_0.5_7"),
        ("%My loader.file%", "x.safetensors"),
        ("%Fox.premise%", "a_b_ _c__"),
        ("%Fox.adapter% %Nobody.seed% %Fox.none% 100%", "%Fox.adapter% %Nobody.seed% %Fox.none% 100%"),
        ("a%batch_num%", "a0"),
        ("tales: a fox?", "tales_ a fox_"),
        ("books\\fox. /end. ", "books/fox/end"),
        ("con/aux.txt", "_con/_aux.txt"),
        ("C:\\books", "C_/books"),
        ("a/../b", "b"),
        ("", "story"),
    ],
)
def test_a_prefix_is_filled_in_and_fit_for_every_system(given: str, wanted: str) -> None:
    assert portable(filled(given, NOW, widget_of(PROMPT, WORKFLOW))) == wanted
    assert not re.search(r'[<>:"|?*\\]', wanted)


def test_a_prompt_without_a_page_is_enough() -> None:
    assert filled("%My loader.file% %M2Chat_Story.seed%", NOW, widget_of(PROMPT, None)) == "x.safetensors 7"
    assert filled("%Fox.seed%", NOW, widget_of(None, None)) == "%Fox.seed%"


@pytest.mark.parametrize(
    ("prefix", "says"),
    [("../out", "outside"), ("/etc/x", "outside"), ("\\\\host\\x", "outside"), ("a" * 300, "is too long")],
)
def test_impossible_folder_names_are_refused_in_a_sentence(prefix: str, says: str) -> None:
    with pytest.raises(ValueError, match=rf"^filename_prefix .*{says}") as caught:
        portable(prefix)
    assert one_sentence(caught.value) and len(str(caught.value)) < 200


def test_export_story_writes_to_the_folder_that_is_meant(comfy: ComfyServer) -> None:
    graph = graphs.conversation("Hello: you")
    prefix = "M2Chat/%date:yyyy%-%year% %width%x%height% %M2Chat_UserMessage.text% 8:30?"
    graph["export"] = node("M2Chat_ExportStory", conversation=["user", 0], filename_prefix=prefix)
    comfy.run(graph)
    year = datetime.now().year
    name = f"{year}-{year} 0x0 Hello_ you 8_30__00001"
    written = [path.parent.name for path in (comfy.base / "output" / "M2Chat").glob("*/story.html")]
    assert name in written, written
