"""The report's figures: what counts as right, which stories they are measured on, and that nothing goes on for ever."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import toys
from m3adapter.adapter.features import SlotFeatures
from m3adapter.cli.main import main
from m3adapter.conversation.conversation import Conversation, Picture, Text
from m3adapter.diffusion.condition import Condition
from m3adapter.evaluation import character_sheet
from m3adapter.evaluation import ip_adapter as ip_evaluation
from m3adapter.evaluation import starter as evaluation
from m3adapter.evaluation import storybook_more as more
from m3adapter.evaluation.figures import mean
from m3adapter.evaluation.starter import ABLATIONS, Bench
from m3adapter.gate import GateSetting
from m3adapter.picturebook.stories import ordinary
from m3adapter.pipeline import M2Chat
from m3adapter.storybook import stories
from m3adapter.storybook.dataset import Sample
from m3adapter.storybook.judge import Judge, Verdict
from m3adapter.storybook.world import LIGHTS, LOOKS, PLACES, PROPS, SPECIES, WEATHERS, Character, Scene

pytestmark = pytest.mark.slow

FOX, OWL = Character("fox", "blue"), Character("owl", "red")


def verdict(scenes: Sequence[Scene]) -> Verdict:
    """The verdict of a judge that sees these scenes."""
    presence = torch.zeros(len(scenes), len(SPECIES))
    looks = torch.zeros(len(scenes), len(SPECIES), dtype=torch.long)
    for row, scene in enumerate(scenes):
        for actor in scene.characters:
            presence[row, SPECIES.index(actor.species)] = 0.9
            looks[row, SPECIES.index(actor.species)] = LOOKS.index(actor.look)
    return Verdict(
        presence,
        looks,
        torch.tensor([PLACES.index(scene.place) for scene in scenes]),
        torch.tensor([PROPS.index(scene.prop) if scene.prop else len(PROPS) for scene in scenes]),
        torch.tensor([LIGHTS.index(scene.light) for scene in scenes]),
        torch.tensor([WEATHERS.index(scene.weather) for scene in scenes]),
    )


def sample(scene: Scene, references: Sequence[Scene], **what: object) -> Sample:
    values = {"task": "same", "known": (), "named": (), "user_scenes": (), "caption": "", **what}
    return Sample(conversation=Conversation(), slot=(1, 1), scene=scene, references=tuple(references), **values)


class Chat:
    """In place of the language model and the decoder; the rest is toys.

    Args:
        reply: What it replies to a conversation, as a turn's segments.
    """

    def __init__(self, reply: Callable[[Conversation], Sequence[Text | Picture]] = lambda _: ()) -> None:
        self.reply = reply
        self.adapter = toys.adapter().requires_grad_(False)
        self.vision_encoder = toys.vision_encoder()
        self.language_model = SimpleNamespace(encode_slot=self.encode_slot)
        self.decoder = SimpleNamespace(decode=self.decode)
        self.asked: list[Conversation] = []
        self.seeds: list[int] = []
        self.visuals: list[int] = []

    def encode_slot(self, conversation: Conversation, slot: object, image_tokens: torch.Tensor, *, visual: list):
        self.visuals.append(len(visual))
        return toys.states(4, 6, seed=len(conversation.turns))

    def decode(self, condition: Condition, *, seed: list[int], **how: object) -> torch.Tensor:
        self.seeds += seed
        return torch.zeros(condition.batch, 128, 128, 3)

    def fuse(self, features: SlotFeatures, gate: GateSetting | float) -> Condition:
        return self.adapter(features, gate if isinstance(gate, GateSetting) else GateSetting(gate))

    def encode(self, conversation: Conversation, slot: object) -> SlotFeatures:
        return SlotFeatures.collate([(toys.states(4, 6), None)])

    def write(self, conversation: Conversation, **how: object) -> Conversation:
        self.asked.append(conversation)
        return conversation.assistant(self.reply(conversation))


def bench(chat: Chat | None = None, judge: object = None, seed: str = "x") -> Bench:
    return Bench(chat or Chat(), judge, random.Random(seed), 0)


# What counts as right


def test_mean() -> None:
    assert mean([True, False, False]) == 0.3333
    assert mean([]) == 0


def test_names_in_a_text() -> None:
    said = 'The Fox\'s kite flew over the CASTLE; "owl," said the cat-bear. A foxglove!'
    assert evaluation._named(said) == {"fox", "castle", "owl", "cat", "bear"}


def test_a_picture_is_scored_by_what_it_should_show() -> None:
    scene = Scene((FOX, OWL), "kite", "forest")
    chosen = [sample(scene, [scene], known=(0, 1)), sample(Scene((FOX,), None, "camp"), [scene], known=(0,))]
    right = [one.scene for one in chosen]
    assert bench().scores(chosen, verdict(right)) == {
        "species": 1.0, "scene": 1.0, "prop": 1.0, "appearance_kept": 1.0,
    }  # fmt: skip
    wrong = [replace(scene, characters=(FOX, Character("cat", "red")), prop=None), replace(right[1], place="city")]
    scores = bench().scores(chosen, verdict(wrong))
    assert scores["species"] == scores["scene"] == 0.5
    assert scores["prop"] == 0.0, "a picture that has none is not asked for it"
    recoloured = [replace(scene, characters=(Character("fox", "pink"), OWL)), right[1]]
    assert bench().scores(chosen, verdict(recoloured))["appearance_kept"] == 0.6667


def test_the_reference_decides_what_an_appearance_is() -> None:
    shown = Scene((Character("fox", "pink"),), None, "beach")
    chosen = [sample(Scene((FOX,), None, "camp"), [shown], known=(0,))]
    assert bench().scores(chosen, verdict([Scene((FOX,), None, "camp")]))["appearance_kept"] == 0
    assert bench().scores(chosen, verdict([replace(shown, place="camp")]))["appearance_kept"] == 1


# Slots


def test_slots_are_of_the_test_stories_and_of_the_seed(monkeypatch) -> None:
    splits: list[str] = []

    def story(rng: random.Random, split: str, **how: object) -> stories.Story:
        splits.append(split)
        return stories.story(rng, split, **how)

    monkeypatch.setattr(evaluation, "story", story)
    chosen = bench().slots(12, lambda one: bool(one.known))
    assert len(chosen) == 12 and all(one.known for one in chosen)
    assert len(splits) >= 12 and set(splits) == {"test"}, "one picture of a story"
    assert bench().slots(12, lambda one: bool(one.known)) == chosen
    assert bench(seed="y").slots(12, lambda one: bool(one.known)) != chosen
    splits.clear()
    assert replace(bench(), split="validation").slots(12, lambda one: bool(one.known)) != chosen
    assert set(splits) == {"validation"}


def test_features_of_slots() -> None:
    scene = Scene((FOX,), None, "camp")
    chat = Chat()
    chosen = [sample(scene, []), sample(scene, [scene], user_scenes=(scene,)), sample(scene, [scene, scene])]
    features = bench(chat).features(chosen)
    assert features.vision_mask.sum(1).tolist() == [0, 1, 2]
    assert chat.visuals == [0, 1, 0]
    assert not features.vision.requires_grad


def test_every_picture_has_a_seed_of_its_own() -> None:
    chat = Chat()
    images = bench(chat).paint(toys.condition(evaluation.BATCH + 3))
    assert len(images) == len(set(chat.seeds)) == evaluation.BATCH + 3
    again = Chat()
    bench(again).paint(toys.condition(evaluation.BATCH + 3))
    assert again.seeds == chat.seeds


# Figures


def gates_of(monkeypatch, same: Sequence[float], other: Sequence[float]) -> Bench:
    """A bench on which slots of the task "same" have these gates, and those of "other" those."""
    one = bench()
    gates = {"same": torch.tensor(same), "other": torch.tensor(other)}
    monkeypatch.setattr(one, "features", lambda chosen: chosen)

    def fuse(chosen: list[Sample], gate: GateSetting) -> SimpleNamespace:
        assert gate.strength == 1 and len({sample.task for sample in chosen}) == 1
        for sample in chosen:
            assert bool(sample.known) == (sample.task == "same") and sample.references
        spread = torch.tensor([[-0.01, 0.01], [0.02, -0.02]])  # over tokens and channels: the mean counts
        return SimpleNamespace(gate=gates[chosen[0].task][: len(chosen), None, None] + spread)

    one.model.fuse = fuse
    return one


@pytest.mark.parametrize(
    ("same", "other", "expected"),
    [
        ([0.8, 0.9], [0.1, 0.2], 1.0),
        ([0.1, 0.2], [0.8, 0.9], 0.0),
        ([0.5, 0.5], [0.5, 0.5], 0.5),
        ([0.1, 0.9], [0.5, 0.5], 0.5),
        ([0.5, 0.9], [0.1, 0.5], 0.875),
    ],
)
def test_the_gates_area_under_the_curve(monkeypatch, same, other, expected) -> None:
    assert gates_of(monkeypatch, same, other).gate_auc(4) == expected


def test_what_an_ablation_does_without() -> None:
    features = toys.slot_features()
    adapter = toys.adapter().requires_grad_(False)
    settings = {
        None: GateSetting(0.5),
        "gate": GateSetting(0.5, mode="fixed", value=1.0),
        "low-level": GateSetting(0.0),
    }
    found = []
    for without, setting in settings.items():
        one = replace(bench(), setting=ABLATIONS.get(without, GateSetting()))
        found.append(one.fuse(features, 0.5).embeds)
        assert torch.equal(found[-1], adapter(features, setting).embeds)
    assert torch.equal(found[2], adapter(features.without_references()).embeds)
    assert not torch.equal(found[0], found[1])


class Seeing:
    """A judge that sees what `told` says of the pictures it is shown."""

    def __init__(self, told: Callable[[int], list[Scene]]) -> None:
        self.told = told

    def judge(self, images: Sequence[torch.Tensor]) -> Verdict:
        return verdict(self.told(len(images)))


def test_a_named_change_must_be_painted(monkeypatch) -> None:
    chosen: list[Sample] = []
    one = bench()
    monkeypatch.setattr(one, "features", lambda found: chosen.extend(found) or toys.slot_features([1] * len(found)))
    one.judge = Seeing(lambda count: [sample.scene for sample in chosen])
    assert one.named_change(6) == 1.0
    for found in chosen:
        assert found.task == "change" and found.named
        assert any(found.shown(i) and found.shown(i).look != found.scene.characters[i].look for i in found.named)

    def unchanged(count: int) -> list[Scene]:
        """Half of the pictures show the characters as the references do."""
        scenes = []
        for row, found in enumerate(chosen):
            actors = [found.shown(i) or actor for i, actor in enumerate(found.scene.characters)]
            scenes.append(replace(found.scene, characters=tuple(actors)) if row % 2 else found.scene)
        return scenes

    chosen.clear()
    one.judge = Seeing(unchanged)
    assert one.named_change(6) == 0.5


def test_the_gate_curve_has_a_row_for_every_gate(monkeypatch) -> None:
    one = bench(judge=Seeing(lambda count: [Scene((FOX,), None, "camp")] * count))
    seen: list[tuple[float, torch.Tensor]] = []
    fuse = one.model.fuse
    one.model.fuse = lambda features, gate: seen.append((gate.strength, features.vision)) or fuse(features, gate)
    report = one.gate_curve(3)
    assert [row["gate"] for row in report["gate_curve"]] == list(evaluation.GATES)
    assert report["baselines"].keys() == {"shuffled_reference"}
    assert [strength for strength, _ in seen] == [*evaluation.GATES, 1.0]
    assert torch.equal(seen[-1][1], seen[0][1].roll(1, 0)), "each slot sees another's references"
    figures = {"species", "scene", "prop", "appearance_kept"}
    assert all(row.keys() == {"gate", *figures} for row in report["gate_curve"])
    assert report["baselines"]["shuffled_reference"].keys() == figures


# Long stories and replies


def panel(caption: str) -> list[Text | Picture]:
    return [Text("And then."), Picture(caption)]


def test_long_stories_compare_the_first_picture_with_the_last() -> None:
    for last, expected in ((FOX, 1.0), (Character("fox", "pink"), 0.0)):
        scenes = [Scene((FOX,), None, "camp"), Scene((last,), None, "city")]
        chat = Chat(lambda conversation: panel("a fox in the forest"))
        assert bench(chat, Seeing(lambda count, scenes=scenes: scenes)).long_stories(2, panels=3) == expected
        assert [len(asked.turns) for asked in chat.asked] == [1, 3, 5] * 2
        assert len(chat.seeds) == 6


@pytest.mark.parametrize(
    "reply",
    [
        lambda conversation: [Text("No picture.")],
        lambda conversation: panel("an owl" if len(conversation.turns) > 1 else "a fox"),
        lambda conversation: panel("nobody"),
    ],
)
def test_stories_that_cannot_be_compared_do_not_go_on_for_ever(reply: Callable) -> None:
    chat = Chat(reply)
    assert bench(chat, Seeing(lambda count: [])).long_stories(2, panels=2) == 0
    assert 2 < len(chat.asked) <= 2 * 2 * evaluation.TRIES


def test_replies_are_asked_of_unfinished_test_stories(monkeypatch) -> None:
    told: list[stories.Story] = []

    def story(rng: random.Random, split: str) -> stories.Story:
        assert split == "test"
        found = ordinary.story(rng, split)
        while wished and any(bool(exchange.panels) != (wished == "pictures") for exchange in found.exchanges):
            found = ordinary.story(rng, split)
        told.append(found)
        return found

    wished = ""
    monkeypatch.setattr(evaluation, "ordinary", story)

    def right(conversation: Conversation) -> list[Text | Picture]:
        """What the story itself tells, or answers."""
        asked = told[-1].exchanges[sum(turn.role == "user" for turn in conversation.turns) - 1]
        assert conversation.turns[-1].text == asked.message
        assert all(not picture.is_open for _, picture in conversation._pictures())
        panels = [s for p in asked.panels for s in (Text(p.text), Picture(p.caption))]
        return panels or [Text(asked.answer)]

    assert bench(Chat(right)).replies(25) == {"replies_parse": 1.0, "captions_match": 1.0}
    assert {bool(exchange.panels) for each in told for exchange in each.exchanges} == {True, False}
    wished = "answers"
    chatty = bench(Chat(lambda conversation: [Text("A fox on the beach."), Picture("a fox on the beach")])).replies(5)
    assert chatty == {"replies_parse": 0.0, "captions_match": 1.0}, "there is nothing to be painted"
    wished = "pictures"
    lazy = bench(Chat(lambda conversation: [Text("Once upon a time.")])).replies(5)
    assert lazy == {"replies_parse": 0.0, "captions_match": 0.0}
    stranger = bench(Chat(lambda conversation: [s for p in right(conversation)[1::2] for s in (Text("Well."), p)]))
    assert stranger.replies(5) == {"replies_parse": 1.0, "captions_match": 0.0}
    empty = bench(Chat(lambda conversation: [replace(s, caption="") if isinstance(s, Picture) else s
                                             for s in right(conversation)]))  # fmt: skip
    assert empty.replies(5) == {"replies_parse": 0.0, "captions_match": 0.0}


# Newcomers, forms of captions, names, foreign and weighted references


def judged(monkeypatch, paint: Callable[[Sample], Scene]) -> tuple[Bench, list[Sample], list[SlotFeatures]]:
    """A bench whose judge sees what `paint` makes of its slots, the slots, and the features that were painted."""
    one, chosen, painted = bench(), [], []
    original = one.features

    def features(found: list[Sample], *shown: object) -> SlotFeatures:
        chosen[:] = found
        return original(found, *shown)

    monkeypatch.setattr(one, "features", features)
    fuse = one.model.fuse
    one.model.fuse = lambda given, gate: painted.append(given) or fuse(given, gate)
    one.judge = Seeing(lambda count: [paint(found) for found in chosen])
    return one, chosen, painted


def as_shown(found: Sample) -> Scene:
    """What a slot should show: known characters as the oldest reference does."""
    actors = [found.shown(i) if i in found.known else actor for i, actor in enumerate(found.scene.characters)]
    return replace(found.scene, characters=tuple(actors))


def of_the_hero(found: Sample) -> Scene:
    """Everybody in the look of the first known character."""
    look = found.shown(found.known[0]).look
    return replace(found.scene, characters=tuple(replace(actor, look=look) for actor in found.scene.characters))


def recoloured(found: Sample) -> Scene:
    right = as_shown(found)
    other = {look: LOOKS[number - 1] for number, look in enumerate(LOOKS)}
    return replace(right, characters=tuple(replace(actor, look=other[actor.look]) for actor in right.characters))


def test_more_figures_are_full_of_right_pictures_and_empty_of_wrong_ones(monkeypatch) -> None:
    for paint, expected in ((as_shown, 1.0), (recoloured, 0.0)):
        one, chosen, painted = judged(monkeypatch, paint)
        forms = more.caption_forms(one, 4)
        assert forms == dict.fromkeys(more.FORMS, expected) and len(forms) == 10
        assert more.foreign_reference(one, 4) == expected
        assert not any(torch.equal(painted[-1].vision[0], features.vision[0]) for features in painted[:-1])
        pairs = [more.named(one.rng, found) for found in one.slots(3, more._both_known)]
        assert more.kept(pairs, one.verdict(one.features(pairs), 1.0)) == expected
    one, chosen, painted = judged(monkeypatch, of_the_hero)
    assert more.newcomers(one, 4) == 1.0
    assert all(found.shown(1 - found.known[0]) is None for found in chosen)


def test_the_heavier_of_two_references_decides(monkeypatch) -> None:
    def heavier(found: Sample) -> Scene:
        weights = painted[-1].vision_weight[chosen.index(found)].tolist()
        return replace(found.scene, characters=found.references[weights.index(max(weights))].characters)

    def lighter(found: Sample) -> Scene:
        weights = painted[-1].vision_weight[chosen.index(found)].tolist()
        return replace(found.scene, characters=found.references[weights.index(min(weights))].characters)

    for paint, expected in ((heavier, 1.0), (lighter, 0.0)):
        one, chosen, painted = judged(monkeypatch, paint)
        assert more.weighted(one, 8) == expected
        assert {max(weights) for weights in painted[-1].vision_weight.tolist()} == {more.HEAVY}


def test_names_are_given_by_the_user_and_stand_in_the_caption() -> None:
    for alone in (False, True):
        for found in bench().slots(4, more._both_known):
            given = more.named(random.Random(1), found, alone=alone)
            said = given.conversation.turns[given.slot.turn - 1].text
            for actor in found.scene.characters:
                name = re.search(rf"The {actor.species} is called (\w+)\.", said)[1]
                assert (f"{name} the {actor.species}" in given.caption) == (not alone) and name in given.caption
            assert given.conversation.picture(given.slot).caption == given.caption


def test_figures_that_are_measured_have_a_render_for_each_side() -> None:
    found = more.drawn(3)
    assert found[0][0] == more.drawn(3)[0][0] != more.drawn(4)[0][0] and len(found) == more.SCENES
    for text, among in found:
        alone = " and " not in text
        assert len(among) == 1 + alone and all(figures.any() for _, figures in among)
        assert any(look in text for look in LOOKS)


# The report


def test_the_report(monkeypatch, capsys) -> None:
    folders: list[tuple[Path, str, torch.dtype]] = []

    def from_pretrained(folder: Path, *, device: str, dtype: torch.dtype) -> Chat:
        folders.append((folder, device, dtype))
        return Chat()

    monkeypatch.setattr(M2Chat, "from_pretrained", from_pretrained)
    monkeypatch.setattr(Judge, "load", lambda: Seeing(lambda count: [Scene((FOX,), None, "camp")] * count))
    monkeypatch.setattr(evaluation, "judge_accuracy", lambda judge, count, seed: {"species": 1.0})
    monkeypatch.setattr(evaluation, "autoencoder", lambda model, count, seed: 30.0)
    monkeypatch.setattr(Bench, "long_stories", lambda bench, count: 0.5)
    monkeypatch.setattr(evaluation, "psnr_of_model", lambda model, paint, drawn: {"painted": float(len(drawn))})
    for name in ("newcomers", "foreign_reference", "weighted"):
        monkeypatch.setattr(more, name, lambda bench, count: bench.rng.random())
    monkeypatch.setattr(more, "caption_forms", lambda bench, count: {"plain": 0.75, "large": bench.rng.random() / 2})
    monkeypatch.setattr(more, "kept", lambda chosen, verdict: len(chosen) / 100)
    asked = {"starter": Path("weights"), "seed": 3, "device": "cpu", "pictures": 2}
    report = evaluation.evaluate(**asked)
    assert folders == [(Path("weights"), "cpu", torch.float32)]
    assert report.keys() == {
        "pictures", "seed", "dtype", "steps", "guidance", "judge", "vae_psnr", "gate_curve", "baselines", "gate_auc",
        "named_change", "story6_appearance", "replies_parse", "captions_match", "messages_right",
        "messages_right_by_kind", "newcomer_has_heros_look", "caption_forms", "caption_forms_worst",
        "named_pair_looks", "foreign_reference", "weighted_reference", "figure_psnr", "seconds",
    }  # fmt: skip
    assert (report["pictures"], report["seed"]) == (2, 3)
    assert report["figure_psnr"] == {"painted": 24.0}
    assert report["caption_forms_worst"] == report["caption_forms"]["large"] < 0.5 and report["named_pair_looks"] == 0.2
    assert len(capsys.readouterr().out.splitlines()) == len(evaluation.GATES)
    again = evaluation.evaluate(**asked)
    assert {**again, "seconds": 0} == {**report, "seconds": 0}, "a seed means the same figures"
    capsys.readouterr()
    monkeypatch.setattr(evaluation.messages, "MESSAGES", Path("nowhere/messages.jsonl"))
    installed = evaluation.evaluate(**asked)  # without the repository
    left_out = {"messages_right": None, "messages_right_by_kind": None}
    assert {**installed, "seconds": 0} == {**report, **left_out, "seconds": 0}
    assert "messages_right is left out" in capsys.readouterr().out


def test_a_sheet_says_what_the_oldest_references_show_beside_the_gate(tmp_path: Path, monkeypatch) -> None:
    now, before = (Scene((character,), None, "beach") for character in (Character("fox", "green"), FOX))
    (character,) = character_sheet.sheet(sample(now, [before, now]))
    assert (character.name, character.looks) == ("fox", "blue")
    assert character_sheet.sheet(sample(now, [])) == []
    described: list[list[str]] = []
    original = M2Chat.encode_text
    monkeypatch.setattr(
        M2Chat, "encode_text", lambda self, prompts, *rest: described.append(prompts) or original(self, prompts, *rest)
    )
    monkeypatch.setattr(character_sheet, "GATES", (0.0,))
    monkeypatch.setattr(ip_evaluation, "STEPS", 1)
    assert main(["evaluate", "--output", str(tmp_path / "report.json"), "--pictures", "2", "--sheet"]) == 0
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert list(report["rows"]) == list(report["changes"]) == ["gate 0", "caption", "caption with sheet"]
    assert report["rows"]["caption"].keys() == {"species", "scene", "prop", "appearance_kept"}
    plain, with_sheet = described[:2]
    assert all(re.fullmatch(re.escape(one) + r", the \w+ is \w+( and the \w+ is \w+)?", other)
               for one, other in zip(plain, with_sheet, strict=True))  # fmt: skip
