"""The Mesh value: triangles with colours, and what is done to them before they are saved."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidInput
from .material import Material

#: Beyond this, squares of areas leave the range of float32.
MAX_COORDINATE = 1e9
#: Attributes of a mesh that have a row for each vertex.
AT_VERTICES = ("vertex_colors", "uvs", "normals", "tangents", "vertex_alpha")


@dataclass(frozen=True)
class Mesh:
    """Triangles in the library's world: right-handed, z up, front +x, outward normals.

    Attributes:
        vertices: (V, 3) float32, finite and at most `MAX_COORDINATE` from the origin along each
            axis.
        faces: (F, 3) int64, counter-clockwise seen from outside.
        vertex_colors: (V, 3) float32 sRGB in [0, 1], or None. Beside a texture, the two are
            multiplied as light is.
        uvs: (V, 2) float32 from the lower left of the texture, which repeats outside [0, 1], or
            None.
        texture: (H, W, 3) float32 sRGB in [0, 1], rows from the top, or None; it needs `uvs`.
        normals: (V, 3) float32 unit directions for shading, or None for those of the triangles.
        tangents: (V, 4) float32 directions of growing u, and the sign of growing v, or None.
        vertex_alpha: (V,) float32 opacities in [0, 1], or None.
        material: what light does on it beside, or None.

    Raises:
        InvalidInput: if shapes do not fit, faces name vertices that are not there, or numbers are
            not finite or absurdly large.
    """

    vertices: Tensor
    faces: Tensor
    vertex_colors: Tensor | None = None
    uvs: Tensor | None = None
    texture: Tensor | None = None
    normals: Tensor | None = None
    tangents: Tensor | None = None
    vertex_alpha: Tensor | None = None
    material: Material | None = None

    def __post_init__(self) -> None:
        if self.vertices.ndim != 2 or self.vertices.shape[1] != 3:
            raise InvalidInput(
                f"A mesh's vertices must be (V, 3), got {tuple(self.vertices.shape)}."
            )
        if self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise InvalidInput(
                f"A mesh's faces must be triangles (F, 3), got {tuple(self.faces.shape)}."
            )
        if self.vertex_colors is not None and self.vertex_colors.shape != self.vertices.shape:
            raise InvalidInput(
                f"A mesh's colours must be (V, 3) like its vertices {tuple(self.vertices.shape)},"
                f" got {tuple(self.vertex_colors.shape)}."
            )
        if self.uvs is not None and self.uvs.shape != (len(self.vertices), 2):
            raise InvalidInput(
                f"A mesh's uvs must be (V, 2) for its {len(self.vertices)} vertices, got"
                f" {tuple(self.uvs.shape)}."
            )
        for name, width in (("normals", (3,)), ("tangents", (4,)), ("vertex_alpha", ())):
            values = getattr(self, name)
            if values is not None and values.shape != (len(self.vertices), *width):
                raise InvalidInput(
                    f"A mesh's {name} must be {('V', *width)} for its {len(self.vertices)}"
                    f" vertices, got {tuple(values.shape)}."
                )
        if self.texture is not None and (self.texture.ndim != 3 or self.texture.shape[2] != 3):
            raise InvalidInput(
                f"A mesh's texture must be (H, W, 3), got {tuple(self.texture.shape)}."
            )
        if len(self.faces) and not 0 <= int(self.faces.amin()) <= int(self.faces.amax()) < len(
            self.vertices
        ):
            raise InvalidInput(
                f"A mesh's faces must name its {len(self.vertices)} vertices, got numbers beyond."
            )
        if not bool((self.vertices.abs() <= MAX_COORDINATE).all()):  # false for NaN too
            what = (
                "are absurdly large"
                if bool(torch.isfinite(self.vertices).all())
                else "are not finite numbers (NaN or infinity)"
            )
            raise InvalidInput(
                f"Some coordinates of the mesh {what}: mend it in the program that made it."
            )
        for name, values in (
            ("colours", self.vertex_colors),
            ("uvs", self.uvs),
            ("texture", self.texture),
            ("normals", self.normals),
            ("tangents", self.tangents),
            ("opacities", self.vertex_alpha),
        ):
            if values is not None and not bool(torch.isfinite(values).all()):
                raise InvalidInput(
                    f"The {name} of the mesh hold values that are not finite numbers (NaN or"
                    " infinity)."
                )

    @property
    def colored(self) -> bool:
        """Whether anything says what colour it has."""
        base = None if self.material is None else self.material.base_color
        textured = self.texture is not None and self.uvs is not None
        return textured or self.vertex_colors is not None or base is not None

    def fitted(self, fov_y_deg: float) -> tuple[Mesh, float]:
        """The mesh around the origin, and the distance from which a camera sees all of it."""
        low, high = self.vertices.amin(dim=0), self.vertices.amax(dim=0)
        reach = float((high - low).norm()) / 2 or 1.0
        return replace(self, vertices=self.vertices - (low + high) / 2), 1.05 * reach / math.sin(
            math.radians(fov_y_deg) / 2
        )

    def volume(self) -> float:
        """Enclosed volume of a closed mesh, positive if normals point outward."""
        a, b, c = self.vertices.double()[self.faces].unbind(dim=1)
        return float((a * torch.linalg.cross(b, c)).sum() / 6)


def turned(mesh: Mesh, rotation: Tensor) -> Mesh:
    """The mesh with all its directions turned by a rotation (3, 3) of columns."""
    matrix = rotation.to(mesh.vertices).T
    tangents = mesh.tangents
    return replace(
        mesh,
        vertices=mesh.vertices @ matrix,
        normals=None if mesh.normals is None else mesh.normals @ matrix,
        tangents=None
        if tangents is None
        else torch.cat([tangents[:, :3] @ matrix, tangents[:, 3:]], dim=1),
    )


def joined_faces(mesh: Mesh) -> Tensor:
    """(F, 3) faces in which vertices at one position have one number, the lowest of theirs.

    Vertices are doubled where colours or textures meet.
    """
    positions = mesh.vertices.cpu().numpy()
    order = np.lexsort(positions.T)
    new = np.ones(len(order), dtype=bool)
    new[1:] = (positions[order[1:]] != positions[order[:-1]]).any(axis=1)
    lowest = np.minimum.reduceat(order, np.flatnonzero(new)) if len(order) else order
    number = np.empty(len(order), dtype=np.int64)
    number[order] = lowest[new.cumsum() - 1]
    return torch.from_numpy(number)[mesh.faces.cpu()]


def shape_of(mesh: Mesh) -> Mesh:
    """The triangles alone, with one vertex at each position."""
    return drop_unused(Mesh(mesh.vertices, joined_faces(mesh)))


def part_of_faces(mesh: Mesh) -> np.ndarray:
    """(F,) number of the part that each triangle belongs to.

    Triangles are of one part if they are joined by vertices, or by vertices at one position.
    """
    from scipy.sparse import coo_array  # slow to import
    from scipy.sparse.csgraph import connected_components

    faces = joined_faces(mesh).numpy()
    # What scipy's graph code takes in every version.
    edges = faces[:, [0, 1, 1, 2]].reshape(-1, 2).astype(np.int32)
    graph = coo_array(
        (np.ones(len(edges), dtype=np.int8), edges.T), shape=(len(mesh.vertices),) * 2
    )
    _, part_of_vertex = connected_components(graph, directed=False)
    part: np.ndarray = part_of_vertex[faces[:, 0]]
    return np.unique(part, return_inverse=True)[1].reshape(-1)


def face_areas(mesh: Mesh) -> Tensor:
    """(F,) float64 areas of the triangles."""
    a, b, c = mesh.vertices.double().cpu()[mesh.faces.cpu()].unbind(dim=1)
    return torch.linalg.cross(b - a, c - a).norm(dim=1) / 2


def keep_large_parts(mesh: Mesh, min_share: float = 1.0) -> Mesh:
    """The mesh without its floaters.

    Parts are triangles joined by vertices. Their size is their area.

    Args:
        mesh: of any number of parts.
        min_share: parts with at least this share of the largest part's area stay, in [0, 1]; 1
            keeps the largest alone, 0 all.

    Returns:
        a mesh of the same colours and orientation; unused vertices are dropped.

    Raises:
        InvalidInput: if the share is outside [0, 1] or the mesh has no triangles.
    """
    if not 0 <= min_share <= 1:
        raise InvalidInput(
            f"The share of the area that a part needs must lie between 0 and 1, got {min_share}."
        )
    if not len(mesh.faces):
        raise InvalidInput("The mesh has no triangles.")
    part = part_of_faces(mesh)
    sizes = np.bincount(part, weights=face_areas(mesh).numpy())
    kept = sizes[part] >= min_share * sizes.max() if min_share < 1 else part == sizes.argmax()
    return drop_unused(replace(mesh, faces=mesh.faces[torch.from_numpy(kept)]))


def drop_unused(mesh: Mesh) -> Mesh:
    """The mesh without vertices that no triangle names."""
    used, faces = mesh.faces.unique(return_inverse=True)
    return replace(at_vertices(mesh, used), faces=faces)


def at_vertices(mesh: Mesh, index: Tensor) -> Mesh:
    """The vertices (N,) of a mesh with all that they bear, and no faces."""
    return Mesh(
        mesh.vertices[index],
        mesh.faces[:0],
        texture=mesh.texture,
        material=mesh.material,
        **{
            name: None if getattr(mesh, name) is None else getattr(mesh, name)[index]
            for name in AT_VERTICES
        },
    )
