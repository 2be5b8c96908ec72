"""The judge: a small classifier of what a picture shows, trained on renders only.

It is independent of the starter: it has another architecture and has never seen a generated picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..storybook.judge import Residual, convolution
from .labels import ACTOR_FIELDS, WHOLE_FIELDS
from .world import ACCESSORIES, ACTIONS, LOOKS, MOODS, PROPS, SPECIES

WEIGHTS = Path(__file__).parent / "judge.safetensors"
WORDS = {"look": LOOKS, "accessory": ACCESSORIES, "action": ACTIONS, "mood": MOODS}


@dataclass(frozen=True)
class Verdict:
    """What the judge sees in B pictures.

    Attributes:
        presence: Probability that each species is in the picture [B, species].
        actors: For each field of ACTOR_FIELDS, the most likely class of each species that is in the picture
            [B, species].
        wholes: For each field of WHOLE_FIELDS, the most likely class [B].
        props: Probability of each prop [B, props].
    """

    presence: Tensor
    actors: dict[str, Tensor]
    wholes: dict[str, Tensor]
    props: Tensor

    def species(self, row: int, count: int) -> set[str]:
        """Return the `count` most likely species of a picture."""
        return {SPECIES[index] for index in self.presence[row].topk(count).indices.tolist()}

    def word(self, row: int, species: str, field: str) -> str:
        """Return the word for what a species in a picture looks like, wears, does or feels: `field` of WORDS."""
        return WORDS[field][int(self.actors[field][row, SPECIES.index(species)])]

    def things(self, row: int) -> set[str]:
        """Return the props that are probably in a picture."""
        return {PROPS[index] for index in (self.props[row] > 0.5).nonzero().flatten().tolist()}


class Judge(nn.Module):
    """A residual convolutional network: [B, 3, 256, 256] in -1..1 to logits."""

    def __init__(self) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.stem = nn.Sequential(convolution(3, 32, 2), convolution(32, 64, 2))  # 64 x 64
        self.body = nn.Sequential(Residual(64), convolution(64, 128, 2), Residual(128), Residual(128))  # 32 x 32
        self.top = nn.Sequential(convolution(128, 192, 2), Residual(192), Residual(192))  # 16 x 16
        self.sizes = [size + 1 for size in ACTOR_FIELDS.values()]
        self.actors = nn.Conv2d(192, len(SPECIES) * sum(self.sizes), 1)
        self.things = nn.Conv2d(192, len(PROPS), 1)
        self.whole = nn.Linear(192, sum(WHOLE_FIELDS.values()))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits of ACTOR_FIELDS [B, species, classes + 1] (the last: absent), of WHOLE_FIELDS, and of props."""
        maps = self.top(self.body(self.stem(images)))
        actors = self.actors(maps).float().flatten(2).logsumexp(-1).unflatten(1, (len(SPECIES), -1))
        whole = self.whole(maps.mean((2, 3))).float().split(list(WHOLE_FIELDS.values()), 1)
        return {
            **dict(zip(ACTOR_FIELDS, actors.split(self.sizes, 2), strict=True)),
            **dict(zip(WHOLE_FIELDS, whole, strict=True)),
            "props": self.things(maps).float().flatten(2).amax(-1),
        }

    @torch.no_grad()
    def judge(self, images: Sequence[Tensor]) -> Verdict:
        """Classify pictures [H, W, 3] in 0..1 of the size of the world."""
        batch = torch.stack(list(images)).permute(0, 3, 1, 2).float() * 2 - 1
        device = next(self.parameters()).device
        parts = [self(part.to(device)) for part in batch.split(64)]
        logits = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
        return Verdict(
            presence=1 - logits["look"].softmax(-1)[..., -1],
            actors={name: logits[name][..., :-1].argmax(-1) for name in ACTOR_FIELDS},
            wholes={name: logits[name].argmax(-1) for name in WHOLE_FIELDS},
            props=logits["props"].sigmoid(),
        )

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> Judge:
        """Load the trained judge.

        Raises:
            FileNotFoundError: Its weights are missing.
        """
        from safetensors.torch import load_file

        if not path.is_file():
            raise FileNotFoundError(
                f"The judge's weights {path.name} are missing: `python -m m3adapter train judge --world picturebook`."
            )
        judge = cls()
        judge.load_state_dict({name: value.float() for name, value in load_file(path).items()})
        return judge.eval().requires_grad_(False)

    def save(self, path: Path) -> None:
        """Write the weights in float16."""
        from ..weights.tensors import save_half

        save_half(self.state_dict(), path)
