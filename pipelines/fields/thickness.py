"""Give objects a plausible thickness where a network is uncertain about depth.

If a network does not know the depth of a chair's leg, it predicts probabilities of about one half
along much of the ray. Thresholded at one half, all of that becomes a solid slab. Three rules
prevent it. Uncertain rays agree with their neighbours. They are solid only over their expected
length, at their likeliest bins. The depth of an uncertain part is limited to a multiple of its
width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_GAIN = 1.2  # factor of the expected length: probabilities near the outline are too low
_MIN_BINS = 2.0  # lowest number of solid bins of a ray in the mask; with fewer, thin parts vanish
_CONFIDENT_LOGIT = 2.0  # peak of a ray at which its uncertainty is one half
_SHARPNESS = 3.0  # steepness of the uncertainty around that peak
_TIE = 1e-3  # bins whose logits are this close to a threshold count as solid
IN_MASK = 0.05  # coverage of a pixel from which its ray belongs to the mask
_BACKGROUND = 1e-3  # smoothing weight of rays outside the mask
_RADIUS_PIXELS = 128  # side length of the mask when widths are measured
_DEPTH_PER_WIDTH = 2.2  # largest ratio of depth to width of an uncertain part
_MIN_REACH = 0.025  # image sides; thinner legs break
_OUTLINE_BLUR = 0.006  # image sides; sharper details of the outline would become ridges along rays


def expected_thickness(logits: Tensor, coverage: Tensor) -> tuple[Tensor, Tensor]:
    """Smooth the logits of uncertain rays, then shift each so that its expected length is solid.

    Where the network does not know the depth, neighbouring rays guess differently; unsmoothed, that
    would make teeth and flaps at the outline.

    Args:
        logits: (1, D, H, W) occupancy logits.
        coverage: (1, 1, H, W) share of each ray's pixel that the mask covers, in [0, 1].

    Returns:
        logits: (1, D, H, W), 0 at the surface.
        uncertain: (1, 1, H, W) uncertainty of each ray in [0, 1].
    """
    bins, given = logits.shape[1], logits
    logits = torch.lerp(given, smooth_within(given, coverage), _uncertainty(given))
    length = (logits.sigmoid().sum(dim=1, keepdim=True) * _GAIN).clamp(_MIN_BINS, bins - 1.0)
    ordered = logits.sort(dim=1, descending=True).values
    low = (length - 1).floor().long().clamp(0, bins - 2)
    threshold = torch.lerp(ordered.gather(1, low), ordered.gather(1, low + 1), length - 1 - low)
    uncertain = _uncertainty(logits)
    threshold = smooth_within(threshold * uncertain, coverage)
    # Neither higher thresholds of neighbours nor equal bins must leave a ray empty.
    threshold = torch.minimum(threshold, ordered[:, 2:3]) - _TIE
    near = F.max_pool2d(coverage, 3, 1, 1) > IN_MASK
    return torch.where(near, logits - threshold, given), smooth_within(uncertain, coverage)


def _uncertainty(logits: Tensor) -> Tensor:
    """Return (1, 1, H, W) in [0, 1]: high if no bin of a ray (1, D, H, W) is likely to be solid."""
    peak = logits.amax(dim=1, keepdim=True)
    return torch.sigmoid(_SHARPNESS * (_CONFIDENT_LOGIT - peak))


def smooth_within(values: Tensor, coverage: Tensor, times: int = 2) -> Tensor:
    """Smooth (1, C, H, W) with [1, 2, 1] / 4, almost ignoring rays outside the mask.

    Args:
        values: (1, C, H, W).
        coverage: (1, 1, H, W) share of each ray's pixel that the mask covers, in [0, 1].
        times: number of passes; two are like a Gaussian with a standard deviation of one pixel.
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
    """Limit the depth of an object along each ray.

    Args:
        mask: (1, 1, S, S) in [0, 1], 1 is the object.
        outline: (1, 1, S, S) signed distance from the mask's outline in image sides, positive
            inside.
        uncertain: (1, 1, H, W) uncertainty of each ray, in [0, 1]; certain rays have no limit.

    Returns:
        (1, 1, S, S) largest distance of the object from the middle of the ray, in image sides.
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
    return (_DEPTH_PER_WIDTH * width).clamp_min(_MIN_REACH) / uncertain.clamp_min(0.02)


def local_radius(mask: Tensor) -> Tensor:
    """Measure the local thickness of a mask.

    Args:
        mask: (1, 1, S, S) in [0, 1].

    Returns:
        (1, 1, R, R), R <= S: for each pixel, the radius in image sides of the largest disc that
        covers it and lies inside the mask. It is smoothed, and 0 far outside.
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
