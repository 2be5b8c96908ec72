"""The projection of vision features that lets a language model see, and the file that keeps it."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from ..weights.layouts import header

PROJECTION_NAME = "visual_projection.safetensors"


class VisualProjection(nn.Module):
    """Projects vision features [..., D_v] to embeddings [..., H] of the language model."""

    def __init__(self, vision_size: int, hidden_size: int) -> None:
        """Make a projection from width D_v to width H, with random weights."""
        super().__init__()
        self.linear = nn.Linear(vision_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """Return the embeddings [..., H] of features [..., D_v]."""
        return self.norm(self.linear(features))

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the weights to their file in an existing folder, in their present dtype."""
        from safetensors.torch import save_file

        state = {name: value.detach().contiguous().cpu() for name, value in self.state_dict().items()}
        save_file(state, Path(directory) / PROJECTION_NAME)

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> VisualProjection:
        """Read a folder's projection, onto the CPU and in float32.

        Raises:
            ValueError: The file is damaged or holds something else.
            OSError: The file is missing or cannot be read.
        """
        from safetensors.torch import load_file

        path = Path(directory) / PROJECTION_NAME
        folder = path.parent.name
        shapes = {name: shape for name, (shape, _) in header(path).items()}
        weight = shapes.get("linear.weight", ())
        if len(weight) != 2:
            raise ValueError(f"{PROJECTION_NAME} in {folder} is not made for this model: get the folder again.")
        projection = cls(weight[1], weight[0])
        if {name: tuple(value.shape) for name, value in projection.state_dict().items()} != shapes:
            raise ValueError(f"{PROJECTION_NAME} in {folder} lacks weights or has others: get the folder again.")
        projection.load_state_dict(load_file(path))
        return projection.eval()
