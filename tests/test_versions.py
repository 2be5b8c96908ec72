"""Versions: earlier replies and pictures stay available, on disk too; the conversation reads as it stands now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m3adapter.conversation.conversation import Conversation, ConversationError, Picture, Slot, Text
from m3adapter.conversation.sessions import Sessions
from m3adapter.conversation.storage import Saved, files, read_saved
from m3adapter.conversation.versions import Versions
from m3adapter.export.story import export_story
from test_sessions import grey, story
from toys import one_sentence


def replied(conversation: Conversation, text: str, value: float) -> Conversation:
    """With a reply of one text and one picture."""
    conversation = conversation.assistant([Text(text), Picture(text)])
    return conversation.with_picture(conversation.open_slots()[-1], grey(value), seed=7, gate=1.0)


def told(conversation: Conversation) -> list[str]:
    return [turn.text for turn in conversation.turns]


def places(conversation: Conversation, turn: int, segment: int | None = None) -> tuple[int, int]:
    versions = conversation.versions(turn, segment)
    return versions.place, versions.count


def everything(conversation: Conversation) -> dict[str, bytes]:
    """Everything that is saved of it, including versions, which comparisons ignore."""
    return dict(files(Saved(conversation.turns, conversation.cast, 0, conversation.awaiting)))


def test_a_reply_told_again_keeps_the_former_one_and_all_that_followed_it() -> None:
    first = story(2)
    again = replied(first.retell(1), "Other.", 0.8)
    assert told(again) == ["Message 0.", "Other."] and places(again, 1) == (1, 2)
    back = again.with_version(0, 1)
    assert told(back) == told(first) and places(back, 1) == (0, 2) and back.cast == first.cast
    # Its pictures are what their PNGs hold.
    assert [back.at(slot).png for slot in back.slots()] == [first.at(slot).png for slot in first.slots()]
    assert back.at(Slot(3, 1)).seed == first.at(Slot(3, 1)).seed
    forth = back.with_version(1, 1)
    assert everything(forth) == everything(again) and everything(forth.with_version(0, 1)) == everything(back)
    assert back.with_version(0, 1) is back
    # A third one, made from the first, comes last; and one inside a version is found there again.
    third = replied(replied(back.retell(1), "Third.", 0.5).user("And?"), "So.", 0.6)
    third = replied(third.retell(3), "So not.", 0.7)
    assert places(third, 1) == (2, 3) and places(third, 3) == (1, 2)
    assert told(third.with_version(0, 1)) == told(first) and told(third.with_version(1, 1)) == told(again)
    same = third.with_version(1, 1).with_version(2, 1)
    assert told(same) == told(third) and told(same.with_version(0, 3))[3] == "So."


def test_a_message_said_otherwise_keeps_the_former_one() -> None:
    first = story(2)
    other = replied(first.retell(2).user("Another message.", [grey(0.3)]), "Other.", 0.9)
    assert told(other)[2:] == ["Another message.", "Other."] and places(other, 2) == (1, 2)
    assert told(other.with_version(0, 2)) == told(first)
    # Rewinding to before a turn removes its versions, too.
    assert not other.rewind(1).awaiting.others and told(other.rewind(1)) == told(first)[:2]


def test_a_picture_painted_again_keeps_the_former_ones() -> None:
    slot = Slot(1, 1)
    first = story(1)
    opened = first.without_picture(slot)
    assert opened.at(slot).is_open and opened.without_picture(slot) is opened
    recaptioned = opened.with_caption(slot, "a blue fox")
    again = recaptioned.with_picture(slot, grey(0.6), seed=3, gate=2.0)
    assert places(again, 1, 1) == (1, 2) and again.at(slot).caption == "a blue fox"
    back = again.with_version(0, 1, 1)
    was, now = first.at(slot), back.at(slot)
    assert (now.caption, now.seed, now.gate, now.png) == (was.caption, was.seed, was.gate, was.png)
    assert back.with_version(1, 1, 1).at(slot).png == again.at(slot).png
    # The rest is untouched, and an edit of the words takes the versions along.
    assert places(back.with_text(1, "Other words."), 1, 1) == (0, 2)
    assert again.turns[0] == first.turns[0] and again.at(Slot(1, 0)) == first.at(Slot(1, 0))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.retell(9), "no turn 9"),
        (lambda c: Conversation().system("Hush.").user("A fox.").retell(0), "system turn"),
        (lambda c: c.retell(3).retell(1), "is being retold"),
        (lambda c: c.with_version(2, 1), "no version 2: choose one from 0 to 1"),
        (lambda c: c.with_version(-1, 1), "no version -1"),
        (lambda c: c.with_version(True, 1), "no version True"),
        (lambda c: c.with_version(10**400, 1), "about 401 digits"),
        (lambda c: c.with_version(0, 0, 0), "Only the assistant's pictures"),
    ],
)
def test_what_cannot_be_is_refused(change, said: str) -> None:
    conversation = replied(replied(story(1).retell(1), "Other.", 0.5).user("And?"), "So.", 0.5)
    with pytest.raises(ConversationError, match=said) as caught:
        change(conversation)
    assert one_sentence(str(caught.value))


# On disk


def many() -> Conversation:
    """Versions of a reply, of a picture, of one inside another, and of the turn that is to come."""
    conversation = replied(story(2).retell(1), "Other.", 0.8).user("And?", [grey(0.4)])
    conversation = replied(replied(conversation, "So.", 0.2).retell(3), "So not.", 0.7)
    conversation = conversation.without_picture(Slot(3, 1)).with_picture(Slot(3, 1), grey(0.1))
    return replied(conversation.user("Then?"), "Then.", 0.3).retell(5)


def test_versions_survive_on_disk_and_unopened(tmp_path: Path, monkeypatch) -> None:
    sessions = Sessions(tmp_path)
    saved = sessions.save("fox", many())
    opened = []
    monkeypatch.setattr("m3adapter.conversation.entries.read_picture", lambda *_, **__: opened.append(1))
    loaded = sessions.load("fox").conversation
    assert not opened, "a version costs no memory but that of its files"
    monkeypatch.undo()
    assert everything(loaded) == everything(many())
    sessions.save("fox", loaded, saved.revision)
    assert everything(sessions.load("fox").conversation) == everything(loaded)
    assert (places(loaded, 1), places(loaded, 3), places(loaded, 3, 1)) == ((1, 2), (1, 2), (1, 2))
    assert told(loaded.with_version(0, 1)) == told(story(2))
    assert told(loaded.with_version(0, 3))[3] == "So." and loaded.awaiting == many().awaiting
    again = loaded.assistant([Text("Otherwise.")])
    assert told(again.with_version(0, 5))[5] == "Then." and not again.awaiting.others


def test_a_conversation_without_versions_is_written_as_it_always_was(tmp_path: Path) -> None:
    index = json.loads(dict(files(Saved(story().turns, story().cast, 3)))["conversation.json"])
    assert set(index) == {"version", "revision", "turns", "cast"} and index["version"] == 2
    assert all(set(turn) == {"role", "segments"} for turn in index["turns"])
    # What is exported is the story as it stands.
    export_story(many().assistant([Text("Now.")]), tmp_path)
    exported = json.loads((tmp_path / "conversation.json").read_text("utf-8"))
    assert "others" not in json.dumps(exported) and len(exported["turns"]) == 6


def test_a_pack_that_knows_no_versions_reads_what_stands(tmp_path: Path) -> None:
    conversation = many()
    conversation.save(tmp_path / "new")
    index = json.loads((tmp_path / "new" / "conversation.json").read_text("utf-8"))
    # Such a pack reads these keys, and pictures numbered in the order of turns and cast; what came later stays unread.
    known = {"version": 2, "revision": 0, "cast": index["cast"]}
    known["turns"] = [
        {"role": turn["role"], "segments": [{k: v for k, v in s.items() if k != "versions"} for s in turn["segments"]]}
        for turn in index["turns"]
    ]
    (tmp_path / "new" / "conversation.json").write_text(json.dumps(known))
    plain = Conversation.load(tmp_path / "new")
    assert told(plain) == told(conversation) and not plain.versions(1).others
    named = [s["file"] for turn in known["turns"] for s in turn["segments"] if s.get("file")]
    named += [name for one in known["cast"] for name in one["pictures"]]
    assert named == [f"picture_{number}.png" for number in range(1, len(named) + 1)]


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        (3, "incomplete"),
        ({"place": 0}, "incomplete"),
        ({"place": 2, "others": [[]]}, "the place of a version is 2"),
        ({"place": "0", "others": []}, "the place of a version is '0'"),
        ({"place": 0, "others": [{"file": "../secret.png"}]}, "only picture_<k>.png is allowed"),
        ({"place": 0, "others": [{"file": 3}]}, "only picture_<k>.png is allowed"),
        ({"place": 0, "others": [{"file": "picture_99.png"}]}, "does not exist"),
        ({"place": 0, "others": [{"gate": float("nan")}]}, "a number that JSON does not allow"),
    ],
)
def test_damaged_versions_are_one_sentence(tmp_path: Path, versions: object, said: str) -> None:
    story(1).save(tmp_path)
    path = tmp_path / "conversation.json"
    index = json.loads(path.read_text("utf-8"))
    index["turns"][1]["versions"] = versions
    path.write_text(json.dumps(index))
    with pytest.raises(ConversationError, match=said) as caught:
        read_saved(tmp_path)
    assert one_sentence(str(caught.value).replace(str(tmp_path), "folder"))


@pytest.mark.parametrize("other", [[], [{"role": "assistant"}], [{"role": "user", "segments": []}], 7, "text"])
def test_a_damaged_version_is_told_of_when_it_is_chosen(tmp_path: Path, other: object) -> None:
    story(1).save(tmp_path)
    path = tmp_path / "conversation.json"
    index = json.loads(path.read_text("utf-8"))
    index["turns"][1]["versions"] = {"place": 0, "others": [other]}
    path.write_text(json.dumps(index))
    conversation = Conversation.load(tmp_path)
    with pytest.raises(ConversationError) as caught:
        conversation.with_version(1, 1)
    assert one_sentence(str(caught.value))


def test_without_any_there_is_one_version() -> None:
    assert Versions().count == 1 and places(story(1), 1) == (0, 1) == places(story(1), 1, 1)
