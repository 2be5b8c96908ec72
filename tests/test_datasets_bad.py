"""Bad data: counted and named when a data set is opened, or one clear error at once, and never a crash in training."""

from __future__ import annotations

import json
import os
import random
import struct
import sys
import unicodedata
import zlib
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from m3adapter.conversation.sessions import Sessions
from m3adapter.datasets import files, pictures, stories
from m3adapter.datasets.opening import open_dataset
from m3adapter.datasets.report import SHOWN, Report
from m3adapter.datasets.sample import DatasetError
from test_datasets import a_story, captions, draw, image, lines, said, text
from test_datasets_layouts import a_session

BROKEN = "the picture is damaged, or no picture"
VIST = "train.story-in-sequence.json"
OUTSIDE = "the picture lies outside the data set's folder"


def named(found: object) -> dict[str, list[str]]:
    return {reason: left.places for reason, left in found.report.left_out.items()}  # type: ignore[attr-defined]


def png_of(width: int, height: int) -> bytes:
    """Return the beginning of a PNG that claims to be so large."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def cut(path: Path, part: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])


def noise(path: Path) -> Path:
    pixels = numpy.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=numpy.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_pictures_that_cannot_be_learned_are_named(tmp_path: Path) -> None:
    folder = captions(tmp_path / "set", "a fox")
    for suffix in ("png", "jpg", "webp"):
        cut(noise(folder / f"cut.{suffix}"))
        (folder / f"empty.{suffix}").write_bytes(b"")
        (folder / f"text.{suffix}").write_text("no picture")
    draw(folder / "pixel.png", size=(1, 1)), draw(folder / "line.png", size=(400, 2))
    (folder / "bomb.png").write_bytes(png_of(60000, 60000))
    (folder / "huge.png").write_bytes(png_of(9000, 9000))
    (folder / "program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n")
    for path in folder.iterdir():
        path.with_suffix(".txt").write_text("something")
    found = open_dataset(folder)
    broken = sorted(f"{name}.{suffix}" for name in ("cut", "empty", "text") for suffix in ("png", "jpg", "webp"))
    assert len(found) == 1
    assert named(found)["the picture is too large"] == ["bomb.png", "huge.png"]
    assert named(found)["the picture is smaller than 16 pixels"] == ["line.png", "pixel.png"]
    assert found.report.left_out[BROKEN].count == len([*broken, "program.png"])
    assert set(named(found)[BROKEN]) < {*broken, "program.png"} and len(named(found)[BROKEN]) == SHOWN
    assert found.report.count == 14 and "left out 10, because the picture is damaged" in str(found.report)
    json.dumps(found.report.to_dict())


def test_headers_alone_take_less_long_and_leave_damage_to_the_look(tmp_path: Path) -> None:
    folder = captions(tmp_path / "set", "a fox")
    cut(noise(folder / "cut.png"), 0.9)
    (folder / "cut.txt").write_text("an owl")
    found = open_dataset(folder, check=False)
    assert len(found) == 2
    with pytest.raises(ValueError, match=r"^The picture cut\.png cannot be read: "):
        _ = found[1].picture.pixels


def colours() -> dict[str, Image.Image]:
    ramp = numpy.linspace(0, 255, 64, dtype=numpy.uint8)[None, :].repeat(48, 0)
    grey = Image.fromarray(ramp)
    deep = Image.fromarray(ramp.astype(numpy.uint16) * 257)
    palette = grey.convert("RGB").quantize(16)
    clear = palette.copy()
    clear.info["transparency"] = clear.getpixel((0, 0))
    return {
        "grey.png": grey, "deep.png": deep, "deep.tif": deep, "cmyk.jpg": grey.convert("CMYK"),
        "palette.gif": palette, "clear.png": clear, "bits.png": grey.convert("1"),
        "alpha.png": grey.convert("RGBA"), "la.png": grey.convert("LA"), "ycbcr.jpg": grey.convert("YCbCr"),
        "whole.tif": Image.fromarray(ramp.astype(numpy.int32) * 257),
    }  # fmt: skip


def test_every_colour_mode_becomes_the_picture_that_it_is(tmp_path: Path) -> None:
    for name, picture in colours().items():
        stem, _, suffix = name.partition(".")
        picture.save(tmp_path / f"{stem}-{suffix}.{suffix}")
        (tmp_path / f"{stem}-{suffix}.txt").write_text(name)
    found = open_dataset(tmp_path)
    assert len(found) == len(colours()) and not found.report.left_out
    for index in range(len(found)):
        pixels, name = found[index].picture.pixels, found[index].caption
        assert pixels.shape == (48, 64, 3) and pixels.dtype == torch.float32, name
        row = pixels[:, :, 1].mean(0)
        expected = torch.linspace(0, 1, 64)
        if name == "clear.png":
            assert row[0] == 1, "what is transparent is white"
            continue
        if name == "bits.png":  # dithered
            row, expected = row.view(8, 8).mean(1), expected.view(8, 8).mean(1)
        assert (row - expected).abs().mean() < 0.06, name


def test_pictures_stand_upright(tmp_path: Path) -> None:
    picture = Image.new("RGB", (64, 32), (0, 0, 0))
    picture.paste((255, 255, 255), (0, 0, 32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "a.txt").write_text("white above")
    for check in (True, False):
        found = open_dataset(tmp_path, check=check)
        pixels = found[0].picture.pixels
        assert found.size(0) == (32, 64) and pixels.shape == (64, 32, 3)
        assert pixels[:30].mean() > 0.95 and pixels[34:].mean() < 0.05


def test_captions_that_are_missing_empty_or_in_another_encoding_are_named(tmp_path: Path) -> None:
    folder = captions(tmp_path, "a fox", " \r\n\t", "", "\x00\x07")
    draw(folder / "4.png"), draw(folder / "5.png").with_suffix(".txt").write_bytes("Füchse".encode("latin-1"))
    (folder / "0.txt").write_bytes(b"\xef\xbb\xbfa fox\r\non two lines\r\n")
    found = open_dataset(folder)
    assert len(found) == 1 and found[0].caption == "a fox on two lines"
    assert named(found) == {
        "the caption is empty": ["1.png (1.txt)", "2.png (2.txt)", "3.png (3.txt)"],
        "the picture has no caption": ["4.png"],
        "the caption is not UTF-8": ["5.png (5.txt)"],
    }


def test_bad_lines_of_metadata_are_named_by_file_and_line(tmp_path: Path) -> None:
    draw(tmp_path / "a.png"), draw(tmp_path / "b.png")
    rows = ['{"file_name": "a.png", "text": "a fox"}', "", '{"file_name": "b.png", "te', '{"text": "no picture"}',
            '{"file_name": "a.png", "text": "a fox"}', '{"file_name": "a.png", "text": "another caption"}',
            '{"file_name": "missing.png", "text": "x"}', '["a.png"]', '{"file_name": "b.png", "text": "  "}',
            '{"file_name": "b.png", "text": 7}', "\xff"]  # fmt: skip
    (tmp_path / "metadata.jsonl").write_bytes("\n".join(rows).encode("latin-1"))
    found = open_dataset(tmp_path)
    assert [found[index].caption for index in range(len(found))] == ["a fox", "another caption"]
    assert named(found) == {
        "the line is not valid JSON": ["metadata.jsonl:3 (is it cut?)"],
        "the line names no picture": ["metadata.jsonl:4 (give it as file_name)"],
        "the same picture has the same caption twice": ["metadata.jsonl:5 (a.png)"],
        "the picture does not exist": ["metadata.jsonl:7 (missing.png)"],
        "the line is no JSON object": ["metadata.jsonl:8 (['a.png'])"],
        "the caption is empty": ["metadata.jsonl:9 (b.png)", "metadata.jsonl:10 (b.png)"],
        "the line is not UTF-8": ["metadata.jsonl:11"],
        "the picture has no caption": ["b.png"],
    }


def test_paths_stay_in_the_folder_of_the_data_set(tmp_path: Path) -> None:
    secret = draw(tmp_path / "secret.png")
    folder = tmp_path / "set"
    inside = draw(folder / "in/inside.png")
    (folder / "link.png").symlink_to(secret), (folder / "fine.png").symlink_to(inside)
    (folder / "circle.png").symlink_to(folder / "circle.png"), (folder / "away").symlink_to(tmp_path)
    paths = ["in/inside.png", "in\\inside.png", "./in/../in/inside.png", str(inside), "fine.png", "../secret.png",
             str(secret), "link.png", "away/secret.png", "/etc/passwd", "in/../../secret.png",
             "https://example.org/a.png", "data:image/png;base64,AA",
             "file:///etc/passwd", "", "\0", "a" * 5000, "circle.png", "in",
             "\ud800.png", "b" * 300, None, 7, {"bytes": "x"}]  # fmt: skip
    record = [{"messages": [said("user", text("x")), said("assistant", image(path, caption="c"))]} for path in paths]  # type: ignore[arg-type]
    found = open_dataset(lines(folder, *record))
    assert len(found) == 5 and found.report.left_out[OUTSIDE].count == 6
    assert found.report.count == len(paths) - 5
    assert named(found)["the picture is a web address, and nothing is downloaded"][0].startswith(
        "stories.jsonl:12 (https:"
    )
    captioned = open_dataset(captions(folder, "a fox"), "folder")
    assert named(captioned)["links to folders are not followed"] == ["away"]


def test_links_beside_captions_do_not_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("a secret")
    folder = captions(tmp_path / "set", "a fox")
    draw(folder / "b.png").with_suffix(".txt").symlink_to(tmp_path / "secret.txt")
    draw(tmp_path / "secret.png"), (folder / "c.png").symlink_to(tmp_path / "secret.png")
    (folder / "c.txt").write_text("c")
    found = open_dataset(folder)
    assert len(found) == 1
    assert named(found) == {
        "the caption lies outside the data set's folder": ["b.png"],
        OUTSIDE: ["c.png"],
    }


def two(one: object, other: object) -> dict[str, object]:
    return {"messages": [one, other]}


SHOWN_IN = said("assistant", image("in.png", caption="x"))
BAD_LINES = {
    "the line is not valid JSON": ['{"messages": [{"role": "us', "{}}", "[" * 100_000],
    "the line is not UTF-8": [b'{"messages": "\xff"}'],
    "it has no messages": ["{}", "[]", "7", '{"messages": {}}', "null", '"text"'],
    "a message has no role": [json.dumps(two(said("narrator", text("x")), said("assistant", text("x")))), "[7]"],
    "a message has no content": ['[{"role": "user"}]', '[{"role": "user", "content": 7}]'],
    "a part of a message is neither text nor image": [
        '[{"role": "user", "content": [{"type": "video"}]}]', '[{"role": "user", "content": [7]}]',
    ],
    "it breaks the rules of a conversation": [
        json.dumps([SHOWN_IN]),
        json.dumps([said("user", text("x")), said("user", text("y")), SHOWN_IN]),
        json.dumps([said("user", text("x")), SHOWN_IN, said("system", text("late"))]),
        json.dumps([said("system", image("in.png")), said("user", text("x")), SHOWN_IN]),
    ],
    "it has no picture of the assistant's to learn from": [json.dumps([said("user", image("in.png"), text("x"))])],
}  # fmt: skip


@pytest.mark.parametrize("reason", BAD_LINES)
def test_bad_conversations_are_named_by_file_and_line(tmp_path: Path, reason: str) -> None:
    path = a_story(tmp_path)
    draw(tmp_path / "in.png")
    bad = [line.encode() if isinstance(line, str) else line for line in BAD_LINES[reason]]
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([path.read_bytes().strip(), b"", *bad]))
    found = open_dataset(path)
    assert len(found) == 3 and list(found.report.left_out) == [reason]
    assert found.report.count == len(bad)
    assert found.report.left_out[reason].places[0].startswith("stories.jsonl:3")


def test_a_conversation_may_begin_with_a_picture_and_goes_on_without_lost_ones(tmp_path: Path) -> None:
    for name in "abc":
        draw(tmp_path / f"{name}.png", (ord(name), 0, 0))
    whole = [said("user", image("a.png")), said("assistant", image("b.png")),
             said("user", image("missing.png"), text("more")),
             said("assistant", image("missing.png", caption="lost"), image("c.png", caption="kept"))]  # fmt: skip
    ends = [said("user", text("hi")), said("assistant", image("b.png")), said("user", image("missing.png")),
            said("assistant", image("c.png", caption="never"))]  # fmt: skip
    found = open_dataset(lines(tmp_path, whole, ends))
    assert [found[index].caption for index in range(len(found))] == ["kept", "hi"]
    assert [round(reference.picture.pixels[0, 0, 0].item() * 255) for reference in found[0].references] == [97, 98]
    assert found.report.left_out["the picture has no caption"].count == 1, "nobody said a word before the first picture"
    assert found.report.left_out["the picture does not exist"].count == 3


def test_one_id_is_one_conversation(tmp_path: Path) -> None:
    record = json.loads(a_story(tmp_path).read_text("utf-8"))
    found = open_dataset(
        lines(tmp_path, record, {**record, "id": "other"}, record, {**record, "id": 7}, {**record, "id": 7})
    )
    assert found.report.conversations == 3
    assert named(found) == {"its id was used before": ["stories.jsonl:3 ('kite')", "stories.jsonl:5 (7)"]}


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "^set holds neither pictures nor conversations: see docs/training.md for the layouts.$"),
        (lambda folder: draw(folder / "a.png"), "no samples: 1 left out, because the picture has no caption: a.png.$"),
        (lambda folder: (folder / "a.jsonl").write_text(""), "^The data set set has no samples: give a folder with"),
        (lambda folder: (folder / "a.jsonl").write_text("\n\n{"), "because the line is not valid JSON: a.jsonl:3 "),
        (lambda folder: (folder / "a.jsonl").write_bytes("{}".encode("utf-16")), "^set/a.jsonl is written in UTF-16: "),
        (lambda folder: (folder / "metadata.csv").write_bytes(b"file_name,text\n\xff,"), "csv is not UTF-8: save it"),
        (lambda folder: (folder / VIST).write_text('{"annotations": [['), "is not valid JSON: is it cut"),
        (lambda folder: (folder / VIST).write_text("[]"), "has no list of annotations"),
        (lambda folder: (folder / "a.tar").write_bytes(b"x" * 2000), "because the archive is cut: a.tar "),
    ],
)  # fmt: skip
def test_a_data_set_without_samples_is_one_error_at_once(tmp_path: Path, prepare: object, message: str) -> None:
    (tmp_path / "set").mkdir()
    prepare(tmp_path / "set")  # type: ignore[operator]
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path / "set")


def test_wrong_arguments_are_one_error(tmp_path: Path) -> None:
    folder = captions(tmp_path / "set", "a fox")
    with pytest.raises(DatasetError, match="^There is no data set nowhere: "):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(
        DatasetError, match="^The layout of the data set is 'laion': give one of folder, messages, vist"
    ):
        open_dataset(folder, "laion")
    with pytest.raises(DatasetError, match="^The part of the data set is 'dev': give train, validation or test"):
        open_dataset(folder, split="dev")
    with pytest.raises(DatasetError, match="^held_out is 2: "):
        open_dataset(folder, held_out=2)
    with pytest.raises(DatasetError, match="^set has no .tar file: "):
        open_dataset(folder, "webdataset")


def test_a_data_set_of_one_sample_is_for_training(tmp_path: Path) -> None:
    folder = captions(tmp_path / "set", "a fox")
    found = open_dataset(folder, split="train")
    assert len(found) == 1 and found.exchanged(0, random.Random(1)).references == ()
    with pytest.raises(DatasetError, match="^The data set set has no samples for validation: "):
        open_dataset(folder, split="validation")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    folder = captions(tmp_path / "set", "a fox")
    bad = os.fsencode(folder) + b"/b\xff.png"
    draw(folder / "b.png").rename(os.fsdecode(bad))
    found = open_dataset(folder)
    assert len(found) == 1 and named(found) == {"the file's name is not UTF-8": ["b\\udcff.png"]}
    str(found.report).encode("utf-8")


def test_lines_without_end_are_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_TEXT", 1000)
    path = a_story(tmp_path)
    path.write_bytes(b"x" * 5500 + b"\n" + path.read_bytes())
    report = Report()
    assert [line for line, _, _ in files.numbered_lines(path, report)] == [2]
    assert list(report.left_out) == ["the line is longer than 0 MB"]
    assert len(open_dataset(path)) == 3


def test_a_long_conversation_is_read_in_linear_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        draw(tmp_path / f"{number}.png", (number, 0, 0))
    turns = [
        turn
        for number in range(5000)
        for turn in (
            said("user", text("Go on.")),
            said("assistant", text(f"Panel {number}."), image(f"{number % 3}.png")),
        )
    ]
    found = open_dataset(lines(tmp_path, turns))
    assert len(found) == 5000 and found.report.pictures == 3, "every file is looked at once"
    last = found[4999]
    assert len(last.conversation.turns) == stories.HISTORY
    assert last.conversation.turns[0].role == "user" and len(last.references) == 2
    monkeypatch.setattr(found.reader, "read", None)
    assert found[2500].caption == "Panel 2500.", "a conversation is not read again for each picture"


def test_every_file_counts_its_own_ids(tmp_path: Path) -> None:
    record = json.loads(a_story(tmp_path).read_text("utf-8"))
    (tmp_path / "stories.jsonl").unlink()
    for name in ("train", "validation"):
        lines(tmp_path, {**record, "id": 0}, {**record, "id": 1}, name=f"{name}.jsonl")
    assert [len(open_dataset(tmp_path, split=split)) for split in ("train", "validation", None)] == [6, 6, 12]


def test_a_picture_is_found_however_its_path_is_spelled(tmp_path: Path) -> None:
    (
        draw(tmp_path / unicodedata.normalize("NFD", "süß.png")),
        draw(tmp_path / "photo:1.png"),
        draw(tmp_path / "a\\b.png"),
    )
    paths = [unicodedata.normalize("NFC", "süß.png"), "photo:1.png", "a\\b.png"]
    records = [two(said("user", text("x")), said("assistant", image(path, caption="c"))) for path in paths]
    found = open_dataset(lines(tmp_path, *records))
    assert len(found) == 3 and not found.report.left_out


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    folder = captions(tmp_path / "set", "a fox")
    os.mkfifo(folder / "metadata.jsonl"), os.mkfifo(folder / "b.png"), (folder / "c.png").symlink_to("nowhere")
    (folder / "c.txt").write_text("c")
    assert named(open_dataset(folder)) == {
        "it is no plain file": ["b.png", "metadata.jsonl"],
        "the picture does not exist": ["c.png"],
    }


def test_a_report_is_plain_text_whatever_files_are_called() -> None:
    report = Report("set", "folder")
    report.leave_out("it is odd", "a\n\x1b[31m\udcff.jsonl:1", "x" * 1000)
    report.leave_out("it is odd", "rosa/b.png", "b.png.")
    (one, other) = report.left_out["it is odd"].places
    assert one.isprintable() and len(one) < 300 and other == "rosa/b.png"
    assert str(report).count("\n") == 1 and report.count == 2


def test_a_bad_line_of_a_table_ends_nothing(tmp_path: Path) -> None:
    folder = captions(tmp_path, "a", "b")
    (folder / "metadata.csv").write_text(f'file_name,text\n0.png,"{"x" * 200_000}"\n1.png,an owl,\n', "utf-8")
    found = open_dataset(folder)
    assert found.caption(0) == "an owl" and "the line is not valid CSV" in named(found)


def test_a_session_that_cannot_be_read_is_named_beside_others(tmp_path: Path) -> None:
    for name in ("kite", "owl"):
        Sessions(tmp_path).save(name, a_session())
    cut(tmp_path / "owl/conversation.json")
    found = open_dataset(tmp_path)
    assert named(found) == {
        "the saved conversation is damaged": [
            "owl/conversation.json (owl/conversation.json is damaged: it is not valid JSON)"
        ],
        "the picture is not painted yet": ["kite/conversation.json (not painted yet)"],
    }


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow tells what it skips
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tif"])
def test_whatever_is_opened_can_be_looked_at(tmp_path: Path, suffix: str) -> None:
    pixels = numpy.random.default_rng(1).integers(0, 255, (40, 48, 3), dtype=numpy.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", exif=exif)
    data, rng = (tmp_path / f"a.{suffix}").read_bytes(), random.Random(suffix)
    opener = pictures.Pictures(tmp_path, report := Report())
    for _ in range(60):
        broken = bytearray(data)
        for _ in range(rng.choice((1, 2, 8))):
            broken[rng.randrange(rng.choice((100, len(data))))] = rng.randrange(256)
        (tmp_path / f"a.{suffix}").write_bytes(broken)
        found = opener.inspected(tmp_path / f"a.{suffix}", "place")
        assert found is None or found.decode().shape == (found.size[1], found.size[0], 3)
    assert report.count > 0


def test_linked_files_do_not_leave_the_folder(tmp_path: Path) -> None:
    away = a_story(tmp_path / "away")
    for name in ("stories.jsonl", "train.story-in-sequence.json", "a.tar", "metadata.jsonl"):
        folder = tmp_path / name
        draw(folder / "a.png")
        (folder / name).symlink_to(away)
        with pytest.raises(DatasetError, match=f"the file lies outside the data set's folder: {name}"):
            open_dataset(folder)
    (tmp_path / "inside").mkdir()
    away.rename(tmp_path / "away/deep.txt"), (tmp_path / "away/stories.jsonl").symlink_to("deep.txt")
    assert len(open_dataset(tmp_path / "away")) == 3
