"""Data sets: captioned pictures and conversations as samples, and what is left out of them."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from m3adapter.conversation.references import ReferencePolicy
from m3adapter.datasets.opening import open_dataset
from m3adapter.datasets.sample import Dataset, DatasetError


def draw(path: Path, colour: tuple[int, ...] = (10, 20, 30), size: tuple[int, int] = (48, 32)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def captions(folder: Path, *texts: str) -> Path:
    for number, text in enumerate(texts):
        draw(folder / f"{number}.png", (number * 20, 0, 0)).with_suffix(".txt").write_text(text, "utf-8")
    return folder


def image(path: str, **more: str) -> dict[str, str]:
    return {"type": "image", "path": path, **more}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def said(role: str, *parts: object) -> dict[str, object]:
    return {"role": role, "content": list(parts)}


def lines(folder: Path, *records: object, name: str = "stories.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def a_story(folder: Path) -> Path:
    for number in range(4):
        draw(folder / f"pictures/{number}.png", (number * 40, 0, 0))
    return lines(
        folder,
        {
            "id": "kite",
            "messages": [
                said("user", image("pictures/0.png"), text("A tale of Rosa.")),
                said("assistant", text("It was windy."), image("pictures/1.png", caption="a fox, Rosa, with a kite")),
                said("user", text("Go on.")),
                said("assistant", text("Home went Rosa."), image("pictures/2.png"), "Sleep.", image("pictures/3.png")),
            ],
        },
    )  # fmt: skip


def test_a_folder_of_captioned_pictures_is_single_turns(tmp_path: Path) -> None:
    found = open_dataset(captions(tmp_path / "set", "a red fox", "an owl on a tree", "a boat"))
    assert isinstance(found, Dataset) and len(found) == 3
    sample = found[1]
    assert [turn.role for turn in sample.conversation.turns] == ["user", "assistant"]
    assert sample.caption == sample.picture.caption == "an owl on a tree" and sample.source == "1.png"
    assert sample.conversation.open_slots() == (sample.slot,)
    assert sample.picture.pixels.shape == (32, 48, 3) and sample.picture.pixels[0, 0, 0] == 20 / 255
    assert found.size(1) == sample.picture.size == (48, 32)
    assert sample.references == () and not sample.useful
    assert found.report.samples == 3 and not found.report.left_out
    with pytest.raises(IndexError):
        found[3]


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
@pytest.mark.parametrize(("file", "caption"), [("file_name", "text"), ("image", "caption"), ("file_name", "prompt")])
def test_metadata_names_pictures_and_captions(tmp_path: Path, name: str, file: str, caption: str) -> None:
    draw(tmp_path / "in/a.png"), draw(tmp_path / "in/b.png", (1, 1, 1))
    rows = [("in/a.png", 'a fox, "red"'), ("in/b.png", "an owl\r\nat night")]
    if name.endswith("csv"):
        quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in [(file, caption), *rows]]
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + "\r\n".join(quoted).encode())
    else:
        written = [json.dumps({file: path, caption: words}) for path, words in rows]
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + "\r\n".join(written).encode())
    found = open_dataset(tmp_path)
    assert [found[index].caption for index in range(2)] == ['a fox, "red"', "an owl at night"]
    assert found[1].source.startswith(f"{name}:") and not found.report.left_out


def test_a_conversation_gives_each_picture_of_the_assistants_with_what_came_before(tmp_path: Path) -> None:
    found = open_dataset(a_story(tmp_path))
    assert len(found) == 3 and found.report.conversations == 1
    first, second, third = (found[index] for index in range(3))
    assert first.caption == "a fox, Rosa, with a kite" and len(first.conversation.turns) == 2
    assert [reference.picture.pixels[0, 0, 0].item() for reference in first.references] == [0.0]
    assert second.caption == "Home went Rosa." and third.caption == "Sleep."
    assert third.conversation.turns[-1].segments[-1].is_open and third.source == "stories.jsonl:1"
    for sample in (first, second, third):
        assert sample.slot == sample.conversation.slots()[-1] and sample.told is None and sample.useful
        assert sample.references == sample.conversation.weighted_references(sample.slot, ReferencePolicy())
    assert second.known == ("Rosa",) and first.known == ()


def test_a_sample_is_the_same_every_time_and_its_key_follows_its_contents(tmp_path: Path) -> None:
    path = a_story(tmp_path)
    keys = [open_dataset(path).key(index) for index in range(3)]
    assert keys == [open_dataset(path, check=False).key(index) for index in range(3)] and len(set(keys)) == 3
    draw(tmp_path / "pictures/3.png", (9, 9, 9))
    changed = [open_dataset(path).key(index) for index in range(3)]
    assert [one == other for one, other in zip(keys, changed, strict=True)] == [True, True, False]


def test_exchanged_references_come_from_another_conversation_and_tell_nothing(tmp_path: Path) -> None:
    story = json.loads(a_story(tmp_path).read_text("utf-8"))
    other = {"messages": [said("user", text("An owl.")), said("assistant", image("owl.png", caption="an owl"))]}
    draw(tmp_path / "owl.png", (0, 200, 0))
    found = open_dataset(lines(tmp_path, story, other))
    sample = found.exchanged(0, random.Random(1))
    assert sample.told == "" and not sample.useful and sample.conversation == found[0].conversation
    assert [reference.picture.caption for reference in sample.references] == ["an owl"]
    alone = open_dataset(a_story(tmp_path / "alone")).exchanged(0, random.Random(1))
    assert alone.references == () and alone.told == ""


def test_pictures_are_read_when_somebody_looks_and_are_not_kept(tmp_path: Path) -> None:
    found = open_dataset(a_story(tmp_path))
    sample = found[0]
    before = sample.picture.pixels
    assert sample.picture.pixels is not before and torch.equal(sample.picture.pixels, before)
    (tmp_path / "pictures/1.png").unlink()
    with pytest.raises(ValueError, match=r"^The picture 1\.png cannot be read: No such file"):
        _ = sample.picture.pixels


def test_parts_of_a_data_set_are_its_own_or_always_the_same_conversations(tmp_path: Path) -> None:
    folder = captions(tmp_path / "set", *(f"picture number {number}" for number in range(12)))
    parts = {split: open_dataset(folder, split=split, held_out=0.25) for split in ("train", "validation")}
    told = {split: [found[index].caption for index in range(len(found))] for split, found in parts.items()}
    assert len(told["train"]) == 9 and len(told["validation"]) == 3
    assert sorted(told["train"] + told["validation"]) == sorted(f"picture number {number}" for number in range(12))
    again = open_dataset(folder, split="validation", held_out=0.25)
    assert [again[index].caption for index in range(3)] == told["validation"]
    with pytest.raises(DatasetError, match="has no part for testing"):
        open_dataset(folder, split="test")
    own = tmp_path / "own"
    captions(own / "train", "a fox", "an owl"), captions(own / "val", "a boat"), captions(own / "test", "a kite")
    assert [len(open_dataset(own, split=split)) for split in ("train", "validation", "test", None)] == [2, 1, 1, 4]
    one = a_story(tmp_path / "one")
    assert [len(open_dataset(one, split=split)) for split in ("train", "validation")] == [2, 1]


def test_the_words_of_a_sample_are_told_by_their_key(tmp_path: Path) -> None:
    story = json.loads(a_story(tmp_path).read_text("utf-8"))
    sample = open_dataset(lines(tmp_path, story))[1]
    draw(tmp_path / "pictures/1.png", (7, 7, 7))
    assert open_dataset(lines(tmp_path, story))[1].words_key == sample.words_key, "no words depend on painted pictures"
    draw(tmp_path / "pictures/0.png", (7, 7, 7))
    seen = open_dataset(lines(tmp_path, story))[1]
    assert seen.words_key != sample.words_key, "the model looks at the user's"
    looks = replace(seen, conversation=seen.conversation.with_character("Rosa", looks="a red fox"))
    assert len({sample.words_key, seen.words_key, looks.words_key}) == 3


def test_words_that_only_references_tell_may_stand_beside_a_picture(tmp_path: Path) -> None:
    for name in "abc":
        draw(tmp_path / f"{name}.png", (ord(name), 0, 0))
    first = image("a.png", caption="Rosa", told="Rosa is red")
    later = [image("b.png", caption="Rosa sleeps", told=" Rosa \n is red"), image("c.png", caption="a boat", told="")]
    record = [
        said("user", text("x")),
        said("assistant", first),
        said("user", text("y")),
        said("assistant", "z", *later),
    ]
    found = open_dataset(lines(tmp_path, record))
    assert [found[index].told for index in range(3)] == ["", "Rosa is red", ""]
    assert found[1].whole_caption == "Rosa sleeps, Rosa is red"
    assert [found[index].useful for index in range(3)] == [False, True, False]
    assert found.exchanged(1, random.Random(1)).told == ""


def test_what_a_caption_means_may_stand_beside_a_picture(tmp_path: Path) -> None:
    for name in "abc":
        draw(tmp_path / f"{name}.png", (ord(name), 0, 0))
    first = image("a.png", caption="Rosa am Strand", meant=" a fox \n on the beach ")
    second = image("b.png", caption="Rosa", told="the fox is red", meant="a fox")
    third = image("c.png", caption="x", meant="x")
    record = [said("user", "x"), said("assistant", first), said("user", "y"), said("assistant", second, third)]
    found = open_dataset(lines(tmp_path, record))
    assert [found[index].meaning for index in range(3)] == ["a fox on the beach", "a fox", "x"]
    assert [found[index].caption for index in range(3)] == ["Rosa am Strand", "Rosa", "x"]
    assert found[1].whole_caption == "a fox, the fox is red" and found[2].meant == ""
    assert found[0].key != replace(found[0], meant="").key
    assert found.exchanged(0, random.Random(1)).meant == "a fox on the beach", "other references, the same words"
