"""The character sheet: looks that captions carry for painters without references, and what was seen of pictures."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import toy_llms
from m3adapter.conversation.cast import MAX_LOOKS, Character, with_looks
from m3adapter.conversation.character_sheet import looks_of
from m3adapter.conversation.conversation import Conversation, ConversationError, Picture, Slot, Text
from m3adapter.conversation.new_looks import still_said
from m3adapter.events import Shortened
from m3adapter.language.auto import load_language_model
from m3adapter.language.language_model import LanguageModel
from m3adapter.language.sampling import Sampling
from m3adapter.painter import PaintRequest
from m3adapter.settings import TurnSettings
from m3adapter.story_writing import describe_pictures, painted_slots, write_sheet, write_story
from standins import chat
from test_outline import Planner

RED = torch.ones(8, 8, 3) * torch.tensor([1.0, 0, 0])
SHEET = {"fox": "small and blue", "Rosa": "an old owl with a green scarf"}


@pytest.mark.parametrize(
    ("caption", "described"),
    [
        ("a fox on the beach", "a fox on the beach, the fox is small and blue"),
        ("A clever little Fox runs.", "A clever little Fox runs, the fox is small and blue"),
        ("Rosa finds a key.", "Rosa finds a key. Rosa: an old owl with a green scarf"),
        ("the owl and Rosa", "the owl and Rosa. Rosa: an old owl with a green scarf"),
        ("Rosa meets a fox", "Rosa meets a fox, the fox is small and blue. Rosa: an old owl with a green scarf"),
        ("the fox is small and blue", "the fox is small and blue"),
        ("foxes and Rosamund", "foxes and Rosamund"),
        ("le fox dort", "le fox dort. fox: small and blue"),
        ("", ""),
        ("a small blue boat and a fox", "a small blue boat and a fox, the fox is small and blue"),
        ("a small blue fox", "a small blue fox"),
    ],
)
def test_a_caption_carries_the_looks_of_those_whom_it_names(caption: str, described: str) -> None:
    cast = [Character(name, looks=looks) for name, looks in SHEET.items()]
    assert with_looks(caption, cast) == described
    assert with_looks(caption, [Character("fox"), Character("Rosa")]) == caption
    story = Conversation().with_looks(SHEET).user("Tell.").assistant([Picture(caption)])
    assert story.described(Slot(1, 0)) == described and story.at(Slot(1, 0)).caption == caption


CUB, OWL = "a small red cub with a green scarf", "an old owl with a green scarf"
HAIR = "long brown hair, a blue dress"
BLUE = "a small cub with a green scarf"  # what is left beside "blue"


@pytest.mark.parametrize(
    ("looks", "caption", "said"),
    [
        (CUB, "the fox is now blue", BLUE),
        (CUB, "a blue fox on the beach", BLUE),
        (CUB, "A clever, dark blue little fox", BLUE),
        (CUB, "the fox, now blue, runs", BLUE),
        (CUB, "the fox has suddenly turned blue", BLUE),
        (CUB, "the fox with blue fur", BLUE),
        (CUB, "the fox's fur is blue", BLUE),
        (CUB, "the blue-furred fox", BLUE),
        (CUB, "a big clever fox", "a red cub with a green scarf"),
        (CUB, "the fox on the beach in a red scarf", "a small red cub"),
        (CUB, "the fox and her red scarf", "a small red cub"),
        (CUB, "the fox's scarf is blue", "a small red cub"),
        ("red", "the fox is now blue", ""),
        ("small and red", "a blue fox", "small"),
        ("red and white fur, amber eyes", "a blue fox", "amber eyes"),
        (OWL, "young Rosa flies", "an owl with a green scarf"),
        (HAIR, "Rosa with short hair", "brown hair, a blue dress"),
        (HAIR, "Rosa in a white dress and with black hair", "long hair"),
    ],
)
def test_a_sheet_yields_to_a_new_look_in_the_caption(looks: str, caption: str, said: str) -> None:
    name = "Rosa" if "Rosa" in caption else "fox"
    cast = [Character(name, looks=looks), Character("bear", looks="brown")]
    assert still_said(looks, caption, name, ["bear"], common=name == "fox") == said
    described = with_looks(caption, cast)
    assert described.endswith(said) if said else described == caption
    assert with_looks(caption, cast).startswith(caption)


@pytest.mark.parametrize(
    ("looks", "caption"),
    [
        (CUB, "a little red fox"),  # the same in other words
        (CUB, "the fox under a blue sky"),
        (CUB, "a fox, blue sky"),
        (CUB, "the fox is in a blue boat"),
        (CUB, "the fox turns to the blue door"),
        (CUB, "the fox looks at the blue boat"),
        (CUB, "the fox has a blue kite"),
        (CUB, "the fox finds a red scarf"),
        (CUB, "the fox in a red hat"),
        (CUB, "the fox is blue-eyed"),
        (CUB, "the fox is no longer blue"),
        (CUB, "the blue queen's fox"),
        (CUB, "the fox and a blue bear"),
        (CUB, "a blue bear and the fox"),
        (CUB, "the fox meets a bear with a red scarf"),
        (CUB, "the bear is blue. The fox sleeps"),
        (OWL, "a red bird sees Rosa"),
        (OWL, "a blue young man and Rosa"),
        ("red and white fur", "a red fox"),
    ],
)
def test_a_sheet_stays_where_the_caption_names_no_look_of_the_character(looks: str, caption: str) -> None:
    name = "Rosa" if "Rosa" in caption else "fox"
    assert still_said(looks, caption, name, ["bear"], common=name == "fox") == looks
    assert with_looks(caption, [Character(name, looks=looks), Character("bear")]).endswith(looks)


def test_a_style_is_no_look_of_a_character() -> None:
    story = Conversation().with_looks({"fox": "red"}).user("Tell.").assistant([Picture("a fox"), Picture("a blue fox")])
    prompts = [PaintRequest(story, Slot(1, place), TurnSettings(style="blue fox")).prompt for place in (0, 1)]
    assert prompts == ["a fox, blue fox, the fox is red", "a blue fox, blue fox"]


def test_a_painter_that_reads_words_reads_the_looks_behind_the_style() -> None:
    story = Conversation().with_looks(SHEET).user("Tell.").assistant([Picture("Rosa and a fox"), Picture("a key")])
    prompts = [PaintRequest(story, Slot(1, place), TurnSettings(style="by Rosa, oil")).prompt for place in (0, 1)]
    assert prompts == [
        "Rosa and a fox, by Rosa, oil, the fox is small and blue. Rosa: an old owl with a green scarf",
        "a key, by Rosa, oil",
    ]


def test_an_anchored_adapter_gets_the_looks_with_its_anchor() -> None:
    told = chat(["Once. ", "<image>a fox</image>"])
    told.adapter.config.anchor = True
    read: list[tuple[list[str], str]] = []
    told.decoder.encode_text = lambda prompts, negative: (
        read.append((prompts, negative)) or SimpleNamespace(to=lambda device: None)
    )
    start = Conversation().with_looks(SHEET).user("Tell.")
    told.turn(start, steps=1, style="oil", negative="blur")
    assert read == [(["a fox, oil, the fox is small and blue"], "blur")]


def test_names_in_scripts_without_articles_get_a_note() -> None:
    assert with_looks("狐狸在森林里", [Character("狐狸", looks="蓝色")]) == "狐狸在森林里. 狐狸: 蓝色"


def test_a_typed_sheet_has_a_line_for_each_character() -> None:
    text = "1. **Rosa**: an old owl\n\n- fox : small: and blue\n熊：棕色\n"
    assert looks_of(text) == {"Rosa": "an old owl", "fox": "small: and blue", "熊": "棕色"}
    assert looks_of(" \n") == {}
    for wrong, said in {
        "Rosa is old": "line 'Rosa is old': write it as name: looks",
        "fox: a\nFOX: b": "describes FOX twice",
        f"fox: {'a' * (MAX_LOOKS + 1)}": f"at most {MAX_LOOKS}",
        "\n".join(f"n{number}: x" for number in range(17)): "has 17 characters",
    }.items():
        with pytest.raises(ValueError, match=said):
            looks_of(wrong)


def test_the_language_model_writes_the_sheet_once() -> None:
    reply = "Here it is:\n\n* **Fox**: small, blue fur.\nROSA: an old owl\nNobody at all\nfox: again"
    assert write_sheet(Planner(reply), "A fox.") == {"Fox": "small, blue fur", "ROSA": "an old owl"}
    assert write_sheet(Planner(reply), "A fox.", ["Rosa"]) == {"Rosa": "an old owl"}
    with pytest.raises(ValueError, match="did not describe Bear: try another seed or a larger model, or write"):
        write_sheet(Planner(reply), "A fox.", ["Rosa", "Bear"])
    with pytest.raises(ValueError, match="described no character: try"):
        write_sheet(Planner("Once upon a time."), "A fox.")
    with pytest.raises(ValueError, match="premise is empty"):
        write_sheet(Planner(reply), " ")
    heard: list[Any] = []
    (looks,) = write_sheet(Planner("fox: " + "blue, " * 99), "A fox.", on_event=heard.append).values()
    assert len(looks) <= MAX_LOOKS and looks.endswith("blue"), "what is cut is said"
    assert any(isinstance(event, Shortened) and "fox" in event.text for event in heard)


def test_looks_stay_with_the_cast() -> None:
    told = Conversation().with_character("fox", [RED]).with_looks(SHEET)
    assert [(one.name, one.looks, len(one.pictures)) for one in told.cast] == [
        ("fox", "small and blue", 1), ("Rosa", "an old owl with a green scarf", 0),
    ]  # fmt: skip
    again = told.with_character("FOX", [RED, RED])
    assert again.cast[0].looks == "small and blue" and len(again.cast[0].pictures) == 2
    assert told.with_character("fox", looks="red").cast[0].looks == "red"
    assert told.with_looks({"fox": ""}).cast[0].looks == ""
    with pytest.raises(ConversationError, match="looks of fox have 500 letters: say them in at most"):
        told.with_looks({"fox": "x" * 500})


def test_looks_and_what_was_seen_are_saved_and_old_packs_open_the_file(tmp_path) -> None:
    plain = Conversation().with_character("fox", [RED]).user("Tell.").assistant([Picture("a fox", RED)])
    slot = Slot(1, 0)
    told = plain.with_looks(SHEET).with_seen(slot, "a red square")
    told.save(tmp_path / "told")
    assert Conversation.load(tmp_path / "told") == told
    plain.save(tmp_path / "plain")
    old, new = (json.loads((tmp_path / name / "conversation.json").read_text("utf-8")) for name in ("plain", "told"))
    assert new["version"] == old["version"] == 2
    assert "looks" not in old["cast"][0] and "seen" not in old["turns"][1]["segments"][0], "files stay as they were"
    assert new["cast"].pop() == {"name": "Rosa", "pictures": [], "looks": SHEET["Rosa"]}
    assert new["cast"][0].pop("looks") == SHEET["fox"]
    assert new["turns"][1]["segments"][0].pop("seen") == "a red square"
    assert new == old, "what an older pack reads is what it knows"
    assert told.with_picture(slot, RED).at(slot).seen == "", "another picture has not been seen"
    aside = told.without_picture(slot)
    assert aside.at(slot).seen == ""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A toy that was not trained for the markup, so that it gets instructions."""
    return LanguageModel.from_pretrained(toy_llms.qwen3(tmp_path_factory.mktemp("llm") / "model"))


def _asked(model: LanguageModel, conversation: Conversation) -> str:
    """The prompt of a reply."""
    prompts: list[Any] = []
    original = type(model)._start
    try:
        type(model)._start = lambda self, prompt, visual: prompts.append(prompt) or original(self, prompt, visual)
        list(model.reply(conversation, sampling=Sampling(max_length=1)))
    finally:
        type(model)._start = original
    return model.tokenizer.decode(prompts[0].ids)


def test_a_model_that_follows_instructions_reads_the_sheet(model: LanguageModel) -> None:
    plain = Conversation().user("A fox.").assistant([Text("Once."), Picture("a fox", RED)]).user("And then?")
    told = plain.with_looks(SHEET)
    assert _asked(model, plain) == _asked(model, plain.with_character("fox", [RED]))
    asked = _asked(model, told)
    assert asked.count("fox: small and blue\nRosa: an old owl with a green scarf") == 1
    assert asked.index("A fox.") < asked.index("Rosa: ") < asked.index("Once.")
    slot = Slot(1, 1)
    tokens = torch.randn(3, model.hidden_size)
    states = [model.encode_slot(each, slot, tokens) for each in (plain, told, told.with_seen(slot, "a square"))]
    assert not torch.equal(states[0].context, states[1].context), "what it knows of a picture heeds the sheet"
    assert torch.equal(states[1].context, states[2].context), "and never what came out"


def test_replies_go_on_from_what_was_seen(model: LanguageModel) -> None:
    told = Conversation().user("A fox.").assistant([Picture("a fox", RED), Picture("an owl")]).user("And then?")
    asked = _asked(model, told.with_seen(Slot(1, 0), "a red <square>"))
    assert (
        "<picture>a red ‹square›</picture><picture>an owl</picture>" in asked and "a fox" not in asked.split("A fox")[1]
    )
    assert "<picture>a fox</picture>" in _asked(model, told)
    with pytest.raises(ConversationError, match="no image yet"):
        told.with_seen(Slot(1, 1), "an owl")


class Looker(Planner):
    """A model that sees."""

    sees = "natively"

    def __init__(self) -> None:
        super().__init__("")
        self.shown: list[Any] = []

    def reply(self, conversation, **how):
        (picture,) = conversation.user_pictures()
        self.shown.append(picture)
        yield f"a picture\n of red {float(picture.mean()):.2f}"


def test_painted_pictures_are_described_once() -> None:
    told = Conversation().user("A fox.", [RED]).assistant([Picture("a", RED), Picture("b"), Picture("c", RED * 0.5)])
    looker = Looker()
    seen = describe_pictures(looker, told, painted_slots(told))
    assert [told.at(slot).seen for slot in told.slots()] == ["", "", ""]
    assert [seen.at(slot).seen for slot in told.slots()] == ["a picture of red 0.33", "", "a picture of red 0.17"]
    assert [seen.at(slot).caption for slot in told.slots()] == ["a", "b", "c"]
    assert painted_slots(seen) == [] and len(painted_slots(seen, again=True)) == 2
    with pytest.raises(ConversationError, match="cannot look at pictures by itself: use a vision-language model"):
        describe_pictures(Planner("a fox"), told, painted_slots(told))
    with pytest.raises(ConversationError, match="question about the pictures is empty"):
        describe_pictures(looker, told, [], question=" ")


def test_own_pictures_are_seen_only_if_wished(tmp_path) -> None:
    model = load_language_model(toy_llms.build("LLaVA", tmp_path / "model"))
    assert model.sees == "natively" and not model.sees_own
    blue = RED.flip(-1)

    def told(image: torch.Tensor) -> Conversation:
        return Conversation().user("A fox.").assistant([Text("Once."), Picture("a fox", image)]).user("And then?")

    def reply(image: torch.Tensor) -> str:
        return "".join(model.reply(told(image), sampling=Sampling(max_length=12, do_sample=False)))

    assert reply(RED) == reply(blue), "words do not depend on painted pictures"
    slot, tokens = Slot(1, 1), torch.randn(3, model.hidden_size)
    model.sees_own = True
    assert "Your pictures" in _asked(model, told(RED))
    logits = [model._start(model.prompts.for_reply(_shown(told(each)), 3000), [])[0] for each in (RED, blue)]
    assert not torch.equal(*logits)
    states = [model.encode_slot(told(each), slot, tokens).context for each in (RED, blue)]
    assert torch.equal(*states), "a slot is read without them"


def _shown(conversation: Conversation) -> Conversation:
    from m3adapter.language.as_read import with_seen

    return with_seen(conversation, pictures=True)


def test_a_story_is_written_with_its_cast() -> None:
    planner = Planner("Once. <image>a fox</image>")
    story = write_story(planner, "A fox.", 2, start=Conversation().with_looks(SHEET))
    assert [story.described(slot) for slot in story.open_slots()] == ["a fox, the fox is small and blue"] * 2
