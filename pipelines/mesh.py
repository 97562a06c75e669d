"""The Mesh value: triangles with colours, and what is done to them before they are saved."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .errors import InvalidInput


@dataclass(frozen=True)
class Mesh:
    """Triangles in the library's world: right-handed, z up, front +x, outward normals.

    Attributes:
        vertices: (V, 3) float32.
        faces: (F, 3) int64, counter-clockwise seen from outside.
        vertex_colors: (V, 3) float32 in [0, 1], or None.
        uvs: (V, 2) float32 in [0, 1] from the lower left of the texture, or None.
        texture: (H, W, 3) float32 in [0, 1], rows from the top, or None; there are both of `uvs` and `texture` or neither.
    """

    vertices: Tensor
    faces: Tensor
    vertex_colors: Tensor | None = None
    uvs: Tensor | None = None
    texture: Tensor | None = None

    def __post_init__(self) -> None:
        if self.vertices.ndim != 2 or self.vertices.shape[1] != 3:
            raise InvalidInput(f"A mesh's vertices must be (V, 3), got {tuple(self.vertices.shape)}.")
        if self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise InvalidInput(f"A mesh's faces must be triangles (F, 3), got {tuple(self.faces.shape)}.")
        if self.vertex_colors is not None and self.vertex_colors.shape != self.vertices.shape:
            raise InvalidInput(
                f"A mesh's colours must be (V, 3) like its vertices {tuple(self.vertices.shape)}, got {tuple(self.vertex_colors.shape)}."
            )
        if self.uvs is not None and self.uvs.shape != (len(self.vertices), 2):
            raise InvalidInput(f"A mesh's uvs must be (V, 2) for its {len(self.vertices)} vertices, got {tuple(self.uvs.shape)}.")
        if self.texture is not None and (self.texture.ndim != 3 or self.texture.shape[2] != 3):
            raise InvalidInput(f"A mesh's texture must be (H, W, 3), got {tuple(self.texture.shape)}.")
        if len(self.faces) and not 0 <= int(self.faces.amin()) <= int(self.faces.amax()) < len(self.vertices):
            raise InvalidInput(f"A mesh's faces must name its {len(self.vertices)} vertices, got numbers beyond.")

    def fitted(self, fov_y_deg: float) -> tuple[Mesh, float]:
        """The mesh around the origin, and the distance from which a camera of that field of view sees all of it."""
        low, high = self.vertices.amin(dim=0), self.vertices.amax(dim=0)
        reach = float((high - low).norm()) / 2 or 1.0
        return replace(self, vertices=self.vertices - (low + high) / 2), 1.05 * reach / math.sin(math.radians(fov_y_deg) / 2)

    def volume(self) -> float:
        """Enclosed volume of a closed mesh, positive if normals point outward."""
        a, b, c = self.vertices.double()[self.faces].unbind(dim=1)
        return float((a * torch.linalg.cross(b, c)).sum() / 6)


def part_of_faces(mesh: Mesh) -> np.ndarray:
    """(F,) number of the part that each triangle belongs to: parts are triangles joined by vertices."""
    from scipy.sparse import coo_array  # slow to import
    from scipy.sparse.csgraph import connected_components

    faces = mesh.faces.cpu().numpy()
    edges = faces[:, [0, 1, 1, 2]].reshape(-1, 2).astype(np.int32)  # what scipy's graph code takes in every version
    graph = coo_array((np.ones(len(edges), dtype=np.int8), edges.T), shape=(len(mesh.vertices),) * 2)
    _, part_of_vertex = connected_components(graph, directed=False)
    part: np.ndarray = part_of_vertex[faces[:, 0]]
    return part


def keep_large_parts(mesh: Mesh, min_share: float = 1.0) -> Mesh:
    """The mesh without its floaters: parts are triangles joined by vertices.

    Args:
        mesh: of any number of parts.
        min_share: parts with at least this share of the largest part's triangles stay, in [0, 1]; 1 keeps the largest alone, 0 all.

    Returns:
        a mesh of the same colours and orientation; unused vertices are dropped.

    Raises:
        InvalidInput: if the share is outside [0, 1].
    """
    if not 0 <= min_share <= 1:
        raise InvalidInput(f"The share of faces that a part needs must lie between 0 and 1, got {min_share}.")
    part, faces = part_of_faces(mesh), mesh.faces.cpu().numpy()
    sizes = np.bincount(part)
    kept = sizes[part] >= min_share * sizes.max() if min_share < 1 else part == sizes.argmax()
    used, renumbered = np.unique(faces[kept], return_inverse=True)
    index = torch.from_numpy(used)
    return Mesh(
        vertices=mesh.vertices[index],
        faces=torch.from_numpy(renumbered.reshape(-1, 3)),
        vertex_colors=None if mesh.vertex_colors is None else mesh.vertex_colors[index],
        uvs=None if mesh.uvs is None else mesh.uvs[index],
        texture=mesh.texture,
    )
