"""M3FT's second stage, visual instruction: the low-level path, the gate and what the language model learns, if wished.

That is a LoRA (`lora.py`), a projection of the users' pictures (`sight.py`), or both.

The semantic path is frozen. Where a data set knows which words only the references tell ("..., the fox is blue"), the
text encoders' embedding of these words is the target: the low-level path learns to tell the decoder what it has seen.
Where it does not, the decoder's own loss on the picture teaches that, and the picture's own embedding if it lives in
the space of the decoder's text. References of another conversation, which should tell nothing, teach the gate to stay
closed; so does a cost on its mean, which is higher there.

What references are worth to a decoder is a small part of its loss. So without told words, that loss is all that says
what another conversation's references should do, and the gate's cost is measured in what a caption is worth to the
decoder, and grows from nothing: a path that has not learned anything yet would otherwise be shut for good.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..adapter.features import SlotFeatures
from ..adapter.m3_adapter import M3Adapter
from ..datasets.sample import Sample
from ..diffusion.condition import Condition
from ..language.visual_projection import VisualProjection
from .lora import LanguageLora
from .shares import Share
from .sheet import row, save_sheet
from .sight import shows
from .stage_common import (
    Outputs,
    Setting,
    anchored,
    caption_worth,
    denoise,
    denoised,
    draw,
    mean_figures,
    measured_loss,
    own_places,
)

PARTIAL_STRENGTH = 0.3  # part of the steps at a gate strength between 0 and 1
# Weights of the mean gate where references are useful and where they are not: a gate that is not needed stays closed.
GATE_COST, IDLE_GATE_COST = 0.01, 0.25
FREE, CHARGED = 0.25, 0.75  # without told words: until when the gate costs nothing, and from when on all, of the steps
OPEN_SAMPLES = 512  # on which the opening of the trained gate is measured
MEASURED_GATES = (0.0, 0.5, 1.0, 1.5)


def opening(adapter: M3Adapter, semantic: Tensor, features: SlotFeatures) -> float:
    """Return how far the learned gate opens: the constant gate that would pass as much of l, by its norm."""
    low = adapter.low_level(semantic, features)
    through = (adapter.learned_gate(semantic, low) * low).norm() / low.norm().clamp_min(1e-9)
    return float(through.clamp(1e-3, 1))


def gate_cost(useful: Tensor, unknown: Tensor, progress: float, worth: float) -> Tensor:
    """Return what an open gate costs each sample [B].

    Args:
        useful: Whether the references tell something, as far as anybody knows [B].
        unknown: Whether nobody told which words they tell [B].
        progress: Of the stage, 0..1.
        worth: What a caption is worth in the loss of such samples.
    """
    cost = torch.where(useful, GATE_COST, IDLE_GATE_COST)
    grown = min(1.0, max(0.0, (progress - FREE) / (CHARGED - FREE)))
    return torch.where(unknown, cost * worth * grown, cost)


class Stage2:
    """The loss of the second stage, and its measurements.

    Args:
        setting: What it works with.
        lora: Changes to the language model that are trained too; None leaves it as it is.
        projection: The language model's visual projection, if that is trained too.
        gated: Whether there is a gate; False keeps it at 1, as an ablation.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        lora: LanguageLora | None = None,
        projection: VisualProjection | None = None,
        gated: bool = True,
    ) -> None:
        self.setting, self.options, self.lora, self.gated = setting, setting.recipe.stage2, lora, gated
        self.projection = projection
        self._worth: float | None = None
        setting.frozen.models.taught = lora is not None or projection is not None
        if projection is not None:
            setting.frozen.read_anew(shows)
        if lora is None:
            setting.frozen.freeze_semantic()

    @property
    def worth(self) -> float:
        """What a caption is worth to the decoder: how much it lowers the denoising loss; measured once."""
        if self._worth is None:
            self._worth = max(0.0, caption_worth(self.setting))
        return self._worth

    def loss(self, rng: random.Random, progress: float, share: Share) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a share of a step."""
        setting, options, adapter = self.setting, self.options, self.setting.adapter
        indices = draw(rng, len(setting.samples), options.batch)
        data, part = setting.samples, setting.recipe.data.exchanged
        samples = [data.exchanged(index, rng) if rng.random() < part else data[index] for index in indices]
        unknown = [data[index].told is None for index in indices]
        kept = torch.rand(options.batch, 1) >= options.dropped
        strength = rng.random() if rng.random() < PARTIAL_STRENGTH else 1.0
        if all(unknown):
            strength = 1.0  # nobody knows what the decoder should paint in between
        own = own_places(setting, share, indices, options)
        if not own:
            nothing = next(iter(adapter.stage2_parameters().values())).sum() * 0.0
            return nothing, {"align": 0.0, "open": 0.0, "idle": 0.0}
        chosen = [samples[place] for place in own]
        device = setting.frozen.models.device
        h = self.semantic(chosen)
        features = self.features(h, chosen, kept[own].to(device))
        some = features.vision_mask.any(1)
        with setting.frozen.models.autocast():
            low = adapter.low_level(h, features)
            gate = adapter.learned_gate(h, low) if self.gated else torch.ones_like(low)
            fused = adapter.prompt_embeddings(h + strength * gate * low * some[:, None, None])
            with torch.no_grad():
                plain = adapter.prompt_embeddings(h.detach())
        # The target of this path is only what the references add, so the gate has no other reason to open. At a
        # strength between 0 and 1 the target lies in between: the strength becomes the probability of a kept look.
        weight = strength * some.float()
        told = setting.target.told(chosen)
        anchor = self.anchor(chosen)
        outputs = anchored(adapter, fused, anchor)
        semantic_only = anchored(adapter, (plain[0].detach(), plain[1].detach()), anchor)
        goal = (semantic_only[0] + weight[:, None, None] * told[0], semantic_only[1] + weight[:, None] * told[1])
        silent = torch.tensor([unknown[place] for place in own], device=device)
        knows = ~silent | ~some
        distances = setting.target.distances(outputs, (goal[0].detach(), goal[1].detach()))
        aligned = share.mean(distances * knows, options.batch)
        useful = torch.tensor([sample.useful for sample in chosen], device=device)
        opened = gate.mean((1, 2)) * some
        worth = options.denoise * self.worth if denoised(options) and bool(silent.any()) else 0.0
        cost = gate_cost(useful, silent, progress, worth)
        total = options.align * aligned + share.mean(cost * opened, options.batch)
        figures = {
            "align": aligned.item(),
            "open": mean_of(opened, useful & some),
            "idle": mean_of(opened, ~useful & some),
        }
        if setting.picture_text is not None and setting.recipe.loss.picture_text > 0:
            likeness = self.likeness(outputs[1], chosen, ~knows & some & useful) * strength
            total = total + setting.recipe.loss.picture_text * share.mean(likeness, options.batch)
        words = self.words(samples, own, share)
        if progress >= options.denoise_from and denoised(options) and strength == 1.0:
            painted = denoise(setting, outputs, samples, share, own, denoised(options))
            total = total + options.denoise * painted
            figures["denoise"] = painted.item()
        if words is not None:
            total = total + setting.recipe.lora.words * words
            figures["words"] = words.item()
        if self.projection is not None:  # it has gradients in every step, so that any process's step is the same
            total = total + sum(p.sum() for p in self.projection.parameters()) * 0.0
        return total, figures

    def words(self, samples: Sequence[Sample], own: Sequence[int], share: Share) -> Tensor | None:
        """Return a share's part of the loss on what the assistant says in a step's samples; None if none teaches that.

        A projection alone learns from those in which users show pictures. This comes before the decoder works, which
        may have to make room for the language model.
        """
        if self.lora is None and self.projection is None:
            return None
        taught = [self.lora is not None or shows(sample) for sample in samples]
        chosen = [samples[place] for place in own if taught[place]]
        if not any(taught):
            return None
        losses = self.setting.frozen.word_losses(chosen) if chosen else torch.zeros(1)
        return share.mean(losses.to(self.setting.frozen.models.device), sum(taught))

    def semantic(self, samples: Sequence[Sample]) -> Tensor:
        """Return the semantic feature h [B, N, W]: kept, or through the language model if that is trained."""
        frozen = self.setting.frozen
        if self.lora is None:
            return frozen.semantic_of(samples)
        features = frozen.features_of(samples)
        with frozen.models.autocast():
            return self.setting.adapter.semantic(features).float()

    def features(self, h: Tensor, samples: Sequence[Sample], kept: Tensor) -> SlotFeatures:
        """Return the adapter's input for the low-level path; `kept` [B, 1] says whose references it may see."""
        vision, mask, weights = self.setting.frozen.references_of(samples)
        mask = mask & kept
        some = mask.any(1)[:, None]
        return SlotFeatures(
            context=h, context_mask=some, text=h, text_mask=some, vision=vision, vision_mask=mask, captions=(),
            vision_weight=weights,
        )  # fmt: skip

    def anchor(self, samples: Sequence[Sample]) -> Outputs | None:
        """Return the decoder's own embeddings of the captions, for an adapter that begins there."""
        if not self.setting.adapter.config.anchor:
            return None
        return self.setting.target([sample.caption for sample in samples])

    def likeness(self, pooled: Tensor, samples: Sequence[Sample], chosen: Tensor) -> Tensor:
        """Return how far the pooled embeddings [B] of the chosen samples are from their pictures' own."""
        assert self.setting.picture_text is not None
        rows = chosen.nonzero()[:, 0].tolist()
        if not rows:
            return pooled.sum(1) * 0.0
        frozen, target = self.setting.frozen, self.setting.picture_text
        pictures = torch.stack([frozen.picture_text_of(samples[row].picture, target.raw) for row in rows])
        losses = pooled.new_zeros(len(samples)).float()
        return losses.index_put((torch.tensor(rows, device=pooled.device),), target.distances(pooled[rows], pictures))

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Return figures of the held-out samples: the decoder's loss over the gate, and how far the gate opens.

        `denoise_1` is its loss at gate 1, `denoise_other` that with another sample's references. If a projection is
        learned, `words` is the loss of what is said of users' pictures, `words_other` that with another sample's.
        """
        rows = []
        # All figures are of the same samples: those that have references, if there are any.
        held_out = [s for s in self.setting.held_out if s.references] or self.setting.held_out
        for number, sample in enumerate(held_out):
            self.setting.frozen.models.tell("measuring", number + 1, len(held_out))
            h = self.semantic([sample])
            others = [other for other in (*held_out[number + 1 :], *held_out[:number]) if other.references]
            row: dict[str, float] = {}
            for name, references in (("own", sample.references), ("other", others[0].references if others else ())):
                seen = Sample(sample.conversation, sample.slot, sample.picture, references)
                features = self.features(h, [seen], torch.ones(1, 1, dtype=torch.bool, device=h.device))
                gates = MEASURED_GATES if name == "own" else (1.0,)
                opened = self._open(h, features)
                if references:
                    row["open" if name == "own" else "idle"] = opened
                for strength in gates:
                    if references or strength == 0:
                        key = f"denoise_{strength:g}" if name == "own" else "denoise_other"
                        row[key] = measured_loss(self.setting, self._condition(h, features, sample, strength), sample)
            rows.append(row)
        return {**mean_figures(rows), **self._measured_sight()}

    def _measured_sight(self) -> dict[str, float]:
        """Return the loss of what is said of users' pictures, and that where another conversation's are shown."""
        if self.projection is None:
            return {}
        frozen = self.setting.frozen
        rows: list[dict[str, float]] = []
        samples = [sample for sample in self.setting.held_out if shows(sample)]
        shown = [frozen.shown_to(sample) for sample in samples]
        for sample, own in zip(samples, shown, strict=True):
            row = {"words": float(frozen.word_losses([sample], [own]))}
            others = [other for other in shown if not torch.equal(other[0], own[0])]
            if others:
                other = others[len(rows) % len(others)]
                exchanged = [other[place % len(other)] for place in range(len(own))]
                row["words_other"] = float(frozen.word_losses([sample], [exchanged]))
            rows.append(row)
        return mean_figures(rows)

    @torch.no_grad()
    def paint(self, path: Path) -> None:
        """Paint some of the held-out samples, those with references first, and write them as one picture."""
        count = self.setting.recipe.run.pictures
        chosen = sorted(self.setting.held_out, key=lambda sample: not sample.references)[:count]
        side = max(self.setting.frozen.sizes, key=lambda bucket: min(bucket)).height
        save_sheet(path, [row(self.setting.frozen.models, sample, self._at, side) for sample in chosen])

    def _at(self, sample: Sample, strength: float) -> Condition:
        h = self.semantic([sample])
        features = self.features(h, [sample], torch.ones(1, 1, dtype=torch.bool, device=h.device))
        return self._condition(h, features, sample, strength)

    def _open(self, h: Tensor, features: SlotFeatures) -> float:
        return float(self.setting.adapter.learned_gate(h, self.setting.adapter.low_level(h, features)).mean())

    def _condition(self, h: Tensor, features: SlotFeatures, sample: Sample, strength: float) -> Condition:
        adapter, fused = self.setting.adapter, h
        with self.setting.frozen.models.autocast():
            if strength > 0 and features.vision_mask.any():
                low = adapter.low_level(h, features)
                gate = adapter.learned_gate(h, low) if self.gated else torch.ones_like(low)
                fused = h + strength * gate * low
            outputs = adapter.prompt_embeddings(fused)
        outputs = anchored(adapter, outputs, self.anchor([sample]))
        return Condition(*outputs, *outputs)

    @torch.no_grad()
    def open_gate(self) -> float:
        """Return the trained adapter's `open_gate`, from samples whose references are useful."""
        samples = (self.setting.samples[index] for index in range(len(self.setting.samples)))
        opened = []
        part: list[Sample] = []

        def ask() -> None:
            h = self.semantic(part)
            kept = torch.ones(len(part), 1, dtype=torch.bool, device=h.device)
            opened.append(opening(self.setting.adapter, h, self.features(h, part, kept)))

        found = 0
        for sample in samples:
            if sample.useful:
                part.append(sample)
                found += 1
            if len(part) == min(self.options.batch, 32):
                ask()
                part = []
            if found == OPEN_SAMPLES:
                break
        if part:
            ask()
        return round(sum(opened) / len(opened), 4) if opened else self.setting.adapter.config.open_gate


def mean_of(values: Tensor, chosen: Tensor) -> float:
    """Return the mean of the chosen values, or 0 if none is chosen."""
    return float((values.detach() * chosen).sum() / chosen.sum().clamp_min(1))
