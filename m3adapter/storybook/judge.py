"""The judge: a small classifier of what a picture shows, trained on renders only.

It is independent of the starter: it has another architecture and has never seen a generated picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .world import LIGHTS, LOOKS, PLACES, PROPS, SPECIES, WEATHERS

WEIGHTS = Path(__file__).parent / "judge.safetensors"
ABSENT = len(LOOKS)


@dataclass(frozen=True)
class Verdict:
    """What the judge sees in B pictures, as indices into the world's lists.

    Attributes:
        presence: Probability that each species is in the picture [B, species].
        looks: Most likely look of each species, if it is in the picture [B, species].
        place: Most likely place [B].
        prop: Most likely prop [B]; len(PROPS) means none.
        light: Most likely light [B].
        weather: Most likely weather [B].
    """

    presence: Tensor
    looks: Tensor
    place: Tensor
    prop: Tensor
    light: Tensor
    weather: Tensor

    def species(self, row: int, count: int) -> set[str]:
        """Return the `count` most likely species of a picture."""
        return {SPECIES[index] for index in self.presence[row].topk(count).indices.tolist()}

    def look(self, row: int, species: str) -> str:
        """Return the look of a species in a picture."""
        return LOOKS[int(self.looks[row, SPECIES.index(species)])]


class Judge(nn.Module):
    """A residual convolutional network: [B, 3, 128, 128] in -1..1 to logits."""

    def __init__(self) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.stem = nn.Sequential(convolution(3, 32, 2), convolution(32, 64, 2))  # 32 x 32
        self.body = nn.Sequential(Residual(64), convolution(64, 128, 2), Residual(128), Residual(128))  # 16 x 16
        self.top = nn.Sequential(convolution(128, 192, 2), Residual(192))  # 8 x 8
        self.actors = nn.Conv2d(192, len(SPECIES) * (len(LOOKS) + 1), 1)
        self.things = nn.Conv2d(192, len(PROPS) + 1, 1)
        self.whole = nn.Linear(192, len(PLACES) + len(LIGHTS) + len(WEATHERS))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits: actors [B, species, looks + 1] (the last: absent), prop, place, light, weather."""
        maps = self.top(self.body(self.stem(images)))
        actors = self.actors(maps).float().flatten(2).logsumexp(-1).unflatten(1, (len(SPECIES), -1))
        place, light, weather = (
            self.whole(maps.mean((2, 3))).float().split((len(PLACES), len(LIGHTS), len(WEATHERS)), 1)
        )
        prop = self.things(maps).float().flatten(2).logsumexp(-1)
        return {"actors": actors, "prop": prop, "place": place, "light": light, "weather": weather}

    @torch.no_grad()
    def judge(self, images: Sequence[Tensor]) -> Verdict:
        """Classify pictures [H, W, 3] in 0..1 of the size of the world."""
        batch = torch.stack(list(images)).permute(0, 3, 1, 2).float() * 2 - 1
        device = next(self.parameters()).device
        parts = [self(part.to(device)) for part in batch.split(64)]
        logits = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
        chances = logits.pop("actors").softmax(-1)
        classes = {name: value.argmax(-1) for name, value in logits.items()}
        return Verdict(presence=1 - chances[..., ABSENT], looks=chances[..., :ABSENT].argmax(-1), **classes)

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> Judge:
        """Load the trained judge.

        Raises:
            FileNotFoundError: Its weights are missing.
        """
        from safetensors.torch import load_file

        if not path.is_file():
            raise FileNotFoundError(f"The judge's weights {path.name} are missing: `python -m m3adapter train judge`.")
        judge = cls()
        judge.load_state_dict({name: value.float() for name, value in load_file(path).items()})
        return judge.eval().requires_grad_(False)

    def save(self, path: Path) -> None:
        """Write the weights in float16."""
        from safetensors.torch import save_file

        floats = {name: v.half() if v.is_floating_point() else v for name, v in self.state_dict().items()}
        save_file({name: value.contiguous() for name, value in floats.items()}, path)


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return a 3 x 3 convolution with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Residual(nn.Module):
    """A residual block of two convolutions on [B, channels, H, W]."""

    def __init__(self, channels: int) -> None:
        """Build the block with random weights."""
        super().__init__()
        self.inner = nn.Sequential(convolution(channels, channels), convolution(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolutions make of x to x."""
        return x + self.inner(x)
