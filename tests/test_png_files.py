"""Pictures of saved conversations: opened when they are viewed, whatever happens to their folder meanwhile."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from m3adapter.conversation import png_files, storage
from m3adapter.conversation.conversation import Conversation, ConversationError, Picture, Slot, Text
from m3adapter.conversation.pictures import png_bytes, read_picture
from m3adapter.conversation.sessions import Sessions
from m3adapter.export.story import export_story
from test_storage import Crash, grey, story
from tools import environment
from toys import one_sentence


def shades(conversation: Conversation) -> list[float]:
    """The brightness of each picture, which opens it."""
    return [round(float(conversation.picture(slot).pixels.mean()), 1) for slot in conversation.pictures()]


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in sorted(folder.glob("*.png"))}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A saved story, whose pictures are 0.2, 0.4 and 0.6 bright."""
    story().save(tmp_path / "s")
    return tmp_path / "s"


def test_nothing_is_decoded_or_held_open_until_somebody_looks(saved: Path, monkeypatch) -> None:
    decoded = []

    def read(source: object, **how: object) -> torch.Tensor:
        decoded.append(source)
        return read_picture(source, **how)

    monkeypatch.setattr(png_files, "read_picture", read)
    open_files = set(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else None
    loaded, again = Conversation.load(saved), Conversation.load(saved)
    if open_files is not None:
        assert set(os.listdir("/proc/self/fd")) <= open_files
    first = loaded.picture(Slot(2, 1))
    assert not first.is_open and first.size == (6, 4) and first.png == (saved / "picture_1.png").read_bytes()
    told = loaded.with_caption(Slot(2, 1), "a fox again").without_picture(Slot(4, 0)).user("And?")
    assert told.messages() and told.slots() and told.open_slots()
    assert loaded.picture(Slot(2, 1)) == first and not decoded
    assert loaded == again, "which looks"
    assert len(decoded) == 6 and first.pixels is first.pixels and len(decoded) == 6


def test_a_save_writes_only_what_changed(saved: Path, monkeypatch) -> None:
    written: list[str] = []
    write = storage._write_through

    def note(path: Path, data: bytes) -> None:
        written.append(path.name)
        write(path, data)

    monkeypatch.setattr(storage, "_write_through", note)
    before = inodes(saved)
    longer = Conversation.load(saved).user("More.", [grey(0.8)])
    longer.save(saved)
    assert written == ["picture_4.png", "conversation.json"]
    assert {name: inode for name, inode in inodes(saved).items() if name in before} == before
    written.clear()
    longer.assistant([Text("And so on.")]).save(saved)
    assert written == ["conversation.json"], "what was saved once is known to be there"
    written.clear()
    longer.save(saved.parent / "copy")
    assert len(written) == 5 and not set(inodes(saved).values()) & set(inodes(saved.parent / "copy").values())
    assert shades(Conversation.load(saved)) == shades(Conversation.load(saved.parent / "copy")) == [0.2, 0.4, 0.6, 0.8]


@pytest.mark.parametrize("links", [True, False])
def test_a_loaded_conversation_stays_whatever_is_saved_in_its_folder(saved: Path, links: bool, monkeypatch) -> None:
    if not links:  # some file systems have none

        def refuse(*_: object) -> None:
            raise OSError("not supported")

        monkeypatch.setattr(os, "link", refuse)
    old = Conversation.load(saved)
    other = Conversation.load(saved)
    shorter = Conversation().user("Only this.", [other.picture(Slot(4, 0)), grey(0.9)])
    shorter.save(saved)
    assert shades(Conversation.load(saved)) == [0.6, 0.9]
    assert shades(old) == shades(other) == [0.2, 0.4, 0.6]
    again = Conversation.load(saved)
    old.save(saved)
    old.save(saved)
    assert shades(again) == [0.6, 0.9] and shades(Conversation.load(saved)) == [0.2, 0.4, 0.6]


def test_a_loaded_conversation_outlives_its_session(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "sessions")
    sessions.save("fox", story())
    loaded, branch = sessions.load("fox").conversation, sessions.branch("fox", "bear")
    assert not set(inodes(sessions.root / "fox").values()) & set(inodes(sessions.root / "bear").values())
    sessions.delete("fox")
    assert shades(loaded) == shades(branch.conversation) == [0.2, 0.4, 0.6]
    sessions.save("fox", loaded)
    assert shades(sessions.load("fox").conversation) == [0.2, 0.4, 0.6]


def test_an_export_over_a_loaded_story_takes_nothing_from_it(tmp_path: Path) -> None:
    export_story(story(), tmp_path)
    loaded = Conversation.load(tmp_path)
    export_story(Conversation().user("Look.", [grey(0.9)]), tmp_path)
    assert shades(loaded) == [0.2, 0.4, 0.6]


def test_what_somebody_deleted_by_hand_is_written_again_if_it_is_known(saved: Path) -> None:
    conversation = story()
    conversation.save(saved)
    shutil.rmtree(saved)
    conversation.save(saved)
    assert shades(Conversation.load(saved)) == [0.2, 0.4, 0.6]


@pytest.mark.parametrize("damage", ["removed", "changed", "cut"])
def test_what_somebody_else_damaged_says_so_when_it_is_looked_at(saved: Path, damage: str) -> None:
    loaded = Conversation.load(saved)
    path = saved / "picture_2.png"
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(b"x" * 99 if damage == "changed" else path.read_bytes()[:-3])
    for look in (lambda: loaded.picture(Slot(3, 0)).pixels, lambda: loaded.save(saved.parent / "other")):
        with pytest.raises(
            ConversationError, match=r"picture_2.png was removed or changed by another program"
        ) as caught:
            look()
        assert one_sentence(caught.value)
    assert loaded.picture(Slot(2, 1)).pixels.shape == (4, 6, 3)


def test_damage_in_the_middle_of_a_file_names_it(saved: Path) -> None:
    path = saved / "picture_2.png"
    whole = png_bytes(torch.rand(64, 64, 3))
    path.write_bytes(whole[:500] + bytes(255 - byte for byte in whole[500:600]) + whole[600:])
    loaded = Conversation.load(saved)
    with pytest.raises(ConversationError, match="The picture picture_2.png cannot be read: "):
        _ = loaded.picture(Slot(3, 0)).pixels


OTHER = """
import sys
from m3adapter.conversation.conversation import Conversation, Slot
loaded = Conversation.load(sys.argv[1])
Conversation().user("Mine.", [loaded.picture(Slot(4, 0)), loaded.picture(Slot(2, 1))]).save(sys.argv[1])
"""


def test_what_another_process_kept_is_found_under_its_new_name(saved: Path) -> None:
    loaded = Conversation.load(saved)
    subprocess.run([sys.executable, "-c", OTHER, str(saved)], cwd=environment.REPO, check=True)
    assert len(inodes(saved)) == 2
    assert [round(float(loaded.picture(slot).pixels.mean()), 1) for slot in (Slot(2, 1), Slot(4, 0))] == [0.2, 0.6]
    with pytest.raises(ConversationError, match="by another program: load the conversation again"):
        _ = loaded.picture(Slot(3, 0)).pixels


@pytest.mark.parametrize("survivors", range(14))
def test_a_crash_while_files_are_linked_costs_nothing(saved: Path, monkeypatch, survivors: int) -> None:
    """Lets so many of save()'s operations happen; every further one fails, cleaning up included."""
    loaded = Conversation.load(saved)
    old, new = loaded.rewind(4), loaded.user("new", [grey(1.0)])
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
        operations = (os, "rename"), (os, "link"), (shutil, "rmtree"), (storage, "_write_through"), (Path, "mkdir")
        for module, name in operations:
            patch.setattr(module, name, dying(getattr(module, name)))
        with contextlib.suppress(Crash):
            new.save(saved)
    assert Conversation.load(saved) == (old if survivors < 10 else new)
    assert shades(loaded) == [0.2, 0.4, 0.6]
    new.save(saved)
    assert Conversation.load(saved) == new


def test_versions_stay_in_their_files_until_they_are_chosen(saved: Path, monkeypatch) -> None:
    slot = Slot(2, 1)
    loaded = Conversation.load(saved)
    painted = loaded.without_picture(slot).with_picture(slot, grey(0.8), seed=3).retell(3)
    painted = painted.user("Another one.", [grey(0.5)])
    painted.save(saved)
    assert len(inodes(saved)) == 5, "each is there once"
    monkeypatch.setattr(png_files, "read_picture", None)
    before = inodes(saved)
    again = Conversation.load(saved)
    again.save(saved)
    assert inodes(saved) == before
    whole = again.with_version(0, 3).with_version(0, *slot)
    monkeypatch.undo()
    assert shades(whole) == [0.2, 0.4, 0.6] and whole.picture(slot).seed == 2**64 - 1
    whole.save(saved)
    assert shades(Conversation.load(saved)) == [0.2, 0.4, 0.6] and len(inodes(saved)) == 5


def test_a_picture_keeps_its_file_when_other_fields_change(saved: Path) -> None:
    picture = Conversation.load(saved).picture(Slot(2, 1))
    changed = picture.changed(caption="another", seed=1, gate=0.5)
    assert (changed.caption, changed.seed, changed.gate, changed.png) == ("another", 1, 0.5, picture.png)
    assert changed.pixels.equal(picture.pixels) and changed != picture
    with pytest.raises(ConversationError, match="seed"):
        picture.changed(seed=-1)
    assert Picture("x").changed(caption="y").is_open
