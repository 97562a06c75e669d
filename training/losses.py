"""Losses of the embedded model on a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.reconstruction.frustum import ELEVATION_UNIT_DEG

from .batches import NEAR_POINTS, Batch

OVERLAP_WEIGHT, RAY_WEIGHT, NORMAL_WEIGHT, ELEVATION_WEIGHT = 0.2, 0.3, 0.25, 0.1

Model = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def frustum_losses(model: Model, t: Batch) -> dict[str, Tensor]:
    """Return the terms of the loss of a `FrustumModel` on a batch of `Batches.draw`."""
    with torch.autocast(t["image"].device.type, torch.bfloat16):
        occupancy, colors, elevation = model(t["image"], t["mask"])
    seen = (t["points"].abs() < 1).all(dim=-1).float()
    logits = sample(occupancy, t["points"])[..., 0]
    wrong = F.binary_cross_entropy_with_logits(logits, t["inside"], reduction="none")
    near_mask = F.avg_pool2d(F.max_pool2d(t["mask"], 3, 1, 1), 4) > 0.1
    weight = near_mask.float() + 0.05
    column, row = t["offset"].tolist()
    dense = F.binary_cross_entropy_with_logits(
        occupancy[:, 0, :, row::2, column::2], t["dense"], reduction="none"
    )
    color = sample(colors, t["surface"]).sigmoid()
    found = logits.sigmoid()[:, NEAR_POINTS:] * seen[:, NEAR_POINTS:]
    beside = sample(occupancy, t["beside"].flatten(1, 3))[..., 0].unflatten(
        1, t["beside"].shape[1:4]
    )
    known = (t["normal"].abs().sum(dim=-1) > 0) & (t["surface"].abs() < 0.95).all(dim=-1)
    return {
        "points": (wrong * seen).sum() / seen.sum(),
        "overlap": OVERLAP_WEIGHT * (1 - soft_iou(found, t["inside"][:, NEAR_POINTS:])).mean(),
        "rays": (dense * weight).sum() / (weight.sum() * dense.shape[1]),
        "ends": RAY_WEIGHT * ray_end(occupancy, t["first"]),
        "normals": NORMAL_WEIGHT * normal_loss(beside, t["normal"], known.float()),
        "color": (color - t["color"]).abs().mean(),
        "elevation": ELEVATION_WEIGHT
        * (elevation[:, 0] - t["elevation"] / ELEVATION_UNIT_DEG).abs().mean(),
    }


def sample(volume: Tensor, points: Tensor) -> Tensor:
    """Return (B, N, C) linear samples of volumes (B, C, D, H, W) at u, v, w (B, N, 3)."""
    places = points[:, None, None]
    found = F.grid_sample(volume, places, align_corners=False, padding_mode="border")
    return found[:, :, 0, 0].transpose(1, 2)


def soft_iou(found: Tensor, truth: Tensor) -> Tensor:
    """Return (B,) intersection over union of probabilities and truths (B, N) in [0, 1]."""
    both = (found * truth).sum(dim=1)
    return (both + 1) / (found.sum(dim=1) + truth.sum(dim=1) - both + 1)


def ray_end(occupancy: Tensor, first: Tensor) -> Tensor:
    """Return the mean negative log-likelihood of the true ends of rays.

    A ray stops in bin k with probability p_k prod_(j < k) (1 - p_j). In the background it must not
    stop at all.

    Args:
        occupancy: (B, 1, D, H, W) logits, front bin first.
        first: (B, H, W) w of the first hits. Hits between 1 and 1.5 are behind the frustum and do
            not count; 1.5 and more means no hit.
    """
    logit, bins = occupancy[:, 0], occupancy.shape[2]
    free = F.logsigmoid(-logit)
    through = free.cumsum(dim=1)
    ends = F.logsigmoid(logit) + through - free
    place = ((first + 1) / 2 * bins - 0.5).clamp(0, bins - 1)
    low = place.floor().long().clamp(0, bins - 2)
    share = place - low
    near, far = ends.gather(1, low[:, None])[:, 0], ends.gather(1, low[:, None] + 1)[:, 0]
    hit = -torch.logaddexp(near + torch.log(1.05 - share), far + torch.log(share + 0.05))
    return torch.where(first < 1, hit, torch.where(first < 1.5, 0.0, -through[:, -1])).mean()


def normal_loss(beside: Tensor, normals: Tensor, known: Tensor) -> Tensor:
    """Return the mean of 1 - cosine between outward normals and the steepest fall of occupancy.

    Args:
        beside: (B, 2, 3, N) occupancy logits next to N surface points: one step forward and one
            backward along each of the world's axes.
        normals: (B, N, 3) outward, unit.
        known: (B, N) 1 where the normal counts, else 0.
    """
    gradient = (beside[:, 0] - beside[:, 1]).transpose(1, 2)
    cosine = -(gradient * normals).sum(dim=-1) / (gradient.norm(dim=-1) + 1e-2)
    return ((1 - cosine) * known).sum() / known.sum().clamp_min(1)
