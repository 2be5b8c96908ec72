"""No command removes what it did not make, and mistakes are reported in a sentence before anything is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from m3adapter.cli import main as cli
from m3adapter.conversation.conversation import Conversation, Picture, Text
from m3adapter.export.story import export_story
from m3adapter.pipeline import M2Chat
from m3adapter.training import options, starter
from m3adapter.weights.starter import STARTER

PARTS = {
    "language": STARTER / "language_model",
    "vision": STARTER / "vision_encoder",
    "decoder": STARTER / "decoder",
    "adapter": STARTER / "adapter.safetensors",
}


def arguments(output: Path, **changes: object) -> list[str]:
    """Of `train starter`."""
    given = {**PARTS, **changes, "output": output}
    return [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", str(value))]


def refused(capsys: pytest.CaptureFixture, *command: object) -> str:
    """The error of a command that ends with status 2 and a single sentence."""
    try:
        status = cli.main([str(part) for part in command])
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 2 and len(said) < 500 and "Traceback" not in said, said
    return said


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Path]:
    """A folder of the user's, which must stay as it is."""
    folder = tmp_path / "mine"
    for name in ("decoder/unet", "vae", "language_model", "vision_encoder", "text_encoder", "edit_model"):
        (folder / name).mkdir(parents=True)
        (folder / name / "weights.bin").write_text("years of work")
    for name in ("judge.safetensors", "ip_adapter.safetensors", "adapter_stage1.safetensors", "notes.txt"):
        (folder / name).write_text("years of work")
    before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    yield folder
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_train_starter_keeps_its_hands_off_a_folder_that_is_there(mine: Path, capsys) -> None:
    said = refused(capsys, "train", "starter", *arguments(mine))
    assert said == f"m3adapter: --output: {mine} is not empty; choose a new folder."
    assert "is a file" in refused(capsys, "train", "starter", *arguments(mine / "notes.txt"))
    assert "is a file" in refused(capsys, "train", "starter", *arguments(mine / "notes.txt" / "deeper"))


def test_a_trainer_keeps_its_hands_off_results_of_others(mine: Path, capsys) -> None:
    for command in (
        ("autoencoder",), ("clip",), ("judge",), ("language",), ("ip",), ("edit",),
        ("decoder", "--vae", mine / "vae", "--clip", mine),
        ("m3ft", "--stage", 1, "--language", PARTS["language"], "--vision", PARTS["vision"], "--decoder", mine / "vae"),
    ):  # fmt: skip
        said = refused(capsys, "train", *command, "--output", mine)
        assert "is there already, and " in said and said.endswith("choose another folder."), said


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("starter", *arguments(Path("OUT"), language="nowhere")), "--language: there is no folder nowhere."),
        (("starter", *arguments(Path("OUT"), adapter="nowhere")), "--adapter: there is no file nowhere."),
        (("starter", *arguments(Path("OUT"), vae="nowhere")), "--vae: there is no folder nowhere."),
        (("starter", *arguments(Path("OUT"), low_level="nan")), "--low-level: 'nan' is not a number from 0 to 100"),
        (
            ("starter", *arguments(Path("OUT"), vision=STARTER)),
            f"--vision: {STARTER} cannot be used (FileNotFoundError: ",
        ),
        (("starter", *arguments(Path("OUT"), adapter=Path(__file__))), "--adapter: "),
        (("autoencoder", "--steps", "-1"), "argument --steps: '-1' is not a whole number from 0 to 1000000000"),
        (("autoencoder", "--steps", "²"), "argument --steps: '²' is not a whole number"),
        (("autoencoder", "--batch", "0"), "argument --batch: '0' is not a whole number from 1"),
        (("autoencoder", "--lr", "0"), "argument --lr: 0 is not above 0"),
        (("autoencoder", "--kl", "inf"), "argument --kl: 'inf' is not a number"),
        (("autoencoder", "--init", "nowhere"), "--init: there is no folder nowhere."),
        (("autoencoder", "--init", STARTER / "decoder" / "unet"), "--init: "),
        (("judge", "--seed", "9" * 5000), "argument --seed: '9999999999999999999999999999999999999999'…"),
        (("clip", "--text", "nowhere"), "--text: there is no folder nowhere."),
        (("clip", "--text", STARTER), "--text: "),
        (("decoder", "--vae", "nowhere", "--clip", "."), "--vae: there is no folder nowhere."),
        (("decoder", "--vae", STARTER / "decoder" / "unet", "--clip", STARTER / "decoder"), "--vae: "),
        (("language", "--width", 2**62), "argument --width: "),
        (("language", "--width", 100, "--heads", 3), "--width is 100 but must be a multiple of twice the --heads, 6"),
        (("language", "--init", STARTER / "vision_encoder"), "--init: "),
        (("ip", "--vision", "nowhere"), "--vision: there is no folder nowhere."),
        (("ip", "--pictures", "0"), "argument --pictures: '0' is not a whole number from 1"),
        (("m3ft", "--stage", 2, *arguments(Path("OUT"))[:6]), "stage 2 needs the adapter of stage 1"),
        (("m3ft", "--stage", 1, *arguments(Path("OUT"))[:6], "--init", "nowhere"), "--init: there is no file nowhere."),
        (("m3ft", "--stage", 1, *arguments(Path("OUT"))[:6], "--batch", 99, "--samples", 9), "--batch is 99"),
    ],
)
def test_mistakes_of_trainers_are_sentences(capsys, tmp_path: Path, command: tuple[Any, ...], words: str) -> None:
    output = tmp_path / "out"
    command = tuple(output if str(part) == "OUT" else part for part in command)
    if output not in command:
        command = (*command, "--output", output)
    assert words in refused(capsys, "train", *command)
    assert list(tmp_path.iterdir()) == [], "nothing was made of what could not be"


def test_a_checkpoint_that_is_damaged_is_told_in_a_sentence(capsys, tmp_path: Path) -> None:
    (tmp_path / "judge.pt").write_bytes(b"no checkpoint")
    said = refused(capsys, "train", "judge", "--output", tmp_path, "--steps", 1, "--batch", 1)
    assert said.startswith(f"m3adapter: --output: {tmp_path / 'judge.pt'} cannot be used (")
    assert (tmp_path / "judge.pt").read_bytes() == b"no checkpoint"


@pytest.mark.slow
def test_the_starter_is_put_together_in_a_new_folder_or_not_at_all(tmp_path: Path, monkeypatch) -> None:
    made = tmp_path / "deeper" / "made"
    made.mkdir(parents=True)
    starter.main(arguments(made))
    assert M2Chat.from_pretrained(made).adapter.config == M2Chat.from_starter().adapter.config
    assert [path.name for path in made.parent.iterdir()] == ["made"]

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(starter, "make_portable", fail)
    with pytest.raises(options.UserError, match="No space left"):
        starter.main(arguments(tmp_path / "other"))
    assert [path.name for path in tmp_path.iterdir()] == ["deeper"]


def test_an_export_removes_what_an_export_wrote_and_nothing_else(tmp_path: Path) -> None:
    story = Conversation().user("Tell.")
    long = story.assistant([Text("x"), *(Picture("a", torch.rand(4, 4, 3)) for _ in range(3))])
    short = story.assistant([Text("x"), Picture("a", torch.rand(4, 4, 3))])
    export_story(long, tmp_path, formats=["html", "pages"])
    for name in ("story.pdf", "page_77.png", "panel_9.png", "picture_44.png", "notes.txt"):
        (tmp_path / name).write_text("mine")
    export_story(short, tmp_path, formats=["markdown"])
    left = {path.name for path in tmp_path.iterdir()}
    mine = {"story.pdf", "page_77.png", "panel_9.png", "picture_44.png", "notes.txt"}
    assert left == mine | {"story.md", "panel_1.png", "picture_1.png", "conversation.json"}
    assert Conversation.load(tmp_path).pictures() == short.pictures()
    for listed in ("../x", ["../../x", 7, None], {"a": 1}):
        index = json.loads((tmp_path / "conversation.json").read_text("utf-8"))
        (tmp_path / "conversation.json").write_text(json.dumps({**index, "files": listed}))
        export_story(short, tmp_path, formats=["markdown"])
        assert {path.name for path in tmp_path.iterdir()} == left


def test_a_report_takes_the_place_of_a_report_only(capsys, tmp_path: Path) -> None:
    for content in ("years of work", '{"model_type": "llama"}', "[1]"):
        (tmp_path / "r.json").write_text(content)
        said = refused(capsys, "evaluate", "--output", tmp_path / "r.json")
        assert said == f"m3adapter: {tmp_path / 'r.json'} already exists and is not a report: name another file."
        assert (tmp_path / "r.json").read_text() == content
