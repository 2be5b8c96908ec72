"""Reference pictures without what is around their subject.

A reference brings its framing and its background along with the subject. A mask of the subject takes both away before
anything looks at the picture: the rest is painted grey, and the picture is cut to the subject if wanted.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

GREY = 0.5
MARGIN = 0.05  # around the subject, as a part of its longer side


def fitted_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """Return a mask [h, w] in the size of a picture [height, width], in 0..1."""
    return functional.interpolate(mask.float()[None, None], (height, width), mode="bilinear")[0, 0].clamp(0, 1)


def on_grey(picture: Tensor, mask: Tensor) -> Tensor:
    """Return a picture [H, W, 3] in which what a mask [H, W] does not show is grey."""
    return GREY + (picture - GREY) * mask[..., None].to(picture)


def box_of(mask: Tensor) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of what a mask [H, W] shows, with a margin.

    Raises:
        ValueError: It shows nothing.
    """
    shown = mask > 0.5
    if not bool(shown.any()):
        raise ValueError("mask shows nothing: paint the subject white.")
    rows, columns = (shown.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
    margin = round(MARGIN * max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1))
    height, width = mask.shape
    return (
        max(0, rows[0] - margin),
        max(0, columns[0] - margin),
        min(height, rows[-1] + 1 + margin),
        min(width, columns[-1] + 1 + margin),
    )


def subjects_on_grey(pictures: Tensor, masks: Tensor, *, crop: bool = False) -> tuple[Tensor, Tensor]:
    """Return pictures and masks with only the subjects.

    Args:
        pictures: [B, H, W, 3] in 0..1.
        masks: [B, h, w] or [1, h, w], white where the subject is; stretched over the pictures.
        crop: Whether to cut the pictures to the subjects. One rectangle around all subjects is cut from a batch.

    Returns:
        Pictures [B, H', W', 3] and masks [B, H', W'].

    Raises:
        ValueError: There is another number of masks, or they show nothing.
    """
    if len(masks) not in (1, len(pictures)):
        raise ValueError(
            f"mask holds {len(masks)} masks and image {len(pictures)} pictures: give one mask, or one for each."
        )
    height, width = pictures.shape[1:3]
    fitted = torch.stack([fitted_mask(mask, height, width) for mask in masks]).expand(len(pictures), -1, -1)
    found = torch.stack([on_grey(picture, mask) for picture, mask in zip(pictures[..., :3], fitted, strict=True)])
    top, left, bottom, right = box_of(fitted.amax(0))
    if not crop:
        return found, fitted.clone()
    return found[:, top:bottom, left:right].clone(), fitted[:, top:bottom, left:right].clone()
