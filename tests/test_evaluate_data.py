"""`evaluate --data`: the gate curve, the report and the command; what is not measured is named."""

from __future__ import annotations

import io
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import toys
from m3adapter import arguments
from m3adapter.arguments import UserError
from m3adapter.cli import main as cli
from m3adapter.cli.main import main
from m3adapter.conversation.pictures import png_bytes
from m3adapter.conversation.segments import Picture, Text
from m3adapter.datasets.opening import open_dataset
from m3adapter.evaluation import command, evaluators, report
from m3adapter.evaluation import data as evaluation
from m3adapter.evaluation.data import Measurement
from m3adapter.evaluation.networks import TextEmbedder
from m3adapter.evaluation.replies import Replies, asked
from toy_evaluation import SIDE, Painter, picture, save_clip, save_preprocessor, save_stories


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip") / "toy-clip")


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> TextEmbedder:
    return TextEmbedder(clip_folder)


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stories(tmp_path_factory.mktemp("stories") / "tales")


@pytest.fixture
def painter(monkeypatch) -> Painter:
    monkeypatch.setattr(evaluation, "features", lambda model, sample: sample)
    return Painter()


# The gate curve


def test_the_gate_curve_of_all_evaluators(stories: Path, painter: Painter, clip: TextEmbedder) -> None:
    measured = [evaluators.Copies(), evaluators.Clip(clip), evaluators.Distances(clip)]
    data = open_dataset(stories)
    reports, stages = [], []
    measurement = Measurement(
        painter, data, measured, {"dino_first": "no DINO was given"}, (0.0, 0.5, 1.0), 4, settings={"batch_size": 3}
    )
    done = measurement.run(
        lambda so_far: reports.append(json.loads(json.dumps(so_far))), lambda *how: stages.append(how)
    )
    first, _, last = done["gate_curve"]
    names = {*evaluators.CLIP_FIGURES, "fid", "kid", "copy_paste"}
    assert names <= set(first) and all(math.isfinite(row[name]) for row in done["gate_curve"] for name in names)
    assert first["dino_first"] is None and done["left_out"] == {"dino_first": "no DINO was given"}
    assert (first["copy_paste"], last["copy_paste"]) == (0, 1), "the painter copies its reference at gate 1"
    assert last["clip_i_reference"] > first["clip_i_reference"] and last["clip_i_within"] > last["clip_i_across"]
    assert done["data_itself"]["fid"] is None and done["data_itself"]["clip_t"] is not None
    assert painter.seeds[0.0] == painter.seeds[0.5] and len(set(painter.seeds[0.0])) == 4
    assert [row["complete"] for row in reports] == [False] * 3 + [True]
    assert [len(row["gate_curve"]) for row in reports] == [1, 2, 3, 3]
    assert ("gate 0.5", 4, 4) in stages


def test_what_cannot_be_measured_is_named_with_its_reason(tmp_path: Path, painter: Painter, clip: TextEmbedder) -> None:
    tmp_path.joinpath("one.png").write_bytes(png_bytes(picture(1)))
    tmp_path.joinpath("one.txt").write_text("a boat", "utf-8")
    measured = [evaluators.Copies(), evaluators.Clip(clip), evaluators.Distances(clip)]
    done = Measurement(painter, open_dataset(tmp_path), measured, gates=(1.0,)).run(lambda _: None, lambda *_: None)
    row, left_out = done["gate_curve"][0], done["left_out"]
    assert row["clip_t"] is not None and row["clip_i_target"] is not None
    for name in ("copy_paste", "clip_i_reference", "clip_i_first", "clip_i_within"):
        assert row[name] is None and left_out[name] == evaluators.NO_REFERENCES
    assert left_out["fid"] == evaluators.FEW and left_out["clip_i_across"] == evaluators.NO_STORIES
    text = report.markdown(done)
    assert "- fid, kid: it needs at least two pictures." in text and "CLIP-T" in text


def test_a_caption_that_is_too_long_is_left_out_and_named(tmp_path: Path, stories: Path, painter: Painter) -> None:
    folder = tmp_path / "tales"
    shutil.copytree(stories, folder)
    path = folder / "tales.jsonl"
    path.write_text(path.read_text("utf-8").replace("a boat", "a boat " * 200), "utf-8")
    done = Measurement(painter, open_dataset(folder), [], gates=(1,)).run(lambda _: None, lambda *_: None)
    assert done["captions_too_long"] == ["tales.jsonl:3"] and done["pictures"] == len(painter.seeds[1]) == 6
    said = "Captions longer than the decoder takes, which are not painted: tales.jsonl:3."
    assert said in report.markdown(done)
    many = report.markdown({**done, "captions_too_long": [f"a:{line}" for line in range(7)]})
    assert "not painted: a:0, a:1, a:2, a:3, a:4 and 2 more." in many
    path.write_text(path.read_text("utf-8").splitlines()[2], "utf-8")
    with pytest.raises(UserError, match="All captions are longer than the decoder takes") as caught:
        Measurement(painter, open_dataset(folder), [], gates=(1,)).run(lambda _: None, lambda *_: None)
    assert toys.one_sentence(caught.value)


@pytest.mark.parametrize("data", [True, False])
def test_an_output_that_cannot_be_written_is_found_before_anything_is_painted(
    tmp_path: Path, stories: Path, data: bool, monkeypatch, capsys
) -> None:
    def full(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(arguments, "TemporaryFile", full)
    monkeypatch.setattr(cli, "quiet_loading", lambda: None)
    monkeypatch.setattr(cli, "_module", lambda name: pytest.fail("the evaluation began"))
    given = ("--data", stories, "--split", "train") if data else ()
    assert run(*given, "--output", tmp_path / "report.json") == 2
    said = capsys.readouterr().err.splitlines()[-1].removeprefix("m3adapter: ")
    assert "--output: nothing can be written to" in said and "Read-only file system" in said and toys.one_sentence(said)


def test_replies_are_compared_with_what_was_said(stories: Path, clip: TextEmbedder) -> None:
    import random

    data = open_dataset(stories)
    samples = asked(data, 9, random.Random(1))
    assert sorted(sample.source for sample in samples) == [f"tales.jsonl:{line}" for line in (1, 2, 3)]
    assert all(sample.slot.segment in (0, 5) for sample in samples), "the last picture of a turn"

    class Chat:
        def write(self, conversation, seed):
            assert conversation.turns[-1].role == "user"
            sample = next(one for one in samples if one.conversation.turns[0] == conversation.turns[0])
            turn = sample.conversation.turns[-1]
            known = [Picture(part.caption) if isinstance(part, Picture) else part for part in turn.segments]
            return conversation.assistant([*known, Text("The end.")])

        def encode(self, conversation, slot):
            return conversation.picture(slot).caption

        def fuse(self, caption, gate):
            return caption, gate

        def paint_all(self, conditions, seeds):
            ((caption, gate),) = conditions
            found = next(data[i].picture.pixels for i in range(len(data)) if data[i].caption == caption)
            yield found if gate else torch.zeros(SIDE, SIDE, 3)

    replies = Replies(Chat(), data, 9, clip, 1, {})
    replies.asked = [sample for sample in samples if sample.source != "tales.jsonl:2"]  # its captions are those of 1
    said = []
    right = replies.measure(1.0, lambda *how: said.append(how))
    assert right == pytest.approx(clip.scale, rel=1e-4) and said == [(1, 2), (2, 2)]
    assert replies.measure(0.0, lambda *how: None) < right


# The report


def toy_report(**changes: object) -> dict:
    rows = [{"gate": gate, "clip_t": 0.2 + gate / 10, "fid": None, "new": 1.0} for gate in (0, 1, 2)]
    data = {"path": "tales", "kind": "messages", "split": "test"}
    return {
        "seed": 0, "data": data, "pictures": 3, "with_references": 2, "complete": True, "gate_curve": rows,
        "data_itself": {"clip_t": 0.5}, "evaluators": {"clip_i": "toy", "copies": None}, "left_out": {"fid": "few"},
        **changes,
    }  # fmt: skip


def test_the_table_has_a_row_for_each_figure() -> None:
    text = report.markdown(toy_report())
    assert "| CLIP-T: picture and caption ↑ | 0.2 | 0.3 | 0.4 | 0.5 |" in text and "| new | 1 | 1 | 1 | — |" in text
    assert "- fid: few." in text and "FID by" not in text and "stopped" not in text
    assert "stopped before its end" in report.markdown(toy_report(complete=False))


def test_the_plots_font_has_all_letters_of_its_titles() -> None:
    assert all(title.isascii() for title, _ in report.MEANINGS.values())


def test_the_plot_has_a_panel_for_each_figure() -> None:
    image = Image.open(io.BytesIO(report.plot(toy_report())))
    assert image.size == (2 * report.PANEL[0], report.PANEL[1])
    colours = {colour for _, colour in image.getcolors(2**20)}
    assert (0x1F, 0x6F, 0xB2) in colours and (0xC2, 0x57, 0x1A) in colours
    one = toy_report(gate_curve=[{"gate": 1.0, "clip_t": 0.0}], data_itself={})
    assert Image.open(io.BytesIO(report.plot(one))).size == report.PANEL


# The command


def run(*arguments: object) -> int:
    return main(["evaluate", *map(str, arguments)])


@pytest.fixture
def measured(monkeypatch, painter: Painter) -> Painter:
    """The command with a painter in place of the models."""
    monkeypatch.setattr(command, "_model", lambda options: painter)
    monkeypatch.setattr(cli, "quiet_loading", lambda: None)
    return painter


@pytest.mark.slow  # measures twice at every gate
def test_the_command_writes_a_report(tmp_path: Path, stories: Path, clip_folder: Path, measured, capsys) -> None:
    path = tmp_path / "new" / "report.json"
    how = ("--data", stories, "--split", "train", "--clip", clip_folder, "--pictures", 3, "--output", path)
    assert run(*how) == 0
    out, err = capsys.readouterr()
    assert out.split() == [str(path), str(path.with_suffix(".md")), str(path.with_suffix(".png"))]
    assert "tales (messages, train): " in err and "gate 1.5 (3)" in err
    found = json.loads(path.read_text("utf-8"))
    assert [row["gate"] for row in found["gate_curve"]] == list(evaluation.GATES) and found["complete"]
    assert found["left_out"]["dino_first"] == "no DINO was given (--dino)" and "mm_relevance" in found["left_out"]
    assert found["evaluators"]["clip_i"] == "toy-clip" and found["models"]["decoder"] == "starter/decoder"
    assert Image.open(path.with_suffix(".png")).format == "PNG"
    assert run(*how) == 0, "a report replaces an earlier one"
    assert json.loads(path.read_text("utf-8")) | {"seconds": 0} == found | {"seconds": 0}, "and is the same"


def test_a_measurement_that_is_stopped_keeps_its_gates(tmp_path: Path, stories: Path, measured, capsys) -> None:
    paint = measured.paint_all

    def stopped(conditions, seeds, **settings):
        if conditions[0][1] == 1:
            raise KeyboardInterrupt
        return paint(conditions, seeds, **settings)

    measured.paint_all = stopped
    path = tmp_path / "report.json"
    assert run("--data", stories, "--split", "train", "--gates", 1, 0, "--output", path) == 130
    found = json.loads(path.read_text("utf-8"))
    assert [row["gate"] for row in found["gate_curve"]] == [0] and not found["complete"]
    assert "stopped before its end" in path.with_suffix(".md").read_text("utf-8")


def test_a_missing_package_leaves_its_figures_out(
    tmp_path: Path, stories: Path, clip_folder: Path, measured, monkeypatch, capsys
) -> None:  # noqa: E501
    monkeypatch.setattr(command, "_missing", lambda package: package)
    how = ("--data", stories, "--split", "train", "--gates", 1, "--pictures", 2, "--output", tmp_path / "r.json")
    assert run(*how, "--clip", clip_folder) == 0
    assert "torchmetrics is missing" in json.loads((tmp_path / "r.json").read_text())["left_out"]["fid"]
    assert run(*how, "--features", clip_folder) == 2
    assert "install it with `pip install torchmetrics`" in capsys.readouterr().err


@pytest.mark.parametrize(("options", "said"), [
    (("--clip", "nowhere"), "There is no folder nowhere"),
    (("--dino", "{empty}"), "has no config.json"),
    (("--clip", "{broken}"), "cut off or not valid JSON"),
    (("--clip", "{dino}"), "holds no CLIP"),
    (("--lpips", "{text}"), "holds no weights that can be read"),
    (("--lpips", "nowhere.pth"), "There is no file nowhere.pth"),
    (("--gates", "5"), "gate is 5.0"),
    (("--gates", "nan"), "gate is nan"),
    (("--steps", "0"), "steps is 0"),
    (("--width", "-1"), "width is -1"),
    (("--pictures", "0"), "pictures is 0"),
    (("--replies", "2"), "give --clip as well"),
    (("--adapter", "nowhere.safetensors"), "There is no nowhere.safetensors"),
    (("--layout", "photos"), "The layout of the data set is 'photos'"),
    (("--split", "test"), "has no part for testing"),
    (("--sheet",), "Give either --sheet or --data"),
    (("--without", "gate"), "Give either --without or --data"),
    (("--device", "toaster"), "cannot be used here"),
    (("--data", "{text}/nowhere"), "There is no data set nowhere"),
    (("--data", "storybook", "--split", "train"), "give validation or test"),
    (("--data", "storybook", "--layout", "folder"), "has no layout"),
    (("--output", "{text}"), "already exists and is not a report"),
    (("--output", "{empty}"), "is a folder"),
    (("--output", "x.png"), "name it .json"),
])  # fmt: skip
def test_mistakes_are_one_sentence(tmp_path: Path, stories: Path, options, said: str, monkeypatch, capsys) -> None:
    from transformers import Dinov2Config, Dinov2Model

    monkeypatch.setattr(cli, "quiet_loading", lambda: None)
    monkeypatch.setattr(command, "_model", lambda options: pytest.fail("the models were loaded first"))
    places = {name: tmp_path / name for name in ("empty", "broken", "dino", "text")}
    for name in ("empty", "broken", "dino"):
        places[name].mkdir()
    places["broken"].joinpath("config.json").write_text("{", "utf-8")
    if "{dino}" in options:
        config = Dinov2Config(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=4)
        Dinov2Model(config).save_pretrained(places["dino"])
        save_preprocessor(places["dino"])
    places["broken"].joinpath("preprocessor_config.json").write_text("{}", "utf-8")
    places["text"].write_text("words", "utf-8")
    given = [option.format(**places) for option in options]
    usual = ["--output", tmp_path / "report.json", "--data", stories]
    if "--split" not in given:
        usual += ["--split", "train"]
    assert run(*usual, *given) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert said in err and toys.one_sentence(err.removeprefix("m3adapter: "))
    assert not (tmp_path / "report.json").exists()


def test_other_files_are_not_written_over(tmp_path: Path, stories: Path, capsys) -> None:
    tmp_path.joinpath("report.md").write_text("my notes", "utf-8")
    assert run("--data", stories, "--output", tmp_path / "report.json") == 2
    assert "report.md already exists and belongs to no report" in capsys.readouterr().err
    assert tmp_path.joinpath("report.md").read_text("utf-8") == "my notes"


def test_options_of_stories_need_data(tmp_path: Path, capsys) -> None:
    for option in (("--clip", tmp_path), ("--gates", 1), ("--batch-size", 2), ("--adapter", tmp_path)):
        assert run("--output", tmp_path / "report.json", *option) == 2
        assert f"{option[0]} belongs to an evaluation on stories: give --data as well" in capsys.readouterr().err
    assert run("--output", tmp_path / "report.json", "--split", "train") == 2


# A whole model


def test_the_features_are_those_of_painting(monkeypatch) -> None:
    """Beside what `M2Chat.encode` gives for a conversation whose earlier pictures are the references."""
    import standins
    from m3adapter.conversation.conversation import Conversation, Slot
    from m3adapter.conversation.references import Reference
    from m3adapter.datasets.sample import Sample

    model = standins.chat()
    model.vision_encoder = toys.vision_encoder()
    model.adapter = toys.adapter().requires_grad_(False)
    model.language_model.encode_slot = lambda *_, **__: toys.states(4, 6)
    shown = [Picture(f"the {word}", picture(number)) for number, word in enumerate(("first", "second", "third"))]
    conversation = Conversation().user("Go").assistant([*shown, Picture("a kite")])
    slot = Slot(1, 3)
    references = tuple(Reference(shown[place], 1.0) for place in (0, 2))
    sample = Sample(conversation, slot, Picture("a kite", picture(9)), references)
    expected, found = model.encode(conversation, slot), evaluation.features(model, sample)
    assert torch.equal(found.vision, expected.vision) and found.vision_weight is None
    weighted = replace(sample, references=(replace_weight(references[0], 2.0), references[1]))
    assert evaluation.features(model, weighted).vision_weight.tolist() == [[2.0, 1.0]]
    assert not evaluation.features(model, replace(sample, references=())).vision_mask.any()


def replace_weight(reference, weight: float):
    return reference._replace(weight=weight)


def test_models_that_do_not_fit_are_one_sentence(stories: Path, monkeypatch) -> None:
    def unfit(features, gate):
        raise ValueError("The M3-Adapter was made for a language model of width 24, and this one has 32: load another.")

    monkeypatch.setattr(evaluation, "features", lambda model, sample: sample)
    model = SimpleNamespace(fuse=unfit, decoder=Painter.decoder)
    with pytest.raises(UserError, match="of width 24"):
        Measurement(model, open_dataset(stories), []).run(lambda _: None, lambda *_: None)


def test_a_model_that_cannot_see_reads_the_words_beside_users_pictures() -> None:
    """As it does in training, and the report counts such samples."""
    import standins
    from m3adapter.conversation.conversation import Conversation, Slot
    from m3adapter.datasets.sample import Sample

    model = standins.chat()
    model.vision_encoder, model.adapter = toys.vision_encoder(), toys.adapter().requires_grad_(False)
    asked = Conversation().user("Paint it again.", [Picture("a toy", picture(1))])
    sample = Sample(asked.assistant([Picture("a fox")]), Slot(1, 0), Picture("a fox", picture(2)))
    model.language_model.encode_slot = lambda *_, visual=(): toys.states(4, 6 + len(visual))
    for sees, tokens, counted in (("not at all", 6, 1), ("projection", 7, 0)):
        model.language_model.sees = sees
        found = evaluation.features(model, sample)
        assert found.text.shape[1] == tokens
        assert evaluation.unseen(model, [sample]) == counted
