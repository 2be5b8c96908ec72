"""M3FT's first stage, image-text alignment: queries, image tokens, blocks, text fusion and heads.

From the language model's hidden states alone, the adapter learns to produce what the decoder's text encoders make of
the caption; and to lower the decoder's own loss. An anchored adapter, which starts there, learns to bring along what
the answer says and the caption does not (`rewording.py`).
"""

from __future__ import annotations

import random
from dataclasses import replace

import torch
from torch import Tensor

from ..adapter.features import SlotFeatures
from ..datasets.sample import Sample
from ..diffusion.condition import Condition
from .rewording import reworded
from .shares import Share
from .stage_common import Outputs, Setting, anchored, denoise, denoised, draw, mean_figures, measured_loss, own_places

REWORDED = 0.5  # anchored adapters: part of the samples whose answer says a part of the caption


class Stage1:
    """The loss of the first stage, and its measurements."""

    def __init__(self, setting: Setting, *, is_new: bool) -> None:
        """Take what it works with, and whether the adapter's image tokens are still to be learned."""
        self.setting, self.options = setting, setting.recipe.stage1
        self.learns_tokens = is_new and self.options.settled > 0
        if not self.learns_tokens:
            setting.frozen.settle()

    def loss(self, rng: random.Random, progress: float, share: Share) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a share of a step."""
        setting, options, adapter = self.setting, self.options, self.setting.adapter
        if self.learns_tokens and progress >= options.settled:
            self.learns_tokens = False
            setting.frozen.settle()
        indices = draw(rng, len(setting.samples), options.batch)
        alters = [adapter.config.anchor and rng.random() < REWORDED for _ in indices]
        hidden = torch.rand(options.batch, 1) < options.dropped
        whole: dict[int, Sample] = {}

        def sample_at(place: int) -> Sample:
            if place not in whole:
                found = setting.samples[indices[place]]
                whole[place] = reworded(found) if alters[place] else found
            return whole[place]

        own = own_places(setting, share, indices, options)
        if not own:
            return next(iter(adapter.stage1_parameters().values())).sum() * 0.0, {"align": 0.0}
        chosen = [sample_at(place) for place in own]
        features = setting.frozen.features_of(chosen)
        keep = ~hidden[own].to(features.text_mask.device)
        features = replace(features, text_mask=features.text_mask & keep)
        anchor = self.anchor(chosen)
        outputs = self.outputs(features, anchor)
        aims = [self.aim(setting.samples[indices[place]], sample) for place, sample in zip(own, chosen, strict=True)]
        aligned = share.mean(setting.target.distances(outputs, setting.target(aims)), options.batch)
        figures = {"align": aligned.item()}
        total = options.align * aligned
        if progress >= options.denoise_from and denoised(options):
            count = denoised(options)
            painted = denoise(setting, outputs, [sample_at(place) for place in range(count)], share, own, count)
            total = total + options.denoise * painted
            figures["denoise"] = painted.item()
        return total, figures

    @staticmethod
    def aim(plain: Sample, read: Sample) -> str:
        """Return the words that the condition of a sample should mean: those that caption and answer say together."""
        return plain.whole_caption if read is not plain and plain.told else plain.meaning

    def anchor(self, samples: list[Sample]) -> Outputs | None:
        """Return the decoder's own embeddings of the captions, for an adapter that begins there."""
        if not self.setting.adapter.config.anchor:
            return None
        return self.setting.target([sample.caption for sample in samples])

    def outputs(self, features: SlotFeatures, anchor: Outputs | None) -> Outputs:
        """Return the conditions of slots."""
        adapter = self.setting.adapter
        with self.setting.frozen.models.autocast():
            outputs = adapter.prompt_embeddings(adapter.semantic(features))
        return anchored(adapter, outputs, anchor)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Return figures of the held-out samples: alignment, and the decoder's loss beside the plain caption's."""
        rows = []
        for number, plain in enumerate(self.setting.held_out, 1):
            self.setting.frozen.models.tell("measuring", number, len(self.setting.held_out))
            sample = reworded(plain) if self.setting.adapter.config.anchor else plain
            features = self.setting.frozen.features_of([sample])
            outputs = self.outputs(features, self.anchor([sample]))
            goal = self.setting.target([self.aim(plain, sample)])
            before = self.setting.target([sample.caption])
            rows.append(
                {
                    "align": float(self.setting.target.distances(outputs, goal)),
                    "denoise": measured_loss(self.setting, Condition(*outputs, *outputs), sample),
                    "denoise_caption": measured_loss(self.setting, Condition(*before, *before), sample),
                }
            )
        return mean_figures(rows)
