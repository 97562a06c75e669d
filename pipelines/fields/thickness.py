"""Give an object plausible thickness where a network is uncertain of its depth.

A network that is uncertain where a chair's leg stands gives it probabilities of about a half over a
long stretch of its ray. Cut at one half, all of that is solid: a slab. Two rules prevent it. An
uncertain ray is solid only over its expected length, around its likeliest bins; and an object is at
most a multiple as deep as it is wide. Toward the outline it becomes as thin as round things do.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_GAIN = 1.2  # of the expected length; probabilities near the outline are too low
_MIN_BINS = 2.0  # solid on every ray of the mask, or thin parts vanish
_CONFIDENT_LOGIT, _SHARPNESS = 2.5, 3.0  # from which a ray is certain, and how abruptly
IN_MASK = 0.05  # of a pixel's area, from which its ray is one of the mask's
_BACKGROUND = 1e-3  # weight, while smoothing, of a ray that is none of the mask's
_RADIUS_PIXELS = 128  # along a side of the mask whose widths are measured
# Half of the depth that there is at most, at a distance from the outline: this times its square
# root, both in image sides. A ball of half an image side has 1.
_ROUNDING = 1.7
_DEPTH_PER_WIDTH = 1.8  # of an uncertain part, at most
_MIN_REACH = 0.025  # image sides; thinner legs break
_OUTLINE_BLUR = 0.006  # image sides; sharper details of the outline would run along rays as ridges


def expected_thickness(logits: Tensor, coverage: Tensor) -> tuple[Tensor, Tensor]:
    """Shift each uncertain ray until its expected length is solid.

    Args:
        logits: (1, D, H, W) of occupancy.
        coverage: (1, 1, H, W) share of each ray's pixel that the mask covers, in [0, 1].

    Returns:
        logits: (1, D, H, W), 0 at the surface.
        uncertain: (1, 1, H, W) in [0, 1].
    """
    bins = logits.shape[1]
    length = (logits.sigmoid().sum(dim=1, keepdim=True) * _GAIN).clamp(_MIN_BINS, bins - 1.0)
    ordered = logits.sort(dim=1, descending=True).values
    low = (length - 1).floor().long().clamp(0, bins - 2)
    threshold = torch.lerp(ordered.gather(1, low), ordered.gather(1, low + 1), length - 1 - low)
    peak = logits.amax(dim=1, keepdim=True)
    uncertain = torch.sigmoid(_SHARPNESS * (_CONFIDENT_LOGIT - peak))
    threshold = smooth_within(threshold * uncertain, coverage)
    # A ray whose neighbours are likelier must not come away empty.
    threshold = torch.minimum(threshold, ordered[:, 2:3])
    near = F.max_pool2d(coverage, 3, 1, 1) > IN_MASK
    return torch.where(near, logits - threshold, logits), smooth_within(uncertain, coverage)


def smooth_within(values: Tensor, coverage: Tensor, times: int = 2) -> Tensor:
    """Smooth (1, C, H, W) with [1, 2, 1] / 4, almost ignoring rays outside the mask.

    Args:
        values: to be smoothed along the last two axes.
        coverage: (1, 1, H, W) share of each ray's pixel that the mask covers, in [0, 1].
        times: how often; twice is like a Gaussian with a standard deviation of one pixel.
    """
    line = values.new_tensor([0.25, 0.5, 0.25])
    kernel = line[:, None] * line
    weights = (coverage > IN_MASK).to(values) + _BACKGROUND

    def around(images: Tensor) -> Tensor:
        channels = images.shape[1]
        padded = F.pad(images, [1] * 4, "replicate")
        return F.conv2d(padded, kernel.expand(channels, 1, 3, 3), groups=channels)

    for _ in range(times):
        values = around(values * weights) / around(weights)
    return values


def depth_limit(mask: Tensor, outline: Tensor, uncertain: Tensor) -> Tensor:
    """Return (1, 1, S, S) how far from the middle of its ray an object may reach, in image sides.

    Args:
        mask: (1, 1, S, S) in [0, 1], 1 is the object.
        outline: (1, 1, S, S) signed distance from its outline in image sides, positive inside.
        uncertain: (1, 1, H, W) of the rays, in [0, 1]; confident ones are only rounded.
    """
    from scipy.ndimage import gaussian_filter  # slow to import

    size = mask.shape[-2:]
    blurred = gaussian_filter(outline[0, 0].cpu().numpy(), _OUTLINE_BLUR * size[0])
    distance = torch.from_numpy(blurred).to(outline)[None, None].clamp_min(0)
    radius, uncertain = (
        F.interpolate(x.to(outline), size=size, mode="bilinear", align_corners=False)
        for x in (local_radius(mask), uncertain)
    )
    width = (distance * (2 * radius - distance).clamp_min(0)).sqrt()
    reach = (_DEPTH_PER_WIDTH * width).clamp_min(_MIN_REACH) / uncertain.clamp_min(0.02)
    return torch.minimum(_ROUNDING * distance.sqrt(), reach)


def local_radius(mask: Tensor) -> Tensor:
    """Return (1, 1, R, R) radius of the largest disc inside a mask that covers each place.

    In image sides, smooth, 0 far outside.

    Args:
        mask: (1, 1, S, S) in [0, 1].
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter  # slow to import

    size = min(_RADIUS_PIXELS, mask.shape[-1])
    solid = F.interpolate(mask.cpu(), size=(size, size), mode="area")[0, 0].numpy() > 0.5
    inside = distance_transform_edt(solid)
    radius = inside.copy()
    for r in np.arange(1, inside.max()):
        covered = distance_transform_edt(inside < r) < r
        radius[covered] = np.maximum(radius[covered], r)
    weights = solid.astype(float)
    smooth = gaussian_filter(radius * weights, 1.5) / gaussian_filter(weights, 1.5).clip(1e-3)
    return torch.from_numpy(smooth / size).float()[None, None]
