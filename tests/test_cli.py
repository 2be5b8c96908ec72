"""The command line: what it refuses, what it writes, how it ends."""

from __future__ import annotations

import importlib
import json
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from m3adapter import pipeline
from m3adapter.cli import console
from m3adapter.cli import main as cli
from m3adapter.conversation.conversation import Conversation, ConversationError, Picture, Slot, Text
from m3adapter.conversation.seeds import turn_seed
from m3adapter.events import (
    Event,
    Interrupted,
    NotFinite,
    OnEvent,
    PictureDone,
    PictureStarted,
    ReplyWritten,
    Step,
    StoryEnded,
    TextChunk,
    TextWithdrawn,
    ThoughtChunk,
    TurnDone,
)
from m3adapter.language.prompts import PromptError
from m3adapter.language.sampling import Sampling
from m3adapter.language.thoughts import ThoughtError
from m3adapter.settings import TurnSettings
from m3adapter.weights.starter import STARTER


class ModelStandIn:
    """Replies to everything with a text and a picture, and records how it was asked."""

    def __init__(self) -> None:
        self.asked: list[SimpleNamespace] = []
        self.fails: BaseException | None = None

    def turn(self, conversation, settings, on_event=lambda event: None):
        conversation.check_ready_for_reply()
        self.asked.append(SimpleNamespace(conversation=conversation, settings=settings))
        slot = Slot(len(conversation.turns), 1)
        image = torch.full((4, 4, 3), 0.5)
        on_event(TextChunk("\n The fox 🦊"))
        if self.fails:
            raise self.fails
        done = conversation.assistant([Text("The fox ran."), Picture("a fox", image)])
        for event in (TextChunk(" ran."), PictureStarted(slot, "a fox", 0, 1), Step(slot, 1, 2, lambda: None)):
            on_event(event)
        on_event(PictureDone(slot, image, done))
        on_event(TurnDone(done))
        return done

    def story(self, premise, panels, settings, on_event):
        conversation = Conversation()
        for panel in range(panels):
            conversation = self.turn(conversation.user(premise if not panel else "next"), settings, on_event)
        return conversation


@pytest.fixture
def model(monkeypatch) -> ModelStandIn:
    """In place of the shipped weights."""
    stand_in = ModelStandIn()
    monkeypatch.setattr(pipeline.M2Chat, "from_starter", lambda device: stand_in)
    return stand_in


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    """The exit status, the output and the errors of a command."""
    try:
        status = cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return status, out, err


def test_a_story_is_printed_and_written(model, capsys, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "story"
    status, out, err = run(
        capsys, "story", "A fox.", "--panels", 2, "--gate", 0.5, "--seed", 9, "--steps", 3, "--output", folder
    )
    assert (status, err) == (0, "")
    part = "The fox 🦊 ran.\n[picture 1 of 1: a fox]\n\n"
    assert out == part * 2 + f"{folder / 'story.html'}\n"
    assert model.asked[0].settings == TurnSettings(gate=0.5, seed=9, steps=3)
    assert len(Conversation.load(folder).pictures()) == 2 and (folder / "panel_2.png").is_file()
    assert '<dt>seed</dt><dd dir="auto">9</dd>' in (folder / "story.html").read_text("utf-8")


def test_a_story_is_written_in_the_formats_that_are_named(model, capsys, tmp_path: Path) -> None:
    arguments = ("story", "A fox.", "--panels", 1, "--output", tmp_path / "s", "--format")
    status, out, _ = run(capsys, *arguments, "epub", "pages", "--layout", "grid")
    assert status == 0 and out.endswith(f"\n\n{tmp_path / 's' / 'story.epub'}\n")
    assert {"story.epub", "page_1.png", "conversation.json"} <= {path.name for path in (tmp_path / "s").iterdir()}
    assert not (tmp_path / "s" / "story.html").exists()
    status, _, err = run(capsys, *arguments, "docx")
    assert status == 2 and "invalid choice: 'docx'" in err


def test_an_earlier_story_is_replaced_but_nothing_else(model, capsys, tmp_path: Path) -> None:
    assert run(capsys, "story", "A fox.", "--panels", 2, "--output", tmp_path / "s")[0] == 0
    status, _, err = run(capsys, "story", "A fox.", "--panels", 1, "--output", tmp_path / "s")
    assert status == 0 and f"The earlier story in {tmp_path / 's'} was replaced." in err
    assert len(Conversation.load(tmp_path / "s").pictures()) == 1
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    asked = len(model.asked)
    status, _, err = run(capsys, "story", "A fox.", "--output", other)
    assert status == 2 and "is not empty and does not hold an earlier story" in err and len(model.asked) == asked
    assert run(capsys, "story", "A fox.", "--panels", 1, "--output", other, "--overwrite")[0] == 0
    assert (other / "notes.txt").read_text() == "mine" and (other / "story.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "required: COMMAND"),
        (("paint",), "invalid choice: 'paint'"),
        (("story",), "PREMISE"),
        (("story", "A fox."), "--output"),
        (("story", "  ", "--output", "OUT"), "premise is empty"),
        (("story", "A fox.", "--output", "OUT", "--panels", 0), "panels is 0: give a whole number from 1 to 32"),
        (("story", "A fox.", "--output", "OUT", "--panels", "two"), "invalid int value: 'two'"),
        (("story", "A fox.", "--output", "OUT", "--gate", 5), "gate is 5.0: give a number from 0 to 4"),
        (("story", "A fox.", "--output", "OUT", "--gate", "nan"), "gate is nan"),
        (("story", "A fox.", "--output", "OUT", "--gate", "-1"), "gate is -1.0"),
        (("story", "A fox.", "--output", "OUT", "--steps", 0), "steps is 0"),
        (("story", "A fox.", "--output", "OUT", "--guidance", 31), "guidance is 31.0"),
        (("story", "A fox.", "--output", "OUT", "--seed", -1), "seed is -1"),
        (("story", "A fox.", "--output", "OUT", "--device", "abacus"), "The device 'abacus' cannot be used here"),
        (("story", "A fox.", "--output", "OUT", "--starter", "OUT"), "The weights in"),
        (("story", "A fox.", "--output", "FILE"), "is a file: choose a folder"),
        (("story", "A fox.", "--output", "FILE/x"), "Not a directory"),
        (("chat", "--gate", 9), "gate is 9.0"),
        (("train", "everything"), "There is no recipe everything: give a TOML file, or one of"),
        (("train",), "RECIPE"),
        (("evaluate",), "--output"),
        (("evaluate", "--output", "OUT/r.json", "--pictures", 0), "pictures is 0: give a whole number from 1"),
        (("evaluate", "--output", "OUT/r.json", "--starter", "OUT"), "The weights in"),
        (("evaluate", "--output", "."), "is a folder: name a file"),
        (
            ("evaluate", "--output", "r", "--ip-adapter", "x", "--split", "validation"),
            "Give either --split or --ip-adapter",
        ),
        (
            ("evaluate", "--output", "r", "--sheet", "--without", "gate"),
            "Give either --without or --sheet",
        ),
    ],
)
def test_mistakes_end_with_2_and_one_sentence(model, capsys, tmp_path: Path, arguments: tuple, says: str) -> None:
    (tmp_path / "FILE").write_text("")
    places = {"OUT": tmp_path / "out", "FILE": tmp_path / "FILE", "FILE/x": tmp_path / "FILE" / "x"}
    places["OUT/r.json"] = tmp_path / "out" / "r.json"
    status, out, err = run(capsys, *(places.get(argument, argument) for argument in arguments))
    assert (status, out) == (2, "")
    assert says in err and err.count("\n") == 1 and err.startswith("m3adapter")
    assert model.asked == [] and not (tmp_path / "out" / "story.html").exists()


def test_missing_starter_is_one_sentence(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(pipeline, "STARTER", tmp_path)
    status, _, err = run(capsys, "story", "A fox.", "--output", tmp_path / "out")
    assert status == 2 and "language_model, vision_encoder, adapter.safetensors, decoder missing" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Interrupted()])
def test_ctrl_c_ends_with_130_and_writes_nothing(model, capsys, tmp_path: Path, stop: BaseException) -> None:
    model.fails = stop
    status, out, err = run(capsys, "story", "A fox.", "--output", tmp_path / "out")
    assert (status, err) == (130, "\nInterrupted.\n") and out == "The fox 🦊"
    assert list((tmp_path / "out").iterdir()) == []


def test_a_story_that_is_interrupted_is_written_as_far_as_it_was_told(model, capsys, monkeypatch, tmp_path) -> None:
    slot, image = Slot(1, 1), torch.full((4, 4, 3), 0.5)
    one = Conversation().user("A fox.").assistant([Text("It ran."), Picture("a fox")])
    two = one.user("And?").assistant([Text("It slept."), Picture("a den")])

    def story(premise, panels, settings, on_event):
        for event in (
            *(TextChunk("It ran."), ReplyWritten(one), TextChunk(" It slept."), ReplyWritten(two)),
            *(PictureStarted(slot, "a fox", 0, 1), PictureDone(slot, image, two.with_picture(slot, image))),
            *(TurnDone(one.with_picture(slot, image)), PictureStarted(Slot(3, 1), "a den", 0, 1)),
        ):
            on_event(event)
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "story", story)
    status, out, err = run(capsys, "story", "A fox.", "--output", tmp_path / "out")
    assert (status, err) == (130, "\nInterrupted.\n")
    assert out == f"It ran.\n\nIt slept.\n[picture 1 of 2: a fox]\n{tmp_path / 'out' / 'story.html'}\n"
    kept = Conversation.load(tmp_path / "out")
    assert len(kept.turns) == 4 and (len(kept.pictures()), len(kept.open_slots())) == (1, 1)


def test_a_defect_keeps_its_traceback(model, tmp_path: Path) -> None:
    model.fails = ValueError("shapes do not fit")
    with pytest.raises(ValueError, match="shapes do not fit"):
        cli.main(["story", "A fox.", "--output", str(tmp_path / "out")])


def printed(*events: Event, **how: bool) -> None:
    with console.printing(**how) as on_event:
        for event in events:
            on_event(event)


def test_thoughts_are_shown_to_those_who_want_them(capsys) -> None:
    end = TurnDone(Conversation())
    events = [
        ThoughtChunk(" I "),
        ThoughtChunk("plan."),
        TextChunk("A fox"),
        ThoughtChunk("Hm"),
        TextChunk(" ran."),
        end,
    ]
    printed(*events, thoughts=True)
    assert capsys.readouterr().out == "[thinks: I plan.]\nA fox\n[thinks: Hm]\nran.\n\n"
    printed(*events)
    assert capsys.readouterr().out == "A fox ran.\n\n"
    printed(TextChunk("I plan."), TextWithdrawn(""), TextChunk("A fox."), end)
    assert capsys.readouterr().out == "I plan.\n[thinks: that was a thought]\nA fox.\n\n"


def test_the_budgets_of_a_reply_are_options(model, capsys, tmp_path: Path) -> None:
    arguments = ("story", "A fox.", "--panels", 1, "--output", tmp_path / "s")
    given = ("--max-length", 99, "--max-pictures", 2, "--max-thinking", 7, "--thinking")
    assert run(capsys, *arguments)[0] == run(capsys, *arguments, *given)[0] == 0
    plain, other = (asked.settings for asked in model.asked)
    assert (plain.sampling, plain.max_pictures) == (Sampling(), 4)
    assert (other.sampling, other.max_pictures) == (Sampling(max_length=99, max_thinking=7, thinking=True), 2)
    for wrong in ("--max-length", "--max-pictures"):
        status, _, err = run(capsys, *arguments, wrong, 0)
        assert status == 2 and wrong[2:].replace("-", "_") + " is 0" in err and err.count("\n") == 1
    model.fails = ThoughtError("The language model was still thinking.")
    status, _, err = run(capsys, *arguments)
    assert (status, err) == (2, "m3adapter: The language model was still thinking.\n")


def test_a_story_that_ends_early_is_kept_with_the_reason(model, capsys, monkeypatch, tmp_path: Path) -> None:
    reason = "The language model thought, and then said nothing: try another seed or model."
    told = model.story

    def story(premise: str, panels: int, settings: TurnSettings, on_event: OnEvent) -> Conversation:
        conversation = told(premise, 2, settings, on_event)
        on_event(StoryEnded(conversation, 2, panels, reason))
        return conversation

    monkeypatch.setattr(model, "story", story)
    status, out, err = run(capsys, "story", "A fox.", "--panels", 4, "--output", tmp_path / "s")
    assert status == 0 and str(tmp_path / "s" / "story.html") in out
    assert err == f"The story ends after 2 of 4 panels, for the {reason[4:]}\n"
    assert len(Conversation.load(tmp_path / "s").turns) >= 2


@pytest.mark.parametrize(
    "error",
    [
        ThoughtError("It only thought: try another seed."),
        PromptError("The context leaves 3 tokens, too few for this message."),
        NotFinite("The UNet computed NaN: choose another dtype."),
        ConversationError("The language model cannot see: leave the pictures out."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_chat_survives_a_reply_that_cannot_be_used(model, monkeypatch, capsys, error, tmp_path: Path) -> None:
    def fails_once(name: str) -> object:
        model.fails = error if name == "Again" else None
        return name

    said = iter(["Hello", "Again", "Look", f"/save {tmp_path / 'out'}"])

    def line(prompt: str = "") -> str:
        try:
            return fails_once(next(said))
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", line)
    status, out, err = run(capsys, "chat")
    assert (status, err) == (0, "") and str(error) in out
    told = [turn.text for turn in Conversation.load(tmp_path / "out").turns if turn.role == "user"]
    assert told == ["Hello", "Look"]


def test_progress_is_drawn_only_on_a_terminal(model, capsys, monkeypatch) -> None:
    monkeypatch.setattr(console.sys.stdout, "isatty", lambda: True)
    with console.printing() as on_event:
        model.turn(Conversation().user("hi"), TurnSettings(), on_event)
    assert "\r[picture 1 of 1: step 1 of 2 \r\x1b[K[picture 1 of 1: a fox]\n" in capsys.readouterr().out


def talk(monkeypatch, capsys, *lines: str, options: tuple = ()) -> tuple[int, str, str]:
    """Chats with these lines; the input ends after them."""
    remaining = iter(lines)

    def line(prompt: str = "") -> str:
        try:
            return next(remaining)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", line)
    return run(capsys, "chat", *options)


def test_chat_keeps_the_conversation_and_takes_commands(model, monkeypatch, capsys, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGBA", (3, 2), (255, 0, 0, 0)).save(tmp_path / "my fox.png")
    status, out, err = talk(
        monkeypatch, capsys, "Hello", f"/picture {tmp_path / 'my fox.png'}", "/gate 2.5", "Look", "Again",
        f"/save {tmp_path / 'out'}", "/quit", "never said", options=("--seed", "5"),
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert [asked.settings.gate for asked in model.asked] == [1.0, 2.5, 2.5]
    assert [asked.settings.seed for asked in model.asked] == [turn_seed(5, turn) for turn in range(3)]
    shown = [len(asked.conversation.user_pictures()) for asked in model.asked]
    assert shown == [0, 1, 1], "a picture goes with one message"
    assert model.asked[1].conversation.user_pictures()[0].equal(torch.ones(2, 3, 3)), "alpha goes over white"
    assert str(tmp_path / "out" / "story.html") in out
    assert len(Conversation.load(tmp_path / "out").turns) == 6


def test_chat_says_mistakes_and_goes_on(model, monkeypatch, capsys, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    status, out, err = talk(
        monkeypatch, capsys, "", "/jump", "/gate", "/gate 9", "/gate much", "/picture", "/picture nowhere.png",
        f"/picture {tmp_path / 'text.png'}", "/save", f"/save {tmp_path}", "Hello",
    )  # fmt: skip
    assert (status, err) == (0, "")
    for sentence in (
        "The user message is empty", "There is no command /jump", "Give /gate a number", "gate is 9.0",
        "Say /picture PATH.", "nowhere.png does not exist", "text.png cannot be read", "Say /save DIR.",
        "is not empty and does not hold an earlier",
    ):  # fmt: skip
        assert sentence in out
    assert len(model.asked) == 1 and model.asked[0].settings.gate == 1.0


def test_ctrl_c_stops_a_reply_and_at_the_prompt_the_chat(model, monkeypatch, capsys, tmp_path: Path) -> None:
    turn, model.fails = model.turn, KeyboardInterrupt()

    def written_then_stopped(conversation, settings, on_event):
        if conversation.turns[-1].text != "Again":
            return turn(conversation, settings, on_event)
        on_event(ReplyWritten(conversation.assistant([Text("It ran."), Picture("a fox")])))
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "turn", written_then_stopped)
    status, out, err = talk(monkeypatch, capsys, "Hello", "Again", f"/save {tmp_path / 'out'}")
    assert (status, err) == (0, "") and out.count("Stopped: ") == 2
    kept = Conversation.load(tmp_path / "out")
    assert [turn.text for turn in kept.turns] == ["Again", "It ran."] and len(kept.open_slots()) == 1

    def stopped(prompt: str = "") -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", stopped)
    status, _, err = run(capsys, "chat")
    assert (status, err) == (130, "\nInterrupted.\n")


def stand_in_module(monkeypatch, name: str, **contents: object) -> None:
    module = types.ModuleType(name)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("component", cli.COMPONENTS)
def test_train_hands_its_arguments_on(monkeypatch, capsys, component: str) -> None:
    got: list[list[str]] = []
    stand_in_module(monkeypatch, "m3adapter.training")
    stand_in_module(monkeypatch, f"m3adapter.training.{component}", main=lambda argv: got.append(argv))
    assert run(capsys, "train", component, "--steps", "5", "--help")[0] == 0
    assert run(capsys, "train", component)[0] == 0
    assert got == [["--steps", "5", "--help"], []]


def test_train_passes_the_exit_status(monkeypatch, capsys) -> None:
    stand_in_module(monkeypatch, "m3adapter.training")
    stand_in_module(monkeypatch, "m3adapter.training.m3ft", main=lambda argv: 3)
    assert run(capsys, "train", "m3ft")[0] == 3


def test_what_is_not_installed_is_named(monkeypatch, capsys) -> None:
    def missing(name: str):
        raise ModuleNotFoundError(name="accelerate" if "m3ft" in name else name)

    monkeypatch.setattr(cli.importlib, "import_module", missing)
    assert run(capsys, "train", "m3ft")[2] == (
        "m3adapter: The Python package accelerate is missing: install it with `pip install accelerate`.\n"
    )
    status, _, err = run(capsys, "train", "clip")
    assert status == 2 and "This installation has no training/clip.py" in err


def test_evaluate_writes_its_report(monkeypatch, capsys, tmp_path: Path) -> None:
    asked: list[dict] = []

    def evaluate(**how: object) -> dict:
        asked.append(how)
        return {"seed": how["seed"], "unit": "%"}

    stand_in_module(monkeypatch, "m3adapter.evaluation.starter", evaluate=evaluate)
    monkeypatch.setattr(cli, "check_weights", lambda directory: None)
    report = tmp_path / "new" / "report.json"
    status, out, _ = run(capsys, "evaluate", "--output", report, "--pictures", 12, "--seed", 3)
    assert (status, out) == (0, f"{report}\n") and json.loads(report.read_text()) == {"seed": 3, "unit": "%"}
    usual = {"device": "cpu", "dtype": "float32", "without": None, "split": "test"}
    assert asked == [{"starter": STARTER, "pictures": 12, "seed": 3, **usual}]
    run(capsys, "evaluate", "--output", report, "--starter", tmp_path, "--without", "gate", "--split", "validation")
    assert asked[1] == {"starter": tmp_path, "seed": 0, **usual, "without": "gate", "split": "validation"}, (
        "its own default decides how many pictures"
    )


def test_the_command_line_imports_nothing_heavy(monkeypatch) -> None:
    """Imports it afresh with the heavy libraries blocked."""
    for name in [name for name in sys.modules if name.split(".")[0] == "m3adapter"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("torch", "numpy", "PIL", "transformers", "diffusers"):
        monkeypatch.setitem(sys.modules, name, None)
    fresh = importlib.import_module("m3adapter.cli.main")
    assert fresh is not cli and fresh.main is not cli.main
