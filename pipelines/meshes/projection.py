"""Project images onto a surface: the colours are sharper than those of a field.

Each point is coloured by the images in which it is visible. Other points take the colour of the
layer below, shifted so that no seam shows at the border. The shift is interpolated smoothly over
the surface, like a membrane.

Source: Perez et al., "Poisson Image Editing" (SIGGRAPH 2003), with the shift solved for on the
mesh instead of on an image.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..cameras import Cameras
from ..errors import InvalidInput
from ..progress import Progress, silent, stage
from .color_transfer import nearest_colors
from .decimation import decimate
from .mesh import Mesh, interpolate
from .rasterization import on_screen, visible_triangles
from .topology import bare_shape

_DEPTH_SIZE = 1024  # largest side length of the depth maps in pixels
_MARGIN = 4 / 512  # distance from an outline, in image sides, from which colours have full weight
_GRAZING, _FULL = 0.15, 0.5  # cosines of the viewing angle between which an image fades in
_KNOWN = 0.9  # vertices with a higher weight determine the shift
_STIFFNESS = 1.0  # how strongly the membrane smooths known shifts
_MAX_SOLVED_FACES = 100_000  # larger meshes are decimated: the cost of a membrane grows faster
_REST = 1e-6  # pull toward zero shift, for components that no image shows


@dataclass(frozen=True)
class PosedImages:
    """N images of one object with their cameras. Where images overlap, they are blended.

    Attributes:
        images: (N, 3, H, H) sRGB in [0, 1].
        cameras: N cameras in the mesh's world coordinates.
        masks: (N, 1, H, H) in [0, 1], 1 is the object; None if there are no masks.

    Raises:
        InvalidInput: if the shapes do not match, or a mask is empty.
    """

    images: Tensor
    cameras: Cameras
    masks: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if self.images.ndim != 4 or shape[1] != 3 or shape[2] != shape[3]:
            raise InvalidInput(f"Images of a surface must be square, (N, 3, H, H), got {shape}.")
        if len(self.cameras) != len(self.images):
            raise InvalidInput(
                f"There must be one camera for each image, got {len(self.cameras)} cameras and"
                f" {len(self.images)} images."
            )
        if self.masks is None:
            return
        if tuple(self.masks.shape) != (shape[0], 1, *shape[2:]):
            raise InvalidInput(
                f"The masks must be (N, 1, H, H) like their images {shape}, got"
                f" {tuple(self.masks.shape)}."
            )
        if not bool((self.masks > 0.5).flatten(1).any(dim=1).all()):
            raise InvalidInput("A mask holds no object: check the background removal.")


@dataclass(frozen=True)
class SurfacePoints:
    """Points on a mesh.

    Attributes:
        triangle: (P,) index of each point's face.
        barycentric: (P, 3) barycentric coordinates in that face.
    """

    triangle: Tensor
    barycentric: Tensor

    def interpolate(self, mesh: Mesh, at_vertices: Tensor) -> Tensor:
        """Interpolate vertex values (V, C) at the points; returns (P, C)."""
        return interpolate(at_vertices, mesh.faces[self.triangle], self.barycentric)


def projected_colors(
    mesh: Mesh,
    points: SurfacePoints,
    layers: Sequence[PosedImages],
    color_below: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    """Return (P, 3) colours in [0, 1] that images give points on a mesh.

    Args:
        mesh: any. Its normals are computed from the triangles; its attributes are ignored.
        points: P points on the mesh.
        layers: images and cameras; each layer covers the previous ones, so the photograph is last.
        color_below: function of points (N, 3) that returns colours (N, 3), for points that no
            image shows. None fills them from their neighbourhood.

    Raises:
        InvalidInput: if no part of the surface is visible in any image.
    """
    welded = bare_shape(mesh)
    normals = _vertex_normals(welded)
    at_points = points.interpolate(welded, welded.vertices)
    point_normals = F.normalize(points.interpolate(welded, normals), dim=1)
    membrane = _Membrane(welded)
    below_vertices = below_points = None
    if color_below is not None:
        below_vertices, below_points = color_below(welded.vertices), color_below(at_points)
    any_seen = False
    for posed in layers:
        views = [_View(welded, posed, i) for i in range(len(posed.images))]
        at_vertices, weight = _blended(views, welded.vertices, normals)
        colors, alpha = _blended(views, at_points, point_normals)
        known = weight > _KNOWN
        if not bool(known.any()):
            continue
        any_seen = True
        if below_vertices is None or below_points is None:
            mean = at_vertices[known].mean(dim=0)
            below_vertices, below_points = mean.expand_as(at_vertices), mean.expand_as(colors)
        shift = membrane(at_vertices - below_vertices, known)
        below_vertices = torch.lerp(below_vertices + shift, at_vertices, weight[:, None])
        shifted = below_points + points.interpolate(welded, shift)
        below_points = torch.lerp(shifted, colors, alpha[:, None])
    if not any_seen or below_points is None:
        raise InvalidInput(
            "No image shows the mesh: the cameras are inside it, or look past it. Use the cameras"
            " that the images were taken with, in the mesh's coordinates."
        )
    return below_points.clamp(0, 1)


def color_vertices(mesh: Mesh, layers: Sequence[PosedImages], progress: Progress = silent) -> Mesh:
    """Colour the vertices of a mesh with images; unseen ones take the colours around them.

    Args:
        mesh: any, without unused vertices.
        layers: as in `projected_colors`.
        progress: called throughout for a large mesh.

    Raises:
        InvalidInput: as in `projected_colors`.
    """
    if len(mesh.faces) > _MAX_SOLVED_FACES and importlib.util.find_spec("igl") is not None:
        return _color_many_vertices(mesh, layers, progress)
    corners = torch.zeros(len(mesh.vertices), dtype=torch.long)  # one corner of each vertex
    corners[mesh.faces.flatten()] = torch.arange(mesh.faces.numel())
    points = SurfacePoints(corners // 3, F.one_hot(corners % 3, 3).float())
    return replace(mesh, vertex_colors=projected_colors(mesh, points, layers, None))


def _color_many_vertices(mesh: Mesh, layers: Sequence[PosedImages], progress: Progress) -> Mesh:
    """Colour the vertices of a large mesh; unseen ones take the colours of a decimated copy."""
    bare = Mesh(mesh.vertices, mesh.faces)
    fewer = color_vertices(decimate(bare, _MAX_SOLVED_FACES, stage(progress, 0, 3)), layers)
    colors = nearest_colors(fewer, mesh.vertices, stage(progress, 1, 3))
    normals = _vertex_normals(mesh)
    for number, posed in enumerate(layers):
        views = []
        for i in range(len(posed.images)):
            stage(stage(progress, 2, 3), number, len(layers))(i, len(posed.images))
            views.append(_View(mesh, posed, i))
        seen, weight = _blended(views, mesh.vertices, normals)
        colors = torch.lerp(colors, seen, weight[:, None])
    return replace(mesh, vertex_colors=colors.clamp(0, 1))


class _View:
    """One posed image of a mesh: tells which points it shows, and their colours in it."""

    def __init__(self, mesh: Mesh, posed: PosedImages, i: int) -> None:
        self.camera = posed.cameras[[i]]
        self.image = posed.images[i : i + 1].cpu().float()
        size = min(self.image.shape[-1], _DEPTH_SIZE)
        screen = on_screen(mesh.vertices, self.camera, size)[mesh.faces]
        pixel, triangle, weights = visible_triangles(screen, size)
        inverse = (screen[triangle, :, 2] * weights).sum(dim=1)
        depth = torch.full((size * size,), torch.inf)
        depth[pixel] = 1 / inverse.clamp_min(1e-9)
        depth = depth.view(1, 1, size, size)
        self.extent = float((mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0)).amax())
        # Use the farthest depth among a pixel's neighbours, so that slopes do not hide themselves.
        self.farthest = F.max_pool2d(depth, 3, 1, 1)
        nearest = -F.max_pool2d(-depth, 3, 1, 1)
        # A larger difference in depth between neighbours is an edge. A slope differs that much
        # only if the view of it is too grazing to be used.
        focal = float(self.camera.intrinsics_normalized[0, 1, 1]) * size
        slope = 3 * nearest / focal / _GRAZING
        edge = ~((self.farthest - nearest) < slope)
        if posed.masks is not None:
            mask = F.interpolate(posed.masks[i : i + 1].cpu().float(), (size, size), mode="area")
            edge |= mask < 0.99
        self.farthest = self.farthest.nan_to_num(posinf=1e6)
        # Ignore pixels next to an edge: they may contain colour from beyond it.
        self.margin = ((_distance(~edge) - 1) / (_MARGIN * size)).clamp_min(0)
        self.bias = 0.002 * self.extent

    def __call__(self, points: Tensor, normals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return colours (P, 3), confidences (P,) in [0, 1] and sharpness weights (P,)."""
        screen = on_screen(points, self.camera, 1)
        grid = ((screen[:, :2] + 0.5) * 2 - 1)[None, None]
        toward = F.normalize(self.camera.c2w[0, :3, 3] - points, dim=1)
        cosine = (normals * toward).sum(dim=1)
        inside = (screen[:, 2] > 0) & (grid[0, 0].abs() < 1).all(dim=1)
        depth = 1 / screen[:, 2].clamp_min(1e-9)
        hides = F.grid_sample(self.farthest, grid, mode="nearest", align_corners=False)[0, 0, 0]
        seen = inside & (depth <= hides + self.bias)
        margin = F.grid_sample(self.margin, grid, align_corners=False)[0, 0, 0].clamp(0, 1)
        facing = ((cosine - _GRAZING) / (_FULL - _GRAZING)).clamp(0, 1)
        trust = torch.where(seen, margin * facing * facing * (3 - 2 * facing), 0.0)
        colors = F.grid_sample(self.image, grid, align_corners=False, padding_mode="border")
        pixels = self.image.shape[-1] * screen[:, 2]  # per world unit, up to the focal length
        return colors[0, :, 0].T, trust, (cosine.clamp_min(0) * pixels).pow(4)


def _blended(views: Sequence[_View], points: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
    """Blend the colours of all views; returns colours (P, 3) and their confidence (P,)."""
    total, weights = torch.zeros(len(points), 3), torch.zeros(len(points))
    unseen = torch.ones(len(points))
    for view in views:
        colors, trust, sharpness = view(points, normals)
        total += colors * (trust * sharpness)[:, None]
        weights += trust * sharpness
        unseen *= 1 - trust
    return total / weights.clamp_min(1e-20)[:, None], 1 - unseen


class _Membrane:
    """Smooth interpolation of values from some vertices of a mesh to all others."""

    def __init__(self, mesh: Mesh) -> None:
        from scipy import sparse

        faces, count = mesh.faces.numpy(), len(mesh.vertices)
        ends = np.concatenate([faces[:, (0, 1)], faces[:, (1, 2)], faces[:, (2, 0)]])
        ends = np.unique(np.sort(ends[ends[:, 0] != ends[:, 1]], axis=1), axis=0)
        ones = np.ones(len(ends))
        neighbours = sparse.coo_matrix((ones, (ends[:, 0], ends[:, 1])), shape=(count, count))
        self.laplacian = sparse.csgraph.laplacian((neighbours + neighbours.T).tocsr())

    def __call__(self, values: Tensor, known: Tensor) -> Tensor:
        """Interpolate values (V, C) from the known vertices (V,) to all.

        The result (V, C) minimises the squared errors at known vertices, plus the squared
        differences along edges.
        """
        from scipy import sparse

        weight = known.double().numpy()
        system = _STIFFNESS * self.laplacian + sparse.diags(weight + _REST)
        solved = sparse.linalg.splu(system.tocsc()).solve(values.double().numpy() * weight[:, None])
        return torch.from_numpy(solved).float()


def _vertex_normals(mesh: Mesh) -> Tensor:
    a, b, c = mesh.vertices[mesh.faces].unbind(dim=1)
    face = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(mesh.vertices)
    for k in range(3):
        total.index_add_(0, mesh.faces[:, k], face)
    return F.normalize(total, dim=1)


def _distance(inside: Tensor) -> Tensor:
    """Return (1, 1, H, W) distances in pixels from each pixel to the nearest one outside."""
    from scipy.ndimage import distance_transform_edt  # slow to import

    return torch.from_numpy(distance_transform_edt(inside[0, 0].numpy())).float()[None, None]
