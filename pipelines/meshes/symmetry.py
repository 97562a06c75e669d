"""Find the mirror symmetry of a mesh, to paint its hidden side from a photograph."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..cameras import Cameras
from .mesh import Mesh, face_areas
from .projection import PosedImages, seen_colors
from .topology import Floats, bare_shape

_NEAR = 0.02  # distance of a mirrored point from the mesh, as a share of its diagonal
_MIN_OVERLAP = 0.8  # share of mirrored points that are so near
_MAX_DIFFERENCE = 0.05  # mean difference of the colours that a photograph and its mirror image show
_SEEN, _MIN_SEEN = 0.2, 0.005  # weight from which both show a vertex; share of such vertices
_POINTS, _QUERIES = 6000, 1500
_STEP_DEG, _FINE_DEG = 5.0, (-3.0, -1.5, 0.0, 1.5, 3.0)
_OFFSETS = (-0.02, -0.01, 0.0, 0.01, 0.02)  # of the plane from the middle, in diagonals
_MAX_PLANES = 3


@dataclass(frozen=True)
class MirrorPlane:
    """A vertical plane across which a mesh is compared with its mirror image.

    Attributes:
        normal: (3,) unit vector across the plane.
        offset: distance of the plane from the origin along the normal.
        overlap: share of mirrored points near the mesh; 1 for perfect symmetry.
        distance: mean distance of mirrored points from the mesh, as a share of its diagonal.
    """

    normal: Tensor
    offset: float
    overlap: float
    distance: float


def mirror_planes(mesh: Mesh) -> list[MirrorPlane]:
    """Return the vertical planes of best symmetry of a mesh, the best first; at most three.

    Args:
        mesh: at least one triangle; z up.
    """
    points = _random_points(mesh)
    step = math.radians(_STEP_DEG)
    coarse = _planes(points, np.arange(0, math.pi, step), [0.0])
    distances = np.array([plane.distance for plane in coarse])
    lowest = (distances <= np.roll(distances, 1)) & (distances <= np.roll(distances, -1))
    order = np.argsort(np.where(lowest, distances, np.inf), kind="stable")
    found = []
    for i in order[: min(_MAX_PLANES, int(lowest.sum()))]:
        angles = [i * step + math.radians(turn) for turn in _FINE_DEG]
        found.append(min(_planes(points, angles, _OFFSETS), key=lambda plane: plane.distance))
    return sorted(found, key=lambda plane: plane.distance)


def with_mirror_image(mesh: Mesh, photograph: PosedImages) -> PosedImages:
    """Add the mirror image of a photograph, as a fallback, if it shows the mesh's hidden side.

    It does if the mesh is symmetric, and the photograph and its mirror image show the same colours
    where both see the mesh.

    Args:
        mesh: at least one triangle; z up.
        photograph: one image of the mesh.
    """
    shape = bare_shape(mesh)
    planes = [plane for plane in mirror_planes(shape) if plane.overlap >= _MIN_OVERLAP]
    if not planes:
        return photograph
    colors, weight = seen_colors(shape, photograph)
    for plane in planes:
        image = mirrored(photograph, plane)
        others, its_weight = seen_colors(shape, image)
        both = (weight > _SEEN) & (its_weight > _SEEN)
        difference = float((colors - others)[both].abs().mean())
        if float(both.float().mean()) >= _MIN_SEEN and difference <= _MAX_DIFFERENCE:
            return replace(photograph, fallback=image)
    return photograph


def mirrored(images: PosedImages, plane: MirrorPlane) -> PosedImages:
    """Return images of the mirrored world: flipped, with cameras on the other side of the plane."""
    cameras = images.cameras
    reflection = torch.eye(4).to(cameras.c2w)
    normal = plane.normal.to(reflection)
    reflection[:3, :3] -= 2 * torch.outer(normal, normal)
    reflection[:3, 3] = 2 * plane.offset * normal
    flip = torch.diag(torch.tensor([-1.0, 1, 1, 1])).to(reflection)  # keeps cameras right-handed
    intrinsics = cameras.intrinsics_normalized.clone()
    intrinsics[:, 0, 2] = 1 - intrinsics[:, 0, 2]
    return PosedImages(
        images.images.flip(-1),
        Cameras(reflection @ cameras.c2w @ flip, intrinsics),
        None if images.masks is None else images.masks.flip(-1),
    )


def _planes(points: Floats, angles: Iterable[float], offsets: Iterable[float]) -> list[MirrorPlane]:
    """Measure the planes with normals at these azimuths, in radians, and these offsets."""
    from scipy.spatial import cKDTree  # slow to import

    tree = cKDTree(points)
    low, high = points.min(axis=0), points.max(axis=0)
    diagonal = float(np.linalg.norm(high - low)) or 1.0
    queries, found = points[:_QUERIES], []
    for angle in angles:
        normal = np.array([math.cos(angle), math.sin(angle), 0.0])
        for offset in offsets:
            place = float((low + high) / 2 @ normal) + offset * diagonal
            there = queries - 2 * (queries @ normal - place)[:, None] * normal
            distances = tree.query(there)[0] / diagonal
            overlap, distance = float((distances < _NEAR).mean()), float(distances.mean())
            found.append(MirrorPlane(torch.from_numpy(normal).float(), place, overlap, distance))
    return found


def _random_points(mesh: Mesh) -> Floats:
    """Return `_POINTS` points, uniform over the surface; always the same."""
    rng = np.random.default_rng(0)
    ends = face_areas(mesh).numpy().cumsum()
    triangle = np.searchsorted(ends, rng.random(_POINTS) * ends[-1])
    u, v = rng.random((2, _POINTS, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = mesh.vertices[mesh.faces].double().numpy()[triangle].transpose(1, 0, 2)
    points: Floats = a + u * (b - a) + v * (c - a)
    return points
