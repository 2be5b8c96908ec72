"""The picture book's figures: right pictures are right, wrong ones wrong, and each is measured on slots of its own."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import toys
from m3adapter.arguments import UserError
from m3adapter.cli.main import main
from m3adapter.evaluation import figure_psnr as psnr
from m3adapter.evaluation import picturebook as evaluation
from m3adapter.evaluation import picturebook_cases
from m3adapter.evaluation import picturebook_drawn as book
from m3adapter.evaluation.picturebook import Renders, figures, stranger, upper_bound
from m3adapter.evaluation.picturebook_bench import Bench
from m3adapter.evaluation.picturebook_cases import FORMS, HEAVY, Cases, changed
from m3adapter.evaluation.picturebook_scores import heros_look, looks_kept, named_looks, scores
from m3adapter.gate import GateSetting
from m3adapter.picturebook import foreign
from m3adapter.picturebook.dataset import Sample
from m3adapter.picturebook.judge import Judge, Verdict
from m3adapter.picturebook.labels import ACTOR_FIELDS, WHOLE_FIELDS, labels
from m3adapter.picturebook.reading import read
from m3adapter.picturebook.stories import teller
from m3adapter.picturebook.world import ACTIONS, LOOKS, MOODS, PLACES, PROPS, SPECIES, Scene
from m3adapter.training import starter as assembly
from m3adapter.weights.starter import STARTER, world_of


def seen(scenes: Sequence[Scene]) -> Verdict:
    """The verdict of a judge that sees these scenes."""
    truth = labels(scenes)
    actors = {name: truth[name].clamp(0, size - 1) for name, size in ACTOR_FIELDS.items()}  # the judge names a class
    presence = torch.zeros(len(scenes), len(SPECIES))
    for row, scene in enumerate(scenes):
        for actor in scene.characters:
            presence[row, SPECIES.index(actor.species)] = 0.9
    return Verdict(presence, actors, {name: truth[name] for name in WHOLE_FIELDS}, truth["props"])


class Sees:
    """A judge of pictures that are scenes themselves."""

    judge = staticmethod(seen)


class Scenes(Renders):
    """Paints scenes as they are; `wrong` makes another picture of them."""

    wrong: Callable[[Sample, Scene], Scene] = staticmethod(lambda sample, scene: scene)

    def draw(self, scene: Scene) -> Any:
        return scene

    def __call__(self, chosen: Sequence[Sample], gate: float) -> list[Any]:
        return [self.wrong(sample, scene) for sample, scene in zip(chosen, super().__call__(chosen, gate), strict=True)]


def painter(wrong: Callable[[Sample, Scene], Scene] | None = None) -> Scenes:
    found = Scenes(random.Random(1))
    if wrong is not None:
        found.wrong = wrong
    return found


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """All figures of pictures that are right."""
    return figures(Sees(), painter(), 0, 40)


@pytest.mark.slow
def test_right_pictures_are_right(report: dict[str, Any]) -> None:
    last = report["gate_curve"][-1]
    assert last == dict.fromkeys(last, 1.0)
    for name in ("species", "scene", "prop", "action", "mood", "caption_forms_worst", "named_pair_looks"):
        assert report[name] == 1.0, name
    for name in ("foreign_reference", "weighted_reference", "named_change"):
        assert report[name] == 1.0, name
    assert len(report["caption_forms"]) == 10 and report["newcomer_has_heros_look"] < 0.5


@pytest.mark.slow
def test_without_references_looks_are_chance_and_the_rest_is_right(report: dict[str, Any]) -> None:
    kept = [row["appearance_kept"] for row in report["gate_curve"]]
    assert kept[0] < 0.35 < kept[-1] and kept == sorted(kept)
    assert report["baselines"]["shuffled_reference"]["appearance_kept"] < 0.35
    first = report["gate_curve"][0]
    assert all(
        first[name] == 1.0 for name in ("species", "count", "scene", "light", "weather", "prop", "action", "mood")
    )
    blind = figures(Sees(), lambda chosen, gate: painter()(chosen, 0.0), 0, 20)
    for name in ("caption_forms_worst", "named_pair_looks", "foreign_reference", "weighted_reference"):
        assert blind[name] < 0.4, name
    assert blind["named_change"] == 1.0, "the caption says it"


def every(scene: Scene, **changes: Any) -> Scene:
    actors = []
    for actor in scene.characters:
        change = {name: value(getattr(actor, name)) for name, value in changes.items()}
        held = actor.held if change.get("action", actor.action) == "holds" else None
        change |= {"action": change.get("action", actor.action), "held": held}
        actors.append(replace(actor, **change))
    return replace(scene, characters=tuple(actors))


def next_of(items: Sequence[str]) -> Callable[[str], str]:
    return lambda value: items[(items.index(value) + 1) % len(items)]


def but_holding(value: str) -> str:
    others = [action for action in ACTIONS if action != "holds"]
    return others[(others.index(value) + 1) % len(others)] if value in others else "stands"


@pytest.mark.parametrize(
    ("figure", "wrong"),
    [
        ("species", lambda s, scene: every(scene, species=next_of(SPECIES))),
        ("scene", lambda s, scene: replace(scene, place=next_of(PLACES)(scene.place))),
        ("light", lambda s, scene: replace(scene, light="night" if scene.light == "day" else "day")),
        ("weather", lambda s, scene: replace(scene, weather="snow" if scene.weather != "snow" else "rain")),
        (
            "prop",
            lambda s, scene: replace(scene, props=(*scene.props, *(p for p in PROPS if p not in scene.props))[:9]),
        ),
        ("action", lambda s, scene: every(scene, action=but_holding)),
        ("mood", lambda s, scene: every(scene, mood=next_of(MOODS))),
        ("appearance_kept", lambda s, scene: every(scene, look=next_of(LOOKS))),
        ("accessory_kept", lambda s, scene: every(scene, accessory=lambda one: "hat" if one != "hat" else "glasses")),
        ("count", lambda s, scene: replace(scene, characters=scene.characters * 2)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_lowers_its_own_figure(figure: str, wrong: Callable[[Sample, Scene], Scene]) -> None:
    chosen = Cases(random.Random(5)).known(50)
    right = scores(chosen, seen(painter()(chosen, 1.0)))
    found = scores(
        chosen, seen([wrong(sample, scene) for sample, scene in zip(chosen, painter()(chosen, 1.0), strict=True)])
    )
    assert right[figure] == 1.0 and found[figure] <= 0.05
    carried = {
        "species": set(right) - {"scene", "light", "weather", "prop"},
        "count": {"count"},
        "action": {"action", "prop"},
    }
    assert {name for name in right if found[name] < right[name]} <= carried.get(figure, {figure})


def test_a_newcomer_in_the_heros_look_is_counted() -> None:
    chosen = Cases(random.Random(3)).newcomers(16)
    for sample in chosen:
        (new,) = sample.newcomers
        assert len(sample.who) == 2 and new not in sample.known and "look" in sample.known[1 - new]

    painted = painter()(chosen, 1.0)
    assert heros_look(chosen, seen(painted)) < 0.4
    heroes = [every(s, look=lambda _, one=sample: next(t["look"] for t in one.known.values() if "look" in t))
              for sample, s in zip(chosen, painted, strict=True)]  # fmt: skip
    assert heros_look(chosen, seen(heroes)) == 1.0


def test_slots_of_others_show_nobody_whom_the_references_show() -> None:
    for sample in Cases(random.Random(4)).others(20):
        shown = {who for reference in sample.references for who in reference.who}
        assert sample.references and not shown & {*sample.who} and not sample.known


def test_ten_forms_say_the_same_of_one_who_has_a_name() -> None:
    assert len(FORMS) == 10
    cases = Cases(random.Random(6))
    for sample in cases.forms(8):
        texts = {name: form(sample, cases.rng, "test") for name, form in FORMS.items()}
        assert len({*texts.values()}) >= 8, texts
        (name,), species = sample.names, sample.scene.characters[0].species
        for form, text in texts.items():
            alone = form == "name alone"
            assert read(text).species == ({} if alone else {species: 1}), text
            assert (name in text) == form.startswith("name")
            other = sample.recaptioned(text)
            assert other.known == sample.known and other.conversation.picture(other.slot).caption == text


@pytest.mark.slow
def test_pairs_with_names_are_shown_one_by_one_and_half_are_called_by_name_alone() -> None:
    chosen = Cases(random.Random(7)).named_pairs(8)
    for row, sample in enumerate(chosen):
        assert all(name in sample.caption for name in sample.names)
        assert bool(read(sample.caption).species) == (row % 2 == 0)
        assert [len(shown.who) for shown in sample.references] == [1, 1] and len(sample.known) == 2
    swapped = []
    for scene in (sample.painted for sample in chosen):
        one, other = scene.characters
        swapped.append(replace(scene, characters=(replace(one, look=other.look), replace(other, look=one.look))))
    differ = [sample.painted.characters[0].look != sample.painted.characters[1].look for sample in chosen]
    assert looks_kept(chosen, seen(swapped)) == round(1 - sum(differ) / 8, 4) < 1


def test_foreign_and_weighted_references_decide_and_are_of_no_training() -> None:
    cases = Cases(random.Random(8))
    strange = cases.foreign(12)
    assert {shown.style for sample in strange for shown in sample.references} == {*foreign.UNSEEN}
    assert not {*foreign.UNSEEN} & {*foreign.STYLES}
    assert all({*sample.known[0]} == {"look"} for sample in strange)
    heavy = cases.weighted(12)
    for sample in heavy:
        one, other = sorted(sample.references, key=lambda shown: shown.weight)
        assert (one.weight, other.weight) == (1, HEAVY) and one.scene.characters[0].look != sample.known[0]["look"]
    assert {sample.references[0].weight for sample in heavy} == {1, HEAVY}, "either may be the first"
    lighter = []
    for sample in heavy:
        light = min(sample.references, key=lambda shown: shown.weight).scene.characters[0].look
        lighter.append(every(sample.painted, look=lambda _, light=light: light))
    assert looks_kept(heavy, seen(lighter)) == 0.0


def test_a_named_change_must_be_painted() -> None:
    chosen = Cases(random.Random(9)).changes(12)
    assert all(changed(sample) for sample in chosen)
    assert named_looks(chosen, seen([sample.painted for sample in chosen])) == 1.0
    assert named_looks(chosen, seen([every(sample.painted, look=next_of(LOOKS)) for sample in chosen])) == 0.0


def test_slots_are_of_the_split_and_of_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: set[str] = set()

    def story(rng: random.Random, split: Any, **how: Any) -> Any:
        asked.add(split)
        return teller.story(rng, split, **how)

    monkeypatch.setattr(picturebook_cases, "story", story)
    one, other = (Cases(random.Random(1), "validation").known(6) for _ in range(2))
    assert one == other != Cases(random.Random(2), "validation").known(6) and asked == {"validation"}
    odd = stranger(one[0], one[1])
    assert odd.known == {} and len(odd.references) == len(one[1].references)


def test_the_upper_bound_has_every_figure_but_those_of_models(
    report: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation.Renders, "draw", lambda self, scene: scene)
    found = upper_bound(Sees(), 0, 8)
    assert found.keys() == report.keys() | {"story6_appearance"} and found["story6_appearance"] == 1.0


# Figures in decibels


def test_figures_are_compared_with_the_nearest_render_that_the_caption_allows() -> None:
    chosen = book.scenes(random.Random(0), 4)
    assert chosen == book.scenes(random.Random(0), 4)
    scene, text = next(pair for pair in chosen if len(pair[0].characters) == 1)
    assert {*read(text).species} == {scene.characters[0].species}
    among = book.renders(scene)
    assert 3 <= len(among) <= book.VARIANTS
    last = torch.from_numpy(among[-1][0].copy()).float() / 255
    assert psnr.nearest(last, among) > 70
    other = every(scene, look=next_of(LOOKS))
    wrong = torch.from_numpy(book.renders(other)[0][0].copy()).float() / 255
    assert psnr.nearest(wrong, among) < 22
    worn = (last + 0.1 * torch.randn(last.shape, generator=toys.generator())).clamp(0, 1)
    assert 18 < psnr.nearest(worn, among) < 24
    behind = last.clone()
    behind[~among[-1][1]] = 0.5
    assert psnr.nearest(behind, among) > 70, "only figures count"


def test_the_autoencoder_and_the_painter_are_measured_apart() -> None:
    drawn = [(text, book.renders(scene)) for scene, text in book.scenes(random.Random(0), 3)]
    found = psnr.figure_psnr(lambda images: images, None, drawn)
    assert found["autoencoder"] > 70 and found["painted"] is None
    grey = psnr.figure_psnr(torch.zeros_like, lambda texts: [torch.full((256, 256, 3), 0.5) for _ in texts], drawn)
    assert grey["autoencoder"] < 15 and grey["painted"] < 15


# The bench


class Chat:
    """In place of an M²Chat; only the adapter and the vision encoder are toys."""

    def __init__(self) -> None:
        self.adapter = toys.adapter().requires_grad_(False)
        self.vision_encoder = toys.vision_encoder()
        self.language_model = SimpleNamespace(encode_slot=lambda *_, visual: toys.states(4, 6))
        self.decoder = SimpleNamespace(decode=lambda condition, **how: torch.zeros(condition.batch, 256, 256, 3))

    def fuse(self, features: Any, gate: GateSetting) -> Any:
        return self.adapter(features, gate)


@pytest.mark.slow
def test_a_slot_is_painted_with_its_references_and_their_weights() -> None:
    bench = Bench(Chat(), random.Random(0))
    chosen = Cases(random.Random(8)).weighted(3)
    features = bench.features(chosen)
    assert features.vision_mask.tolist() == [[True, True]] * 3
    assert features.vision_weight.tolist() == [[shown.weight for shown in sample.references] for sample in chosen]
    plain = bench.features(Cases(random.Random(8)).known(3))
    assert plain.vision_weight is None
    pictures = bench(chosen, 1.0)
    assert len(pictures) == 3 and pictures[0].shape == (256, 256, 3)


def test_the_gate_is_measured_with_newcomers_among_the_known(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, counted = Bench(Chat(), random.Random(0)), []
    monkeypatch.setattr(bench, "features", lambda chosen: chosen)

    def fuse(chosen: list[Sample], gate: float) -> SimpleNamespace:
        known = torch.tensor([float(bool(sample.known)) for sample in chosen])
        counted.append((int(known.sum()), sum(bool(sample.newcomers and sample.known) for sample in chosen)))
        return SimpleNamespace(gate=known[:, None, None].expand(-1, 2, 2))

    monkeypatch.setattr(bench, "fuse", fuse)
    assert bench.gate_auc(Cases(random.Random(1)), 16) == 1.0
    assert counted[0][0] == 8 and counted[0][1] >= 4 and counted[1][0] == 0


# The command


def test_the_world_is_told_by_the_starter_or_by_the_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []
    for name in ("starter", "picturebook"):
        module = SimpleNamespace(evaluate=lambda name=name, **how: asked.append(name) or {"seed": 0})
        monkeypatch.setitem(__import__("sys").modules, f"m3adapter.evaluation.{name}", module)
    report = str(tmp_path / "report.json")
    assert world_of(STARTER) == "storybook"
    assert main(["evaluate", "--output", report]) == 0
    assert main(["evaluate", "--output", report, "--world", "picturebook"]) == 0
    monkeypatch.setattr("m3adapter.cli.main.check_weights", lambda folder: None)
    (tmp_path / "world.json").write_text(json.dumps({"world": "picturebook"}), "utf-8")
    assert main(["evaluate", "--output", report, "--starter", str(tmp_path)]) == 0
    assert main(["evaluate", "--output", report, "--starter", str(tmp_path), "--world", "storybook"]) == 0
    assert asked == ["starter", "picturebook", "picturebook", "starter"]


def test_a_starter_is_put_together_with_the_world_that_it_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(assembly, "read_parts", lambda args: None)
    monkeypatch.setattr(assembly, "put_together", lambda parts, folder: folder.mkdir())
    for name in ("language", "vision", "decoder"):
        (tmp_path / name).mkdir()
    (tmp_path / "adapter").write_bytes(b"")
    parts = [
        text for name in ("language", "vision", "decoder", "adapter") for text in (f"--{name}", str(tmp_path / name))
    ]
    for world in ("storybook", "picturebook"):
        assembly.main(["--output", str(tmp_path / world), *parts, "--world", world])
        assert world_of(tmp_path / world) == world
    assert not any((tmp_path / "storybook").iterdir()), "the shipped starter has no such file"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--world", "picturebook", "--sheet"], "on the storybook only"),
        (["--world", "picturebook", "--data", "storybook"], "Give either --world or --data"),
    ],
)
def test_what_is_measured_on_one_world_only_says_so(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["evaluate", "--output", str(tmp_path / "r.json"), *arguments]) != 0
    assert says in capsys.readouterr().err


def test_a_damaged_world_and_a_missing_judge_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "world.json").write_text(json.dumps({"world": "atlantis"}), "utf-8")
    with pytest.raises(ValueError, match="names no world that is known"):
        world_of(tmp_path)
    monkeypatch.setattr(evaluation, "Judge", SimpleNamespace(load=lambda: Judge.load(tmp_path / "judge.safetensors")))
    with pytest.raises(UserError, match="train judge --world picturebook"):
        evaluation.evaluate(starter=STARTER)
