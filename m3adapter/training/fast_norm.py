"""GroupNorm for training on a CPU.

On a CPU, with channels-last bfloat16 tensors, PyTorch's backward pass of GroupNorm is slower than the convolutions
around it. Written as sums over positions and one affine map, it takes a few percent of a step. The parameters and their
names are those of `torch.nn.GroupNorm`, so checkpoints do not depend on it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        batch, channels = x.shape[:2]
        rows = x.flatten(2).transpose(1, 2)  # [B, positions, C]: not copied in channels-last layout
        if x.is_cuda:  # sums in float32 without converting the tensor
            mean = rows.mean(1, dtype=torch.float32)
            square = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float32).square() / rows.shape[1]
        else:
            real = rows.float()
            mean, square = real.mean(1), (real * real).mean(1)
        mean = mean.view(batch, groups, -1).mean(-1, keepdim=True)
        square = square.view(batch, groups, -1).mean(-1, keepdim=True)
        rstd = (square - mean * mean).clamp_min(0).add(eps).rsqrt()
        spread = channels // groups
        mean, rstd = (value.repeat(1, 1, spread).view(batch, channels) for value in (mean, rstd))
        scale = rstd * weight.float()
        shift = bias.float() - mean * scale
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.groups = groups
        return torch.addcmul(_spread(shift, x), x, _spread(scale, x))

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        batch, channels = x.shape[:2]
        positions = x[0, 0].numel()
        grad_rows, rows = (value.flatten(2).transpose(1, 2) for value in (grad, x))
        sum_grad = grad_rows.sum(1, dtype=torch.float32)
        sum_product = (grad_rows * rows).sum(1, dtype=torch.float32)
        grad_weight = ((sum_product - mean * sum_grad) * rstd).sum(0)
        grad_bias = sum_grad.sum(0)
        # dx = scale * dy + a * x + b, with a and b constant within a group
        size = positions * channels // ctx.groups
        weighted = (sum_product * weight).view(batch, ctx.groups, -1).sum(-1, keepdim=True)
        weighted_grad = (sum_grad * weight).view(batch, ctx.groups, -1).sum(-1, keepdim=True)
        spread = channels // ctx.groups
        weighted, weighted_grad = (v.repeat(1, 1, spread).view(batch, channels) for v in (weighted, weighted_grad))
        a = (weighted_grad * mean - weighted) * rstd**3 / size
        b = -a * mean - weighted_grad * rstd / size
        out = torch.addcmul(_spread(b, x), x, _spread(a, x)).addcmul_(grad, _spread(rstd * weight, x))
        return out, grad_weight, grad_bias, None, None


def _spread(value: Tensor, like: Tensor) -> Tensor:
    return value.to(like.dtype).view(*value.shape, *([1] * (like.dim() - 2)))


class FastGroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm` with a faster backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B, C, ...]."""
        return _GroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)


def use_fast_norm(model: nn.Module) -> nn.Module:
    """Give every GroupNorm with parameters in `model` the faster backward pass, in place, and return the model."""
    for module in model.modules():
        if type(module) is nn.GroupNorm and module.affine:
            module.__class__ = FastGroupNorm
    return model
