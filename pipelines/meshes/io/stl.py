"""Read STL as text or binary, and write binary STL.

An STL holds separate triangles; VisCAM and Materialise Magics add a colour to each.

Source: 3D Systems, "StereoLithography Interface Specification" (1989); files of VisCAM and
Materialise Magics for colours.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np

from ...errors import InvalidInput
from ..mesh import Mesh
from ..topology import Floats
from .pieces import Piece

log = logging.getLogger(__name__)

_HEADER_BYTES = 80
_UP_AXIS = b"up_axis="
_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
#: Placeholder facet counts that some programs leave in the header.
_UNKNOWN_COUNTS = (0, 2**31 - 1, 2**32 - 1)
_COLOR_BIT = 0x8000
_MAGICS = b"COLOR="


def read(content: bytes, path: Path) -> tuple[list[Piece], str]:
    """Read an STL as one piece, and its up axis.

    Raises:
        InvalidInput: if the file is damaged or cut off.
    """
    if _is_text(content):
        corners, colors = _read_text(content), None
    else:
        facets = _binary_facets(content, path)
        corners = facets["corners"].astype(np.float64)
        colors = _facet_colors(facets["attribute"], content[:_HEADER_BYTES])
    piece = Piece(
        corners.reshape(-1, 3),
        np.arange(3 * len(corners), dtype=np.int64).reshape(-1, 3),
        vertex_colors=None if colors is None else colors.repeat(3, axis=0),
    )
    return [piece], "z" if _UP_AXIS + b"z" in content[:_HEADER_BYTES] else "y"


def write(mesh: Mesh, up_axis: str) -> bytes:
    """Encode a mesh, already in the file's axes, as a binary STL."""
    corners = mesh.vertices.float()[mesh.faces].cpu().numpy()  # (F, 3, 3)
    facets = np.zeros(len(corners), dtype=_FACET)
    a, b, c = corners.astype(np.float64).swapaxes(0, 1)
    normals = np.cross(b - a, c - a)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    facets["normal"] = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    facets["corners"] = corners
    note = b"Image to 3D" + (b" " + _UP_AXIS + b"z" if up_axis == "z" else b"")
    return note.ljust(_HEADER_BYTES, b"\0") + np.uint32(len(facets)).tobytes() + facets.tobytes()


def _is_text(content: bytes) -> bool:
    """Return whether an STL is text; the header of a binary one may start with "solid" too."""
    head = content[:1024]
    return b"\0" not in head and re.match(rb"(\xef\xbb\xbf)?\s*solid\b", head, re.I) is not None


def _read_text(content: bytes) -> Floats:
    """Parse the corners (F, 3, 3) of the facets of all solids in a text STL."""
    lines = content.replace(b"\r", b"\n").lower()
    text = re.sub(rb"(?m)^\W*(end)?solid\b.*$", b"", lines)  # names may contain any word
    rows = re.findall(rb"\bvertex\s+(\S+\s+\S+\s+\S+)", text)
    if len(rows) != 3 * len(re.findall(rb"\bendloop\b", text)):
        raise InvalidInput("it is cut off, or a facet has other than three corners")
    return np.array(b" ".join(rows).split(), dtype=np.float64).reshape(-1, 3, 3)


def _binary_facets(content: bytes, path: Path) -> np.ndarray:
    """Parse the facets of a binary STL. The count in its header may be wrong."""
    start = _HEADER_BYTES + 4
    if len(content) < start:
        raise InvalidInput("it is damaged, or not an STL")
    named = int.from_bytes(content[_HEADER_BYTES:start], "little")
    present, left_over = divmod(len(content) - start, _FACET.itemsize)
    count = present if named in _UNKNOWN_COUNTS else named
    if count > present:
        raise InvalidInput(
            f"it is cut off: its header declares {named} triangles, but it has only {present}"
        )
    if named != present or left_over:
        log.warning(
            "%s: its header declares %d triangles, but it has %d and %d extra bytes. Read %d.",
            *(path.name, named, present, left_over, count),
        )
    return np.frombuffer(content, _FACET, count, start)


def _facet_colors(attribute: np.ndarray, header: bytes) -> Floats | None:
    """Decode the facet colours (F, 3), sRGB in [0, 1], or return None if there are none.

    Each channel has five bits. VisCAM sets the top bit of a facet that has a colour, and stores
    blue in the lowest bits. Magics clears the top bit of such a facet, and stores red in the lowest
    bits. Its other facets have the colour given in the header.
    """
    magics = header.find(_MAGICS)
    own = (attribute & _COLOR_BIT == 0) if magics >= 0 else (attribute & _COLOR_BIT != 0)
    if magics < 0 and not own.any():
        return None
    channels = np.stack([attribute >> shift & 31 for shift in (10, 5, 0)], axis=1) / 31
    whole: list[float] | Floats = [1.0, 1.0, 1.0]
    if magics >= 0:
        channels = channels[:, ::-1]
        whole = np.frombuffer(header.ljust(90, b"\xff"), np.uint8, 3, magics + len(_MAGICS)) / 255
    return np.where(own[:, None], channels, whole)
