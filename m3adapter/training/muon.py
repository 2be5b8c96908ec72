"""Muon for the weight matrices of a model, Adam for everything else.

Muon (Jordan et al., 2024) replaces the momentum of a weight matrix by the nearest orthogonal matrix, found with a few
Newton-Schulz iterations. The update is scaled to the root mean square that AdamW's would have (Liu et al., 2025), so
that both share one learning rate.

For weights with two dimensions this is `torch.optim.Muon(adjust_lr_fn="match_rms_adamw")`, which newer versions of
torch have and with which a test compares it. This module exists for what torch's Muon does not cover:

- convolution kernels, which count as matrices [out, in * height * width];
- several processes, which share the work;
- GPUs, where all matrices of one shape are multiplied together;
- devices that only imitate bfloat16, where float32 is several times faster.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from .loop import accelerator, native_bfloat16


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """Approximate the nearest semi-orthogonal matrix by a quintic Newton-Schulz iteration.

    Args:
        matrix: Matrices [..., rows, columns].
        steps: Number of iterations.

    Returns:
        Matrices of the same shape and dtype with singular values near 1.
    """
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
    """Apply `orthogonal` to every matrix; several processes, which hold the same matrices, share the work."""
    count, own = accelerator().num_processes, accelerator().process_index
    if count == 1 and matrices[0].is_cuda:
        return _stacked(matrices)
    if count == 1:
        return [orthogonal(matrix) for matrix in matrices]
    order = sorted(
        range(len(matrices)), key=lambda index: matrices[index].numel()
    )  # every process gets large and small ones
    for rank, index in enumerate(order):
        matrices[index] = orthogonal(matrices[index]) if rank % count == own else torch.zeros_like(matrices[index])
    flat = accelerator().reduce(torch.cat([matrix.flatten() for matrix in matrices]), reduction="sum")
    parts = flat.split([matrix.numel() for matrix in matrices])
    return [part.view_as(matrix) for part, matrix in zip(parts, matrices, strict=True)]


def _stacked(matrices: list[Tensor]) -> list[Tensor]:
    """Apply `orthogonal` to all matrices of one shape at a time, which saves a GPU many small products."""
    shapes: dict[torch.Size, list[int]] = {}
    for index, matrix in enumerate(matrices):
        shapes.setdefault(matrix.shape, []).append(index)
    results: dict[int, Tensor] = {}
    for indices in shapes.values():
        for index, matrix in zip(indices, orthogonal(torch.stack([matrices[i] for i in indices])), strict=True):
            results[index] = matrix
    return [results[index] for index in range(len(matrices))]


class Muon(torch.optim.Optimizer):
    """One optimizer for a whole model: matrices by Muon, vectors and embeddings by Adam.

    Args:
        named: The model's `named_parameters()`; parameters that do not require a gradient are left out.
        lr: Learning rate of all parameters.
        momentum: Of Muon, in Nesterov's form.
        betas: Of Adam.
        weight_decay: Decoupled weight decay of the matrices.
        plain: Parts of the names of matrices that are left to Adam, such as embeddings and heads.
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
        """Divide the parameters between Muon and Adam."""
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
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
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no training here uses a closure
        """Update the parameters from their gradients."""
        for group in self.param_groups:
            used = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["muon"]:
                self._muon(used, group)
            else:
                self._adam(used, group)

    def _muon(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        if not parameters:
            return
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum"] for parameter in parameters]
        grads = _gradients(parameters)
        torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
        momenta = torch._foreach_lerp(grads, buffers, group["momentum"])
        updates = orthogonal_all([momentum.flatten(1) for momentum in momenta])
        torch._foreach_mul_(list(parameters), 1 - group["lr"] * group["weight_decay"])
        for parameter, update in zip(parameters, updates, strict=True):
            scale = 0.2 * max(update.shape) ** 0.5
            parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)

    def _adam(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        if not parameters:
            return
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["mean"] = torch.zeros_like(parameter)
                state["square"] = torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        beta1, beta2 = group["betas"]
        adam(
            list(parameters),
            _gradients(parameters),
            [state["mean"] for state in states],
            [state["square"] for state in states],
            [],
            [state["step"] for state in states],
            foreach=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )


def _gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
