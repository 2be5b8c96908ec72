"""The figures of docs/starter.md: how well the starter paints and writes for stories it has never seen.

Every picture is classified by the judge, which was trained on renders only. There are two baselines from the same run:
gate 0 (the first row of the gate curve), and references shuffled between stories.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adapter.features import SlotFeatures
from ..conversation.conversation import Conversation, Picture, Text
from ..conversation.outline import CONTINUE
from ..diffusion.condition import Condition
from ..gate import GateSetting
from ..language.sampling import Sampling
from ..picturebook.stories.checking import told as matches
from ..picturebook.stories.ordinary import story as ordinary
from ..pipeline import M2Chat
from ..storybook.dataset import Sample, samples
from ..storybook.judge import Judge, Verdict
from ..storybook.render import render
from ..storybook.stories import Split, story, to_conversation
from ..storybook.world import PLACES, PROPS, SPECIES, Scene
from . import messages
from .figure_psnr import psnr_of_model
from .figures import mean
from .storybook_more import drawn, more_figures

GATES = (0.0, 0.25, 0.5, 0.75, 1.0)
STEPS = 20
GUIDANCE = 2.0
BATCH = 16
TEXT = Sampling(temperature=0.7)
TRIES = 8  # at most so many stories are told for each long one that is needed

ABLATIONS = {
    "low-level": GateSetting(strength=0.0),
    "gate": GateSetting(mode="fixed", value=1.0),
}


def evaluate(
    *,
    starter: Path,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    pictures: int = 500,
    without: str | None = None,
    split: Split = "test",
) -> dict[str, Any]:
    """Measure the M²Chat in `starter`.

    Args:
        starter: The folder of weights.
        seed: Chooses stories, layouts and noise; other seeds give other held-out stories.
        device: Where the models run.
        dtype: The name of torch's floating point type in which they run.
        pictures: Number of slots for the gate curve, each painted once per gate; other figures use fewer.
        without: A key of ABLATIONS: leave out the low-level path, or the learned gate, which is then everywhere as open
            as it typically is.
        split: Which stories: "validation" for making choices, "test" for reports.

    Returns:
        The report; all figures are fractions of 1, except `vae_psnr` and `figure_psnr` in dB and `seconds`. Where the
        library stands without its repository, `messages_right` is None, since its messages are with the tests, and so
        is `messages_right_by_kind`.

    Raises:
        UserError: The messages of `tests/data/messages.jsonl` are damaged.
    """
    began = time.time()
    said = messages.load() if messages.MESSAGES.is_file() else None
    model = M2Chat.from_pretrained(starter, device=device, dtype=getattr(torch, dtype))
    setting = ABLATIONS[without] if without else GateSetting()
    bench = Bench(model, Judge.load(), random.Random(f"evaluation {seed}"), seed, setting, split)
    report: dict[str, Any] = {"pictures": pictures, "seed": seed, "steps": STEPS, "guidance": GUIDANCE}
    report["dtype"] = dtype
    if without:
        report["without"] = without
    if split != "test":
        report["split"] = split
    report["judge"] = judge_accuracy(bench.judge, 500, seed)
    report["vae_psnr"] = autoencoder(model, 64, seed)
    report |= bench.gate_curve(pictures)
    report["gate_auc"] = bench.gate_auc(max(40, pictures // 2))
    report["named_change"] = bench.named_change(max(20, pictures // 4))
    report["story6_appearance"] = bench.long_stories(max(8, pictures // 12))
    report |= bench.replies(max(40, pictures // 2))
    if said is None:
        print(f"messages_right is left out: {messages.MESSAGES.name} belongs to the repository", flush=True)
        report |= dict.fromkeys(("messages_right", "messages_right_by_kind"))
    else:
        report |= messages.figures(messages.answered(model, said, seed))
    # With random numbers of their own: the figures above are those of every version.
    more = replace(bench, rng=random.Random(f"more figures {seed}"))
    report |= more_figures(more, max(20, pictures // 10))
    report["figure_psnr"] = psnr_of_model(model, more.paint, drawn(seed))
    report["seconds"] = round(time.time() - began)
    return report


def judge_accuracy(judge: Judge, count: int, seed: int) -> dict[str, float]:
    """Return how often the judge is right about held-out renders."""
    from ..training.judge import accuracy, held_out

    scores = accuracy(judge, *held_out(count, seed))
    return {name: round(scores[name], 4) for name in ("species", "scene", "prop", "appearance")}


@torch.no_grad()
def autoencoder(model: M2Chat, count: int, seed: int) -> float:
    """Return the mean PSNR in dB of the autoencoder on held-out renders."""
    from ..training.autoencoder import psnr, to_tensor
    from ..training.judge import held_out

    _, images = held_out(count, seed)
    vae = model.decoder.vae
    return round(psnr(vae, to_tensor(images).to(vae.device, vae.dtype)), 2)


@dataclass
class Bench:
    """A test bench for an M²Chat: it takes slots of held-out stories and returns scores.

    Attributes:
        model: Paints the pictures.
        judge: Classifies them.
        rng: Chooses stories, layouts and seeds.
        seed: The seed of `rng`.
        setting: Of the gate at full strength.
        split: Which stories; the model was not trained on any of them.
    """

    model: M2Chat
    judge: Judge
    rng: random.Random
    seed: int
    setting: GateSetting = GateSetting()
    split: Split = "test"

    def fuse(self, features: SlotFeatures, gate: float) -> Condition:
        """Return the adapter's condition at a gate strength of 0..1."""
        return self.model.fuse(features, replace(self.setting, strength=gate * self.setting.strength))

    def slots(self, count: int, wanted: Callable[[Sample], bool]) -> list[Sample]:
        """Return `count` pictures of held-out stories for which `wanted` is true, at most one of each story."""
        chosen: list[Sample] = []
        while len(chosen) < count:
            suitable = [sample for sample in samples(story(self.rng, self.split)) if wanted(sample)]
            if suitable:
                chosen.append(self.rng.choice(suitable))
        return chosen

    @torch.no_grad()
    def features(self, chosen: Sequence[Sample], shown: Sequence[list[Tensor]] | None = None) -> SlotFeatures:
        """Return the features of slots whose references are renders, or the pictures `shown` of each."""
        parts = []
        for row, sample in enumerate(chosen):
            pictures = shown[row] if shown else [self.picture(scene) for scene in sample.references]
            seen = self.model.vision_encoder.encode(pictures) if pictures else None
            users = [self.picture(scene) for scene in sample.user_scenes]
            visual = list(self.model.vision_encoder.encode(users).pooled) if users else []
            states = self.model.language_model.encode_slot(
                sample.conversation, sample.slot, self.model.adapter.image_tokens, visual=visual
            )
            parts.append((states, seen))
        return SlotFeatures.collate(parts)

    def paint(self, condition: Condition) -> list[Tensor]:
        """Paint a picture of every condition, each with its own seed."""
        images: list[Tensor] = []
        parts = condition.split()
        for start in range(0, len(parts), BATCH):
            part = Condition.concatenate(parts[start : start + BATCH])
            seeds = [self.rng.randrange(2**32) for _ in range(part.batch)]
            images += self.model.decoder.decode(part, seed=seeds, steps=STEPS, guidance=GUIDANCE)
        return images

    def verdict(self, features: SlotFeatures, gate: float) -> Verdict:
        """Paint features at a gate strength and return the judge's verdict on the pictures."""
        return self.judge.judge(self.paint(self.fuse(features, gate)))

    def gate_curve(self, count: int) -> dict[str, Any]:
        """Measure text alignment and kept appearance for each gate, and with shuffled references at gate 1."""
        chosen = self.slots(count, lambda sample: bool(sample.known))
        features = self.features(chosen)
        curve = []
        for gate in GATES:
            curve.append({"gate": gate, **self.scores(chosen, self.verdict(features, gate))})
            print(curve[-1], flush=True)
        wrong = self.verdict(features.shuffled(torch.arange(count).roll(1)), 1.0)
        scores = self.scores(chosen, wrong)
        return {"gate_curve": curve, "baselines": {"shuffled_reference": scores}}

    def gate_auc(self, count: int) -> float:
        """Return how well the mean of the learned gate separates slots with the same character from those with others.

        It is the area under the ROC curve.
        """
        same = self.slots(count // 2, lambda s: s.task == "same" and bool(s.known))
        other = self.slots(count // 2, lambda s: s.task == "other" and bool(s.references) and not s.known)
        scores = []
        for chosen in (same, other):
            condition = self.fuse(self.features(chosen), 1.0)
            assert condition.gate is not None
            scores.append(condition.gate.float().mean((1, 2)))
        wins = (scores[0][:, None] > scores[1][None]).float() + 0.5 * (scores[0][:, None] == scores[1][None]).float()
        return round(float(wins.mean()), 4)

    def named_change(self, count: int) -> float:
        """Return how often a colour that the user names is painted although the references show another one."""
        chosen = self.slots(count, changes_look)
        verdict = self.verdict(self.features(chosen), 1.0)
        right = [
            all(
                verdict.look(row, sample.scene.characters[i].species) == sample.scene.characters[i].look
                for i in sample.named
            )
            for row, sample in enumerate(chosen)
        ]
        return mean(right)

    def long_stories(self, count: int, panels: int = 6) -> float:
        """Return how often a character looks the same in the last picture of a story as in the first.

        This measures the whole chain: the language model tells the story, and painted pictures are the references.
        Only stories whose last caption names the species of the first count; stories are told until there are enough
        of them, or until TRIES is exceeded.
        """
        kept: list[bool] = []
        for _ in range(TRIES * count):
            if len(kept) == count:
                break
            premise = story(self.rng, self.split, exchanges=1).exchanges[0]
            if premise.user_scene or len(premise.panels) > 1:
                continue
            told = self._tell(premise.message, panels)
            if told is not None:
                first, last, species = told
                verdict = self.judge.judge([first, last])
                kept.append(verdict.look(0, species) == verdict.look(1, species))
        return mean(kept)

    def replies(self, count: int) -> dict[str, float]:
        """Return how many replies parse as requested, and how many captions name only what their text tells.

        What people say is in wordings that are held out; what cannot be painted needs an answer without a picture. Who
        has a name in the caption may have the name alone in the text.
        """
        parsed, matched = [], []
        for _ in range(count):
            told = ordinary(self.rng, self.split)
            last = min(self.rng.randrange(2), len(told.exchanges) - 1)
            asked = told.exchanges[last]
            conversation = to_conversation(told, last, paint=self.picture)
            reply = self.model.write(conversation, sampling=TEXT, seed=self.rng.randrange(2**32)).turns[-1]
            captions = [segment.caption for segment in reply.segments if isinstance(segment, Picture)]
            texts = [segment.text for segment in reply.segments if isinstance(segment, Text) and segment.text.strip()]
            complete = len(captions) == len(asked.panels) and len(texts) == max(1, len(asked.panels))
            parsed.append(complete and all(caption.strip() for caption in captions))
            for caption, text in zip(captions, texts, strict=False):
                matched.append(matches(text, caption))
        return {"replies_parse": mean(parsed), "captions_match": mean(matched)}

    def _tell(self, premise: str, panels: int) -> tuple[Tensor, Tensor, str] | None:
        """Tell a story and return its first and last picture and a species that both captions name.

        Returns None if they have no species in common, or if a panel has no picture.
        """
        model, conversation = self.model, Conversation().user(premise)
        for panel in range(panels):
            if panel:
                conversation = conversation.user(CONTINUE)
            conversation = model.write(conversation, sampling=TEXT, seed=self.rng.randrange(2**32))
            for slot in conversation.open_slots():
                image = self.paint(self.fuse(model.encode(conversation, slot), 1.0))[0]
                conversation = conversation.with_picture(slot, image)
        painted = [conversation.picture(slot) for slot in conversation.pictures()]
        if len(painted) < panels:
            return None
        first, last = painted[0], painted[-1]
        both = [name for name in SPECIES if name in _named(first.caption) and name in _named(last.caption)]
        return (first.pixels, last.pixels, both[0]) if both else None

    def scores(self, chosen: Sequence[Sample], verdict: Verdict) -> dict[str, float]:
        """Return `scores`."""
        return scores(chosen, verdict)

    def picture(self, scene: Scene) -> Tensor:
        """Render a scene [H, W, 3] in 0..1."""
        return torch.from_numpy(render(scene, self.rng.randrange(2**31))).float() / 255


def scores(chosen: Sequence[Sample], verdict: Verdict) -> dict[str, float]:
    """Return how often the judge sees what the pictures should show, and how many known looks are kept."""
    species, scene, prop, kept = [], [], [], []
    for row, sample in enumerate(chosen):
        names = {actor.species for actor in sample.scene.characters}
        species.append(verdict.species(row, len(names)) == names)
        scene.append(PLACES[int(verdict.place[row])] == sample.scene.place)
        if sample.scene.prop:
            seen = int(verdict.prop[row])
            prop.append(seen < len(PROPS) and PROPS[seen] == sample.scene.prop)
        for index in sample.known:
            actor = sample.shown(index)
            assert actor is not None
            kept.append(verdict.look(row, actor.species) == actor.look)
    return {"species": mean(species), "scene": mean(scene), "prop": mean(prop), "appearance_kept": mean(kept)}


def changes_look(sample: Sample) -> bool:
    """Return whether a caption names a look that is not the one that references show."""
    referenced = [sample.shown(index) for index in sample.named]
    return sample.task == "change" and any(
        actor is not None and actor.look != sample.scene.characters[index].look
        for actor, index in zip(referenced, sample.named, strict=True)
    )


def _named(text: str) -> set[str]:
    """Return the species and places that a text names."""
    words = set(re.findall(r"[a-z]+", text.lower()))
    return {name for name in (*SPECIES, *PLACES) if name in words}
