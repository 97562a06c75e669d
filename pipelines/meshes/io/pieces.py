"""The parts that readers of mesh files return. A piece has one material."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..material import Material
from ..topology import Floats, Indices, split_corners
from .textures import TextureImage

#: Values at the corners of F triangles: (F, 3) rows of a table, and the table (N, d).
CornerValues = tuple[Indices, Floats]


@dataclass(frozen=True)
class Piece:
    """Triangles of one material.

    Attributes:
        vertices: (V, 3) float64, in the file's axes and units.
        faces: (F, 3) int64.
        color: (3,) sRGB in [0, 1], the material's colour, or None.
        vertex_colors: (V, 3) sRGB in [0, 1], or None. They are multiplied by the material's
            colour and image in linear light.
        uvs: (V, 2) with the origin at the lower left, or None. The image repeats outside [0, 1].
        image: the colour texture, or None. It requires `uvs`.
        normals, tangents: (V, 3) and (V, 4) directions in the file's axes, or None.
        alpha: (V,) opacities in [0, 1], or None.
        material: metalness, roughness, normal map and emission, or None. Pieces with the same
            material share one object.
    """

    vertices: Floats
    faces: Indices
    color: Floats | None = None
    vertex_colors: Floats | None = None
    uvs: Floats | None = None
    image: TextureImage | None = None
    normals: Floats | None = None
    tangents: Floats | None = None
    alpha: Floats | None = None
    material: Material | None = None

    @classmethod
    def split(
        cls,
        vertices: Floats,
        corners: Indices,
        *,
        vertex_colors: CornerValues | None = None,
        uvs: CornerValues | None = None,
        **others: Any,
    ) -> Piece:
        """Build a piece whose vertices are split where triangles have different values.

        Args:
            vertices: (V, 3).
            corners: (F, 3) vertex indices of the triangles.
            vertex_colors: colours at the corners, or None.
            uvs: texture coordinates at the corners, or None.
            others: other attributes of a piece, which are not split.
        """
        own, faces, (colors, own_uvs) = split_corners(vertices, corners, vertex_colors, uvs)
        return cls(own, faces, vertex_colors=colors, uvs=own_uvs, **others)
