"""A test bench: an M²Chat that paints slots of the picture book, and what concerns its gate and its words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..adapter.features import SlotFeatures
from ..adapter.vision_encoder import VisionFeatures
from ..conversation.conversation import Conversation, Picture, Text
from ..conversation.outline import CONTINUE
from ..diffusion.condition import Condition
from ..gate import GateSetting
from ..picturebook.dataset import Sample, Shown
from ..picturebook.judge import Judge
from ..picturebook.pictures import drawing
from ..picturebook.reading import read
from ..picturebook.stories.checking import told as matches
from ..picturebook.stories.tale import Split, to_conversation
from ..picturebook.stories.teller import story
from ..picturebook.world import Scene
from ..pipeline import M2Chat
from .figures import mean
from .picturebook_cases import Cases
from .starter import BATCH, GUIDANCE, STEPS, TEXT, TRIES


@dataclass
class Bench:
    """Paints slots with an M²Chat, and measures what concerns its gate and its words.

    Attributes:
        model: Paints the pictures.
        rng: Chooses renders, seeds and stories.
        setting: Of the gate at full strength.
    """

    model: M2Chat
    rng: random.Random
    setting: GateSetting = GateSetting()

    def __call__(self, chosen: Sequence[Sample], gate: float) -> list[Tensor]:
        """Paint slots at a gate strength of 0..1."""
        return self.paint(self.fuse(self.features(chosen), gate))

    def fuse(self, features: SlotFeatures, gate: float) -> Condition:
        """Return the adapter's condition at a gate strength of 0..1."""
        return self.model.fuse(features, replace(self.setting, strength=gate * self.setting.strength))

    @torch.no_grad()
    def features(self, chosen: Sequence[Sample]) -> SlotFeatures:
        """Return the features of slots with their references drawn, and with these references' weights."""
        parts: list[tuple[Any, VisionFeatures | None]] = []
        for sample in chosen:
            pictures = [self.picture(shown) for shown in sample.references]
            seen = self.model.vision_encoder.encode(pictures) if pictures else None
            users = [self.picture(Shown(scene, ())) for scene in sample.users]
            visual = list(self.model.vision_encoder.encode(users).pooled) if users else []
            states = self.model.language_model.encode_slot(
                sample.conversation, sample.slot, self.model.adapter.image_tokens, visual=visual
            )
            parts.append((states, seen))
        features = SlotFeatures.collate(parts)
        if all(shown.weight == 1 for sample in chosen for shown in sample.references):
            return features
        weights = torch.ones(features.vision_mask.shape, device=features.vision.device)
        for row, sample in enumerate(chosen):
            weights[row, : len(sample.references)] = torch.tensor([shown.weight for shown in sample.references])
        return replace(features, vision_weight=weights)

    def paint(self, condition: Condition) -> list[Tensor]:
        """Paint a picture of every condition, each with its own seed."""
        images: list[Tensor] = []
        parts = condition.split()
        for start in range(0, len(parts), BATCH):
            part = Condition.concatenate(parts[start : start + BATCH])
            seeds = [self.rng.randrange(2**32) for _ in range(part.batch)]
            images += self.model.decoder.decode(part, seed=seeds, steps=STEPS, guidance=GUIDANCE)
        return images

    def gate_auc(self, cases: Cases, count: int) -> float:
        """Return how well the mean of the learned gate tells slots with a known character from those without any.

        It is the area under the ROC curve. In half of the slots with a known character there is a newcomer as well.
        """
        known = cases.known(count // 2 - count // 4) + cases.newcomers(count // 4)
        scores = []
        for chosen in (known, cases.others(count // 2)):
            condition = self.fuse(self.features(chosen), 1.0)
            assert condition.gate is not None
            scores.append(condition.gate.float().mean((1, 2)))
        wins = (scores[0][:, None] > scores[1][None]).float() + 0.5 * (scores[0][:, None] == scores[1][None]).float()
        return round(float(wins.mean()), 4)

    def long_stories(self, judge: Judge, count: int, panels: int = 6, split: Split = "test") -> float:
        """Return how often a character looks the same in the last picture of a told story as in the first.

        The language model tells the story, and painted pictures are the references. Stories count whose first and last
        captions name one animal; they are told until there are enough of them, or until TRIES is exceeded.
        """
        kept: list[bool] = []
        for _ in range(TRIES * count):
            if len(kept) == count:
                break
            premise = story(self.rng, split, exchanges=1).exchanges[0]
            if premise.user_scene or len(premise.panels) != 1:
                continue
            told = self._tell(premise.message, panels)
            if told is not None:
                first, last, species = told
                verdict = judge.judge([first, last])
                kept.append(verdict.word(0, species, "look") == verdict.word(1, species, "look"))
        return mean(kept)

    def _tell(self, premise: str, panels: int) -> tuple[Tensor, Tensor, str] | None:
        """Tell a story and return its first and last picture and a species that both captions name once."""
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
        named = [read(picture.caption).species for picture in (first, last)]
        both = [species for species, count in named[0].items() if count == named[1][species] == 1]
        return (first.pixels, last.pixels, both[0]) if both else None

    def replies(self, count: int, split: Split = "test") -> dict[str, float]:
        """Return how many replies parse as requested, and how many captions name whom and what their text tells."""
        parsed, matched = [], []
        for _ in range(count):
            whole = story(self.rng, split, exchanges=self.rng.choice((1, 2)))
            asked = whole.exchanges[-1]
            conversation = to_conversation(whole, len(whole.exchanges) - 1, paint=self._render)
            reply = self.model.write(conversation, sampling=TEXT, seed=self.rng.randrange(2**32)).turns[-1]
            captions = [segment.caption for segment in reply.segments if isinstance(segment, Picture)]
            texts = [segment.text for segment in reply.segments if isinstance(segment, Text) and segment.text.strip()]
            complete = len(captions) == len(asked.panels) and len(texts) == max(1, len(asked.panels))
            parsed.append(complete and all(caption.strip() for caption in captions))
            matched += [matches(text, caption) for caption, text in zip(captions, texts, strict=False)]
        return {"replies_parse": mean(parsed), "captions_match": mean(matched)}

    def picture(self, shown: Shown) -> Tensor:
        """Draw a reference picture [H, W, 3] in 0..1."""
        return torch.from_numpy(drawing(shown, self.rng.randrange(2**31)).copy()).float() / 255

    def _render(self, scene: Scene) -> Tensor:
        return self.picture(Shown(scene, ()))
