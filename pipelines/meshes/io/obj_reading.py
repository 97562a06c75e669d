"""Read Wavefront OBJ with its MTL and images.

Source: Wavefront, "Object Files (.obj)" and "MTL material format", versions 3.0 and 4.2.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np

from ...errors import InvalidInput
from ..topology import Floats, Indices
from . import mtl
from .mtl import MtlMaterial
from .obj_statements import (
    FaceLines,
    Statements,
    library_names,
    numbers,
    parse,
    report_skipped,
    vertex_table,
    without_comments,
)
from .pieces import Piece
from .polygons import check_indices, cut_polygons
from .textures import find_companion, read_texture

log = logging.getLogger(__name__)

UP_AXIS = "# up axis: "
_MISSING = -1  # index for corners without a texture coordinate
_CORNER = re.compile(rb"[-+]?0+(/([-+]?0+)?(/([-+]?0+)?)?)?")
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")


def read(content: bytes, path: Path) -> tuple[list[Piece], str]:
    """Read the pieces of an OBJ and its up axis.

    Materials and images are searched for in the OBJ's folder and its subfolders, ignoring case.
    Missing files and statements other than polygons are skipped with a warning.

    Raises:
        InvalidInput: if a line is invalid; the message quotes the line.
    """
    statements = parse(content)
    report_skipped(statements, path)
    reader = _Reader(path, statements)
    pieces = [piece for name in statements.faces for piece in reader.pieces(name)]
    head = content[:4096].decode("latin-1").splitlines()
    noted = [line[len(UP_AXIS) :].strip() for line in head if line.startswith(UP_AXIS)]
    return pieces, noted[0] if noted else "y"


def companions(content: bytes, path: Path) -> list[Path]:
    """Return the existing material and image files that an OBJ refers to."""
    found: list[Path] = []
    for library in library_names(content):
        for place in mtl.library_files(path, library).values():
            if place is None:
                continue
            images = [find_companion(path, name) for name in mtl.image_names(place)]
            found += [place, *(image for image in images if image is not None)]
    return found


class _Reader:
    """Converter from the statements of an OBJ to pieces."""

    def __init__(self, path: Path, statements: Statements) -> None:
        self._path, self._blocks = path, statements.faces
        self._positions, self._colors = vertex_table(statements, path)
        self._uvs = np.nan_to_num(numbers(statements.texcoords, least=1, width=2))
        self._materials = mtl.read_libraries(path, statements.libraries)
        self._image = cache(partial(read_texture, path))
        unknown = [name for name in statements.faces if name and self._material(name) is None]
        if self._materials and unknown:
            log.warning("%s: no MTL file defines %s.", path.name, ", ".join(unknown[:8]))

    def pieces(self, name: str) -> Iterator[Piece]:
        """Yield up to two pieces for a material: triangles without and with texture coordinates."""
        material = self._material(name) or MtlMaterial()
        image = self._image(material.image) if material.image else None
        corners, uv_corners = _triangles(self._blocks[name], self._positions, len(self._uvs))
        other_properties = mtl.other_properties(self._path, material)
        textured = (uv_corners != _MISSING).all(axis=1) & bool(image or material.images)
        if image is not None and self._colors is not None and textured.any():
            text = "%s: its vertex colours are skipped where its material has the image %s."
            log.warning(text, self._path.name, material.image)
        for on_texture in np.unique(textured):
            chosen = textured == on_texture
            own = corners[chosen]
            # As in other programs, vertex colours replace Kd, and an image replaces both.
            own_image = image if on_texture else None
            colors = None if own_image is not None else self._colors
            uvs = (uv_corners[chosen], self._uvs * material.scale + material.offset)
            yield Piece.split(
                self._positions,
                own,
                vertex_colors=None if colors is None else (own, colors),
                uvs=uvs if on_texture else None,
                color=material.color if own_image is None and colors is None else None,
                image=own_image,
                material=other_properties,
            )

    def _material(self, name: str) -> MtlMaterial | None:
        """Find the material that a `usemtl` line names; a comment may follow the name."""
        return self._materials.get(name) or self._materials.get(name.partition(" #")[0].strip())


def _triangles(block: FaceLines, vertices: Floats, texcoords: int) -> tuple[Indices, Indices]:
    """Parse face lines into (F, 3) vertex and (F, 3) texture coordinate indices, in file order.

    For speed, lines of the same shape (such as `1/2/3 4/5/6 7/8/9`) are parsed together.
    """
    lines = [line.strip() for line in without_comments(block.text)]
    spellings: dict[bytes, list[int]] = {}
    for i, spelling in enumerate(b"\n".join(lines).translate(_DIGITS_TO_ZERO).split(b"\n")):
        spellings.setdefault(spelling, []).append(i)
    groups: dict[tuple[bytes, ...], list[int]] = {}
    for spelling, members in spellings.items():
        groups.setdefault(_shape(spelling, lines[members[0]]), []).extend(members)
    above = np.array(block.above, dtype=np.int64)
    limits = (len(vertices), texcoords)
    polygons = []
    for shape, own in groups.items():
        if len(shape) >= 3:  # skip points and lines
            order = np.sort(np.array(own, dtype=np.int64))
            chosen = [lines[i] for i in order.tolist()]
            polygons.append((order, _polygons(chosen, shape, above[order], limits)))
    corners = cut_polygons(vertices, polygons)[1]
    return corners[..., 0], corners[..., 1]


def _shape(spelling: bytes, line: bytes) -> tuple[bytes, ...]:
    """Return the shape of each corner of a face line: `0`, `0/0`, `0//0` or `0/0/0`.

    Args:
        spelling: the line with every digit replaced by 0.
        line: the original line, for the error message.
    """
    words = spelling.split()
    if not all(_CORNER.fullmatch(word) for word in words):
        raise InvalidInput(
            f"a face contains something other than vertex indices: '{line.decode('latin-1')[:60]}'"
        )
    return tuple(re.sub(rb"[-+]?0+", b"0", word) for word in words)


def _polygons(
    lines: list[bytes], shape: tuple[bytes, ...], above: Indices, limits: tuple[int, int]
) -> Indices:
    """Parse faces of one shape into indices of vertices and texture coordinates.

    Args:
        lines: N face lines.
        shape: the result of `_shape`.
        above: (N, 2) numbers of vertices and texture coordinates before each line. Negative
            indices count back from there.
        limits: total numbers of vertices and texture coordinates.

    Returns:
        (N, corners, 2) zero-based indices.
    """
    text = b" ".join(lines).replace(b"/", b" ")
    table = np.fromstring(text, dtype=np.int64, sep=" ").reshape(len(lines), -1)
    at_vertex = np.cumsum([0] + [corner.count(b"0") for corner in shape[:-1]])
    has_uv = np.array([corner.startswith(b"0/0") for corner in shape])
    written = np.stack([table[:, at_vertex], table[:, at_vertex + has_uv]], axis=2)
    if (written == 0).any():
        raise InvalidInput("a face refers to vertex 0, but indices start at 1")
    polygons = np.where(written < 0, written + above[:, None], written - 1)
    check_indices(polygons[..., 0], limits[0])
    check_indices(polygons[:, has_uv, 1], limits[1], "texture coordinate")
    polygons[:, ~has_uv, 1] = _MISSING
    return polygons
