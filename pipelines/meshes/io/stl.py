"""STL, as text and binary: triangles without colours.

trimesh reads it. The binary form is written here, for the note in its header.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ...errors import InvalidInput
from ..mesh import Mesh
from .pieces import Piece

_HEADER = 80  # bytes of free text
_UP_AXIS = b"up_axis="


def read(content: bytes, path: Path) -> tuple[list[Piece], str]:
    """The one piece of an STL and its upright axis.

    Raises:
        InvalidInput: if the file is damaged.
    """
    import trimesh  # slow to import

    try:
        loaded = trimesh.load(io.BytesIO(content), file_type="stl", force="mesh", process=False)
    except Exception as error:  # trimesh's parsers raise whatever goes wrong in them
        raise InvalidInput("it is damaged, or something else") from error
    up_axis = "z" if _UP_AXIS + b"z" in content[:_HEADER] else "y"
    return [
        Piece(
            np.asarray(loaded.vertices, dtype=np.float64), np.asarray(loaded.faces, dtype=np.int64)
        )
    ], up_axis


def write(mesh: Mesh, up_axis: str) -> bytes:
    """A binary STL of a mesh that is already turned."""
    corners = mesh.vertices.float()[mesh.faces].cpu().numpy()  # (F, 3, 3)
    rows = np.zeros(
        len(corners), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")]
    )
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).astype(
        np.float64
    )
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    rows["normal"] = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    rows["corners"] = corners
    note = b"Image to 3D" + (b" " + _UP_AXIS + b"z" if up_axis == "z" else b"")
    return note.ljust(_HEADER, b"\0") + np.uint32(len(rows)).tobytes() + rows.tobytes()
