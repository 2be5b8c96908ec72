"""A conversation on disk: what survives, that a crash costs nothing, and what is refused."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from m3adapter.conversation import segments, storage
from m3adapter.conversation.conversation import Conversation, ConversationError, Picture, Slot, Text
from m3adapter.conversation.pictures import png_bytes


def grey(value: float, size: tuple[int, int] = (4, 6)) -> torch.Tensor:
    return torch.full((*size, 3), value)


def story() -> Conversation:
    """Two replies with a picture each, both painted; the user showed a picture in between."""
    conversation = Conversation().system("You tell stories.").user("A fox.")
    conversation = conversation.assistant([Text("It ran."), Picture("a fox")])
    conversation = conversation.with_picture(Slot(2, 1), grey(0.2), seed=2**64 - 1, gate=1.5)
    conversation = conversation.user("What happens next?", [grey(0.4)])
    conversation = conversation.assistant([Picture("a bear"), Text("Hush.")])
    return conversation.with_picture(Slot(4, 0), grey(0.6))


def test_it_survives_on_disk(tmp_path: Path) -> None:
    conversation = story().user("And then?").assistant([Text("It 👀 ↔ שלום."), Picture("not painted yet")])
    conversation.save(tmp_path / "saved")
    loaded = Conversation.load(tmp_path / "saved")
    assert [turn.role for turn in loaded.turns] == [turn.role for turn in conversation.turns]
    assert loaded.open_slots() == conversation.open_slots() and loaded.messages() == conversation.messages()
    assert loaded.at(Slot(2, 1)).seed == 2**64 - 1 and loaded.at(Slot(2, 1)).gate == 1.5
    for slot in conversation.pictures():
        assert (loaded.at(slot).image - conversation.at(slot).image).abs().max() <= 0.5 / 255 + 1e-6
    loaded.save(tmp_path / "again")
    assert Conversation.load(tmp_path / "again") == loaded, "8-bit pictures must not change any more"
    assert sorted(os.listdir(tmp_path)) == ["again", "saved"], "no temporary folder may stay"


def test_equal_conversations_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        story().save(tmp_path / name)
    names = sorted(os.listdir(tmp_path / "a"))
    assert names == ["conversation.json", "picture_1.png", "picture_2.png", "picture_3.png"]
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)


def test_what_was_read_is_written_without_encoding_it_again(tmp_path: Path, monkeypatch) -> None:
    story().save(tmp_path / "a")
    loaded = Conversation.load(tmp_path / "a")
    encoded = []
    monkeypatch.setattr(segments, "png_bytes", lambda image: encoded.append(image) or png_bytes(image))
    loaded.with_character("fox", [grey(0.3)]).user("Go on.").save(tmp_path / "b")
    assert len(encoded) == 1, "the new one"
    assert all((tmp_path / "a" / f"picture_{k}.png").read_bytes() == (tmp_path / "b" / f"picture_{k}.png").read_bytes()
               for k in (1, 2, 3))  # fmt: skip


def test_saving_again_replaces_everything(tmp_path: Path) -> None:
    story().save(tmp_path / "s")
    Conversation().user("Only this.").save(tmp_path / "s")
    assert os.listdir(tmp_path / "s") == ["conversation.json"]


class Crash(BaseException):
    """Simulates the process being killed."""


@pytest.mark.parametrize("survivors", range(12))
def test_a_crash_at_any_moment_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch, survivors: int) -> None:
    """Lets so many of save()'s writes, renames and removals happen; every further one fails, cleaning up included."""
    old, new = Conversation().user("old", [grey(0.0)]), Conversation().user("new", [grey(1.0)])
    old.save(tmp_path / "s")
    left = survivors

    def dying(real):
        def act(*args, **kwargs):
            nonlocal left
            left -= 1
            if left < 0:
                raise Crash
            return real(*args, **kwargs)

        return act

    with monkeypatch.context() as patch:
        for module, name in ((os, "rename"), (shutil, "rmtree"), (storage, "_write_through"), (Path, "mkdir")):
            patch.setattr(module, name, dying(getattr(module, name)))
        with contextlib.suppress(Crash):
            new.save(tmp_path / "s")
    assert (left < 0) == (survivors < 9), "save() has other operations now: count them again"
    assert Conversation.load(tmp_path / "s") == (old if survivors < 7 else new)
    new.save(tmp_path / "s")
    assert Conversation.load(tmp_path / "s") == new, "saving must work after a crash"


def test_a_failed_save_costs_nothing(tmp_path: Path, monkeypatch) -> None:
    Conversation().user("old").save(tmp_path / "s")
    real = os.rename

    def failing(source, target) -> None:
        if Path(target).name == "s" and "previous" not in str(source):
            raise OSError("disk full")
        real(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="disk full"):
        story().save(tmp_path / "s")
    assert os.listdir(tmp_path) == ["s"]
    assert Conversation.load(tmp_path / "s") == Conversation().user("old")


def test_saving_takes_no_other_file_away(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConversationError, match=r"holds other files \(notes.txt\)"):
        story().save(tmp_path)
    with pytest.raises(ConversationError, match="is a file"):
        story().save(tmp_path / "notes.txt")
    assert os.listdir(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 3}, "version 3.*update the pack"),
        ({"version": 0}, "version 0, and this pack reads versions 1 to 2"),
        ({"version": True}, "version True"),
        ({"version": None}, "version None"),
        ({"turns": [{"role": "user"}]}, "damaged"),
        ({"turns": 7}, "damaged"),
        ({"version": 2}, "its revision is None"),
        ({"version": 2, "revision": 1}, "damaged"),
        ({"version": 2, "revision": 1, "cast": [{"name": "", "pictures": []}]}, "needs a name"),
        ({"turns": [{"role": "user", "segments": [{"type": "sound"}]}]}, "'sound' is not a type"),
        ({"turns": [{"role": "assistant", "segments": []}]}, "must begin with a user message"),
    ],
)
def test_loading_says_what_is_wrong(tmp_path: Path, change: dict, says: str) -> None:
    (tmp_path / "conversation.json").write_text(json.dumps({"version": 1, "turns": [], **change}))
    with pytest.raises(ConversationError, match=says):
        Conversation.load(tmp_path)


@pytest.mark.parametrize(
    "name", ["../picture_1.png", "/etc/picture_1.png", "a/picture_1.png", "x.png", "picture_1.png\n", "", 3]
)
def test_loading_reads_only_its_own_pictures(tmp_path: Path, name: object) -> None:
    story().save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "picture_1.png", tmp_path)
    (tmp_path / "s").mkdir()
    segment = {"type": "picture", "caption": "", "file": name, "seed": None, "gate": None}
    content = {"version": 1, "turns": [{"role": "user", "segments": [segment]}]}
    (tmp_path / "s" / "conversation.json").write_text(json.dumps(content))
    with pytest.raises(ConversationError, match="only picture_<k>.png is allowed"):
        Conversation.load(tmp_path / "s")


def test_loading_follows_no_link(tmp_path: Path) -> None:
    story().save(tmp_path / "a")
    story().save(tmp_path / "b")
    (tmp_path / "b" / "picture_2.png").unlink()
    (tmp_path / "b" / "picture_2.png").symlink_to(tmp_path / "a" / "picture_2.png")
    with pytest.raises(ConversationError, match="is a link"):
        Conversation.load(tmp_path / "b")


def test_loading_what_is_missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(ConversationError, match="There is no saved conversation"):
        Conversation.load(tmp_path)
    story().save(tmp_path / "s")
    (tmp_path / "s" / "picture_2.png").unlink()
    with pytest.raises(ConversationError, match="picture_2.png does not exist"):
        Conversation.load(tmp_path / "s")
    png = (tmp_path / "s" / "picture_1.png").read_bytes()
    (tmp_path / "s" / "picture_1.png").write_bytes(png[: len(png) // 2])
    with pytest.raises(ConversationError, match="picture_1.png cannot be read"):
        Conversation.load(tmp_path / "s")
    (tmp_path / "s" / "conversation.json").write_bytes(b"{\xff")
    with pytest.raises(ConversationError, match="not valid JSON"):
        Conversation.load(tmp_path / "s")
