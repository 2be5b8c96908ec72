"""The layout of a data set is told by what lies there: a stray file changes nothing, and the report names it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m3adapter.datasets.opening import open_dataset
from m3adapter.datasets.sample import DatasetError
from test_datasets import a_story, captions, draw, lines
from test_datasets_bad import named
from test_datasets_folder import table, told
from test_datasets_layouts import jpeg, shard, tar

CURVE = {"step": 0, "loss": 1.5}


def test_an_archive_beside_captioned_pictures_is_not_read(tmp_path: Path) -> None:
    folder = captions(tmp_path, "a fox", "an owl", "a boat")
    tar(folder / "backup.tar", ("1.jpg", jpeg(1)), ("1.txt", b"a kite"))
    found = open_dataset(folder)
    assert told(found) == ["a fox", "an owl", "a boat"]
    assert named(found) == {"the layout folder does not read it": ["backup.tar"]}
    assert told(open_dataset(folder, "webdataset")) == ["a kite"]


def test_pictures_beside_archives_are_counted(tmp_path: Path) -> None:
    for number in range(2):
        tar(tmp_path / f"{number}.tar", ("1.jpg", jpeg(1)), ("1.txt", f"a kite {number}".encode()))
    captions(tmp_path, "a fox"), draw(tmp_path / "other.png")
    found = open_dataset(tmp_path)
    assert told(found) == ["a kite 0", "a kite 1"]
    assert named(found) == {"the layout webdataset does not read it": ["0.png", "other.png"]}


@pytest.mark.parametrize("name", ["log.jsonl", "my-adapter/stage1_curve.jsonl"])
def test_a_log_does_not_make_a_folder_conversations(tmp_path: Path, name: str) -> None:
    folder = captions(tmp_path, "a fox", "an owl")
    lines((folder / name).parent, CURVE, CURVE, name=Path(name).name)
    found = open_dataset(folder)
    assert told(found) == ["a fox", "an owl"] and named(found) == {"the layout folder does not read it": [name]}


def test_a_log_beside_conversations_is_counted_once(tmp_path: Path) -> None:
    a_story(tmp_path)
    lines(tmp_path, CURVE, CURVE, name="log.jsonl")
    captions(tmp_path / "more", "a fox")
    found = open_dataset(tmp_path)
    assert len(found) == 3
    assert named(found) == {"the layout messages does not read it": ["more/0.png", "log.jsonl"]}


@pytest.mark.parametrize("bad", ["{}", '{"messages": [', "7"])
def test_a_bad_first_line_does_not_hide_conversations(tmp_path: Path, bad: str) -> None:
    path = a_story(tmp_path)
    path.write_text(f"{bad}\n{path.read_text('utf-8')}", "utf-8")
    found = open_dataset(tmp_path)
    assert found.report.kind == "messages" and len(found) == 3 and found.report.count == 1


def test_suffixes_and_tables_are_known_in_capitals(tmp_path: Path) -> None:
    a_story(tmp_path / "a").rename(tmp_path / "a/STORIES.JSONL")
    assert len(open_dataset(tmp_path / "a")) == 3
    story = json.loads((tmp_path / "a/STORIES.JSONL").read_text("utf-8"))
    (tmp_path / "a/LIST.JSON").write_text(json.dumps([story], indent=1))
    assert len(open_dataset(tmp_path / "a/LIST.JSON")) == 3
    for name in ("Metadata.csv", "METADATA.JSONL"):
        draw(tmp_path / name / "0.png")
    (tmp_path / "Metadata.csv/Metadata.csv").write_text("file_name,text\n0.png,a fox\n")
    table(tmp_path / "METADATA.JSONL", ("0.png", "a fox"), name="METADATA.JSONL")
    for name in ("Metadata.csv", "METADATA.JSONL"):
        assert told(open_dataset(tmp_path / name)) == ["a fox"]
    shard(tmp_path / "c/TRAIN.TAR")
    assert open_dataset(tmp_path / "c").report.kind == "webdataset"


def test_a_table_of_another_name_is_to_be_renamed(tmp_path: Path) -> None:
    draw(tmp_path / "set/0.png")
    table(tmp_path / "set", ("0.png", "a fox"), name="train.jsonl")
    with pytest.raises(DatasetError, match=r"^set/train\.jsonl is a table of captioned pictures: call it metadata"):
        open_dataset(tmp_path / "set")
