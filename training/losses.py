"""Losses of the embedded model on a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.reconstruction.frustum import ELEVATION_UNIT_DEG

from .batches import NEAR_POINTS, Batch

OVERLAP_WEIGHT, RAY_WEIGHT, NORMAL_WEIGHT, ELEVATION_WEIGHT = 0.2, 0.3, 0.25, 0.1
AROUND_WEIGHT = 0.3
SEEN_COLOR_WEIGHT = 0.1  # the image has the colours of visible points
_BEHIND = 0.07  # of w; points farther behind the first hit are unseen

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
    every_second = occupancy[:, 0, :, row::2, column::2]
    dense = F.binary_cross_entropy_with_logits(every_second, t["dense"], reduction="none")
    color = sample(colors, t["surface"]).sigmoid()
    counted = unseen(t["surface"], t["first"]).float() + SEEN_COLOR_WEIGHT
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
        "around": AROUND_WEIGHT * ends_around(every_second, t["dense"]),
        "normals": NORMAL_WEIGHT * normal_loss(beside, t["normal"], known.float()),
        "color": ((color - t["color"]).abs().mean(dim=-1) * counted).sum() / counted.sum(),
        "elevation": ELEVATION_WEIGHT
        * (elevation[:, 0] - t["elevation"] / ELEVATION_UNIT_DEG).abs().mean(),
    }


def sample(volume: Tensor, points: Tensor) -> Tensor:
    """Return (B, N, C) linear samples of volumes (B, C, D, H, W) at u, v, w (B, N, 3)."""
    places = points[:, None, None]
    found = F.grid_sample(volume, places, align_corners=False, padding_mode="border")
    return found[:, :, 0, 0].transpose(1, 2)


def unseen(points: Tensor, first: Tensor) -> Tensor:
    """Return (B, N): whether points u, v, w (B, N, 3) are behind the first hits w (B, H, W)."""
    places = points[:, None, :, :2]
    front = F.grid_sample(first[:, None], places, "nearest", "border", align_corners=False)
    return points[..., 2] > front[:, 0, 0] + _BEHIND


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


def ends_around(occupancy: Tensor, truth: Tensor) -> Tensor:
    """Return the mean negative log-likelihood of the true ends of lines from five other sides.

    It is `ray_end` for lines that enter the volume from behind, above, below, left and right, and
    end in the first cell that is in the object. A slab, where depth is uncertain, stops too many.

    Args:
        occupancy: (B, D, H, W) logits.
        truth: (B, D, H, W) 1 in the object, else 0.
    """
    free, solid = F.logsigmoid(-occupancy), F.logsigmoid(occupancy)
    losses = []
    for dim, reverse in ((1, True), (2, False), (2, True), (3, False), (3, True)):
        past, stop, inside = (x.flip(dim) if reverse else x for x in (free, solid, truth))
        through = past.cumsum(dim)
        hit, first = inside.max(dim, keepdim=True)  # the first of equal values
        end = (stop + through - past).gather(dim, first)
        losses.append(-torch.where(hit > 0, end, through.narrow(dim, -1, 1)).mean())
    return torch.stack(losses).mean()


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
