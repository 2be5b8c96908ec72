"""Folders of captioned pictures: which captions and which parts their pictures get, however the paths are written."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from m3adapter.datasets.opening import open_dataset
from m3adapter.datasets.sample import DatasetError
from m3adapter.datasets.stories import Stories
from test_datasets import a_story, captions, draw, image, lines, said
from test_datasets_bad import cut, named


def table(folder: Path, *rows: tuple[str, object], name: str = "metadata.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    written = [json.dumps({"file_name": path, "text": caption}) + "\n" for path, caption in rows]
    (folder / name).write_text("".join(written), "utf-8")
    return folder


def told(found: Stories) -> list[str]:
    return [found[index].caption for index in range(len(found))]


@pytest.mark.parametrize("form", ["validation\\{}.png", "train/../validation/{}.png", "./validation/{}.png"])
def test_the_part_of_a_picture_is_its_folder_however_its_path_is_written(tmp_path: Path, form: str) -> None:
    for part in ("train", "validation"):
        for number in range(3):
            draw(tmp_path / part / f"{number}.png", (number * 20, 0, 0))
    rows = [(f"train\\{number}.png", f"an owl {number}") for number in range(3)]
    table(tmp_path, *rows, *((form.format(number), f"a fox {number}") for number in range(3)))
    for split, animal in (("train", "an owl"), ("validation", "a fox")):
        assert told(open_dataset(tmp_path, split=split)) == [f"{animal} {number}" for number in range(3)]


def test_a_table_beside_the_parts_may_lead_to_them(tmp_path: Path) -> None:
    draw(tmp_path / "train/0.png"), draw(tmp_path / "validation/0.png")
    table(tmp_path / "tables", ("../train/0.png", "an owl"), ("../validation/0.png", "a fox"))
    assert told(open_dataset(tmp_path, split="validation")) == ["a fox"]
    assert not open_dataset(tmp_path).report.left_out, "the pictures have their captions"


def test_whole_paths_may_lead_through_a_link(tmp_path: Path) -> None:
    root = tmp_path / "set"
    draw(root / "train/0.png"), draw(root / "validation/0.png")
    (tmp_path / "link").symlink_to(root)
    table(root, *((str(tmp_path / f"link/{part}/0.png"), part) for part in ("train", "validation")))
    for part in ("train", "validation"):
        found = open_dataset(tmp_path / "link", split=part)
        assert told(found) == [part] and not found.report.left_out


def test_the_group_of_a_picture_is_its_folder_however_its_path_is_written(tmp_path: Path) -> None:
    for number in range(4):
        draw(tmp_path / f"{'ab'[number // 2]}/{number}.png", (number * 20, 0, 0))
    table(tmp_path, ("a\\0.png", "one"), ("b/../a/1.png", "two"), ("b\\2.png", "three"), ("a/../b/3.png", "four"))
    found = open_dataset(tmp_path)
    shown = [[reference.picture.caption for reference in found[index].references] for index in range(4)]
    assert shown == [["two"], ["one"], ["four"], ["three"]]


def test_a_picture_is_one_however_its_path_is_spelled(tmp_path: Path) -> None:
    draw(tmp_path / "sub/a.png"), draw(tmp_path / "b.png"), (tmp_path / "b.txt").write_text("a boat")
    draw(tmp_path / unicodedata.normalize("NFD", "süß.png"))
    composed = unicodedata.normalize("NFC", "süß.png")
    table(tmp_path, ("sub\\a.png", "a fox"), ("sub/../b.png", "an owl"), (composed, "a cake"), ("sub/a.png", "a fox"))
    found = open_dataset(tmp_path)
    assert told(found) == ["a fox", "an owl", "a cake"]
    assert named(found) == {"the same picture has the same caption twice": ["metadata.jsonl:4 (sub/a.png)"]}


def test_all_captions_of_a_picture_are_in_one_part(tmp_path: Path) -> None:
    for number in range(10):
        draw(tmp_path / f"{number}.png", (number * 20, 0, 0))
    rows = [(f"{number}.png", f"{number} {word}") for word in ("fox", "owl", "hen") for number in range(10)]
    table(tmp_path, *rows, ("./0.png", "0 again"))
    parts = [told(open_dataset(tmp_path, split=split, held_out=0.4)) for split in ("train", "validation")]
    pictures = [{caption.split()[0] for caption in part} for part in parts]
    assert not pictures[0] & pictures[1] and [len(part) for part in pictures] == [6, 4]
    assert len(parts[0]) + len(parts[1]) == 31


def test_captions_of_one_picture_are_all_for_training(tmp_path: Path) -> None:
    draw(tmp_path / "0.png")
    table(tmp_path, ("0.png", "a fox"), ("0.png", "an animal"))
    assert len(open_dataset(tmp_path, split="train")) == 2
    with pytest.raises(DatasetError, match='no samples for validation: add another .* or set data.validation = "" to'):
        open_dataset(tmp_path, split="validation")


def test_a_list_of_captions_is_a_sample_of_each_and_no_reference_of_itself(tmp_path: Path) -> None:
    for number in range(3):
        draw(tmp_path / f"in/{number}.png", (number * 20, 0, 0))
    every = [(f"in/{number}.png", [f"{number} x", f"{number} y"]) for number in range(3)]
    table(tmp_path, *every[:2], (every[2][0], [*every[2][1], "", 7, "2 x"]))
    found = open_dataset(tmp_path)
    assert told(found) == ["0 x", "0 y", "1 x", "1 y", "2 x", "2 y"]
    assert found.report.left_out["the caption is empty"].count == 2
    assert found.report.left_out["the same picture has the same caption twice"].count == 1
    for index in range(len(found)):
        shown = [reference.picture.caption[0] for reference in found[index].references]
        assert told(found)[index][0] not in shown and len(set(shown)) == len(shown) > 0


def test_a_comma_that_is_not_quoted_leaves_the_row_out(tmp_path: Path) -> None:
    for name in "abc":
        draw(tmp_path / f"{name}.png")
    rows = 'file_name,text\na.png,a fox, with a kite\nb.png,"an owl, asleep"\nc.png,a boat,, \n'
    (tmp_path / "Metadata.CSV").write_text(rows, "utf-8")
    found = open_dataset(tmp_path)
    assert told(found) == ["an owl, asleep", "a boat"]
    reason = "the line has more fields than the header: quote captions with commas"
    assert named(found)[reason] == ["Metadata.CSV:2"]


def test_captions_without_a_picture_are_counted(tmp_path: Path) -> None:
    folder = captions(tmp_path, "a fox")
    (folder / "b.heic").write_bytes(b"x"), (folder / "b.txt").write_text("an owl")
    (folder / "c.caption").write_text("a boat")
    draw(folder / "d.png").rename(folder / "d.png.part"), draw(folder / "e.png")
    table(folder, ("e.png", "a kite"))
    (folder / "e.txt").write_text("used by nobody")
    found = open_dataset(folder)
    assert told(found) == ["a kite", "a fox"]
    assert named(found) == {"the caption has no picture": ["b.txt (b.heic is of no known format)", "c.caption"]}


def test_other_names_of_jpeg_are_pictures(tmp_path: Path) -> None:
    for suffix in ("jfif", "jpe"):
        draw(tmp_path / f"{suffix}.jpg").rename(tmp_path / f"{suffix}.{suffix}")
        (tmp_path / f"{suffix}.txt").write_text(suffix)
    assert told(open_dataset(tmp_path)) == ["jfif", "jpe"] and not open_dataset(tmp_path).report.left_out


def test_a_caption_may_be_linked_within_the_data_set(tmp_path: Path) -> None:
    folder = captions(tmp_path, "a fox")
    (folder / "texts").mkdir()
    (folder / "texts/b.md").write_text("an owl")
    draw(folder / "in/b.png").with_suffix(".txt").symlink_to("../texts/b.md")
    found = open_dataset(folder)
    assert sorted(told(found)) == ["a fox", "an owl"] and not found.report.left_out


def test_a_caption_that_nobody_sees_is_empty(tmp_path: Path) -> None:
    found = open_dataset(captions(tmp_path, "a fox", "\u200b\u200d \ufeff", "‮\u2060"))
    assert told(found) == ["a fox"] and found.report.left_out["the caption is empty"].count == 2


def test_one_damaged_picture_does_not_make_a_data_set_untrainable(tmp_path: Path) -> None:
    for number in range(6):  # each in its turn is the one that would be held out
        folder = captions(tmp_path / f"set{number}", *(f"picture {place}" for place in range(6)))
        cut(folder / f"{number}.png")
        parts = [told(open_dataset(folder, split=split)) for split in ("train", "validation")]
        assert [len(part) for part in parts] == [4, 1] and not set(parts[0]) & set(parts[1])


def test_of_two_pictures_one_may_be_damaged(tmp_path: Path) -> None:
    for number in range(2):
        folder = captions(tmp_path / f"set{number}", "a fox", "an owl")
        cut(folder / f"{number}.png")
        assert len(open_dataset(folder, split="train")) == 1
    for number in range(2):
        story = json.loads(a_story(tmp_path / f"told{number}").read_text("utf-8"))
        lost = {"messages": [said("user", "x"), said("assistant", image("missing.png", caption="y"))]}
        path = lines(tmp_path / f"told{number}", *([story, lost] if number else [lost, story]))
        assert [len(open_dataset(path, split=split)) for split in ("train", "validation")] == [2, 1]


def test_without_samples_for_validation_the_cure_is_said(tmp_path: Path) -> None:
    folder = captions(tmp_path / "set", "a fox", "an owl", "a boat")
    assert len(open_dataset(folder, split="train", held_out=0)) == 3
    with pytest.raises(DatasetError, match='held_out above 0; or set data.validation = "" to train without.$'):
        open_dataset(folder, split="validation", held_out=0)
