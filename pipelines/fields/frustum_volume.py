"""A volume in a camera's frustum: occupancy along the ray of each pixel of an image.

Frustum coordinates are u (right) and v (down), in [-1, 1] across the image, and w in [-1, 1] away
from the camera. w covers `half_depth` image sides in front of and behind the plane through the
camera's target. An image side is the width of the image in that plane.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cameras import Cameras, cameras_around
from .point_grid import PointGrid
from .thickness import depth_limit, smooth_within

_FILL = 0.95  # largest coordinate of the object in world coordinates
_MIDDLE_SMOOTHING = 4  # number of smoothing passes over the middles of rays
_DETAIL_PX = 4  # size of the smallest details, in pixels of `outline`
_OUTLINE = 0.5  # value per pixel of distance from the outline
_SEEN = 0.05  # image sides behind the first hit over which the image's colour fades out


@dataclass(frozen=True)
class FrustumVolume:
    """An object reconstructed from one image: a `field.SignedDistanceField`.

    Its value is an occupancy logit, 0 at the surface. It is not a distance: only its sign has a
    meaning.

    Attributes:
        occupancy: (1, 1, D, H, W) logits, front bin first.
        raw_color: (1, 3, D', H, W) logits of sRGB.
        image: (1, 3, S, S) sRGB in [0, 1], the image of the object.
        outline: (1, 1, S, S) signed distance from the mask's outline in pixels of `occupancy`,
            positive inside. Nothing outside the mask is solid.
        limit: (1, 2, S, S) largest distance from the middle of the ray that may be solid, in image
            sides, and the length of the gradient of (limit - distance), at least 1.
        first: (1, 1, H, W) w at which each ray enters the object; 1 if it misses.
        middle: (1, 1, H, W) w of the middle of the object along each ray.
        elevation_deg: elevation of the camera.
        fov_y_deg: vertical field of view of the camera.
        half_depth: half the depth of the frustum, in image sides.
        center: (3,) centre of the object in an upright frame at the camera's target, in image
            sides.
        scale: world units per image side.
    """

    occupancy: Tensor
    raw_color: Tensor
    image: Tensor
    outline: Tensor
    limit: Tensor
    first: Tensor
    middle: Tensor
    elevation_deg: float
    fov_y_deg: float
    half_depth: float
    center: Tensor
    scale: float
    kind: Literal["signed_distance"] = "signed_distance"
    costly: bool = False
    resolution: int = 128
    half_side: float = 1.0

    @classmethod
    def of(
        cls,
        occupancy: Tensor,
        raw_color: Tensor,
        image: Tensor,
        mask: Tensor,
        *,
        uncertain: Tensor | None = None,
        elevation_deg: float,
        fov_y_deg: float,
        half_depth: float,
    ) -> FrustumVolume:
        """Build a volume, with the object centred and scaled like those of other models.

        Args:
            occupancy: see the attributes.
            raw_color: see the attributes.
            image: see the attributes.
            mask: (1, 1, S, S) in [0, 1], 1 is the object.
            uncertain: (1, 1, H, W) uncertainty of each ray's depth, in [0, 1]; None for 0.
            elevation_deg: see the attributes.
            fov_y_deg: see the attributes.
            half_depth: see the attributes.
        """
        pixels = occupancy.shape[-1]  # per image side
        outline = _signed_pixels(mask, pixels)
        if uncertain is None:
            uncertain = torch.zeros_like(occupancy[:, 0, :1])
        limit = _with_steepness(depth_limit(mask, outline / pixels, uncertain))
        coverage = F.interpolate(mask, size=occupancy.shape[-2:], mode="area")
        within = F.interpolate(outline, size=occupancy.shape[-2:], mode="area") > -0.5
        inside = (occupancy[0, 0] > 0) & within[0]
        bins = len(inside)
        middles = (torch.arange(bins, device=inside.device) + 0.5) / bins * 2 - 1
        hit = inside.any(dim=0)
        first = torch.where(hit, middles[inside.int().argmax(dim=0)], 1.0)[None, None]
        volume = cls(
            occupancy,
            raw_color,
            image,
            outline,
            limit,
            first,
            smooth_within(_middle_of(occupancy, middles), coverage, _MIDDLE_SMOOTHING),
            elevation_deg,
            fov_y_deg,
            half_depth,
            torch.zeros(3, device=inside.device),
            1.0,
        )
        return volume._centered(inside) if bool(hit.any()) else volume

    def _centered(self, inside: Tensor) -> FrustumVolume:
        """Return the volume with the centre and scale of its solid bins (D, H, W)."""
        w, v, u = inside.nonzero().unbind(dim=1)
        depth, height, width = inside.shape
        cells = zip((u, v, w), (width, height, depth), strict=True)
        frustum = torch.stack([(index + 0.5) / count * 2 - 1 for index, count in cells], dim=1)
        points = self._upright(self._camera_points(frustum))
        low, high = points.amin(dim=0), points.amax(dim=0)
        scale = _FILL / float((high - low).amax() / 2)
        return replace(self, center=(low + high) / 2, scale=scale)

    def _comfy_cache_tensors(self) -> list[Tensor]:
        """Return all tensors: ComfyUI's cache uses them to measure an output's memory."""
        return [value for value in vars(self).values() if isinstance(value, Tensor)]

    @property
    def device(self) -> torch.device:
        return self.occupancy.device

    @property
    def detail(self) -> float:
        """The size of `_DETAIL_PX` pixels of `outline` in world units.

        Thinner parts are found too if they touch a thicker one: extraction follows the surface.
        """
        return _DETAIL_PX * self.scale / self.outline.shape[-1]

    @property
    def camera(self) -> Cameras:
        """The camera of the image, in world coordinates."""
        cameras = cameras_around([0.0], [self.elevation_deg], self._distance, self.fov_y_deg)
        cameras.c2w[:, :3, 3] = (cameras.c2w[:, :3, 3] - self.center.cpu()) * self.scale
        return cameras

    def to(self, device: torch.device | str) -> FrustumVolume:
        tensors = ((name, x) for name, x in vars(self).items() if isinstance(x, Tensor))
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in tensors}
        return replace(self, **moved)

    def values(self, points: Tensor, chunk_size: int) -> Tensor:
        return torch.cat([self._values(chunk) for chunk in points.split(chunk_size)])

    def values_on_grid(self, x: Tensor, y: Tensor, z: Tensor) -> PointGrid:
        return PointGrid(self._values, x, y, z)

    def colors(self, points: Tensor, chunk_size: int) -> Tensor:
        """Return sRGB (N, 3): the image's colours for points that the camera sees."""
        # A ray that misses, next to the outline, counts as seeing what its neighbours see.
        nearest = -F.max_pool2d(-self.first, 3, 1, 1)
        front = torch.where(self.first < 1, self.first, nearest)
        return torch.cat([self._colors(chunk, front) for chunk in points.split(chunk_size)])

    def deformation(self, axis: Tensor, chunk_size: int) -> None:
        return None

    def cube_weights(self, axis: Tensor, chunk_size: int) -> None:
        return None

    @property
    def _distance(self) -> float:
        """The camera's distance from its target, in image sides."""
        return 0.5 / math.tan(math.radians(self.fov_y_deg) / 2)

    def _rotation(self) -> Tensor:
        """Return (3, 3): rows are the camera's right, up and backward axes in the upright frame."""
        e = math.radians(self.elevation_deg)
        rows = [[0.0, 1.0, 0.0], [-math.sin(e), 0.0, math.cos(e)], [math.cos(e), 0.0, math.sin(e)]]
        return torch.tensor(rows, device=self.device)

    def _upright(self, camera: Tensor) -> Tensor:
        """Rotate points (N, 3) from the camera's frame to the upright frame."""
        return camera @ self._rotation()

    def _camera_points(self, frustum: Tensor) -> Tensor:
        """Convert u, v, w (N, 3) to right, up, backward (N, 3) in image sides."""
        u, v, w = frustum.unbind(dim=1)
        z = -w * self.half_depth
        near = (self._distance - z) / self._distance / 2
        return torch.stack([u * near, -v * near, z], dim=1)

    def _frustum_points(self, points: Tensor) -> Tensor:
        """Convert world points (N, 3) to u, v, w (N, 3)."""
        camera = (points / self.scale + self.center) @ self._rotation().T
        x, y, z = camera.unbind(dim=1)
        nearness = 2 * self._distance / (self._distance - z).clamp_min(1e-3)
        return torch.stack([x * nearness, -y * nearness, -z / self.half_depth], dim=1)

    def _values(self, points: Tensor) -> Tensor:
        """Return (N,) values at points (N, 3): the occupancy, capped by three limits."""
        frustum = self._frustum_points(points)
        pixels = self.occupancy.shape[-1]  # per image side
        on_image = frustum[:, :2].contiguous()
        maps = _at(torch.cat([self.outline, self.limit], dim=1), on_image)
        outline, limit, steepness = maps.unbind(dim=1)
        u, v, w = frustum.unbind(dim=1)
        depth = (w - _at(self.middle, on_image)[:, 0]).abs() * self.half_depth
        shallow = (limit - depth) / steepness * pixels
        # Nothing outside the frustum is solid.
        farthest = torch.maximum(torch.maximum(u.abs(), v.abs()), w.abs())
        beyond = (1 - farthest) * pixels / 2
        limits = torch.minimum(torch.minimum(outline, shallow), beyond) * _OUTLINE
        return torch.minimum(_at(self.occupancy, frustum)[:, 0], limits)

    def _colors(self, points: Tensor, front: Tensor) -> Tensor:
        frustum = self._frustum_points(points)
        own = _at(self.raw_color, frustum).sigmoid()
        shown = _at(self.image, frustum[:, :2])
        behind = (frustum[:, 2] - _at(front, frustum[:, :2])[:, 0]) * self.half_depth
        inside = _at(self.outline, frustum[:, :2])[:, 0]
        seen = ((_SEEN - behind) / _SEEN).clamp(0, 1) * (inside + 0.25).clamp(0, 1)
        return torch.lerp(own, shown, seen[:, None])


def _at(volume: Tensor, frustum: Tensor) -> Tensor:
    """Sample (1, C, D, H, W) at u, v, w (N, 3), or (1, C, H, W) at u, v (N, 2).

    Returns:
        (N, C).
    """
    place = frustum[None, None] if frustum.shape[1] == 2 else frustum[None, None, None]
    found = F.grid_sample(volume, place, align_corners=False, padding_mode="border")
    return found.flatten(2)[0].T


def _middle_of(occupancy: Tensor, bins: Tensor) -> Tensor:
    """Return (1, 1, H, W): the mean depth w of the occupied part of each ray."""
    share = occupancy.sigmoid()
    return (share * bins[:, None, None]).sum(dim=2) / share.sum(dim=2).clamp_min(1e-6)


def _with_steepness(limit: Tensor) -> Tensor:
    """Append the length of the gradient of (limit - depth) to a map (1, 1, S, S) in image sides.

    Divided by it, the difference is a distance near its zero set, to first order (Taubin, *Distance
    Approximations for Rasterizing Implicit Curves*, 1994). Next to the outline, limits change by
    much more than a cell from one pixel to the next, which would make steps in the surface.
    """
    down, right = torch.gradient(limit[0, 0], spacing=1 / limit.shape[-1])
    steepness = (1 + down**2 + right**2).sqrt()
    return torch.cat([limit, steepness[None, None]], dim=1)


def _signed_pixels(mask: Tensor, width: int) -> Tensor:
    """Return (1, 1, S, S): the signed distance from a mask's outline, in pixels."""
    from scipy.ndimage import distance_transform_edt  # slow to import

    levels = mask[0, 0].cpu().numpy()
    solid = levels > 0.5
    # The outline is half a pixel away from the nearest pixel centres on both sides.
    inside = distance_transform_edt(solid) - 0.5 if solid.any() else -1.0 * ~solid
    outside = distance_transform_edt(~solid) - 0.5
    signed = torch.from_numpy(inside * solid - outside * ~solid).float()
    return (signed * width / mask.shape[-1])[None, None].to(mask.device)
