"""Several processes work on one folder of sessions: a server and a script, or two servers with one user folder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from m3adapter.conversation import locking
from m3adapter.conversation.conversation import Picture, Text
from m3adapter.conversation.sessions import Sessions
from test_sessions import story
from tools import environment

SAVES = 12


def main(root: str, who: str) -> None:
    """What each process does: it adds many messages, each with a picture."""
    sessions = Sessions(root)
    Path(root, f"ready {who}").touch()
    while len(list(Path(root).glob("ready *"))) < 2:
        pass
    for number in range(SAVES):
        reply = [Text(f"{who} {number}"), Picture(who, torch.rand(32, 32, 3))]
        sessions.edit("fox", lambda told, reply=reply: told.user("Go on.").assistant(reply))
        sessions.save(f"{who}'s own", sessions.load("fox").conversation)


@pytest.mark.slow
def test_no_turn_is_lost_between_two_processes(tmp_path: Path) -> None:
    root = tmp_path / "sessions"
    Sessions(root).save("fox", story(1))
    paths = os.pathsep.join([str(environment.REPO), str(environment.REPO / "tests")])
    settings = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen([sys.executable, __file__, str(root), who], env=settings, stderr=subprocess.PIPE, text=True)
        for who in ("one", "two")
    ]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    told = Sessions(root).load("fox")
    said = [turn.text for turn in told.conversation.turns]
    assert told.revision == 1 + 2 * SAVES and len(told.conversation.pictures()) == 1 + 2 * SAVES
    for who in ("one", "two"):
        assert [text for text in said if text.startswith(who)] == [f"{who} {number}" for number in range(SAVES)]
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == ["fox", "one's own", "two's own"]


def test_a_folder_that_another_process_keeps_is_told_in_a_sentence(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(locking, "PATIENCE", 0.2)
    root = tmp_path / "sessions"
    Sessions(root).save("fox", story(1))
    holder = locking.FileLock(tmp_path / ".sessions.lock")
    held, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with holder:  # to the system, a second handle is like a second process
            held.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    try:
        for work in (lambda s: s.save("owl", story(1)), lambda s: s.load("fox"), lambda s: s.delete("fox")):
            with pytest.raises(
                ValueError, match=r"^Another process has been working in the folder sessions for 0\.2 s"
            ):
                work(Sessions(root))
    finally:
        leave.set()
        thread.join()
    assert [each.name for each in Sessions(root).list()] == ["fox"]


def test_a_thread_that_holds_a_folder_may_take_it_again(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(locking, "PATIENCE", 0.2)
    root = tmp_path / "sessions"
    Sessions(root).save("fox", story(1))
    spelled = tmp_path / "sessions" / ".." / "sessions"
    with locking.FolderLock(root).writing(), locking.FolderLock(root).reading(), locking.FolderLock(root).writing():
        assert [each.name for each in Sessions(spelled).list()] == ["fox"]
        Sessions(root).edit("fox", lambda told: Sessions(spelled).load("fox").conversation.user("And?"))
    assert Sessions(root).revision("fox") == 2
    with locking.FileLock(tmp_path / ".sessions.lock", timeout=0.2):
        pass  # everything was released


def test_who_works_in_one_folder_holds_up_nobody_in_another(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(locking, "PATIENCE", 0.2)
    found: dict[str, object] = {}

    def work(user: str) -> None:
        try:
            found[user] = Sessions(tmp_path / user / "sessions").save("fox", story(1)).revision
        except locking.FolderBusy as error:
            found[user] = str(error)

    with locking.FolderLock(tmp_path / "one" / "sessions").writing():
        threads = [threading.Thread(target=work, args=(user,)) for user in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert found.get("two") == 1, "another folder is free"
    assert "has been working in the folder sessions for 0.2 seconds" in str(found.get("one"))


def test_reading_makes_no_folder_and_no_lock(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "none")
    assert sessions.list() == [] and not sessions.exists("fox") and sessions.revision("fox") == 0
    with pytest.raises(ValueError, match="There is no session 'fox'"):
        sessions.delete("fox")
    with pytest.raises(ValueError, match="no name"):
        sessions.save("", story(1))
    assert list(tmp_path.iterdir()) == []


if __name__ == "__main__":
    main(*sys.argv[1:])
