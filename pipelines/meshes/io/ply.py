"""Read PLY as text or binary of either byte order, and write binary PLY.

trimesh is not used here. It cannot read binary files with polygons of different sizes, or all names
and types of colour properties.

Source: Turk, "The PLY Polygon File Format" (1994); files of MeshLab, Blender, CloudCompare and
Open3D for property names.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InvalidInput
from ..mesh import Mesh
from ..topology import Floats, Indices
from .pieces import CornerValues, Piece
from .polygons import check_indices, cut_polygons, strip_triangles
from .textures import TextureImage, find_companion, read_texture

log = logging.getLogger(__name__)

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2"},
    **{"int": "i4", "uint": "u4", "float": "f4", "double": "f8"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2"},
    **{"int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"},
}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
_COLORS = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
)
_UVS = (("texture_u", "texture_v"), ("s", "t"), ("u", "v"))
_CORNERS = ("vertex_indices", "vertex_index")
_UP_AXIS = "up_axis"


@dataclass
class _Property:
    name: str
    kind: str
    count_kind: str | None = None  # type of the length prefix of a list; None for a scalar


@dataclass
class _Element:
    name: str
    count: int
    properties: list[_Property] = field(default_factory=list)


def read(content: bytes, path: Path) -> tuple[list[Piece], str]:
    """Read a PLY as one piece, and its up axis.

    Raises:
        InvalidInput: if the file is damaged.
    """
    elements, order, comments, start = _header(content)
    body = content[start:]
    data = _text_data(elements, body) if order is None else _data(elements, body, order)[0]
    vertex, face = data.get("vertex", {}), data.get("face", {})
    if not {"x", "y", "z"} <= vertex.keys():
        raise InvalidInput("it has no vertices")
    vertices = np.stack([vertex[axis] for axis in "xyz"], axis=1).astype(np.float64)
    polygons: Any = next((face[name] for name in _CORNERS if name in face), [])
    if "tristrips" in data and not len(polygons):
        polygons = _strips(data["tristrips"])
    owners, corners = cut_polygons(vertices, _groups(polygons, len(vertices)))
    image = _image(path, comments)
    piece = Piece.split(
        vertices,
        corners[..., 0],
        vertex_colors=_corner_colors(_colors(vertex), _colors(face), owners, corners[..., 0]),
        uvs=None if image is None else _corner_uvs(vertex, face, owners, corners),
        image=image,
    )
    noted = (comment.split() for comment in comments)
    up_axis = next((words[1] for words in noted if words[:1] == [_UP_AXIS] and words[1:]), "y")
    return [piece], up_axis


def _corner_colors(
    colors: Floats | None, face_colors: Floats | None, owners: Indices, corners: Indices
) -> CornerValues | None:
    """Return the vertex colours or, if there are none, the colours of the faces."""
    if colors is not None or face_colors is None:
        return None if colors is None else (corners, colors)
    table, number = np.unique(face_colors, axis=0, return_inverse=True)
    return number.reshape(-1)[owners][:, None].repeat(3, axis=1), table


def _corner_uvs(
    vertex: Mapping[str, Any], face: Mapping[str, Any], owners: Indices, corners: Indices
) -> CornerValues | None:
    """Return uvs per corner or, if there are none, per vertex."""
    if "texcoord" in face and len(corners):
        lists = [np.asarray(row, dtype=np.float64).reshape(-1, 2) for row in face["texcoord"]]
        starts = np.cumsum([0] + [len(row) for row in lists[:-1]])
        return starts[owners][:, None] + corners[..., 1], np.concatenate(lists)
    table = _columns(vertex, _UVS)
    return None if table is None else (corners[..., 0], table.astype(np.float64))


def write(mesh: Mesh, up_axis: str) -> bytes:
    """Encode a mesh, already in the file's axes, as a binary PLY with 8-bit vertex colours."""
    colored = mesh.vertex_colors is not None
    rows = np.empty(
        len(mesh.vertices), [("position", "<f4", 3), *([("color", "u1", 3)] if colored else [])]
    )
    rows["position"] = mesh.vertices.float().cpu().numpy()
    if mesh.vertex_colors is not None:
        levels = (mesh.vertex_colors.float().clamp(0, 1) * 255).round().byte()
        rows["color"] = levels.cpu().numpy()
    quads, rest = mesh.polygons()
    # Not both: trimesh reads no lists of different lengths.
    corners = (mesh.faces if len(rest) else quads).cpu().numpy()
    count = corners.shape[1]
    faces = np.empty(len(corners), dtype=[("count", "u1"), ("corners", "<i4", count)])
    faces["count"], faces["corners"] = count, corners
    header = ["ply", "format binary_little_endian 1.0", "comment Image to 3D"]
    header += [f"comment {_UP_AXIS} {up_axis}"] if up_axis != "y" else []
    header += [f"element vertex {len(rows)}", *(f"property float {axis}" for axis in "xyz")]
    header += [f"property uchar {name}" for name in _COLORS[0] if colored]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    return "\n".join(header).encode() + b"\n" + rows.tobytes() + faces.tobytes()


def _header(content: bytes) -> tuple[list[_Element], str | None, list[str], int]:
    """Parse the header.

    Returns:
        elements: in the order of their data.
        order: "<" or ">", or None for text.
        comments: without their keyword.
        start: offset of the data in bytes.
    """
    header = re.match(rb"ply(.*?)end_header[ \t]*(?:\r\n|\r|\n|\Z)", content, re.DOTALL)
    if header is None:
        raise InvalidInput("it is damaged, or not a PLY")
    elements: list[_Element] = []
    comments: list[str] = []
    order: str | None = None
    for line in header[1].decode("latin-1").replace("\r", "\n").split("\n"):
        words = line.split()
        match words:
            case ["format", "ascii", *_]:
                order = None
            case ["format", kind, *_]:
                if kind not in _ORDERS:
                    raise InvalidInput(f"its format '{kind[:40]}' is unknown")
                order = _ORDERS[kind]
            case ["comment" | "obj_info", *text]:
                comments.append(" ".join(text))
            case ["element", name, count]:
                elements.append(_Element(name, int(count)))
            case ["property", "list", count_kind, kind, name]:
                elements[-1].properties.append(_Property(name, _TYPES[kind], _TYPES[count_kind]))
            case ["property", kind, name]:
                elements[-1].properties.append(_Property(name, _TYPES[kind]))
    return elements, order, comments, header.end()


def _text_data(elements: list[_Element], text: bytes) -> dict[str, dict[str, Any]]:
    """Parse text by converting it to binary data in which every number is a double."""
    doubles = [
        _Element(
            e.name, e.count, [_Property(p.name, "f8", p.count_kind and "f8") for p in e.properties]
        )
        for e in elements
    ]
    numbers = np.array(text.split(), dtype=np.float64)
    found, end = _data(doubles, numbers.tobytes(), "=")
    if end != numbers.nbytes:
        raise InvalidInput("its rows hold more numbers than its header declares")
    for element in elements:
        for p in element.properties:
            if p.count_kind is None and p.kind[0] in "iu":  # the type gives the range of colours
                found[element.name][p.name] = found[element.name][p.name].astype(p.kind)
    return found


def _data(
    elements: list[_Element], data: bytes, order: str
) -> tuple[dict[str, dict[str, Any]], int]:
    """Parse binary data into columns, by element and property name; also return where it ends."""
    found: dict[str, dict[str, Any]] = {}
    at = 0
    for element in elements:
        columns = _equal_rows(element, data, at, order) or _different_rows(element, data, at, order)
        found[element.name], at = columns
    return found, at


def _numbers(data: bytes, kind: str | np.dtype[Any], count: int, at: int) -> np.ndarray:
    if count < 0 or at + count * np.dtype(kind).itemsize > len(data):
        raise InvalidInput("it is cut off")
    return np.frombuffer(data, kind, count, at)


def _equal_rows(
    element: _Element, data: bytes, at: int, order: str
) -> tuple[dict[str, Any], int] | None:
    """Parse an element's rows as one structured array.

    Returns:
        columns: by property name.
        end: offset of the next element.
        None if the lists differ in length.
    """
    fields: list[Any] = []
    for p in element.properties:
        shape: tuple[int, ...] = ()
        if p.count_kind is not None and element.count:
            place = at + np.dtype(fields).itemsize
            shape = (int(_numbers(data, order + p.count_kind, 1, place)[0]),)
            fields.append((f"count of {p.name}", order + p.count_kind))
        fields.append((p.name, order + p.kind, shape))
    dtype = np.dtype(fields)
    lists = [p.name for p in element.properties if p.count_kind]
    end = at + dtype.itemsize * element.count
    if lists and end > len(data):
        return None
    rows = _numbers(data, dtype, element.count, at)
    if element.count and any(
        (rows[f"count of {name}"] != rows[f"count of {name}"][0]).any() for name in lists
    ):
        return None
    return {p.name: rows[p.name] for p in element.properties}, end


def _different_rows(
    element: _Element, data: bytes, at: int, order: str
) -> tuple[dict[str, Any], int]:
    """Parse an element whose lists differ in length; see `_equal_rows`."""
    values: dict[str, list[Any]] = {p.name: [] for p in element.properties}
    for _ in range(element.count):
        for p in element.properties:
            count = 1
            if p.count_kind is not None:
                kind = np.dtype(order + p.count_kind)
                count = int(_numbers(data, kind, 1, at)[0])
                at += kind.itemsize
            kind = np.dtype(order + p.kind)
            values[p.name].append(_numbers(data, kind, count, at))
            at += kind.itemsize * count
    scalars = [p.name for p in element.properties if p.count_kind is None]
    return values | {name: np.concatenate(values[name]) for name in scalars}, at


def _groups(polygons: Any, count: int) -> Iterator[tuple[Indices, Indices]]:
    """Group polygons, given as an array or as lists of vertex indices, for `cut_polygons`.

    The second index of a corner is its position in the polygon.
    """
    sizes = np.array([len(polygon) for polygon in polygons], dtype=np.int64)
    for size in np.unique(sizes[sizes >= 3]):
        numbers = np.flatnonzero(sizes == size)
        table = np.array([polygons[i] for i in numbers], dtype=np.int64)
        check_indices(table, count)
        yield numbers, np.stack(np.broadcast_arrays(table, np.arange(size)), axis=-1)


def _strips(element: dict[str, Any]) -> Indices:
    """Convert triangle strips to triangles; a negative index starts a new strip."""
    strips = (np.asarray(strip, dtype=np.int64) for strip in next(iter(element.values()), []))
    runs = (run for strip in strips for run in np.split(strip, np.flatnonzero(strip < 0)))
    triangles = [strip_triangles(run[run >= 0]) for run in runs]
    return np.concatenate([np.zeros((0, 3), dtype=np.int64), *triangles])


def _columns(element: Mapping[str, Any], names: tuple[tuple[str, ...], ...]) -> Any:
    """Return the columns (N, d) of the first group of names that an element has, or None."""
    found = next((group for group in names if set(group) <= element.keys()), None)
    return None if found is None else np.stack([np.asarray(element[n]) for n in found], axis=1)


def _colors(element: Mapping[str, Any]) -> Floats | None:
    """Return an element's colours (N, 3) in [0, 1], or None if there are none.

    Integers of up to 16 bits are divided by the maximum of their type. Larger integers, and floats
    that exceed 1, are divided by 255.
    """
    table = _columns(element, _COLORS)
    if table is None or not len(table):
        return None
    if table.dtype.kind in "iu" and table.dtype.itemsize <= 2:
        top = float(np.iinfo(table.dtype).max)
    else:
        top = 1.0 if table.dtype.kind == "f" and table.max() <= 1 else 255.0
    colors: Floats = (table.astype(np.float64) / top).clip(0, 1)
    return colors


def companions(content: bytes, path: Path) -> list[Path]:
    """Return the existing image files that a PLY refers to."""
    places = [find_companion(path, name) for name in _image_names(_header(content)[2])]
    return [place for place in places if place is not None]


def _image_names(comments: list[str]) -> list[str]:
    named = [comment.partition(" ") for comment in comments]
    return [name.strip() for keyword, _, name in named if keyword.lower() == "texturefile"]


def _image(path: Path, comments: list[str]) -> TextureImage | None:
    """Read the texture of a PLY; if it names several, read only the first."""
    names = _image_names(comments)
    if len(names) > 1:
        log.warning("%s names %d images: only the first is read.", path.name, len(names))
    return read_texture(path, names[0]) if names else None
