"""The mesh: triangles with colours, texture, normals and material."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput
from .material import Material

#: Larger coordinates would overflow float32 when areas are squared.
MAX_COORDINATE = 1e9
_ROW_SHAPES = {
    "vertex_colors": (3,),
    "uvs": (2,),
    "normals": (3,),
    "tangents": (4,),
    "vertex_alpha": (),
}
#: Attributes of a mesh with one row per vertex.
VERTEX_ATTRIBUTES = tuple(_ROW_SHAPES)


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in the library's world: right-handed, z up, front +x, normals outward.

    Attributes:
        vertices: (V, 3) float32, finite and at most `MAX_COORDINATE` from the origin along each
            axis.
        faces: (F, 3) int64, counter-clockwise seen from outside.
        vertex_colors: (V, 3) float32 sRGB in [0, 1], or None. With a texture, the two are
            multiplied in linear light.
        uvs: (V, 2) float32, origin at the lower left of the texture, or None. The texture repeats
            outside [0, 1].
        texture: (H, W, 3) float32 sRGB in [0, 1], rows from the top, or None; requires `uvs`.
        normals: (V, 3) float32 unit normals for shading, or None to use the triangles' normals.
        tangents: (V, 4) float32: unit direction of increasing u, then the sign (1 or -1) of the
            bitangent as in glTF; or None.
        vertex_alpha: (V,) float32 opacities in [0, 1], or None.
        material: metalness, roughness, normal map and emission, or None.
        paired: whether triangles 2 i and 2 i + 1 are the halves of a quad, see `polygons`.

    Raises:
        InvalidInput: if shapes do not match, faces refer to missing vertices, or numbers are too
            large or not finite.
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
    paired: bool = False

    def __post_init__(self) -> None:
        self._check_shapes()
        self._check_numbers()

    def _check_shapes(self) -> None:
        count = len(self.vertices)
        for name, values in (("vertices", self.vertices), ("faces", self.faces)):
            if values.ndim != 2 or values.shape[1] != 3:
                wanted = f"({name[0].upper()}, 3)"
                raise InvalidInput(f"A mesh's {name} must be {wanted}, got {tuple(values.shape)}.")
        for name, row in _ROW_SHAPES.items():
            values = getattr(self, name)
            if values is not None and values.shape != (count, *row):
                expected = f"({', '.join(map(str, ('V', *row)))}{'' if row else ','})"
                raise InvalidInput(
                    f"A mesh's {name} must be {expected} for its {count} vertices, got"
                    f" {tuple(values.shape)}."
                )
        if self.texture is not None and (self.texture.ndim != 3 or self.texture.shape[2] != 3):
            shape = tuple(self.texture.shape)
            raise InvalidInput(f"A mesh's texture must be (H, W, 3), got {shape}.")
        if len(self.faces):
            low, high = int(self.faces.amin()), int(self.faces.amax())
            if low < 0 or high >= count:
                raise InvalidInput(
                    f"A mesh's faces must be indices of its {count} vertices, got {low} to {high}."
                )

    def _check_numbers(self) -> None:
        if not bool((self.vertices.abs() <= MAX_COORDINATE).all()):  # false for NaN too
            finite = bool(torch.isfinite(self.vertices).all())
            large = f"are larger than {MAX_COORDINATE:.0e}"
            fault = large if finite else "are not finite numbers (NaN or infinity)"
            raise InvalidInput(
                f"Some coordinates of the mesh {fault}: repair it in the program that made it."
            )
        for name in (*VERTEX_ATTRIBUTES, "texture"):
            values = getattr(self, name)
            if values is not None and not bool(torch.isfinite(values).all()):
                raise InvalidInput(
                    f"The {name} of the mesh hold values that are not finite numbers (NaN or"
                    " infinity)."
                )

    @property
    def colored(self) -> bool:
        """Return whether the mesh has vertex colours, a texture or a base colour."""
        base = None if self.material is None else self.material.base_color
        textured = self.texture is not None and self.uvs is not None
        return textured or self.vertex_colors is not None or base is not None

    def polygons(self) -> tuple[Tensor, Tensor]:
        """Return the quads (Q, 4) of a `paired` mesh, and the triangles (T, 3) outside of quads.

        Triangles (a, b, c) and (a, c, d) are a quad. They stay triangles if the seam of a texture
        separates them.
        """
        after = self.faces.roll(-1, dims=0)
        halves = (self.faces[:, 0] == after[:, 0]) & (self.faces[:, 2] == after[:, 1])
        halves &= self.paired
        halves[1::2] = halves[-1:] = False
        quads = torch.cat([self.faces[halves], after[halves, 2:]], dim=1)
        return quads, self.faces[~(halves | halves.roll(1))]

    def center_for_camera(self, fov_y_deg: float) -> tuple[Mesh, float]:
        """Centre the mesh; also return the camera distance at which all of it is in view."""
        low, high = self.vertices.amin(dim=0), self.vertices.amax(dim=0)
        radius = float((high - low).norm()) / 2 or 1.0
        centered = replace(self, vertices=self.vertices - (low + high) / 2)
        return centered, 1.05 * radius / math.sin(math.radians(fov_y_deg) / 2)

    def volume(self) -> float:
        """Return the enclosed volume of a closed mesh, positive if normals point outward."""
        a, b, c = self.vertices.double()[self.faces].unbind(dim=1)
        return float((a * torch.linalg.cross(b, c)).sum() / 6)


def rotate(mesh: Mesh, rotation: Tensor) -> Mesh:
    """Rotate a mesh, its normals and its tangents by a matrix (3, 3) for column vectors."""
    matrix = rotation.to(mesh.vertices).T
    normals, tangents = mesh.normals, mesh.tangents
    if tangents is not None:
        tangents = torch.cat([tangents[:, :3] @ matrix, tangents[:, 3:]], dim=1)
    return replace(
        mesh,
        vertices=mesh.vertices @ matrix,
        normals=None if normals is None else normals @ matrix,
        tangents=tangents,
    )


def interpolate(values: Tensor, corners: Tensor, weights: Tensor) -> Tensor:
    """Return (N, C): sums of vertex values (V, C) at corners (N, 3) with weights (N, 3)."""
    first, *others = (
        values.index_select(0, corner) * weight[:, None]
        for corner, weight in zip(corners.unbind(dim=1), weights.unbind(dim=1), strict=True)
    )
    return sum(others, first)


def face_areas(mesh: Mesh) -> Tensor:
    """Return (F,) float64 areas of the triangles."""
    a, b, c = mesh.vertices.double().cpu()[mesh.faces.cpu()].unbind(dim=1)
    return torch.linalg.cross(b - a, c - a).norm(dim=1) / 2


def drop_unused(mesh: Mesh) -> Mesh:
    """Remove vertices that no triangle uses."""
    used, faces = mesh.faces.unique(return_inverse=True)
    return replace(select_vertices(mesh, used), faces=faces)


def select_vertices(mesh: Mesh, index: Tensor) -> Mesh:
    """Return a mesh of the vertices with indices (N,) and their attributes, without faces."""
    attributes = {name: getattr(mesh, name) for name in VERTEX_ATTRIBUTES}
    chosen: dict[str, Any] = {
        name: None if rows is None else rows[index] for name, rows in attributes.items()
    }
    return replace(mesh, vertices=mesh.vertices[index], faces=mesh.faces[:0], **chosen)
