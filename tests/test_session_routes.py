"""The sessions over HTTP, as a page requests them: their answers, and what they never give away."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import pytest
from PIL import Image

from comfy_server import ComfyServer
from m3adapter.conversation.conversation import Picture, Slot, Text
from m3adapter.conversation.sessions import Sessions
from test_sessions import grey, story
from toys import one_sentence

ROOT = "/m2chat/sessions"


def ask(comfy: ComfyServer, method: str, path: str, body: Any = None, *, raw: bytes | None = None) -> tuple[int, Any]:
    """The status of an answer, and its JSON."""
    data = raw if raw is not None or body is None else json.dumps(body).encode()
    request = urllib.request.Request(comfy.url + path, data, {"Content-Type": "application/json"}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def path(name: str, *more: str) -> str:
    return "/".join([ROOT, urllib.parse.quote(name, safe=""), *more])


@pytest.fixture
def sessions(comfy: ComfyServer) -> Sessions:
    """The sessions of the server's default user, none of them left from another test."""
    found = Sessions(comfy.base / "user" / "default" / "m2chat" / "sessions")
    for each in found.list():
        found.delete(each.name)
    return found


def test_a_session_is_listed_loaded_and_deleted(comfy: ComfyServer, sessions: Sessions) -> None:
    assert ask(comfy, "GET", ROOT) == (200, {"sessions": []})
    sessions.save("Fox & 🦊", story(2))
    status, listed = ask(comfy, "GET", ROOT)
    (summary,) = listed["sessions"]
    assert status == 200 and summary.pop("modified") > 0
    assert summary == {"name": "Fox & 🦊", "revision": 1, "turns": 4, "pictures": 2, "error": ""}
    status, loaded = ask(comfy, "GET", path("Fox & 🦊"))
    assert status == 200 and (loaded["name"], loaded["revision"]) == ("Fox & 🦊", 1)
    assert [turn["role"] for turn in loaded["turns"]] == ["user", "assistant"] * 2
    said, picture = loaded["turns"][3]["segments"]
    assert said == {"type": "text", "text": "Part 1."}
    url = picture.pop("url")
    assert picture == {
        "type": "picture", "caption": "a fox", "seed": str(2**64 - 2), "gate": 0.5, "file": "picture_2.png",
    }  # fmt: skip
    for place, level in ((url, 0.1), (loaded["cast"][0]["pictures"][0]["url"], 0.9)):
        with Image.open(io.BytesIO(comfy.request(place))) as image:
            assert image.size == (6, 4) and image.getpixel((0, 0)) == (round(level * 255),) * 3
    assert ask(comfy, "DELETE", path("fox & 🦊")) == (200, {}) and sessions.list() == []
    assert ask(comfy, "DELETE", path("fox & 🦊"))[0] == 404


def test_what_was_loaded_can_be_saved(comfy: ComfyServer, sessions: Sessions) -> None:
    sessions.save("fox", story(2))
    before = sessions.load("fox").conversation
    _, loaded = ask(comfy, "GET", path("fox"))
    assert ask(comfy, "PUT", path("fox"), loaded)[1]["revision"] == 2
    assert sessions.load("fox").conversation == before
    loaded |= {
        "revision": 2,
        "turns": [*loaded["turns"], {"role": "user", "segments": [{"type": "text", "text": "And?"}]}],
    }
    status, after = ask(comfy, "PUT", path("fox"), loaded)
    assert status == 200 and after["turns"][-1]["segments"] == [{"type": "text", "text": "And?"}]
    new = {"revision": 0, "turns": loaded["turns"][-1:]}
    status, made = ask(comfy, "PUT", path("new"), new)
    assert (status, made["revision"], made["cast"]) == (200, 1, []) and sessions.exists("new")


def test_a_session_is_edited(comfy: ComfyServer, sessions: Sessions) -> None:
    sessions.save("fox", story(2))

    def edit(what: str, **given: Any) -> Any:
        status, answer = ask(comfy, "POST", path("fox", what), given)
        assert status == 200, answer
        return answer["turns"]

    assert edit("edit", revision=1, turn=1, text="New.")[1]["segments"][0]["text"] == "New."
    assert edit("edit", revision=2, turn=1, segment=0, text="Newer.")[1]["segments"][0]["text"] == "Newer."
    painted = edit("edit", revision=3, turn=1, segment=1, caption="a wolf")[1]["segments"][1]
    assert painted["caption"] == "a wolf" and painted["file"] == "picture_1.png"
    opened = edit("edit", revision=4, turn=1, segment=1, caption="a bear", repaint=True)[1]["segments"][1]
    assert (opened["caption"], opened["file"], opened["url"]) == ("a bear", None, None)
    assert len(edit("rewind", revision=5, turn=2)) == 3
    status, branch = ask(comfy, "POST", path("fox", "branch"), {"to": "owl", "turn": 0})
    assert (status, branch["name"], branch["revision"], len(branch["turns"])) == (200, "owl", 1, 1)
    assert len(sessions.load("fox").conversation.turns) == 3 and branch["cast"][0]["name"] == "fox"


def test_a_character_sheet_and_what_was_seen_are_edited(comfy: ComfyServer, sessions: Sessions) -> None:
    sessions.save("fox", story(1).with_looks({"Rosa": "an old owl", "bear": "brown"}))

    def edit(**given: Any) -> Any:
        status, answer = ask(comfy, "POST", path("fox", "edit"), given)
        assert status == 200, answer
        return answer

    told = edit(revision=1, sheet="Fox: small and blue\n- Rosa: a young owl")
    assert [(one["name"], one["looks"]) for one in told["cast"]] == [("Fox", "small and blue"), ("Rosa", "a young owl")]
    assert told["cast"][0]["pictures"], "they stay"
    told = edit(revision=2, sheet="")
    assert [(one["name"], one["looks"]) for one in told["cast"]] == [("Fox", "")], "who has pictures stays"
    told = edit(revision=3, turn=1, segment=1, seen="a grey square")
    assert told["turns"][1]["segments"][1]["seen"] == "a grey square"
    assert sessions.load("fox").conversation.picture(Slot(1, 1)).seen == "a grey square"


def test_versions_are_told_of_chosen_and_kept(comfy: ComfyServer, sessions: Sessions) -> None:
    first = story(2)
    again = first.retell(1).assistant([Text("Other."), Picture("an owl")])
    again = again.with_picture(again.open_slots()[0], grey(0.8)).without_picture(Slot(1, 1))
    sessions.save("fox", again)
    _, loaded = ask(comfy, "GET", path("fox"))
    told = [turn.get("versions") for turn in loaded["turns"]], loaded["turns"][1]["segments"][1]["versions"]
    assert told == ([None, {"place": 1, "count": 2}], {"place": 1, "count": 2})
    # What was loaded can be saved, and brings its versions along, open pictures included.
    loaded["turns"][0]["segments"][0]["text"] = "Said otherwise."
    status, saved = ask(comfy, "PUT", path("fox"), loaded)
    assert status == 200 and saved["turns"] == loaded["turns"], saved
    lies = json.loads(json.dumps(saved).replace('"count": 2', '"count": 3'))
    assert ask(comfy, "PUT", path("fox"), lies)[0] == 400

    def choose(**given: int) -> Any:
        status, answer = ask(comfy, "POST", path("fox", "version"), given)
        assert status == 200, answer
        return answer["turns"]

    painted = choose(revision=2, turn=1, segment=1, version=0)[1]["segments"][1]
    assert painted["file"] == "picture_1.png" and painted["versions"] == {"place": 0, "count": 2}
    back = choose(revision=3, turn=1, version=0)
    assert [turn["segments"][0]["text"] for turn in back] == ["Said otherwise.", "Part 0.", "Message 1.", "Part 1."]
    assert back[1]["versions"] == {"place": 0, "count": 2} and "versions" not in back[3]
    assert choose(revision=4, turn=1, version=1)[1]["segments"][1]["file"] == "picture_1.png"
    for given, said in (({"turn": 1, "version": 2}, "no version 2"), ({"turn": 9, "version": 0}, "no turn 9")):
        status, answer = ask(comfy, "POST", path("fox", "version"), {"revision": 5, **given})
        assert status == 400 and said in answer["error"] and one_sentence(answer["error"])
    assert ask(comfy, "POST", path("fox", "version"), {"revision": 4, "turn": 1, "version": 0})[0] == 409


def test_two_tabs_lose_no_turn(comfy: ComfyServer, sessions: Sessions) -> None:
    sessions.save("fox", story(2))
    _, tab = ask(comfy, "GET", path("fox"))
    assert ask(comfy, "POST", path("fox", "edit"), {"revision": 1, "turn": 0, "text": "Mine."})[0] == 200
    for method, what, given in (
        ("PUT", "", tab),
        ("PUT", "", {**tab, "revision": 0}),
        ("POST", "/edit", {"revision": 1, "turn": 0, "text": "Theirs."}),
        ("POST", "/rewind", {"revision": 1, "turn": 0}),
        ("POST", "/branch", {"to": "FOX"}),
    ):
        status, answer = ask(comfy, method, path("fox") + what, given)
        assert status == 409 and one_sentence(answer["error"]), answer
    assert sessions.load("fox").conversation.turns[0].text == "Mine." and sessions.revision("fox") == 2


STRANGE = ["{braces}", "{", "}{", "100%", "%7B", "%2e%2e", "a+b", "a b", "#1", "&=;,@!$'()[]~^`", "雪の狐", "é🦊"]


def test_every_name_that_a_session_can_have_is_found_over_http(comfy: ComfyServer, sessions: Sessions) -> None:
    for name in STRANGE:
        sessions.save(name, story(1))
        status, loaded = ask(comfy, "GET", path(name))
        assert (status, loaded.get("name")) == (200, name), (name, loaded)
        url = loaded["turns"][1]["segments"][1]["url"]
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(comfy.url + url, timeout=60) as response:
            assert response.read() == sessions.picture(name, "picture_1.png")
        given = {"revision": 1, "turn": 0, "text": "Mine."}
        assert ask(comfy, "POST", path(name, "edit"), given)[0] == 200, name
        assert ask(comfy, "PUT", path(name + "2"), {"revision": 0, "turns": [], "cast": []})[0] == 200, name
        assert ask(comfy, "POST", path(name, "branch"), {"to": name + "3", "turn": 0})[0] == 200, name
        assert ask(comfy, "DELETE", path(name))[0] == 200, name
    left = {name + number for name in STRANGE for number in "23"}
    assert {each.name for each in sessions.list()} == left


@pytest.mark.parametrize(
    "name", ["..", ".", "../../default", "a/b", "..\\x", "C:\\x", "con", "x" * 300, "a\0b", ".hidden", "a\nb"]
)
def test_no_name_leads_elsewhere(comfy: ComfyServer, sessions: Sessions, name: str) -> None:
    sessions.save("fox", story(1))
    for method, what, given in (
        ("GET", "", None),
        ("GET", "/picture_1.png", None),
        ("PUT", "", {"revision": 0, "turns": []}),
        ("DELETE", "", None),
        ("POST", "/rewind", {"revision": 1, "turn": 0}),
        ("POST", "/edit", {"revision": 1, "turn": 0, "text": "x"}),
        ("POST", "/branch", {"to": "y"}),
    ):
        target = path(name) + what
        if name in ("..", "."):  # a client would resolve the dots before it sends the request
            target = target.replace(f"/{name}", "/" + name.replace(".", "%2e"))
        try:
            status, answer = ask(comfy, method, target, given)
        except ValueError:  # the server's own page for an unknown path
            continue
        assert status in (400, 404, 405), (method, what, answer)
    status, answer = ask(comfy, "POST", path("fox", "branch"), {"to": name})
    assert status == 400 and answer["error"].startswith("The session's name ")
    assert [each.name for each in sessions.list()] == ["fox"]
    assert sorted(p.name for p in sessions.root.iterdir()) == ["fox"]


@pytest.mark.parametrize(
    "file", ["conversation.json", "picture_9.png", "%2e%2e%2fx%2fpicture_1.png", "picture_1.png%00"]
)
def test_only_a_sessions_own_pictures_are_given(comfy: ComfyServer, sessions: Sessions, file: str) -> None:
    sessions.save("fox", story(1))
    status, answer = ask(comfy, "GET", path("fox") + f"/{file}")
    assert status == 404 and answer["error"].startswith("The session 'fox' has no picture ")


TURN = {"role": "user", "segments": [{"type": "text", "text": "x"}]}


@pytest.mark.parametrize(
    ("method", "what", "given", "says"),
    [
        ("PUT", "", {"turns": []}, "revision is None: give a whole number"),
        ("PUT", "", {"revision": 1, "turns": [7]}, "is incomplete"),
        ("PUT", "", {"revision": 1}, "is incomplete"),
        ("PUT", "", {"revision": 1, "turns": [TURN, TURN]}, "Two user messages"),
        ("PUT", "", {"revision": 1, "turns": [{"role": "user", "segments": [{"type": "?"}]}]}, "'?' is not a kind"),
        (
            "PUT", "",
            {"revision": 1, "turns": [{"role": "user", "segments": [{"type": "picture", "file": "../x.png"}]}]},
            "has no picture '../x.png'",
        ),
        ("POST", "/rewind", {"revision": 1, "turn": 99}, "no turn 99"),
        ("POST", "/rewind", {"revision": 1, "turn": "0"}, "turn is '0'"),
        ("POST", "/edit", {"revision": 1, "turn": 0, "text": ""}, "The user message is empty"),
        ("POST", "/edit", {"revision": 1, "turn": 0, "text": 7}, "must be a string"),
        ("POST", "/edit", {"revision": 1, "turn": 0, "segment": 0, "caption": "x"}, "Only the assistant's pictures"),
        ("POST", "/edit", {"revision": 1, "turn": 1}, "nothing to edit"),
        ("POST", "/edit", {"revision": 1, "turn": 1, "segment": 1, "seen": 7}, "must be a string"),
        ("POST", "/edit", {"revision": 1, "sheet": 7}, "sheet must be a string"),
        ("POST", "/edit", {"revision": 1, "sheet": "Rosa is old"}, "write it as name: looks"),
        ("POST", "/branch", {}, "has no name"),
        ("POST", "/edit", [], "not a JSON object"),
    ],
)  # fmt: skip
def test_a_bad_request_is_answered_with_a_sentence(
    comfy: ComfyServer, sessions: Sessions, method: str, what: str, given: Any, says: str
) -> None:
    sessions.save("fox", story(1))
    status, answer = ask(comfy, method, path("fox") + what, given)
    assert status == 400 and says in answer["error"] and one_sentence(answer["error"])
    assert sessions.revision("fox") == 1


def test_invalid_json_is_reported_in_a_sentence(comfy: ComfyServer, sessions: Sessions) -> None:
    sessions.save("fox", story(1))
    for raw in (b"{", b"\xff", b"[" * 100_000):
        status, answer = ask(comfy, "PUT", path("fox"), raw=raw)
        assert status == 400 and answer == {"error": "The request's body is not valid JSON: send an object."}


def test_no_error_says_where_files_lie_on_the_server(comfy: ComfyServer, sessions: Sessions) -> None:
    aside = sessions.root.with_name("aside")
    if there := sessions.root.exists():
        sessions.root.rename(aside)
    sessions.root.parent.mkdir(parents=True, exist_ok=True)
    sessions.root.write_bytes(b"")  # a file in the folder's place
    try:
        status, refused = ask(comfy, "PUT", path("Fox"), {"revision": 0, "turns": []})
    finally:
        sessions.root.unlink()
        if there:
            aside.rename(sessions.root)
    assert status == 500 and refused["error"] and str(comfy.base) not in refused["error"]
