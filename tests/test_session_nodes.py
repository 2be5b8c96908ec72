"""Sessions, edits, casts and re-rolls in a real ComfyUI: what is kept, what runs again, and what does not."""

from __future__ import annotations

import re

import pytest
import torch
from PIL import ImageChops

import graphs
from comfy_server import ComfyServer
from graphs import MODELS, PAINT, node
from m3adapter.conversation.conversation import Conversation, Picture, Text
from m3adapter.conversation.seeds import picture_seed, turn_seed
from m3adapter.conversation.sessions import Sessions
from runs import Event, picture, ran, same, text
from test_inputs import failed, refused
from tools.comfy import PromptRejected


@pytest.fixture
def sessions(comfy: ComfyServer) -> Sessions:
    """The sessions of the server's default user."""
    return Sessions(comfy.base / "user" / "default" / "m2chat" / "sessions")


def saved(name: str, source: str = "user", **revision: list) -> graphs.Graph:
    """A Save Session node of a conversation, and what it gives shown."""
    return {
        "save": node("M2Chat_SaveSession", conversation=[source, 0], name=name, **revision),
        "show": node("M2Chat_ShowConversation", conversation=["save", 0]),
    }


def loaded(name: str) -> graphs.Graph:
    """A session loaded and shown."""
    return {
        "session": node("M2Chat_LoadSession", name=name),
        "show": node("M2Chat_ShowConversation", conversation=["session", 0]),
        "count": node("PreviewAny", source=["session", 1]),
    }


def story(panels: int) -> Conversation:
    conversation = Conversation()
    for panel in range(panels):
        said = [Text(f"Part {panel}."), Picture(f"caption {panel}")]
        conversation = conversation.user(f"Message {panel}.").assistant(said)
        grey = torch.full((8, 8, 3), panel / 10)
        conversation = conversation.with_picture(conversation.open_slots()[0], grey, seed=panel)
    return conversation


# Loading and saving


def test_a_conversation_is_saved_and_goes_on(comfy: ComfyServer, sessions: Sessions) -> None:
    graph = {**graphs.conversation(), **saved("Fox 🦊")}
    assert text(comfy.run(graph), "save") == "Saved as 'Fox 🦊', revision 1."
    entry = comfy.run(loaded("Fox 🦊"))
    assert text(entry) == "You: A fox on the beach." and text(entry, "count") == "1"
    assert sessions.load("Fox 🦊").conversation.turns[0].text == "A fox on the beach."
    assert text(comfy.run(loaded("")), "count") == "0"


def test_a_session_is_loaded_again_when_it_has_changed_and_only_then(comfy: ComfyServer, sessions: Sessions) -> None:
    sessions.save("watched", story(1))
    assert ran(comfy.events(loaded("watched"))) == {"session", "show", "count"}
    assert ran(comfy.events(loaded("watched"))) == set()
    sessions.save("watched", story(2))
    assert ran(comfy.events(loaded("watched"))) == {"session", "show", "count"}
    assert "Part 1." in text(comfy.run(loaded("watched")))
    sessions.delete("watched")
    assert failed(comfy, loaded("watched")).startswith("Load Session: There is no session 'watched': ")


@pytest.mark.parametrize("kind", ["M2Chat_LoadSession", "M2Chat_SaveSession"])
def test_a_wrong_name_or_user_is_told_once_and_under_its_own_name(comfy: ComfyServer, kind: str) -> None:
    def graph(**given: str) -> graphs.Graph:
        wires = {"conversation": ["user", 0]} if kind == "M2Chat_SaveSession" else {}
        return {
            **graphs.conversation(),
            "session": node(kind, **wires, **given),
            "show": node("M2Chat_ShowConversation", conversation=["session", 0]),
        }

    with pytest.raises(PromptRejected) as error:
        comfy.queue(graph(name="a/b", user=""))
    assert [each["extra_info"]["input_name"] for each in error.value.node_errors["session"]["errors"]] == ["name"]
    said = failed(comfy, graph(name="fox", user="nobody"))
    assert re.fullmatch(r"\w+ Session: user is 'nobody', but this ComfyUI has no such user: leave it empty.", said)


def test_each_run_of_load_turn_save_adds_a_turn(comfy: ComfyServer, sessions: Sessions) -> None:
    sessions.save("chat", story(1))
    graph = {"load": node("M2Chat_LoadStarter"), "session": node("M2Chat_LoadSession", name="chat")}
    graph["turn"] = node("M2Chat_Turn", **MODELS, conversation=["session", 0], text="And?", gate=1.0, seed=1, **PAINT)
    graph |= saved("chat", "turn", revision=["session", 1])
    for revision in (2, 3):
        assert text(comfy.run(graph), "save") == f"Saved as 'chat', revision {revision}."
    assert len(sessions.load("chat").conversation.turns) == 6


def test_a_session_saved_by_someone_else_is_not_replaced(comfy: ComfyServer, sessions: Sessions) -> None:
    sessions.save("two tabs", story(2))
    graph = {**graphs.conversation(), **saved("two tabs", revision=["number", 0])}
    graph["number"] = node("PrimitiveInt", value=0)
    said = "Save Session: The session 'two tabs' is at revision 1 now, but this was made from revision 0: "
    assert failed(comfy, graph).startswith(said)
    assert len(sessions.load("two tabs").conversation.turns) == 4


@pytest.mark.parametrize("name", ["../out", "a/b", "con", "x" * 300, "trailing.", "a\nb"])
def test_a_name_that_leads_elsewhere_is_refused_before_anything_runs(comfy: ComfyServer, name: str) -> None:
    assert "The session's name" in refused(comfy, {**graphs.conversation(), **saved(name)})
    assert "The session's name" in refused(comfy, loaded(name))


# Editing


def edited(comfy: ComfyServer, sessions: Sessions, **edit: object) -> Event:
    sessions.save("edited", story(2))
    graph = loaded("edited")
    graph["edit"] = node("M2Chat_EditConversation", conversation=["session", 0], **edit)
    graph["show"]["inputs"]["conversation"] = ["edit", 0]
    return graph


def test_a_conversation_is_edited(comfy: ComfyServer, sessions: Sessions) -> None:
    said = text(comfy.run(edited(comfy, sessions, edit="rewind", edit__turn=2)))
    assert said == "You: Message 0.\n\nM2Chat: Part 0.\n[picture: caption 0]"
    said = text(comfy.run(edited(comfy, sessions, edit="text", edit__turn=3, edit__text="Other.")))
    assert said.split("\n\n")[2:] == ["You: Other.", "M2Chat: Part 1.\n[picture: caption 1]"]
    said = text(comfy.run(edited(comfy, sessions, edit="caption", edit__picture=2, edit__caption="new")))
    assert said.endswith("Part 1.\n[picture: new]")
    said = text(comfy.run(edited(comfy, sessions, edit="repaint", edit__picture=1)))
    assert "[picture, not painted yet: caption 0]" in said and "[picture: caption 1]" in said
    graph = edited(comfy, sessions, edit="repaint", edit__picture=3)
    assert failed(comfy, graph) == "Edit Conversation: picture is 3, but the conversation has 2: choose 1 to 2."


def test_what_was_there_before_comes_back(comfy: ComfyServer, sessions: Sessions) -> None:
    graph = edited(comfy, sessions, edit="retell", edit__turn=2)
    asked = {"edit": "text", "edit__turn": 1, "edit__text": "A fox on the beach."}
    graph["asked"] = node("M2Chat_EditConversation", conversation=["session", 0], **asked)
    graph["edit"]["inputs"]["conversation"] = ["asked", 0]
    turn = {**graphs.MODELS, **graphs.PAINT, "text": "", "gate": 1.0, "seed": 3}
    graph["load"] = node("M2Chat_LoadStarter")
    graph["turn"] = node("M2Chat_Turn", **turn, conversation=["edit", 0])
    graph["repaint"] = node("M2Chat_EditConversation", conversation=["turn", 0], edit="repaint", edit__picture=1)
    graph["paint"] = node("M2Chat_Turn", **turn | {"seed": 4}, conversation=["repaint", 0])
    graph["save"] = node("M2Chat_SaveSession", conversation=["paint", 0], name="versions")
    del graph["show"]
    comfy.run(graph)
    told = sessions.load("versions").conversation
    slot = told.slots()[0]
    assert len(told.turns) == 2 and told.versions(1).count == 2 and told.versions(*slot).count == 2

    def chosen(**edit: object) -> graphs.Graph:
        return {
            "session": node("M2Chat_LoadSession", name="versions"),
            "edit": node("M2Chat_EditConversation", conversation=["session", 0], **edit),
            "show": node("M2Chat_ShowConversation", conversation=["edit", 0]),
            "save": node("M2Chat_SaveSession", conversation=["edit", 0], name="chosen"),
        }

    shown = text(comfy.run(chosen(edit="turn version", edit__turn=2, edit__version=1)))
    assert [part.splitlines()[0] for part in shown.split("\n\n")][1] == "M2Chat: Part 0."
    comfy.run(chosen(edit="picture version", edit__picture=1, edit__version=1))
    former = sessions.load("chosen").conversation
    assert (former.at(slot).seed, told.at(slot).seed) == (3, 4) and former.at(slot).caption == told.at(slot).caption
    for edit, said in (
        ({"edit": "turn version", "edit__turn": 1, "edit__version": 2}, "it was never made again"),
        ({"edit": "picture version", "edit__picture": 1, "edit__version": 3}, "choose 1 to 2"),
    ):
        assert said in failed(comfy, chosen(**edit))


# Re-rolling

SEED = 5


def shown(comfy: ComfyServer, graph: graphs.Graph) -> tuple[Event, set[str]]:
    """The result of a run, and which nodes it executed."""
    events: list[Event] = []
    entry = comfy.follow(graph, events.append)
    assert entry["status"]["status_str"] == "success"
    return entry, ran(events)


def blocks(numbers: range, *names: str) -> set[str]:
    return {f"{name}{k}" for name in names for k in numbers}


def unchanged(comfy: ComfyServer, before: Event, after: Event) -> list[int]:
    """The numbers, from 1, of the pictures whose pixels are the same bytes in both runs."""
    count = len(before["outputs"]["show"]["images"])
    assert count == len(after["outputs"]["show"]["images"]) == 6
    pixels = [[picture(comfy, entry, "show", k).tobytes() for k in range(count)] for entry in (before, after)]
    return [number for number, (one, other) in enumerate(zip(*pixels, strict=True), 1) if one == other]


def test_rerolling_one_picture_of_six_runs_nothing_of_the_others(comfy: ComfyServer) -> None:
    graph = graphs.panels(6, "first")
    before, _ = shown(comfy, graph)
    after, executed = shown(comfy, graphs.changed(graph, "seed3", reroll=1))
    assert unchanged(comfy, before, after) == [1, 2, 4, 5, 6]
    assert executed == {"seed3", "decode3", "show", *blocks(range(3, 7), "place")}
    assert text(after) == text(before)


def test_pictures_that_look_at_a_rerolled_one_are_painted_again_and_no_word_is_written(comfy: ComfyServer) -> None:
    graph = graphs.panels(6, "latest")
    before, _ = shown(comfy, graph)
    after, executed = shown(comfy, graphs.changed(graph, "seed3", reroll=1))
    assert {1, 2} <= set(unchanged(comfy, before, after)) and 3 not in unchanged(comfy, before, after)
    later = blocks(range(4, 7), "encode", "fuse", "decode")
    assert executed == {"seed3", "decode3", "show", *blocks(range(3, 7), "place"), *later}
    assert text(after) == text(before)
    gate, executed = shown(comfy, graphs.changed(graph, "fuse1", gate=0.5))
    assert not executed & blocks(range(1, 7), "user", "reply", "text", "seed") and "decode1" in executed
    assert text(gate) == text(before)


def test_rerolling_a_turn_keeps_the_words_before_it(comfy: ComfyServer) -> None:
    graph = graphs.panels(6, "first")
    before, _ = shown(comfy, graph)
    after, executed = shown(comfy, graphs.changed(graph, "text4", reroll=1))
    assert not executed & blocks(range(1, 4), "user", "reply", "text") and {"reply4", "reply5"} <= executed
    assert text(after).split("\n\n")[:6] == text(before).split("\n\n")[:6] and text(after) != text(before)


def test_blocks_and_story_agree_and_so_do_their_rerolls(comfy: ComfyServer) -> None:
    graph = graphs.panels(3, "latest", seed=SEED)
    told = graphs.story(seed=SEED, panels=3)
    told["seeds"], told["gates"] = (node("PreviewAny", source=["story", output]) for output in (5, 6))
    for rerolls, number in (("", 0), ("2: 1", 1)):
        whole = comfy.run(graphs.changed(told, "story", rerolls=rerolls))
        parts = comfy.run(graphs.changed(graph, "seed2", reroll=number))
        assert text(whole) == text(parts)
        assert all(same(picture(comfy, whole, "show", k), picture(comfy, parts, "show", k)) for k in range(3))
        seeds = [turn_seed(SEED, 0), picture_seed(turn_seed(SEED, 1), 0, number), turn_seed(SEED, 2)]
        assert list(map(int, whole["outputs"]["seeds"]["text"])) == seeds
        assert list(map(float, whole["outputs"]["gates"]["text"])) == [1.0] * 3


def test_a_picture_of_a_saved_session_is_painted_again(comfy: ComfyServer, sessions: Sessions) -> None:
    comfy.run({**graphs.story(seed=2), **saved("repaint", "story")})
    before = sessions.load("repaint").conversation
    graph = {**loaded("repaint"), **graphs.blocks(), **saved("repaint", "place")}
    graph["edit"] = node("M2Chat_EditConversation", conversation=["session", 0], edit="repaint", edit__picture=1)
    graph = graphs.changed(graph, "encode", conversation=["edit", 0])
    graph = graphs.changed(graph, "decode", seed=77)
    graph["place"] = node("M2Chat_PlacePicture", conversation=["edit", 0], slot=0, image=["decode", 0], seed=["n", 0])
    graph["n"] = node("PrimitiveInt", value=77)
    for name in ("story", "user", "reply", "count"):
        del graph[name]
    comfy.run(graph)
    after = sessions.load("repaint")
    slot = before.slots()[0]
    assert after.revision == 2 and after.conversation.at(slot).seed == 77
    assert not after.conversation.at(slot).image.equal(before.at(slot).image)
    assert after.conversation.at(slot).caption == before.at(slot).caption


# Cast and memory


def test_a_cast_is_looked_at(comfy: ComfyServer) -> None:
    graph = {**graphs.conversation("A fox on the beach."), "reply": graphs.reply(1, max_length=256)}
    graph["colour"] = node("EmptyImage", width=32, height=32, batch_size=1, color=0x2040FF)
    graph["cast"] = node("M2Chat_Cast", conversation=["start", 0], name="fox", pictures=["colour", 0])
    graph["encode"] = node("M2Chat_EncodeSlot", **{k: v for k, v in MODELS.items() if k != "decoder"},
                           conversation=["reply", 0], slot=0, references=2)  # fmt: skip
    graph["fuse"] = node(
        "M2Chat_FuseM3Adapter", adapter=["load", 2], features=["encode", 0], gate=1.0, mode="fixed", mode__value=0.5
    )
    graph["mean"] = node("PreviewAny", source=["fuse", 2])
    graph["caption"] = node("PreviewAny", source=["encode", 1])
    plain = comfy.run(graph)
    assert "fox" in text(plain, "caption") and float(text(plain, "mean")) == 0, "there is nothing to look at"
    cast = graphs.changed(graph, "user", conversation=["cast", 0])
    entry = comfy.run(cast)
    assert text(entry, "caption") == text(plain, "caption") and float(text(entry, "mean")) == pytest.approx(
        0.5 * graphs.open_gate()
    )
    cast["cast"]["inputs"]["name"] = "bear"
    assert float(text(comfy.run(cast), "mean")) == 0
    cast["cast"]["inputs"]["name"] = "FOX"
    cast["encode"]["inputs"]["memory"] = ["memory", 0]
    for memory in ({"rule": "last", "rule__count": 0}, {"rule": "chosen", "rule__pictures": "1", "weights": "0"}):
        cast["memory"] = node("M2Chat_Memory", **memory)
        assert float(text(comfy.run(cast), "mean")) == 0


def test_memory_says_what_is_wrong(comfy: ComfyServer) -> None:
    graph = {**graphs.story(memory=["memory", 0]), "memory": node("M2Chat_Memory", rule="chosen", rule__pictures="all")}
    assert (
        failed(comfy, graph) == "Memory of Pictures: pictures is 'all': write numbers of earlier pictures, like 1, 3."
    )
    graph["memory"] = node("M2Chat_Memory", rule="first", rule__count=1, weights="much")
    once = "Memory of Pictures: weights is 'much': write numbers from 0 to 10, like 1, 0.5."
    assert failed(comfy, graph) == once


# The story's plan


def test_a_story_follows_an_outline_and_goes_on(comfy: ComfyServer) -> None:
    graph = graphs.story(panels=2, conversation=["told", 0], outline=["outline", 0])
    graph["told"] = node("M2Chat_Story", **{**graph["story"]["inputs"], "panels": 1, "conversation": ["start", 0]})
    del graph["told"]["inputs"]["outline"]
    graph["start"] = node("M2Chat_Conversation", system="Be kind.")
    graph["outline"] = node("M2Chat_Outline", premise="x", panels=9, seed=0, lines="1. A fox runs.\n\n2. A fox sleeps.")
    graph["lines"] = node("PreviewAny", source=["outline", 1])
    graph["list"] = node("PreviewImage", images=["story", 1])
    entry = comfy.run(graph)
    said = [part for part in text(entry).split("\n\n") if not part.startswith("M2Chat: ")]
    fox = "You: A fox on the beach."
    assert said == ["System: Be kind.", fox, f"{fox}\nA fox runs.", "You: A fox sleeps."]
    assert entry["outputs"]["lines"]["text"] == ["A fox runs.", "A fox sleeps."]
    assert len(entry["outputs"]["list"]["images"]) == len(entry["outputs"]["show"]["images"]) - 1


def test_a_plan_says_what_is_wrong(comfy: ComfyServer) -> None:
    once = "Tell Story: rerolls has 'third': write pictures and numbers like 3: 1, 5: 2, each picture once."
    assert failed(comfy, graphs.story(rerolls="third")) == once
    assert failed(comfy, graphs.story(outline="x\n" * 33)).startswith("Tell Story: The outline has 33 lines")
    assert failed(comfy, graphs.story(outline="a\nb")).startswith("Tell Story: The outline has 2 lines for 1 panel: ")
    said = "Tell Story: This M3-Adapter is not anchored, so nothing reads style and negative: "
    assert failed(comfy, graphs.story(style="watercolour")).startswith(said)
    graph = {"outline": node("M2Chat_Outline", premise="A fox.", panels=2, seed=0, lines="")}
    graph["show"] = node("PreviewAny", source=["outline", 0])
    assert failed(comfy, graph).startswith("Outline: Nothing can write the outline: connect language_model")
    assert failed(comfy, graphs.changed(graph, "outline", premise=" ")).startswith("Outline: The premise is empty: ")
    graph |= {"load": node("M2Chat_LoadStarter")}
    graph = graphs.changed(graph, "outline", language_model=["load", 0], panels=32)
    assert "of 32 lines: try another seed or a larger model" in failed(comfy, graph)


def test_an_anchored_adapter_reads_style_and_negative(comfy: ComfyServer) -> None:
    graph = {**graphs.story(), "list": node("PreviewImage", images=["story", 1])}
    given = {"language_model": ["load", 0], "decoder": ["load", 3], "vision_encoder": ["load", 1]}
    graph["new"] = node("M2Chat_NewAdapter", **given, width=64, blocks=1, seed=0)
    graph = graphs.changed(graph, "story", adapter=["new", 0])
    plain, green, none = (
        comfy.run(graphs.changed(graph, "story", **words)) for words in ({}, {"style": "green"}, {"negative": "beach"})
    )
    assert text(plain) == text(green) == text(none)
    for other in (green, none):
        assert ImageChops.difference(picture(comfy, plain, "list"), picture(comfy, other, "list")).getbbox()
    graph = {"load": node("M2Chat_LoadStarter")}
    graph["text"] = node("M2Chat_EncodeText", decoder=["load", 3], text="a fox", style="green", negative="beach")
    graph["decode"] = node("M2Chat_Decode", decoder=["load", 3], condition=["text", 0], seed=1, **PAINT)
    graph["list"] = node("PreviewImage", images=["decode", 0])
    words = {"text": "a fox, green", "style": ""}
    assert same(*(picture(comfy, comfy.run(g), "list") for g in (graph, graphs.changed(graph, "text", **words))))
