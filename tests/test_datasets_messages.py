"""What conversations lose is counted: pictures behind an empty message, captions that are no text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from m3adapter.conversation.conversation import Conversation
from m3adapter.conversation.segments import Picture
from m3adapter.conversation.sessions import Sessions
from m3adapter.datasets.opening import open_dataset
from m3adapter.datasets.sample import DatasetError
from test_datasets import a_story, draw, image, lines, said, text
from test_datasets_bad import named
from test_datasets_folder import told

ENDED = "the conversation ends before it, at an empty message of the user's"
SPREAD = "a conversation goes over several lines, and must be one line"


def panel(name: str) -> dict[str, object]:
    return said("assistant", text(f"Panel {name}."), image("a.png", caption=name))


@pytest.mark.parametrize("empty", [text("  "), text("\u200b"), image("missing.png")])
def test_pictures_behind_an_empty_message_are_counted(tmp_path: Path, empty: object) -> None:
    draw(tmp_path / "a.png")
    two = said("assistant", image("a.png", caption="c"), image("a.png", caption="d"))
    record = [said("user", "x"), panel("a"), said("user", empty), panel("b"), said("user", image("a.png")), two]
    found = open_dataset(lines(tmp_path, record))
    assert told(found) == ["a"]
    assert found.report.left_out[ENDED].count == 3
    assert named(found)[ENDED] == ["stories.jsonl:1 (message 3)"]


def test_pictures_behind_an_empty_turn_of_a_dialogue_are_counted(tmp_path: Path) -> None:
    draw(tmp_path / "images/a.jpg")
    look = [{"__TEXT__": "Look!"}, {"__MEDIA__": "a"}]
    turns = [look, look, [{"__TEXT__": ""}], [{"__MEDIA__": ["a", "a"]}], look, look]
    lines(tmp_path, {"conversation": [{"turn": turn} for turn in turns]}, name="conversations.json")
    found = open_dataset(tmp_path)
    assert len(found) == 1 and found.report.kind == "mmdialog" and found.report.left_out[ENDED].count == 3


def test_pictures_behind_a_lost_one_of_a_saved_conversation_are_counted(tmp_path: Path) -> None:
    tale = Conversation().user("x").assistant([Picture("a fox", torch.zeros(32, 32, 3))])
    tale = tale.user("", [Picture(image=torch.zeros(8, 8, 3))])  # too small to learn from
    tale = tale.assistant([Picture("an owl", torch.ones(32, 32, 3)), Picture("not painted yet")])
    Sessions(tmp_path / "sessions").save("kite", tale)
    found = open_dataset(tmp_path / "sessions")
    assert told(found) == ["a fox"]
    assert named(found) == {
        "the picture is smaller than 16 pixels": ["kite/conversation.json (picture_2.png)"],
        ENDED: ["kite/conversation.json (message 3)"],
    }


def test_a_caption_that_is_no_text_is_counted(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    odd = [{**image("a.png"), "caption": caption} for caption in (["a fox", "an owl"], 7, None, "a kite")]
    odd += [{**image("a.png", caption="a boat"), "told": ["red"], "meant": 7}]
    shown = {**image("a.png"), "caption": 7}
    found = open_dataset(lines(tmp_path, [said("user", shown, "x"), said("assistant", "A fox.", *odd)]))
    assert told(found) == ["A fox.", "a kite", "a boat"]
    assert named(found) == {
        "the caption is no text": [
            "stories.jsonl:1 (7)",
            "stories.jsonl:1 (['a fox', 'an owl'])",
            "stories.jsonl:1 (7)",
        ],
        "what stands under told is no text": ["stories.jsonl:1 (['red'])"],
        "what stands under meant is no text": ["stories.jsonl:1 (7)"],
    }


def test_a_key_whose_value_is_null_is_not_there(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    part = {"type": "image", "path": None, "image": "a.png", "caption": "a fox"}
    messages = [said("user", "x"), said("assistant", part)]
    record = {"id": None, "conversation_id": 1, "messages": None, "conversation": messages}
    found = open_dataset(lines(tmp_path, record, record))
    assert told(found) == ["a fox"] and named(found) == {"its id was used before": ["stories.jsonl:2 (1)"]}


@pytest.mark.parametrize("name", ["tale.json", "tale.jsonl"])
def test_a_conversation_over_several_lines_is_said_once(tmp_path: Path, name: str) -> None:
    record = json.loads(a_story(tmp_path / "set").read_text("utf-8"))
    for printed in (json.dumps(record, indent=2), json.dumps(record).replace(', "messages"', ',\n"messages"')):
        (tmp_path / "set" / name).write_text(printed, "utf-8")
        with pytest.raises(DatasetError, match=f"no samples: 1 left out, because {SPREAD}: {name}.$"):
            open_dataset(tmp_path / "set" / name)
    found = open_dataset(tmp_path / "set")
    assert len(found) == 3 and named(found) == ({SPREAD: [name]} if name.endswith("l") else {})
