"""Muon for the hidden matrices of a model, AdamW for everything else.

Muon (Jordan et al., 2024) replaces the momentum of a weight matrix by the nearest orthogonal one, found with a few
Newton-Schulz iterations; convolution kernels count as matrices [out, in * height * width]. The update is scaled to the
root mean square that AdamW's would have (Liu et al., 2025), so that both share one learning rate.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .loop import accelerator, native_bfloat16


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """Roughly the nearest semi-orthogonal matrix to `matrix` [rows, columns] (quintic Newton-Schulz iteration)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16() if native_bfloat16() else matrix.float()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)


def orthogonal_all(matrices: list[Tensor]) -> list[Tensor]:
    """`orthogonal` of every matrix; several processes, whose matrices are the same, share the work."""
    count, own = accelerator().num_processes, accelerator().process_index
    if count == 1:
        return [orthogonal(matrix) for matrix in matrices]
    order = sorted(range(len(matrices)), key=lambda index: matrices[index].numel())  # each gets large and small ones
    for rank, index in enumerate(order):
        matrices[index] = orthogonal(matrices[index]) if rank % count == own else torch.zeros_like(matrices[index])
    flat = accelerator().reduce(torch.cat([matrix.flatten() for matrix in matrices]), reduction="sum")
    parts = flat.split([matrix.numel() for matrix in matrices])
    return [part.view_as(matrix) for part, matrix in zip(parts, matrices, strict=True)]


class Muon(torch.optim.Optimizer):
    """One optimizer over a whole model: matrices by Muon, vectors and embeddings by AdamW.

    Args:
        named: The model's `named_parameters()`; what does not require a gradient is left out.
        lr: Learning rate of both kinds.
        weight_decay: Decoupled weight decay of the matrices.
        plain: Parts of names whose parameters AdamW handles although they are matrices (embeddings, heads).
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
        weight_decay: float = 0.01,
        plain: tuple[str, ...] = ("embed", "conv_in", "conv_out", "time_emb", "add_emb"),
    ) -> None:
        matrices, others = [], []
        for name, parameter in named:
            if parameter.requires_grad:
                is_matrix = parameter.dim() >= 2 and not any(part in name for part in plain)
                (matrices if is_matrix else others).append(parameter)
        groups = [{"params": matrices, "muon": True}, {"params": others, "muon": False}]
        super().__init__(
            [group for group in groups if group["params"]],
            {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay},
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Apply one update from the gradients."""
        for group in self.param_groups:
            used = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["muon"]:
                self._muon(used, group)
            else:
                for parameter in used:
                    self._adamw(parameter, self.state[parameter], group)

    def _muon(self, parameters: list[nn.Parameter], group: dict) -> None:
        updates = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            buffer = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
            updates.append(parameter.grad.lerp(buffer, group["momentum"]).flatten(1))
        for parameter, update in zip(parameters, orthogonal_all(updates), strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            scale = 0.2 * max(update.shape) ** 0.5
            parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)

    @staticmethod
    def _adamw(parameter: nn.Parameter, state: dict, group: dict) -> None:
        if not state:
            state["step"] = torch.zeros(())
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        mean = state["mean"].lerp_(parameter.grad, 1 - first)
        square = state["square"].lerp_(parameter.grad.square(), 1 - second)
        count = float(state["step"])
        step_size = group["lr"] / (1 - first**count)
        parameter.addcdiv_(mean, square.div(1 - second**count).sqrt_().add_(1e-8), value=-step_size)
