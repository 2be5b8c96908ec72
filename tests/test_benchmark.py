"""The benchmark: how it times, what it reports, and that its measurements run. Nothing here is timed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import toy_llms
from comfy_server import ComfyServer
from m3adapter.benchmark import command, language, painting, real_size, report, rows, sessions, stories, training
from m3adapter.benchmark.rows import Bench, Group, NotHere, Row
from m3adapter.benchmark.timing import Figure, Side, figure, interleave, ratio
from m3adapter.cli import main as cli
from tools import comfy_rows, environment

# Goals are compared with these keys in the JSON: they do not change.
PROMISED = {
    "reply_turn20_over_turn2", "slot_turn20_tokens", "exchange_over_reread", "prompt_400_seconds",
    "panel100_over_panel8", "previews_over_none", "switches_8_panels", "sweep8_over_singles", "choose_262k_seconds",
    "gate_turn_over_picture", "story4_seconds", "session40_seconds", "session40_mb", "decoder_over_diffusers",
}  # fmt: skip


def keys(groups: tuple[Group, ...]) -> set[str]:
    return {row.key for group in groups for row in group.rows}


# Timing


def test_rounds_go_there_and_back_and_the_first_does_not_count() -> None:
    called: list[str] = []
    sides = {name: Side(lambda n, name=name: called.append(f"{name}{n}"), called.append) for name in "abc"}
    times = interleave(sides, 2, clock="CPU")
    assert [c for c in called if isinstance(c, str)] == ["c-1", "b-1", "a-1", "a0", "b0", "c0", "c1", "b1", "a1"]
    assert [c for c in called if isinstance(c, int)] == [-1] * 3 + [0] * 3 + [1] * 3
    assert {name: len(found) for name, found in times.items()} == dict.fromkeys("abc", 2)


def test_ratios_are_those_of_a_round() -> None:
    found = ratio({"one": [1.0, 6.0, 90.0], "other": [1.0, 2.0, 10.0]}, "one", "other")
    assert (found.value, found.spread, found.rounds) == (3.0, (2.0, 6.0), 3)
    assert found.sides == {"one": 6.0, "other": 2.0}
    assert figure([2.5]).spread == (2.5, 2.5)
    with pytest.raises(ValueError, match="no values"):
        figure([])


# The report


@pytest.mark.slow
def test_every_promised_row_is_there_and_one_that_cannot_run_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "installed_model", lambda: None)
    groups = command.library_groups()
    listed = [row.key for group in groups for row in group.rows] + [row.key for row in command.IN_COMFYUI]
    assert len(listed) == len(set(listed)) and set(listed) >= PROMISED
    assert keys(comfy_rows.GROUPS) == {row.key for row in command.IN_COMFYUI}

    wanted = ["gate_turn_over_picture", "choose_262k_seconds", "slot_turn20_tokens", "real_picture_seconds"]
    path = tmp_path / "new" / "report.json"
    assert cli.main(["bench", "--quick", "--rows", *wanted, "--output", str(path)]) == 0
    written = json.loads(path.read_text("utf-8"))
    assert written["machine"]["cores"] > 0 and written["machine"]["torch"] == torch.__version__
    assert set(written["rows"]) == set(wanted)
    chosen = written["rows"]["choose_262k_seconds"]
    assert chosen["spread"][0] <= chosen["value"] <= chosen["spread"][1] and chosen["value"] > 0
    for key, reason in {
        "gate_turn_over_picture": "it needs ComfyUI",
        "slot_turn20_tokens": "it needs a language model",
        "real_picture_seconds": "it needs a GPU",
    }.items():
        assert written["rows"][key]["value"] is None and reason in written["rows"][key]["reason"]
    printed = capsys.readouterr().out
    assert all(f"`{key}`" in printed for key in wanted) and printed.count("not measured:") == 3


def test_a_failed_measurement_does_not_take_the_others_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(bench: Bench) -> dict[str, Figure]:
        raise RuntimeError("too\nhot")

    groups = [
        Group((Row("bad", "a bad one"), Row("unwanted", "another")), fail),
        Group((Row("good", "a good one"),), lambda bench: {"good": Figure(2.0, (1.0, 3.0))}),
    ]
    found = command.measure(Bench(wanted=("bad", "good")), groups, lambda text: None)
    assert found == {"bad": "the measurement failed: RuntimeError: too hot", "good": Figure(2.0, (1.0, 3.0))}
    assert "too\nhot" in capsys.readouterr().err


def test_a_page_gets_the_table_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n{report.BEGIN}\nold\n{report.END}\nafter\n", "utf-8")
    row = Row("key", "a thing / another", goal=1.5)
    machine = {"processor": "P", "cores": 2, "instructions": "AVX2", "device": "cpu", "threads": 1, "commit": "c"}
    machine |= dict.fromkeys(("torch", "transformers", "diffusers"), "1")
    text = report.table([row], {"key": Figure(1.234567, (0.00001, 1200.4), 3, {"a thing": 2.0})}, machine, quick=True)
    report.write_table(page, text)
    written = page.read_text("utf-8")
    assert written.startswith("# Before\n") and written.endswith(f"{report.END}\nafter\n") and "old" not in written
    assert "| a thing / another | `key` | 1.23 ✓ | 0.00001 – 1,200 | ≤ 1.5 | CPU | a thing 2 |" in written
    assert report.BEGIN in (environment.REPO / "docs" / "benchmarks.md").read_text("utf-8")
    with pytest.raises(ValueError, match="no place for the table"):
        report.write_table(Path(__file__).with_name("engine.txt"), text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "fast"], "No row is called fast"),
        (["--threads", "0"], "threads is 0"),
        (["--language-model", "/nowhere/model.gguf"], "does not exist"),
        (["--output", "."], "is a folder"),
        (["--table", __file__], "has no place for the table"),
        (["--device", "toaster"], "cannot be used here"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", "--rows", "choose_over_sort", *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and not printed.out


# The measurements, in small


@pytest.mark.slow
def test_late_turns_of_a_model_that_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "NEW_TOKENS", 2)
    bench = Bench(quick=True, language_model=toy_llms.llama(tmp_path))
    found = language.late_turns(bench)
    assert set(found) == keys((language.LATE,))
    assert all(isinstance(one, Figure) and one.value > 0 for one in found.values())


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_story_of_twenty_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "NEW_TOKENS", 1)
    monkeypatch.setattr(Bench, "rounds", lambda *_: 1)
    found = language.turns(Bench(language_model=toy_llms.llama(tmp_path)))
    assert set(found) == keys((language.TURNS,))
    assert [*found["turns_1_to_20"].sides] == [f"turn {turn}" for turn in range(1, 21)]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_session_is_opened_in_a_process_of_its_own() -> None:
    found = sessions.sessions(Bench(quick=True), count=3, side=8)
    assert keys((sessions.SESSIONS,)) == set(found)
    assert found["session40_seconds"].value > 0


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_starters_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stories, "STEPS", 1)
    monkeypatch.setattr(stories, "LATE", 12)
    monkeypatch.setattr(Bench, "rounds", lambda *_: 1)
    bench = Bench(quick=True)
    found = {
        **painting.decoder(bench, steps=1),
        **painting.sweep(bench, steps=1),
        **painting.previews(bench, steps=1),
        **stories.panels(bench),
    }
    found |= {**stories.switches(bench), **language.prompts(bench)}
    assert set(found) == keys((*painting.GROUPS, *stories.GROUPS, language.PROMPTS))
    assert isinstance(found.pop("panels_1_to_100"), str)
    assert all(one.value > 0 for one in found.values())
    shares = [one.value for key, one in found.items() if key.endswith("_share")]
    assert sum(shares) == pytest.approx(100, abs=5)
    assert found["switches_8_panels"].sides["pictures"] >= 8 and found["switches_8_panels"].sides["turn by turn"] == 15


@pytest.mark.slow
def test_an_epoch_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SAMPLES", 4)
    monkeypatch.setattr(training, "BATCH", 2)
    monkeypatch.setattr(training, "ROUNDS", 1)
    bench = Bench(language_model=toy_llms.llama(tmp_path))
    found = training.epochs(bench)["second_epoch_over_first"]
    assert isinstance(found, Figure) and 0 < found.sides["second"] < found.sides["first"]
    with pytest.raises(NotHere, match="too long"):
        training.epochs(Bench(quick=True))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_the_rows_of_real_size(dtype: str) -> None:
    found = real_size.Parts(Bench(quick=True, dtype=dtype), toy=True).measure()
    assert set(found) == keys(real_size.GROUPS)
    assert found.pop("real_peak_gb") == "this device does not count its memory"
    assert all(one.value > 0 for one in found.values())
    assert torch.get_default_dtype() == torch.float32
    with pytest.raises(NotHere, match="GPU"):
        real_size.real_size(Bench())


def test_the_real_sizes_are_those_of_the_real_models() -> None:
    from diffusers import UNet2DConditionModel
    from transformers import LlamaConfig, LlamaForCausalLM

    parts = real_size.Parts(Bench(device="meta"))
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(parts.config("unet"))
        llama = LlamaForCausalLM(LlamaConfig(**real_size.LLAMA, tie_word_embeddings=False))
    billions = [sum(weight.numel() for weight in model.parameters()) / 1e9 for model in (unet, llama)]
    assert billions == pytest.approx([2.567, 8.030], abs=0.001)


@pytest.mark.exhaustive
def test_turning_the_gate_and_previews_in_comfyui(comfy: ComfyServer) -> None:
    turn = comfy_rows.SecondTurn(comfy, steps=2)
    gate, (previews, came) = comfy_rows.gate_rounds(turn, 1), comfy_rows.preview_rounds(turn, 1)
    assert [*gate] == ["whole turn", "picture alone", "gate turned, preview", "gate turned"]
    assert all(len(found) == 1 and found[0] > 0 for found in (*gate.values(), *previews.values()))
    assert came.keys() == {f"images by {name}" for name in previews}
