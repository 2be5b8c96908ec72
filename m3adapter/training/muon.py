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
    """Roughly the nearest semi-orthogonal matrix to each of `matrix` [..., rows, columns] (quintic Newton-Schulz)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16() if native_bfloat16() else matrix.float()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrix.dtype)


def orthogonal_all(matrices: list[Tensor]) -> list[Tensor]:
    """`orthogonal` of every matrix; several processes, whose matrices are the same, share the work."""
    count, own = accelerator().num_processes, accelerator().process_index
    if count == 1 and matrices[0].is_cuda:
        return _stacked(matrices)
    if count == 1:
        return [orthogonal(matrix) for matrix in matrices]
    order = sorted(range(len(matrices)), key=lambda index: matrices[index].numel())  # each gets large and small ones
    for rank, index in enumerate(order):
        matrices[index] = orthogonal(matrices[index]) if rank % count == own else torch.zeros_like(matrices[index])
    flat = accelerator().reduce(torch.cat([matrix.flatten() for matrix in matrices]), reduction="sum")
    parts = flat.split([matrix.numel() for matrix in matrices])
    return [part.view_as(matrix) for part, matrix in zip(parts, matrices, strict=True)]


def _stacked(matrices: list[Tensor]) -> list[Tensor]:
    """`orthogonal` of every matrix, all of one shape at a time: a GPU waits less for the next small product."""
    shapes: dict[torch.Size, list[int]] = {}
    for index, matrix in enumerate(matrices):
        shapes.setdefault(matrix.shape, []).append(index)
    found: dict[int, Tensor] = {}
    for indices in shapes.values():
        for index, matrix in zip(indices, orthogonal(torch.stack([matrices[i] for i in indices])), strict=True):
            found[index] = matrix
    return [found[index] for index in range(len(matrices))]


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
                self._adamw(used, group)

    def _muon(self, parameters: list[nn.Parameter], group: dict) -> None:
        if not parameters:
            return
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum"] for parameter in parameters]
        grads = [parameter.grad for parameter in parameters]
        torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
        updates = torch._foreach_lerp(grads, buffers, group["momentum"])
        updates = orthogonal_all([update.flatten(1) for update in updates])
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        for parameter, update in zip(parameters, updates, strict=True):
            scale = 0.2 * max(update.shape) ** 0.5
            parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)

    def _adamw(self, parameters: list[nn.Parameter], group: dict) -> None:
        alike: dict[float, list[nn.Parameter]] = {}  # those that have had as many steps
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["mean"] = torch.zeros_like(parameter)
                state["square"] = torch.zeros_like(parameter)
            state["step"] += 1
            alike.setdefault(float(state["step"]), []).append(parameter)
        first, second = group["betas"]
        for count, some in alike.items():
            grads = [parameter.grad for parameter in some]
            means = [self.state[parameter]["mean"] for parameter in some]
            squares = [self.state[parameter]["square"] for parameter in some]
            torch._foreach_lerp_(means, grads, 1 - first)
            torch._foreach_lerp_(squares, torch._foreach_mul(grads, grads), 1 - second)
            scales = torch._foreach_div(squares, 1 - second**count)
            torch._foreach_sqrt_(scales)
            torch._foreach_add_(scales, 1e-8)
            torch._foreach_addcdiv_(some, means, scales, value=-group["lr"] / (1 - first**count))
