"""The layouts of published data sets, and saved conversations of the pack, as samples."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from m3adapter.conversation.conversation import Conversation, Picture, Text
from m3adapter.conversation.sessions import Sessions
from m3adapter.datasets.opening import open_dataset
from m3adapter.datasets.sample import DatasetError
from test_datasets import draw, lines


def places_of(found: object, reason: str) -> list[str]:
    return found.report.left_out[reason].places  # type: ignore[attr-defined]


def annotation(story: str, order: int, photo: str, original: str, **more: object) -> list[dict[str, object]]:
    entry = {
        "story_id": story,
        "worker_arranged_photo_order": order,
        "photo_flickr_id": photo,
        "original_text": original,
    }
    return [{**entry, **more}]


def vist(folder: Path, *annotations: object, part: str = "train") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"images": [], "albums": [], "annotations": list(annotations), "type": "story-in-sequence"}
    (folder / f"{part}.story-in-sequence.json").write_text(json.dumps(content), "utf-8")
    return folder


def test_a_story_of_vist_is_one_answer_in_the_workers_order(tmp_path: Path) -> None:
    for number in range(1, 5):
        draw(tmp_path / f"images/{number}.jpg", (number * 40, 0, 0))
    vist(
        tmp_path,
        annotation("7", 1, "2", "Then it rained."),
        annotation("7", 0, "1", "We went to the beach."),
        annotation("7", 2, "9", "It got dark."),
        annotation("7", 3, "3", "", text="home at last ."),
        annotation("7", 3, "4", "Twice."),
        annotation("8", 0, "4", "A boat."),
    )
    vist(tmp_path, annotation("9", 0, "4", "A boat."), part="val")
    found = open_dataset(tmp_path)
    assert found.report.kind == "vist" and found.report.conversations == 3
    captions = [found[index].caption for index in range(len(found))]
    assert captions == ["We went to the beach.", "Then it rained.", "home at last .", "A boat.", "A boat."]
    last = found[2]
    assert len(last.references) == 2 and last.references[0].picture.caption == "We went to the beach."
    assert last.conversation.turns[1].text.endswith("It got dark.\n\nhome at last .")
    assert places_of(found, "the picture does not exist") == ["train.story-in-sequence.json, story 7 (photograph 9)"]
    assert places_of(found, "its id was used before") == [
        "train.story-in-sequence.json, annotation 5 (picture 3 of story 7)"
    ]
    assert [len(open_dataset(tmp_path, split=split)) for split in ("train", "validation")] == [4, 1]


def test_dialogues_of_mmdialog_teach_the_second_speakers_pictures(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        draw(tmp_path / f"train/images/{name}.jpg", (ord(name), 0, 0))
    turns = [
        [{"__TEXT__": "Look at this!"}, {"__MEDIA__": "a"}],
        [{"__TEXT__": "Lovely, here is ours"}, {"__MEDIA__": "b"}],
        [{"__TEXT__": "A cat?"}],
        [{"__MEDIA__": "c.jpg"}],
        [{"__MEDIA__": "missing"}],
        [{"__TEXT__": "never read"}, {"__MEDIA__": "c"}],
    ]
    record = {"conversation_id": 1, "conversation": [{"turn": turn} for turn in turns]}
    lines(tmp_path / "train", record, record, {"conversation_id": 2, "conversation": turns}, name="conversations.json")
    found = open_dataset(tmp_path)
    assert found.report.kind == "mmdialog" and len(found) == 4
    assert [found[index].caption for index in range(2)] == ["Lovely, here is ours", "A cat?"]
    assert found[1].references[0].picture.pixels[0, 0, 0] == pytest.approx(ord("a") / 255, abs=0.02)
    assert places_of(found, "its id was used before") == ["train/conversations.json:2 (1)"]
    assert found.report.left_out["the picture does not exist"].count == 2


def tar(path: Path, *members: tuple[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def jpeg(red: int, size: tuple[int, int] = (40, 24)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (red, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


def shard(path: Path) -> Path:
    return tar(
        path,
        ("000.jpg", jpeg(10)), ("000.txt", b"a fox"), ("000.json", b'{"caption": "other"}'),
        ("001.json", b'{"caption": "an owl", "status": "success"}'), ("001.jpg", jpeg(200)),
        ("002.jpg", jpeg(30)), ("003.txt", b"alone"), ("004.jpg", b"no jpeg"), ("004.txt", b"broken"),
        ("000.jpg", jpeg(10)), ("000.txt", b"a fox"), ("005.jpg", jpeg(50)), ("005.txt", b" \n"),
        ("a/b/006.JPG", jpeg(60)), ("a/b/006.txt", "ein Fuchs, größer".encode()),
    )  # fmt: skip


def test_archives_of_captioned_pictures_are_read_in_place(tmp_path: Path) -> None:
    shard(tmp_path / "train-00000.tar"), tar(tmp_path / "val-00000.tar", ("1.jpg", jpeg(9)), ("1.txt", b"a kite"))
    found = open_dataset(tmp_path)
    assert found.report.kind == "webdataset"
    captions = [found[index].caption for index in range(len(found))]
    assert captions == ["a fox", "an owl", "ein Fuchs, größer", "a kite"]
    assert found[1].picture.pixels.shape == (24, 40, 3) and found.size(1) == (40, 24)
    assert found[1].picture.pixels[0, 0, 0] == pytest.approx(200 / 255, abs=0.02)
    assert found[2].source == "train-00000.tar: a/b/006"
    assert {reason: place.places for reason, place in found.report.left_out.items()} == {
        "the picture has no caption": ["train-00000.tar: 002"],
        "the caption has no picture": ["train-00000.tar: 003"],
        "the picture is damaged, or no picture": ["train-00000.tar: 004"],
        "its id was used before": ["train-00000.tar: 000"],
        "the caption is empty": ["train-00000.tar: 005"],
    }
    assert len(open_dataset(tmp_path, split="validation")) == 1
    assert open_dataset(tmp_path, check=False).key(2) == pickle.loads(pickle.dumps(found)).key(2) == found.key(2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train-00000.tar", "val-00000.tar"]


@pytest.mark.parametrize("part", [0.3, 0.5, 0.72, 0.9])
def test_a_cut_archive_gives_what_it_has(tmp_path: Path, part: float) -> None:
    members = [
        (f"{number}.{suffix}", data)
        for number in range(20)
        for suffix, data in (("jpg", jpeg(number)), ("txt", b"a fox"))
    ]
    data = tar(tmp_path / "whole.tar", *members).read_bytes()
    whole = len(data) - 10240  # the padding at the end
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut/a.tar").write_bytes(data[: int(whole * part) + 100])
    found = open_dataset(tmp_path / "cut")
    assert abs(len(found) - 20 * part) <= 2 and all(found[i].picture.pixels.numel() for i in range(len(found)))
    assert "the archive is cut" in found.report.left_out


def test_an_archive_that_cannot_be_read_in_place_is_refused_at_once(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("1.jpg")
        archive.addfile(info, io.BytesIO())
    with pytest.raises(DatasetError, match=r"^[^:]*a\.tar\.gz is compressed: decompress it"):
        open_dataset(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/empty.tar").write_bytes(b"")
    with pytest.raises(DatasetError, match="has no samples: 1 left out, because the archive is cut"):
        open_dataset(tmp_path / "b")


def test_a_link_in_an_archive_is_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in (("1.jpg", jpeg(9)), ("1.txt", b"a fox")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("2.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    found = open_dataset(tmp_path)
    assert len(found) == 1 and places_of(found, "the archive's member is a link or no plain file") == ["a.tar: 2.jpg"]


def a_session() -> Conversation:
    def pixels(value: float) -> torch.Tensor:
        return torch.full((32, 32, 3), value)

    told = Conversation().with_character("Rosa", [pixels(0.9)], looks="a small red fox").user("A tale of Rosa.")
    told = told.assistant([Text("Windy."), Picture("Rosa with a kite"), Text("Home."), Picture("an owl at home")])
    first, second = told.open_slots()
    told = told.with_picture(first, pixels(0.1), seed=3)
    told = told.without_picture(first).with_picture(first, pixels(0.2), seed=4)
    told = told.with_picture(second, pixels(0.3)).user("Go on.")
    told = told.assistant([Text("Bad."), Picture("swiped away", pixels(0.4))])
    told = told.retell(3).assistant([Text("Good."), Picture("Rosa sleeps", pixels(0.5))])
    return told.user("And?").assistant([Picture("not painted yet")])


def test_a_saved_conversation_teaches_what_was_kept(tmp_path: Path) -> None:
    Sessions(tmp_path / "sessions").save("kite", a_session())
    for path in (tmp_path / "sessions", tmp_path / "sessions/kite", tmp_path / "sessions/kite/conversation.json"):
        found = open_dataset(path)
        assert found.report.kind == "session" and found.report.conversations == 1
        told = [
            (found[index].caption, round(found[index].picture.pixels.mean().item(), 2)) for index in range(len(found))
        ]
        assert told == [("Rosa with a kite", 0.2), ("an owl at home", 0.3), ("Rosa sleeps", 0.5)]
    shown = [[round(reference.picture.pixels.mean().item(), 1) for reference in found[i].references] for i in range(3)]
    assert shown == [[0.9], [0.2], [0.9, 0.2]], "the cast comes first, as in painting"
    assert places_of(found, "the picture is not painted yet") == ["kite/conversation.json (not painted yet)"]
    assert found[0].source == "kite/conversation.json" and found[2].known == ("Rosa",)
    sample = found[2]
    assert sample.references == sample.conversation.weighted_references(sample.slot, found.policy)


def test_a_damaged_session_is_left_out_and_a_changed_one_is_noticed(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "sessions")
    sessions.save("kite", a_session()), sessions.save("owl", a_session())
    next((tmp_path / "sessions/owl").glob("*.png")).unlink()
    found = open_dataset(tmp_path / "sessions")
    (place,) = places_of(found, "the saved conversation is damaged")
    assert len(found) == 3 and place.startswith("owl/conversation.json (The picture ")
    sessions.save("kite", a_session().rewind(1).with_text(1, "Another."))
    found._known.clear()
    with pytest.raises(DatasetError, match=r"^kite/conversation\.json was changed after it was opened"):
        _ = found[2]
