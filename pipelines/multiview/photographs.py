"""Several photographs of one object: complete them to views from all sides."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cameras import (
    ZERO123PLUS_AZIMUTHS_DEG,
    ZERO123PLUS_ELEVATIONS_DEG,
    ZERO123PLUS_FOV_Y_DEG,
    ZERO123PLUS_RADIUS,
    Cameras,
    cameras_around,
)
from ..devices import CPU
from ..errors import InvalidInput, NothingInImage
from ..images.background import remove_background
from ..images.framed_image import object_mask
from ..images.framing import DEFAULT_RATIO, frame_foreground, frame_together, object_box
from ..meshes.projection import PosedImages
from ..meshes.rasterization import on_screen
from ..progress import Progress, silent, stage
from ..settings import Settings, ViewSettings
from .generation import generate_views
from .sampling import choose_seed
from .zero123plus import MultiviewModel

log = logging.getLogger(__name__)

#: Names of sides, and their azimuths in degrees.
SIDES: Mapping[str, float] = {"front": 0.0, "left": 90.0, "back": 180.0, "right": 270.0}
_COVERED_DEG = 45.0  # a view is missing if no photograph or other view is within this angle of it
_DISTINCT_DEG = 5.0  # lowest angle between two photographs
_MAX_SIZE = 1024  # side of framed photographs in pixels
_GRID = 96  # points along an edge of the grid of the visual hull


@dataclass(frozen=True)
class Viewpoints:
    """Directions from which upright cameras took several photographs of one object.

    Attributes:
        azimuths_deg: N directions; 0 is the object's front, 90 its left side.
        elevation_deg: angle of all cameras above the horizon.

    Raises:
        InvalidInput: if two photographs are from the same side.
    """

    azimuths_deg: tuple[float, ...]
    elevation_deg: float = 0.0

    def __post_init__(self) -> None:
        for one, other in combinations(self.azimuths_deg, 2):
            if not _angle(one - other) >= _DISTINCT_DEG:
                raise InvalidInput(
                    f"Photographs must be from different sides, got azimuths {one:g} and"
                    f" {other:g} degrees: leave out one of them."
                )

    @classmethod
    def of(cls, sides: Iterable[str | float], settings: Settings) -> Viewpoints:
        """Create viewpoints with the elevation of the settings.

        Args:
            sides: names in `SIDES`, or azimuths in degrees.
            settings: only the elevation is used.

        Raises:
            InvalidInput: if a side is neither, or two photographs are from the same side.
        """
        try:
            azimuths = tuple(SIDES[s] if s in SIDES else float(s) for s in map(str, sides))
        except ValueError as error:
            raise InvalidInput(
                f"A side must be {', '.join(SIDES)} or an azimuth in degrees: {error}."
            ) from error
        return cls(azimuths, settings.elevation)

    @property
    def cameras(self) -> Cameras:
        elevations = [self.elevation_deg] * len(self.azimuths_deg)
        return cameras_around(
            self.azimuths_deg, elevations, ZERO123PLUS_RADIUS, ZERO123PLUS_FOV_Y_DEG
        )

    @property
    def complete(self) -> bool:
        """True if the photographs show all sides, so that no view is missing."""
        return not any(missing_views(self.azimuths_deg))


@dataclass(frozen=True)
class Photographs:
    """Photographs of one object, framed at one scale.

    Attributes:
        images: (N, 3, S, S) on white, in [0, 1].
        masks: (N, 1, S, S) in [0, 1], 1 on the object.
        viewpoints: N directions.
        foreground_ratio: see `images.framing.frame_together`.
    """

    images: Tensor
    masks: Tensor
    viewpoints: Viewpoints
    foreground_ratio: float

    @property
    def posed(self) -> PosedImages:
        return PosedImages(self.images, self.viewpoints.cameras, self.masks)

    def scaled(self, factor: float) -> Photographs:
        """Return the photographs with the object larger by a factor."""
        ratio = min(max(self.foreground_ratio * factor, 0.1), 1.0)
        images, masks = frame_together(
            self.images.split(1),
            self.masks.split(1),
            elevation_deg=self.viewpoints.elevation_deg,
            foreground_ratio=ratio,
            size=self.images.shape[-1],
        )
        return replace(self, images=images, masks=masks, foreground_ratio=ratio)


def frame_photographs(
    images: Sequence[Tensor],
    viewpoints: Viewpoints,
    settings: Settings,
    *,
    background_models: Path | None = None,
    device: torch.device = CPU,
    progress: Progress = silent,
) -> Photographs:
    """Segment the object in several photographs, and frame it at one common scale.

    Args:
        images: N photographs (1, 3 or 4, H, W) in [0, 1], of any sizes.
        viewpoints: N directions.
        settings: only background and framing are used.
        background_models: folder of rembg's models; None for rembg's default folder.
        device: device of rembg's models.
        progress: called after each photograph.

    Raises:
        InvalidInput: if the numbers of photographs and directions differ, or as in
            `frame_together`.
        NothingInImage, EnvironmentProblem: as `images.background.remove_background`.
    """
    if len(images) != len(viewpoints.azimuths_deg):
        raise InvalidInput(
            f"There must be one direction for each photograph, got {len(images)} photographs and"
            f" {len(viewpoints.azimuths_deg)} directions."
        )
    masks = []
    for image in images:
        masks.append(object_mask(image, settings, background_models, device).cpu())
        progress(len(masks), len(images), stage="background")
    ratio = settings.foreground_ratio or DEFAULT_RATIO
    framed, framed_masks = frame_together(
        [image[:, :3].cpu().float() for image in images],
        masks,
        elevation_deg=viewpoints.elevation_deg,
        foreground_ratio=ratio,
        size=min(max(max(image.shape[-2:]) for image in images), _MAX_SIZE),
    )
    progress(1, 1, framed[:1], stage="framing")
    return Photographs(framed, framed_masks, viewpoints, ratio)


def missing_views(azimuths_deg: Sequence[float]) -> list[list[int]]:
    """Choose which of the six views that can be generated from each photograph are missing.

    A view is missing if no photograph and no other chosen view is within 45 degrees of it. Views
    that are nearest to their photograph are chosen first. A single photograph is replaced by its
    six views, which the reconstruction models were trained on.

    Args:
        azimuths_deg: directions of the N photographs.

    Returns:
        for each photograph, the indices of views in `cameras.ZERO123PLUS_AZIMUTHS_DEG`.
    """
    if len(azimuths_deg) == 1:
        return [list(range(6))]
    chosen: list[list[int]] = [[] for _ in azimuths_deg]
    covered = list(azimuths_deg)
    for views in ((0, 5), (1, 4), (2, 3)):  # to both sides, at 30, 90 and 150 degrees
        for own, view in product(range(len(azimuths_deg)), views):
            direction = azimuths_deg[own] + ZERO123PLUS_AZIMUTHS_DEG[view]
            if min(_angle(direction - other) for other in covered) > _COVERED_DEG:
                covered.append(direction)
                chosen[own].append(view)
    return chosen


def complete(
    model: MultiviewModel,
    photographs: Photographs,
    settings: ViewSettings,
    *,
    progress: Progress = silent,
) -> tuple[PosedImages, Photographs, int]:
    """Generate the missing views of several photographs.

    Args:
        model: the multiview model, on one device.
        photographs: N photographs.
        settings: sampling settings. Each photograph that generates views uses the next seed.
        progress: called after each step.

    Returns:
        views: the photographs, followed by the generated views.
        photographs: as given, but at the scale of the generated views.
        seed: the first seed; 0 if no view was missing.
    """
    chosen = missing_views(photographs.viewpoints.azimuths_deg)
    sources = [i for i, views in enumerate(chosen) if views]
    if not sources:
        return photographs.posed, photographs, 0
    first, generated = choose_seed(settings.seed), []
    for number, i in enumerate(sources):
        image, mask = frame_foreground(photographs.images[[i]], photographs.masks[[i]])
        own = settings.model_copy(update={"seed": first + number})
        made = generate_views(
            model, image, mask, own, progress=stage(progress, number, len(sources))
        )
        generated.append(PosedImages(made.views, _turned(photographs.viewpoints.azimuths_deg[i])))
    photographs = photographs.scaled(scale_of(photographs, generated[0]))
    views = [_part(one, chosen[i]) for i, one in zip(sources, generated, strict=True)]
    if len(photographs.images) > 1:
        views.insert(0, _resized(photographs.posed, generated[0].images.shape[-1]))
    return _joined(views), photographs, first


def scale_of(photographs: Photographs, views: PosedImages) -> float:
    """Return the factor by which the object is larger in the views than in the photographs.

    The views' silhouettes are carved into a visual hull. The diagonal of its box, as seen by each
    photograph's camera, is compared with that of the object's box in the photograph. The diagonal
    depends mostly on the longer side. That is the reliable one, since views from 20 degrees above
    or 10 below bound the thickness of flat objects only loosely.

    Args:
        photographs: N photographs.
        views: M views on white; no masks are needed.

    Source: Laurentini, "The visual hull concept" (1994).
    """
    try:
        hull = visual_hull(views.images, views.cameras)
        size, cameras = photographs.images.shape[-1], photographs.viewpoints.cameras
        factors = []
        for i, mask in enumerate(photographs.masks[:, 0]):
            top, bottom, left, right = object_box(mask)
            seen = on_screen(hull, cameras[[i]], size)[:, :2]
            extents = seen.amax(dim=0) - seen.amin(dim=0)
            factors.append(extents.norm() / math.hypot(right - left, bottom - top))
    except NothingInImage:
        log.warning("The generated views show no object, so the photographs keep their scale.")
        return 1.0
    return float(torch.stack(factors).median())


def visual_hull(images: Tensor, cameras: Cameras) -> Tensor:
    """Return points (P, 3) on a grid which are inside the silhouettes of all views on white.

    Raises:
        NothingInImage: if there are none.
    """
    half = ZERO123PLUS_RADIUS * math.tan(math.radians(ZERO123PLUS_FOV_Y_DEG / 2))
    axis = torch.linspace(-half, half, _GRID)
    points = torch.cartesian_prod(axis, axis, axis)
    size = images.shape[-1]
    for i, mask in enumerate(remove_background(images, "plain")):
        x, y = on_screen(points, cameras[[i]], size)[:, :2].round().long().unbind(dim=1)
        inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
        points, x, y = points[inside], x[inside], y[inside]
        points = points[mask[0, y, x] > 0.5]
    if not len(points):
        raise NothingInImage("The views have no common object.")
    return points


def _angle(degrees: float) -> float:
    """Return the absolute value of an angle, in [0, 180]."""
    return abs((degrees + 180) % 360 - 180)


def _turned(azimuth_deg: float) -> Cameras:
    """Return the cameras of the views that Zero123++ generates from a photograph."""
    azimuths = [azimuth_deg + offset for offset in ZERO123PLUS_AZIMUTHS_DEG]
    return cameras_around(
        azimuths, ZERO123PLUS_ELEVATIONS_DEG, ZERO123PLUS_RADIUS, ZERO123PLUS_FOV_Y_DEG
    )


def _part(views: PosedImages, indices: Sequence[int]) -> PosedImages:
    return PosedImages(views.images[list(indices)], views.cameras[indices])


def _resized(views: PosedImages, size: int) -> PosedImages:
    images = F.interpolate(views.images, (size, size), mode="area")
    return PosedImages(images, views.cameras)


def _joined(parts: Sequence[PosedImages]) -> PosedImages:
    cameras = Cameras.joined([one.cameras for one in parts])
    return PosedImages(torch.cat([one.images for one in parts]), cameras)
