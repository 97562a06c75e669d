"""Estimate the camera of a photograph by fitting a mesh to the outline of the object."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..cameras import Cameras, look_at_origin
from ..errors import InvalidInput
from ..images.background import remove_background
from ..progress import Progress, silent, stage
from .decimation import decimate
from .mesh import Mesh, interpolate
from .projection import PosedImages
from .rasterization import Silhouette, on_screen, visible_triangles

log = logging.getLogger(__name__)

#: A fit with a lower overlap of mesh and mask is rejected: the mesh does not match the photograph.
LEAST_OVERLAP = 0.85
_FACES = 5000  # triangles of the decimated mesh that is compared with the photograph
_SIZE, _SAMPLES = 64, 4  # side length in pixels of the compared images, samples per pixel side
#: Azimuths to try for a mesh whose pose is not that of the photograph.
ALL_AROUND = range(-180, 180, 15)
FRONT = (0.0,)
_ELEVATIONS_DEG = range(-20, 61, 5)
_ELEVATIONS_AROUND_DEG = range(-20, 61, 10)
_FIELD_OF_VIEW_AROUND_DEG = (30.0,)
_SAMPLES_AROUND = 2  # samples per pixel side in a search all around
_COLOR_SAMPLES = 2  # samples per pixel side of rendered colours
_REFINED = 5  # number of azimuths that least squares refines after a search all around
_BACK_PENALTY = 0.02  # overlap that a view from behind must gain over one from the front
_FIELDS_OF_VIEW_DEG = (20.0, 35.0, 50.0)
_COLOR_WEIGHT = 0.5  # weight of the mean colour difference, relative to the overlap
# Step sizes of the parameters: azimuth, elevation and roll in degrees, log distance, log scale, and
# the shift (x, y) in image sides.
_STEPS = np.array([2.0, 3.0, 2.0, 0.15, 0.03, 0.01, 0.01])
_DIFFERENCE = 0.7  # finite difference for the Jacobian, as a share of a step
_BLURS = (7, 3, 3)  # kernel sizes in pixels of the blur before each comparison, coarse to fine
_ITERATIONS = 12

Floats = NDArray[np.float64]
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class CameraFit:
    """The estimated camera of a photograph, and how well the mesh fits the photograph's mask.

    Attributes:
        camera: one camera in the mesh's world coordinates; its image is the square photograph.
        overlap: intersection over union of the mask and the mesh's silhouette.
        azimuth_deg: azimuth of the camera from the mesh's front, in [-180, 180].
        elevation_deg: elevation of the camera above the horizon.
        roll_deg: clockwise roll of the camera around its viewing axis.
    """

    camera: Cameras
    overlap: float
    azimuth_deg: float
    elevation_deg: float
    roll_deg: float

    @property
    def trusted(self) -> bool:
        return self.overlap >= LEAST_OVERLAP

    @property
    def sentence(self) -> str:
        """The result as a sentence for the user."""
        share = f"{100 * self.overlap:.0f} %"
        if not self.trusted:
            return (
                "The photograph is left out of the texture: the mesh and the photograph's mask"
                f" overlap by only {share}."
            )
        azimuth, elevation = round(self.azimuth_deg), round(self.elevation_deg)
        around = f"azimuth {azimuth} and " if azimuth else ""
        return (
            f"The photograph was taken from {around}elevation {elevation} degrees: the mesh and the"
            f" photograph's mask overlap by {share}."
        )

    def posed(self, image: Tensor, mask: Tensor) -> PosedImages | None:
        """Return the photograph with its camera; None if the mesh does not fit it."""
        return PosedImages(image, self.camera, mask) if self.trusted else None


def is_plain(mesh: Mesh) -> bool:
    """Return whether a mesh has no texture, and at most one colour."""
    colors = mesh.vertex_colors
    return mesh.texture is None and (colors is None or bool((colors == colors[:1]).all()))


def fit_of(mesh: Mesh, camera: Cameras, mask: Tensor) -> CameraFit:
    """Measure the overlap of the mask (1, 1, S, S) and the mesh as seen by a known camera."""
    shape = decimate(Mesh(mesh.vertices, mesh.faces), _FACES)
    return _Target(shape, mask.expand(-1, 3, -1, -1), mask).measure(camera)


def fit_camera(
    mesh: Mesh,
    image: Tensor,
    mask: Tensor,
    azimuths_deg: Sequence[float] = FRONT,
    *,
    known: Cameras | None = None,
    progress: Progress = silent,
) -> CameraFit:
    """Find the camera from which the mesh fits the mask best.

    A coarse search tries the azimuths with a list of elevations and fields of view; least squares
    then refines the best ones. It adjusts azimuth, elevation, roll, scale and shift, and the
    distance together with the focal length. Vertex colours, if any, decide between views with the
    same outline; otherwise the one nearer to the front is preferred.

    Args:
        mesh: front at +x.
        image: (1, 3, S, S) sRGB in [0, 1]; the framed photograph.
        mask: (1, 1, S, S) in [0, 1], 1 is the object.
        azimuths_deg: azimuths to try, one for a mesh in a known pose, or `ALL_AROUND`.
        known: camera to try first. If the mesh fits the mask there, it is the result.
        progress: called for each comparison; if it raises, the search stops.

    Raises:
        InvalidInput: if the shapes do not match, the mask is empty or the mesh has no triangles.

    Source: Branch, Coleman and Li, "A subspace, interior, and conjugate gradient method" (1999), as
    in scipy's least_squares; the Jacobian consists of finite differences.
    """
    if image.ndim != 4 or image.shape[:2] != (1, 3) or image.shape[2] != image.shape[3]:
        raise InvalidInput(
            f"The photograph must be square, (1, 3, S, S), got {tuple(image.shape)}."
        )
    if mask.shape != (1, 1, *image.shape[2:]):
        raise InvalidInput(
            f"The mask must be (1, 1, S, S) like its photograph {tuple(image.shape)}, got"
            f" {tuple(mask.shape)}."
        )
    if not bool((mask > 0.5).any()):
        raise InvalidInput("The mask holds no object: check the background removal.")
    if not len(mesh.faces):
        raise InvalidInput("The mesh has no triangles, so no camera can be fitted.")
    if known is not None and (fit := fit_of(mesh, known, mask)).trusted:
        return fit
    plain = replace(mesh, vertex_colors=None) if is_plain(mesh) else mesh
    shape, progress = decimate(plain, _FACES, stage(progress, 0, 2)), stage(progress, 1, 2)
    if len(azimuths_deg) > 1:
        return _fit_around(shape, image, mask, azimuths_deg, progress)
    target = _Target(shape, image, mask)
    starts = _starts(azimuths_deg[0], _ELEVATIONS_DEG, _FIELDS_OF_VIEW_DEG)
    best = min(_reported(starts, stage(progress, 0, 2)), key=target.misfit)
    return target.fit(best, _BLURS, stage(progress, 1, 2))


def fit_views(
    mesh: Mesh, views: PosedImages, azimuth_deg: float, progress: Progress = silent
) -> PosedImages | None:
    """Fit a camera to each generated view, for a mesh in another pose than the photograph.

    Args:
        mesh: front at +x.
        views: views on white, with cameras whose azimuths count from the photograph's.
        azimuth_deg: azimuth of the photograph.
        progress: see `fit_camera`.

    Returns:
        the views that fit the mesh, with their masks; None if no view fits.
    """
    images = views.images
    count = len(images)
    shape = decimate(Mesh(mesh.vertices, mesh.faces), _FACES, stage(progress, 0, count + 1))
    masks = remove_background(images, "plain")
    fits: dict[int, CameraFit] = {}
    for i, back in enumerate(views.cameras.c2w[:, :3, 2].tolist()):
        if bool((masks[i] > 0.5).any()):
            target = _Target(shape, images[i : i + 1], masks[i : i + 1], _SAMPLES_AROUND)
            azimuth = azimuth_deg + math.degrees(math.atan2(back[1], back[0]))
            elevation = math.degrees(math.asin(back[2]))
            (start,) = _starts(azimuth, [elevation], _FIELD_OF_VIEW_AROUND_DEG)
            fits[i] = target.fit(start, _BLURS[:2], stage(progress, i + 1, count + 1))
    kept = [i for i, fit in fits.items() if fit.trusted]
    if len(kept) < count:
        log.warning("%d of %d views fit the mesh; the others are ignored.", len(kept), count)
    if not kept:
        return None
    found = [fits[i].camera for i in kept]
    return PosedImages(images[kept].cpu(), Cameras.joined(found), masks[kept])


def _starts(
    azimuth: float, elevations: Sequence[float], fields_of_view: Sequence[float]
) -> list[Floats]:
    """Return parameters, see `_Target.camera`, for all pairs of elevation and field of view.

    Args:
        azimuth: in degrees.
        elevations: in degrees.
        fields_of_view: in degrees.
    """
    distances = [math.log(1 / math.tan(math.radians(fov) / 2)) for fov in fields_of_view]
    return [np.array([azimuth, e, 0.0, d, 0.0, 0.0, 0.0]) for e in elevations for d in distances]


def _reported(items: Sequence[_Item], progress: Progress) -> Iterator[_Item]:
    """Yield items, and report progress before each."""
    for i, item in enumerate(items):
        progress(i, len(items))
        yield item


def _fit_around(
    mesh: Mesh, image: Tensor, mask: Tensor, azimuths: Sequence[float], progress: Progress
) -> CameraFit:
    """Find the best of all directions around a mesh; see `fit_camera`."""
    target = _Target(mesh, image, mask, _SAMPLES_AROUND)
    best = [
        min(_starts(a, _ELEVATIONS_AROUND_DEG, _FIELD_OF_VIEW_AROUND_DEG), key=target.misfit)
        for a in _reported(azimuths, stage(progress, 0, 3))
    ]
    kept, part = sorted(best, key=target.misfit)[:_REFINED], stage(progress, 1, 3)
    start = min(
        (target.refine(s, _BLURS[0], stage(part, i, len(kept))) for i, s in enumerate(kept)),
        key=target.misfit,
    )
    return _Target(mesh, image, mask).fit(start, _BLURS[1:], stage(progress, 2, 3))


class _Target:
    """A decimated mesh and a downscaled photograph, for repeated comparison.

    Args:
        mesh: with at most `_FACES` triangles.
        image, mask: as in `fit_camera`.
        samples: samples per pixel side of the rendered mesh.
    """

    def __init__(self, mesh: Mesh, image: Tensor, mask: Tensor, samples: int = _SAMPLES) -> None:
        self.samples = samples
        low, high = mesh.vertices.amin(dim=0), mesh.vertices.amax(dim=0)
        self.center = (low + high) / 2
        self.radius = float((high - low).norm()) / 2 or 1.0
        self.vertices, self.faces, self.colors = mesh.vertices, mesh.faces, mesh.vertex_colors
        self.silhouette = Silhouette(mesh.faces)
        self.mask = _small(mask)[0]
        self.image = _small(image)
        solid = mask[0, 0].cpu() > 0.5
        rows, columns = (x.nonzero()[:, 0] for x in (solid.any(dim=1), solid.any(dim=0)))
        box = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        self.box = box / mask.shape[-1]

    def camera(self, parameters: Sequence[float]) -> Cameras:
        """Build a camera from the seven parameters of the fit.

        At scale 1 and shift 0 the bounding box of the silhouette has the size and centre of the
        mask's bounding box.

        Args:
            parameters: azimuth, elevation and roll in degrees; log of the distance from the mesh's
                bounding sphere, in its radii; log scale; shift right and down in image sides.
        """
        azimuth, elevation, roll, distance, scale, across, down = parameters
        elevation = max(-85.0, min(85.0, elevation))
        c2w = look_at_origin([azimuth], [elevation], self.radius * (1 + math.exp(distance)))
        turn = math.radians(roll)
        c, s = math.cos(turn), math.sin(turn)
        c2w[:, :3, :2] = c2w[:, :3, :2] @ torch.tensor([[c, s], [-s, c]])
        c2w[:, :3, 3] += self.center
        plain = torch.eye(3)
        plain[:2, 2] = 0.5
        seen = on_screen(self.vertices, Cameras(c2w, plain[None]), 1)[:, :2] + 0.5
        low, high = seen.amin(dim=0), seen.amax(dim=0)
        ratio = (self.box[2:] - self.box[:2]) / (high - low).clamp_min(1e-6)
        focal = float(ratio.log().mean().exp()) * math.exp(scale)
        middle = (self.box[2:] + self.box[:2]) / 2 + torch.tensor([across, down])
        intrinsics = torch.eye(3)
        intrinsics[0, 0] = intrinsics[1, 1] = focal
        intrinsics[:2, 2] = middle - ((low + high) / 2 - 0.5) * focal
        return Cameras(c2w, intrinsics[None])

    def render(self, camera: Cameras, samples: int = 0) -> tuple[Tensor, Tensor | None]:
        """Render the mesh: coverage (S, S) in [0, 1], and colours (3, S, S) on black, or None."""
        samples = samples or self.samples
        fine = samples * _SIZE
        covered = self.silhouette.covered(on_screen(self.vertices, camera, fine), fine)
        coverage = F.avg_pool2d(covered.float()[None, None], samples)[0, 0]
        if self.colors is None:
            return coverage, None
        fine = _COLOR_SAMPLES * _SIZE
        pixel, triangle, weights = visible_triangles(
            on_screen(self.vertices, camera, fine)[self.faces], fine
        )
        own = torch.zeros(fine * fine, 3)
        own[pixel] = interpolate(self.colors, self.faces[triangle], weights)
        return coverage, F.avg_pool2d(own.T.view(1, 3, fine, fine), _COLOR_SAMPLES)[0]

    def overlap(self, coverage: Tensor) -> float:
        """Return the intersection over union with the mask; pixels are weighted by coverage."""
        return float(torch.minimum(coverage, self.mask).sum()) / float(
            torch.maximum(coverage, self.mask).sum()
        )

    def difference(self, coverage: Tensor, colors: Tensor | None) -> Tensor:
        """Return photograph minus mesh (3, S, S), less the mean of each channel.

        Pixels that the mesh or the mask does not cover are 0.
        """
        both = (coverage > 0.99) & (self.mask > 0.99)
        if colors is None or not bool(both.any()):
            return torch.zeros(3, _SIZE, _SIZE)
        difference = self.image - colors
        mean = difference[:, both].mean(dim=1)[:, None, None]
        return torch.where(both, difference - mean, 0.0)

    def measure(self, camera: Cameras) -> CameraFit:
        """Return a camera's angles, and the overlap of the mask with the mesh that it sees."""
        right, up, back = camera.c2w[0, :3, :3].T
        level = torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0]), back)
        return CameraFit(
            camera,
            self.overlap(self.render(camera, _SAMPLES)[0]),
            math.degrees(math.atan2(float(back[1]), float(back[0]))),
            math.degrees(math.asin(float(back[2].clamp(-1, 1)))),
            math.degrees(math.atan2(float(up @ level), float(right @ level))),
        )

    def fit(self, start: Floats, blurs: Sequence[int], progress: Progress) -> CameraFit:
        """Refine parameters with each blur in turn."""
        for i, blur in enumerate(blurs):
            start = self.refine(start, blur, stage(progress, i, len(blurs)))
        return self.measure(self.camera(start.tolist()))

    def misfit(self, parameters: Floats) -> float:
        """Return how badly the parameters fit; the best fit has the lowest value."""
        coverage, colors = self.render(self.camera(parameters.tolist()))
        color = self.difference(coverage, colors).abs().sum() / 3 / self.mask.sum()
        behind = (1 - math.cos(math.radians(parameters[0]))) / 2
        return _COLOR_WEIGHT * float(color) + _BACK_PENALTY * behind - self.overlap(coverage)

    def refine(self, start: Floats, blur: int, progress: Progress) -> Floats:
        """Refine parameters by least squares, from a start nearby."""
        from scipy.optimize import least_squares

        calls, most = itertools.count(1), _ITERATIONS * (len(start) + 2)

        def residuals(steps: Floats) -> Floats:
            progress(next(calls), most)
            return self.residuals(start + steps * _STEPS, blur)

        def slopes(steps: Floats) -> Floats:
            here = residuals(steps)
            moved = [residuals(steps + e) for e in _DIFFERENCE * np.eye(len(start))]
            return np.stack([(each - here) / _DIFFERENCE for each in moved], axis=1)

        solved = least_squares(
            residuals, np.zeros(len(start)), jac=slopes, max_nfev=_ITERATIONS, xtol=1e-3, ftol=1e-4
        )
        progress(most, most)
        better: Floats = start + solved.x * _STEPS
        return better

    def residuals(self, parameters: Floats, blur: int) -> Floats:
        """Return the blurred differences of coverage and colours at all pixels, flattened."""
        coverage, colors = self.render(self.camera(parameters.tolist()))
        layers = (coverage - self.mask)[None]
        if colors is not None:
            difference = self.difference(coverage, colors)
            layers = torch.cat([layers, difference * _COLOR_WEIGHT])
        for _ in range(2):
            layers = F.avg_pool2d(layers, blur, 1, blur // 2)
        return layers.flatten().double().numpy()


def _small(image: Tensor) -> Tensor:
    """Resize an image (1, C, H, H) to (C, S, S)."""
    return F.interpolate(
        image.cpu().float(), (_SIZE, _SIZE), mode="bilinear", antialias=True, align_corners=False
    )[0].clamp(0, 1)
