"""A language model that cannot see learns to, through a projection, and nothing else of it changes."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import drawn_pictures
import toy_llms
import toys
from m3adapter.adapter.auto import load_adapter
from m3adapter.adapter.vision_encoder import VisionEncoder
from m3adapter.arguments import UserError
from m3adapter.conversation.conversation import Conversation, Picture, Slot, Text
from m3adapter.conversation.pictures import upright
from m3adapter.diffusion.decoder import DiffusionDecoder
from m3adapter.language.auto import load_language_model
from m3adapter.language.config import LanguageModelConfig
from m3adapter.language.language_model import LanguageModel
from m3adapter.language.sampling import Sampling
from m3adapter.language.visual_projection import PROJECTION_NAME, VisualProjection
from m3adapter.pipeline import M2Chat
from m3adapter.training import m3ft_run
from m3adapter.training.m3ft_models import open_adapter, open_models
from m3adapter.training.memory import estimate
from m3adapter.training.models_at_work import Models
from m3adapter.training.recipe import Recipe
from m3adapter.training.sources import open_samples
from m3adapter.training.words import word_losses
from test_m3ft_recipe import curve, recipe_for

pytestmark = pytest.mark.slow
GREEDY = Sampling(do_sample=False, max_length=6)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with toy models, of which the language model cannot see, and pictures that users show it."""
    folder = tmp_path_factory.mktemp("parts")
    toys.save_decoder(folder)
    toys.vision_encoder().save_pretrained(folder / "vision")
    LanguageModelConfig().write(toy_llms.llama(folder / "llm"))  # without instructions, prompts are short
    drawn_pictures.save_shown(folder / "data", 24)
    return folder


def sight_recipe(parts: Path, output: Path, **changes: dict) -> Recipe:
    """A recipe of short stages, whose second one learns a projection."""
    values: dict[str, dict] = {
        "models": {"anchor": False},
        "data": {"options": {"held_out": 0.25}},
        "stage1": {"steps": 1, "settled": 0.0},
        "stage2": {"steps": 5, "projection": True},
    }
    return recipe_for(
        parts, output, **{table: {**values.get(table, {}), **changes.get(table, {})} for table in {**values, **changes}}
    )


@pytest.fixture(scope="module")
def opened(parts: Path) -> Models:
    """The models, opened once."""
    return open_models(sight_recipe(parts, parts))


@pytest.fixture(scope="module")
def run(opened: Models) -> Callable[..., Models]:
    """Run a recipe with models that are open already and an adapter of its own; returns them as they are then."""

    def start(recipe: Recipe, **how: Any) -> Models:
        adapter = open_adapter(recipe, opened.language, opened.vision, opened.decoder)
        models = replace(opened, adapter=adapter)
        m3ft_run.run_recipe(recipe, models=models, **how)
        return models

    return start


@pytest.fixture(scope="module")
def learned(parts: Path, tmp_path_factory: pytest.TempPathFactory, run: Callable[..., Models]) -> Path:
    """The output of a training that is long enough to see red and blue."""
    output = tmp_path_factory.mktemp("learned")
    recipe = sight_recipe(
        parts,
        output,
        stage2={"steps": 60, "batch": 4, "lr": 0.03, "warmup": 5, "denoise": 0.0},
        lora={"words": 5.0},
        run={"validate_every": 60, "validation_samples": 4},
    )
    run(recipe)
    return output


@pytest.fixture(scope="module")
def beside(parts: Path, learned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The language model's folder with the projection beside its files."""
    folder = shutil.copytree(parts / "llm", tmp_path_factory.mktemp("models") / "llm")
    shutil.copy(learned / PROJECTION_NAME, folder)
    return folder


COLOURS = ("red", "blue")


def shown(colour: str, number: int) -> Tensor:
    """A new picture of a shape of this colour."""
    return upright(drawn_pictures.drawn("ball", colour, "field", 48, random.Random(f"{colour}{number}")))


def weights(*models: nn.Module) -> list[dict[str, Tensor]]:
    return [{name: value.clone() for name, value in model.state_dict().items()} for model in models]


def lines(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "stage2_curve.jsonl").read_text("utf-8").splitlines()]


def test_what_the_picture_decides_is_learned_from_the_words(beside: Path, learned: Path, parts: Path) -> None:
    """On held-out pictures, and against the same ones exchanged."""
    words = [line["words"] for line in lines(learned) if "words" in line]
    assert words[-1] < words[0] - 1
    last = lines(learned)[-1]
    assert last["validation_words"] < last["validation_words_other"] - 0.1
    seeing, vision = load_language_model(beside), VisionEncoder.from_pretrained(parts / "vision")
    assert seeing.sees == "projection"
    features = {colour: vision.encode([shown(colour, number) for number in range(4)]).pooled for colour in COLOURS}
    for own, other in (COLOURS, COLOURS[::-1]):
        told = Conversation().user("Paint it.", [shown(own, 0)])
        told = told.assistant([Text(own), Picture(own)])
        sample: Any = type("Sample", (), {"conversation": told, "slot": Slot(1, 1)})
        with torch.no_grad():
            losses = {
                colour: sum(float(word_losses(seeing, [sample], [[one]])) for one in features[colour])
                for colour in COLOURS
            }
        assert losses[own] < losses[other] - 0.5


def test_nothing_but_the_second_stages_parameters_and_the_projection_changes(
    parts: Path, tmp_path: Path, opened: Models, run: Callable[..., Models]
) -> None:
    language = opened.language
    frozen = [language.model, opened.vision.model, opened.decoder.unet, opened.decoder.vae]
    frozen += [opened.decoder.text_encoder, opened.decoder.text_encoder_2]
    before, tokens = weights(*frozen), len(language.tokenizer)
    models = run(sight_recipe(parts, tmp_path))
    for model, values in zip(frozen, before, strict=True):
        assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    assert language.sees == "not at all" and len(language.tokenizer) == tokens == len(frozen[0].lm_head.weight)
    first, second = (load_adapter(tmp_path / f"adapter_stage{stage}.safetensors") for stage in (1, 2))
    stages = zip(first.state_dict().items(), second.state_dict().values(), strict=True)
    changed = {name for (name, value), other in stages if not torch.equal(value, other)}
    assert changed == second.stage2_parameters().keys()
    assert models.language.sees == "projection" and models.language.model is language.model
    saved = load_file(tmp_path / PROJECTION_NAME)
    assert saved.keys() == models.language.visual_projection.state_dict().keys()
    fresh = VisualProjection(toys.VISION_WIDTH, toy_llms.WIDTH).state_dict()
    assert {name: value.shape for name, value in saved.items()} == {name: v.shape for name, v in fresh.items()}


def test_words_without_pictures_are_those_of_the_blind_model(beside: Path, parts: Path) -> None:
    blind, seeing = load_language_model(parts / "llm"), load_language_model(beside)
    asked = Conversation().user("Paint a ball. <|picture|>")
    told = asked.assistant([Text("Red."), Picture("a red ball")])
    tokens = torch.randn(3, toy_llms.WIDTH, generator=toys.generator())
    replies = ["".join(model.reply(asked, sampling=Sampling(max_length=20), seed=3)) for model in (blind, seeing)]
    states = [model.encode_slot(told, Slot(1, 1), tokens) for model in (blind, seeing)]
    assert replies[0] == replies[1]
    assert torch.equal(states[0].context, states[1].context) and torch.equal(states[0].text, states[1].text)


def test_users_pictures_are_seen_in_chat_stories_and_slots(beside: Path, parts: Path, learned: Path) -> None:
    seeing = load_language_model(beside)
    model = M2Chat(
        seeing,
        VisionEncoder.from_pretrained(parts / "vision"),
        load_adapter(learned / "adapter_stage2.safetensors"),
        DiffusionDecoder.from_pretrained(parts / "decoder"),
    )
    said = []
    for colour in COLOURS:
        asked = Conversation().user("Paint it.", [shown(colour, 9)])
        done = model.turn(asked, steps=1, sampling=GREEDY)
        assert done.turns[1].role == "assistant"
        said.append(done.turns[1].text)
        told = model.story("Go on.", 1, start=done, steps=1, sampling=GREEDY)
        assert len(told.turns) == 4
        slot = Slot(1, 0)
        painted = asked.assistant([Picture("a ball")])
        said.append(model.encode(painted, slot).context)
    assert said[0] != said[2] and not torch.equal(said[1], said[3])
    unseen = seeing.encode_slot(painted, slot, model.adapter.image_tokens)
    assert unseen.context.isfinite().all(), "left out, a picture's token need not be in the model's table"


def test_a_gguf_file_sees_by_the_folder_of_its_name(learned: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    path = toy_llms.gguf_llama(tmp_path / "toy.gguf")
    assert load_language_model(path).sees == "not at all"
    (tmp_path / "toy").mkdir()
    shutil.copy(learned / PROJECTION_NAME, tmp_path / "toy")
    seeing = load_language_model(path)
    assert seeing.sees == "projection"
    asked = Conversation().user("Paint it.", [shown("red", 0)])
    replies = [
        "".join(seeing.reply(asked, visual=[torch.randn(4, toys.VISION_WIDTH) * 3], sampling=GREEDY)) for _ in range(4)
    ]
    assert len(set(replies)) > 1
    VisualProjection(toys.VISION_WIDTH, 8).save_pretrained(tmp_path / "toy")
    with pytest.raises(ValueError, match="visual_projection.safetensors in toy is not made for this model"):
        load_language_model(path)


def test_a_run_that_was_killed_goes_on_to_the_same_bits_and_shares_change_no_loss(
    parts: Path, tmp_path: Path, run: Callable[..., Models]
) -> None:
    def recipe(name: str, **stage2: int) -> Recipe:
        changes = {"options": {"held_out": 0.0}, "validation": ""}
        return sight_recipe(
            parts, tmp_path / name, data=changes, stage2={"steps": 4, "batch": 2, **stage2}, run={"save_every": 2}
        )

    run(recipe("whole"))
    place = random.Random(0).randrange(1, 4)

    def kill(name: str, done: int, steps: int, figures: object) -> None:
        if (name, done) == ("stage2", place):
            raise SystemExit  # nothing that a training could answer, like a signal

    with pytest.raises(SystemExit):
        run(recipe("killed"), on_step=kill)
    run(recipe("killed"))
    assert curve(tmp_path / "killed", 2) == curve(tmp_path / "whole", 2)
    for file in (PROJECTION_NAME, "adapter_stage2.safetensors"):
        one, other = (load_file(tmp_path / name / file) for name in ("whole", "killed"))
        assert all(torch.equal(value, other[name]) for name, value in one.items())
    run(recipe("cut", micro_batch=1))
    assert curve(tmp_path / "cut", 2) == pytest.approx(curve(tmp_path / "whole", 2), abs=1e-5)


def test_samples_without_users_pictures_are_read_once(
    parts: Path, tmp_path: Path, run: Callable[..., Models], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = drawn_pictures.save_shown(tmp_path / "data", 4)
    plain = drawn_pictures.save_stories(tmp_path / "plain", 2)
    with (data / "shown.jsonl").open("a", encoding="utf-8") as file:
        file.write((plain / "stories.jsonl").read_text("utf-8"))
    for path in plain.glob("*.png"):
        shutil.copy(path, data)
    read: list[bool] = []
    original = LanguageModel.encode_slots

    def counted(self: LanguageModel, requests: Any, tokens: Tensor) -> Any:
        read.extend(bool(visual) for _, _, visual in requests)
        return original(self, requests, tokens)

    monkeypatch.setattr(LanguageModel, "encode_slots", counted)
    changes = {"path": str(data), "validation": "", "options": {"held_out": 0.0}}
    recipe = sight_recipe(parts, tmp_path / "out", data=changes, run={"cache": str(tmp_path / "cache")})
    run(recipe)
    samples, _ = open_samples(recipe, 2)
    different = {samples[index].words_key for index in range(len(samples))}
    assert read.count(False) == len(different), "once in stage 1, which sees nothing, and not again in stage 2"
    assert read.count(True) >= 4


def test_a_lora_may_learn_with_it(parts: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    m3ft_run.run_recipe(sight_recipe(parts, tmp_path, lora={"rank": 2}, stage2={"steps": 2, "lr": 0.01}))
    seeing = load_language_model(tmp_path / "language_model")
    assert seeing.sees == "projection"
    saved = load_file(tmp_path / PROJECTION_NAME)
    assert all(torch.equal(value, saved[name]) for name, value in seeing.visual_projection.state_dict().items())
    assert all("words" in line for line in lines(tmp_path) if "loss" in line)


def test_where_gradients_flow_through_the_language_model_it_stays_where_it_works() -> None:
    moved: list[str] = []

    class Part(nn.Linear):
        def __init__(self, name: str) -> None:
            super().__init__(1, 1, device="meta")
            self.name = name

        def to(self, where: Any) -> Any:  # type: ignore[override]
            moved.append(f"{self.name} to {where}")
            return self

    language: Any = type("Language", (), {"movable": True, "forget": lambda self: None})()
    language.model, language.visual_projection = Part("language"), None
    decoder: Any = type("Decoder", (), {name: None for name in ("text_encoder", "text_encoder_2", "vae")})()
    decoder.unet = Part("unet")
    vision: Any = type("Vision", (), {"model": Part("vision")})()
    models = Models(language, vision, decoder, None, torch.device("cuda"), None, offload=True)  # type: ignore[arg-type]
    models.at_work("unet")
    assert "language to cpu" in moved and "unet to cuda" in moved
    moved.clear()
    models.taught = True
    models.at_work("unet")
    assert "language to cpu" not in moved and "vision to cpu" in moved


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stage1": {"projection": True}}, "stage1.projection is true"),
        ({"data": {"path": "plain"}}, "no user shows a picture"),
        ({"models": {"language": "seeing"}}, "sees users' pictures already, through its visual_projection.safetensors"),
        ({"models": {"language": "natively"}}, "sees users' pictures already, itself"),
        ({"models": {"language": "other"}}, "has 9 as picture_length: set it to 4"),
    ],
)
def test_what_a_projection_does_not_go_with_is_refused_before_stage_1(
    parts: Path, beside: Path, tmp_path: Path, changes: dict, says: str
) -> None:
    if "data" in changes:
        changes = {"data": {"path": str(drawn_pictures.save_stories(tmp_path / "plain", 2))}}
    if "models" in changes:
        kind = changes["models"]["language"]
        made = beside if kind == "seeing" else tmp_path / kind
        if kind == "natively":
            toy_llms.qwen2_5_vl(made)
        elif kind == "other":
            LanguageModelConfig(picture_length=9).write(shutil.copytree(parts / "llm", made))
        changes = {"models": {"language": str(made)}}
    with pytest.raises(UserError) as caught:
        m3ft_run.run_recipe(sight_recipe(parts, tmp_path / "out", **changes))
    assert says in str(caught.value) and toys.one_sentence(caught.value)
    assert not (tmp_path / "out" / "stage1.pt").exists()


def test_memory_is_counted_for_gradients_through_both_models(parts: Path, tmp_path: Path) -> None:
    def total(projection: bool, offload: bool) -> int:
        recipe = sight_recipe(parts, tmp_path, stage2={"projection": projection}, run={"offload": offload})
        need = estimate(recipe, cpu=True)
        assert need is not None
        return need.total

    assert total(True, False) > total(False, False) and total(True, True) > total(False, True)
