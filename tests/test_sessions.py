"""Sessions: their names, their revisions, and that a process killed while saving costs nothing."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from m3adapter.conversation import storage
from m3adapter.conversation.conversation import Conversation, ConversationError, Picture, Slot, Text
from m3adapter.conversation.sessions import SessionConflict, SessionError, SessionMissing, Sessions, check_name
from tools import environment
from toys import one_sentence

# CI has many machines and little time: `M2CHAT_KILLS=100` is the full measure.
KILLS = int(os.environ.get("M2CHAT_KILLS", "20"))


def grey(value: float) -> torch.Tensor:
    return torch.full((4, 6, 3), value)


def story(panels: int = 3) -> Conversation:
    """So many replies with a painted picture each; a fox with a picture is in the cast."""
    conversation = Conversation().with_character("fox", [grey(0.9)])
    for panel in range(panels):
        conversation = conversation.user(f"Message {panel}.").assistant([Text(f"Part {panel}."), Picture("a fox")])
        slot = conversation.open_slots()[0]
        conversation = conversation.with_picture(slot, grey(panel / 10), seed=2**64 - 1 - panel, gate=0.5)
    return conversation


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path / "sessions")


# Saving and loading


def test_a_session_comes_back_with_its_cast_and_a_revision(sessions: Sessions) -> None:
    assert sessions.list() == [] and not sessions.root.exists(), "nothing is made before something is saved"
    assert sessions.save("The fox 🦊", story()).revision == 1
    loaded = sessions.load("The fox 🦊")
    assert loaded.revision == 1 and [t.text for t in loaded.conversation.turns] == [t.text for t in story().turns]
    assert [c.name for c in loaded.conversation.cast] == ["fox"]
    assert sessions.save(loaded.name, loaded.conversation).revision == 2
    assert sessions.load(loaded.name).conversation == loaded.conversation, "8-bit pictures must not change any more"
    (summary,) = sessions.list()
    assert (summary.name, summary.revision, summary.turns, summary.pictures) == ("The fox 🦊", 2, 6, 3)
    assert abs(summary.modified - time.time()) < 60 and not summary.error
    sessions.delete(loaded.name)
    assert os.listdir(sessions.root) == []


def test_names_of_another_case_or_composition_are_one_session(sessions: Sessions) -> None:
    sessions.save("Füchse", story(1))
    assert sessions.save("fu\u0308CHSE", story(2), 1).name == "Füchse"
    assert os.listdir(sessions.root) == ["Füchse"] and sessions.load("FÜCHSE").revision == 2


@pytest.mark.parametrize(
    "name",
    [
        "", "  ", ".", "..", "../fox", "a/b", "a\\b", "/etc", "C:", "c:fox", "~/../x\0", "a\nb", "a\x1bb", "a\ud800b",
        "fox.", "fox ", " fox", ".fox", "con", "CON.json", "Nul", "com1", "LPT9.tale", "COM¹", "what?", "a*b", 'a"b',
        "a<b", "a|b", "x" * 300, "x" * 101, "👩" * 60, None, 7,
    ],
)  # fmt: skip
def test_a_name_that_is_no_folders_is_refused(sessions: Sessions, name: object) -> None:
    (sessions.root.parent / "fox").mkdir()
    for act in (check_name, sessions.load, sessions.delete, sessions.exists, lambda n: sessions.save(n, story(1))):
        with pytest.raises(SessionError) as refusal:
            act(name)
        assert one_sentence(refusal.value) or "..." in str(refusal.value) or "'.'" in str(refusal.value)
    assert os.listdir(sessions.root.parent) == ["fox"]


@pytest.mark.parametrize(
    "name", ["fox", "Das Märchen vom Fuchs", "狐狸的故事", "a.b", "x" * 100, "console", "com10", "🦊"]
)
def test_any_other_name_will_do(sessions: Sessions, name: str) -> None:
    sessions.save(name, story(1))
    assert [each.name for each in sessions.list()] == [name]


def test_a_missing_session_is_reported(sessions: Sessions) -> None:
    for act in (
        sessions.load,
        sessions.delete,
        lambda n: sessions.edit(n, lambda c: c),
        lambda n: sessions.branch(n, "b"),
    ):
        with pytest.raises(SessionMissing, match="There is no session 'fox': "):
            act("fox")
    sessions.save("fox", story(1))
    for file in ("picture_9.png", "conversation.json", "../fox/picture_1.png", ""):
        with pytest.raises(SessionMissing, match="has no picture"):
            sessions.picture("fox", file)
    assert sessions.picture("fox", "picture_1.png").startswith(b"\x89PNG")


def test_a_damaged_session_is_listed_and_can_be_deleted(sessions: Sessions) -> None:
    sessions.save("well", story(1))
    sessions.save("ill", story(1))
    (sessions.root / "ill" / "conversation.json").write_text("{")
    assert {each.name: bool(each.error) for each in sessions.list()} == {"well": False, "ill": True}
    with pytest.raises(ConversationError, match="damaged"):
        sessions.load("ill")
    sessions.delete("ill")
    assert [each.name for each in sessions.list()] == ["well"]


def test_links_and_other_folders_are_no_sessions(sessions: Sessions) -> None:
    Sessions(sessions.root.parent / "elsewhere").save("theirs", story(1))
    sessions.root.mkdir()
    (sessions.root / "link").symlink_to(sessions.root.parent / "elsewhere" / "theirs")
    (sessions.root / "empty").mkdir()
    assert sessions.list() == []
    with pytest.raises(SessionMissing):
        sessions.delete("link")


def test_a_conversation_of_version_1_is_a_session(sessions: Sessions) -> None:
    sessions.save("old", story(1))
    path = sessions.root / "old" / "conversation.json"
    content = json.loads(path.read_text("utf-8"))
    del content["cast"], content["revision"]
    path.write_text(json.dumps({**content, "version": 1}))
    loaded = sessions.load("old")
    assert loaded.revision == 0 and loaded.conversation.cast == () and len(loaded.conversation.turns) == 2
    assert sessions.save("old", loaded.conversation, 0).revision == 1
    assert json.loads(path.read_text("utf-8"))["version"] == storage.VERSION


# Two users of one session


def test_a_late_save_loses_no_turn(sessions: Sessions) -> None:
    sessions.save("fox", story(1))
    mine, theirs = sessions.load("fox"), sessions.load("fox")
    sessions.save("fox", theirs.conversation.user("Theirs."), theirs.revision)
    with pytest.raises(SessionConflict, match="is at revision 2 now, but this was made from revision 1: load it again"):
        sessions.save("fox", mine.conversation.user("Mine."), mine.revision)
    with pytest.raises(SessionConflict, match="is at revision 2 now"):
        sessions.edit("fox", lambda c: c.rewind(0), mine.revision)
    assert sessions.load("fox").conversation.turns[-1].text == "Theirs."
    sessions.delete("fox")
    with pytest.raises(SessionConflict, match="no longer exists"):
        sessions.save("fox", mine.conversation, 1)
    assert sessions.save("fox", mine.conversation, 0).revision == 1


def test_a_branch_grows_by_itself(sessions: Sessions) -> None:
    sessions.save("fox", story(3))
    assert sessions.branch("fox", "other fox", 3).revision == 1
    sessions.edit("other fox", lambda c: c.user("Another way."))
    assert len(sessions.load("other fox").conversation.turns) == 5 and len(sessions.load("fox").conversation.turns) == 6
    with pytest.raises(SessionConflict, match="The session 'FOX' exists already"):
        sessions.branch("other fox", "FOX")


def test_a_fingerprint_changes_with_its_session(sessions: Sessions) -> None:
    seen = [sessions.fingerprint("fox")]
    for act in (
        lambda: sessions.save("fox", story(1)),
        lambda: sessions.save("fox", story(1)),
        lambda: sessions.delete("fox"),
    ):
        act()
        seen.append(sessions.fingerprint("fox"))
        assert seen[-1] == sessions.fingerprint("fox")
    assert len(set(seen[:3])) == 3 and seen[3] == seen[0] == ""


# Being killed

SAVING = """
import sys
from m3adapter.conversation.conversation import Conversation
from m3adapter.conversation.sessions import Sessions

sessions, size = Sessions(sys.argv[1]), int(sys.argv[2])
while True:
    revision = sessions.revision("fox")
    text = f"{revision + 1} " * size
    sessions.save("fox", Conversation().user(text), revision)
    print("saved", flush=True)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_the_old_or_the_new_session(sessions: Sessions) -> None:
    rng, size, seen, midway = random.Random(0), 20_000, 0, 0
    for kills in range(3 * KILLS):
        if kills >= KILLS and midway:  # on a busy machine it takes more tries to hit one while it saves
            break
        command = [sys.executable, "-c", SAVING, str(sessions.root), str(size)]
        process = subprocess.Popen(command, cwd=environment.REPO, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"saved\n"
        time.sleep(rng.uniform(0, 0.03))
        process.kill()
        process.communicate()
        midway += os.listdir(sessions.root) != ["fox"]
        (summary,) = sessions.list()
        loaded = sessions.load("fox")
        assert not summary.error and loaded.revision == summary.revision
        assert loaded.conversation.turns[0].text == f"{loaded.revision} " * size
        assert loaded.revision > seen, "what was saved before must not vanish"
        seen = loaded.revision
    assert midway, "none was killed while it saved"
    sessions.save("fox", story(1))
    assert os.listdir(sessions.root) == ["fox"], "the next save clears away what was left"
    sessions.delete("fox")
    assert os.listdir(sessions.root) == []


def test_a_save_cut_off_between_its_renames_is_whole(sessions: Sessions) -> None:
    saved = sessions.save("fox", story(2))
    os.rename(sessions.root / "fox", storage.backup_of(sessions.root / "fox"))
    assert [each.name for each in sessions.list()] == ["fox"] and sessions.revision("FOX") == 1
    assert len(sessions.load("fox").conversation.pictures()) == 2 and sessions.fingerprint("fox")
    assert sessions.picture("fox", "picture_2.png") and sessions.exists("fox")
    backup = shutil.copytree(sessions.root, sessions.root.parent / "copy")
    assert sessions.save("fox", saved.conversation, 1).revision == 2
    assert os.listdir(sessions.root) == ["fox"]
    Sessions(backup).delete("fox")
    assert os.listdir(backup) == []


def test_edits_of_a_session_are_those_of_its_conversation(sessions: Sessions) -> None:
    sessions.save("fox", story(2))
    edited = sessions.edit("fox", lambda c: c.with_text(1, "New.").without_picture(Slot(3, 1)), 1)
    loaded = sessions.load("fox").conversation
    assert edited.revision == 2 and loaded.turns[1].text == "New." and loaded.open_slots() == (Slot(3, 1),)
