"""Wavefront OBJ with its MTL and images.

Colours at vertices follow their coordinates (`v x y z r g b`, as MeshLab and Blender write them).
Source: Wavefront, "Object Files (.obj)" and "MTL material format", versions 3.0 and 4.2.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from ...errors import InvalidInput
from ...files import SIGNATURE, atomic_path, free_or_own
from ...images.reading import save_image
from ..material import Material
from ..mesh import Mesh
from ..topology import Floats, Indices, by_corner
from .mtl import (
    MtlMaterial,
    beside_color,
    file_beside,
    image_beside,
    library_files,
    lines_of,
    parse_materials,
    read_materials,
)
from .pieces import EmbeddedImage, Piece, triangulated

log = logging.getLogger(__name__)

_UP_AXIS = "# up axis: "
_ROWS = 65536
_NO_NUMBER = -(2**62)  # of the texture coordinate of a corner that names none


@dataclass
class _Lines:
    """Faces of one material as text, and how many vertices and coordinates stood above each."""

    text: list[bytes] = field(default_factory=list)
    above: list[tuple[int, int]] = field(default_factory=list)


def read(content: bytes, path: Path) -> tuple[list[Piece], str]:
    """The pieces of an OBJ and its upright axis.

    Materials and images are looked for in the OBJ's own folder and below it, in any case of
    letters, and nowhere else. What is named and not there is said in the log.

    Raises:
        InvalidInput: if a line is wrong, with its text.
    """
    vertices, texcoords, lines, libraries = _sorted_lines(content)
    positions, colors = _vertices(vertices)
    uvs = _numbers(texcoords, least=1)
    uvs = (
        np.zeros((len(texcoords), 2))
        if uvs is None
        else np.pad(uvs, ((0, 0), (0, max(0, 2 - uvs.shape[1]))))[:, :2]
    )
    materials = {
        name: material
        for library in libraries
        for name, material in read_materials(path, library).items()
    }
    images: dict[str, EmbeddedImage | None] = {}
    beside: dict[str, Material | None] = {}
    pieces = []
    for name, block in lines.items():
        corners, uv_corners = _faces(block, positions, len(uvs))
        material = materials.get(name, MtlMaterial())
        if material.image is not None and material.image not in images:
            images[material.image] = image_beside(path, material.image)
        image = images[material.image] if material.image is not None else None
        placed = bool((uv_corners >= 0).all())
        image = image if placed else None
        laid = placed and (image is not None or bool(material.images))
        table = uvs * material.scale + material.offset
        own, faces, (found_uvs, found_colors) = (
            by_corner(
                positions,
                corners,
                (uv_corners, table) if laid else None,
                (corners, colors) if colors is not None else None,
            )
            if laid or len(lines) > 1
            else (positions, corners, [None, colors])
        )
        # Where there is an image or there are colours at the vertices, viewers take them as they
        # are and not times Kd.
        flat = material.color if image is None and colors is None else None
        pieces.append(
            Piece(
                own,
                faces,
                flat,
                found_colors if image is None else None,
                found_uvs,
                image,
                material=beside.setdefault(name, beside_color(path, material)),
            )
        )
    up_axis = next(
        (
            line[len(_UP_AXIS) :].strip()
            for line in content[:4096].decode("latin-1").splitlines()
            if line.startswith(_UP_AXIS)
        ),
        "y",
    )
    return pieces, up_axis


def companions(content: bytes, path: Path) -> list[Path]:
    """The material and image files of an OBJ that are there."""
    *_, libraries = _sorted_lines(content)
    found = []
    for library in libraries:
        for place in library_files(path, library):
            found.append(place)
            for own in parse_materials(place).values():
                named = [*([own.image] if own.image else []), *own.images.values()]
                found += [p for p in (file_beside(path, name) for name in named) if p is not None]
    return found


def write(mesh: Mesh, path: Path, metadata: Mapping[str, str], up_axis: str) -> None:
    """Write a mesh, already turned, and with a texture `<name>.mtl` and `<name>.png` beside it.

    A material's images go into `<name>-roughness.png`, `-metallic`, `-normal_map` and
    `-emissive`. Where one of these names is taken by a file that is not this library's, the next
    free one with a number is used.
    """
    textured = mesh.texture is not None or mesh.material is not None
    material = _write_material(mesh, path).name if textured else None
    with atomic_path(path) as partial, partial.open("wb") as file:
        for part in _text(mesh, metadata, material, up_axis):
            file.write(part)


def _write_material(mesh: Mesh, path: Path) -> Path:
    """Write the MTL of a mesh and its images beside an OBJ; returns the MTL's path."""
    own = mesh.material or Material()
    images: dict[str, Tensor] = {}
    if mesh.uvs is not None:
        if mesh.texture is not None:
            images[""] = mesh.texture
        packed = own.metallic_roughness
        if packed is not None:
            images["roughness"] = packed[..., 1:2].expand(-1, -1, 3)
            images["metallic"] = packed[..., 2:3].expand(-1, -1, 3)
        rest = {"normal_map": own.normal_map, "emissive": own.emissive}
        images |= {name: image for name, image in rest.items() if image is not None}
    names = {}
    for name, image in images.items():
        place = free_or_own(path.with_name(f"{path.stem}{name and '-' + name}.png"))
        save_image(image.permute(2, 0, 1)[None], place)
        names[name] = place.name
    base = own.base_color
    color = "1 1 1" if base is None else " ".join(f"{c:.6g}" for c in base.tolist())
    text = f"# {SIGNATURE}\nnewmtl surface\nKa 0 0 0\nKd {color}\nKs 0 0 0\n"
    if "" in names:
        text += f"map_Kd {names.pop('')}\n"
    material = free_or_own(path.with_suffix(".mtl"))
    with atomic_path(material) as partial:
        partial.write_text(text + lines_of(own, names), encoding="utf-8")
    return material


def decimals(values: np.ndarray) -> int:
    """Digits after the point for numbers of this size, which makes seven in all."""
    largest = float(np.abs(values).max(initial=0.0))
    return int(np.clip(6 - np.floor(np.log10(largest)), 0, 45)) if largest else 6


def _text(
    mesh: Mesh, metadata: Mapping[str, str], material: str | None, up_axis: str
) -> Iterator[bytes]:
    if up_axis != "y":
        yield f"{_UP_AXIS}{up_axis}\n".encode()
    for name, text in metadata.items():
        for line in f"{name}: {text}".splitlines():
            yield f"# {line}\n".encode()
    vertices, faces = mesh.vertices.cpu().numpy(), mesh.faces.cpu().numpy()
    table = vertices
    if mesh.vertex_colors is not None and mesh.texture is None:
        table = np.hstack([vertices, mesh.vertex_colors.clamp(0, 1).cpu().numpy()])
    row = "v " + " ".join([f"%.{decimals(vertices)}f"] * 3 + ["%.4f"] * (table.shape[1] - 3)) + "\n"
    yield from _rows(row, table)
    if material is not None:
        yield f"mtllib {material}\nusemtl surface\n".encode()
    if mesh.uvs is not None:
        yield from _rows("vt %.6f %.6f\n", mesh.uvs.cpu().numpy())
    if mesh.normals is not None:
        yield from _rows("vn %.5f %.5f %.5f\n", mesh.normals.cpu().numpy())
    # A vertex, its place in the texture and its normal have the same number.
    corner = {
        (False, False): "%d",
        (True, False): "%d/%d",
        (False, True): "%d//%d",
        (True, True): "%d/%d/%d",
    }[mesh.uvs is not None, mesh.normals is not None]
    faces = (faces + 1).repeat(corner.count("%d"), axis=1)
    yield from _rows(f"f {corner} {corner} {corner}\n", faces)


def _rows(row: str, table: np.ndarray) -> Iterator[bytes]:
    for start in range(0, len(table), _ROWS):
        part = table[start : start + _ROWS]
        yield ((row * len(part)) % tuple(part.ravel().tolist())).encode()


def _sorted_lines(content: bytes) -> tuple[list[bytes], list[bytes], dict[str, _Lines], list[str]]:
    """Vertices, coordinates and each material's faces as text, and the libraries' names."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        content = content.decode("utf-16", errors="replace").encode()
    content = (
        content.removeprefix(b"\xef\xbb\xbf")
        .replace(b"\r\n", b"\n")
        .replace(b"\r", b"\n")
        .replace(b"\\\n", b" ")
    )
    vertices: list[bytes] = []
    texcoords: list[bytes] = []
    faces: dict[str, _Lines] = {}
    libraries: list[str] = []
    block = faces.setdefault("", _Lines())
    for line in content.split(b"\n"):
        keyword, _, rest = line.lstrip().replace(b"\t", b" ").partition(b" ")
        if keyword == b"v":
            vertices.append(rest)
        elif keyword == b"vt":
            texcoords.append(rest)
        elif keyword in (b"f", b"fo"):
            block.text.append(rest)
            block.above.append((len(vertices), len(texcoords)))
        elif keyword == b"usemtl":
            block = faces.setdefault(rest.decode("utf-8", errors="replace").strip(), _Lines())
        elif keyword == b"mtllib":
            libraries.append(rest.decode("utf-8", errors="replace").strip())
    return (
        vertices,
        texcoords,
        {name: lines for name, lines in faces.items() if lines.text},
        libraries,
    )


def _without_comments(lines: list[bytes]) -> list[bytes]:
    return [line.partition(b"#")[0] for line in lines]


def _numbers(lines: list[bytes], least: int) -> Floats | None:
    """(N, d) of lines that all have the same d numbers; None where they differ or are none."""
    if not lines:
        return None
    lines = _without_comments(lines)
    counts = {len(line.split()) for line in lines}
    if len(counts) > 1:
        return None
    (count,) = counts
    if count < least:
        raise InvalidInput(
            f"a line of numbers is too short: '{lines[0].decode('latin-1').strip()[:60]}'"
        )
    try:
        return np.array(b" ".join(lines).split(), dtype=np.float64).reshape(-1, count)
    except ValueError as error:
        raise InvalidInput(f"a line holds something else than numbers ({error})") from error


def _vertices(lines: list[bytes]) -> tuple[Floats, Floats | None]:
    """(V, 3) positions, and sRGB colours or None.

    Where some vertices have a colour, those without one are white.
    """
    table = _numbers(lines, least=3)
    if table is None:
        rows = [line.split() for line in _without_comments(lines)]
        if any(len(row) < 3 for row in rows):
            raise InvalidInput("a vertex has fewer than three coordinates")
        try:
            numbers = [
                [float(word) for word in (row[:6] if len(row) >= 6 else row[:3])] for row in rows
            ]
            table = np.array([row + [1.0] * (6 - len(row)) for row in numbers]).reshape(-1, 6)
        except ValueError as error:
            raise InvalidInput(f"a line holds something else than numbers ({error})") from error
    if table.shape[1] < 6:
        return table[:, :3], None
    colors = table[:, 3:6]
    return table[:, :3], (colors / 255 if colors.max(initial=0.0) > 1 else colors).clip(0, 1)


def _faces(block: _Lines, vertices: Floats, texcoords: int) -> tuple[Indices, Indices]:
    """(F, 3) numbers of vertices and of texture coordinates, -1 where a corner has none."""
    corners: list[Indices] = []
    uv_corners: list[Indices] = []
    lines = _without_comments(block.text)
    shapes: dict[tuple[int, int], list[int]] = {}
    for i, line in enumerate(lines):
        words = len(line.split())
        slashes = line.count(b"/")
        double = line.count(b"//")
        # Numbers for each corner, 0 for mixed ones: v, v/t, v//n (-2) and v/t/n.
        kind = (
            1
            if not slashes
            else (
                2
                if slashes == words and not double
                else -2
                if double == words
                else 3
                if slashes == 2 * words
                else 0
            )
        )
        shapes.setdefault((words, 0 if double and kind == 3 else kind), []).append(i)
    order = []
    for (count, kind), members in shapes.items():
        if count < 3:
            continue  # a point or a line
        numbers = _corner_numbers([lines[i] for i in members], count, kind)  # (N, count, 2)
        above = np.array([block.above[i] for i in members])[:, None]
        resolved = np.where(numbers < 0, numbers + above, numbers - 1)
        unnamed = numbers[..., 1] == _NO_NUMBER
        resolved[..., 1][unnamed] = -1
        if (numbers[..., 0] == 0).any() or (numbers[..., 1] == 0).any():
            raise InvalidInput("a face names vertex 0, where numbers start from 1")
        if resolved[..., 0].min() < 0 or resolved[..., 0].max() >= len(vertices):
            raise InvalidInput("a face names a vertex that is not there")
        if (resolved[..., 1][~unnamed] < 0).any() or resolved[..., 1].max() >= texcoords:
            raise InvalidInput("a face names a texture coordinate that is not there")
        if count == 3:
            places = np.tile([[0, 1, 2]], (len(members), 1))
            owners = np.arange(len(members))
        else:
            cut = [triangulated(vertices, polygon) for polygon in resolved[..., 0].tolist()]
            places = np.array([triangle for polygon in cut for triangle in polygon]).reshape(-1, 3)
            owners = np.repeat(np.arange(len(members)), [len(polygon) for polygon in cut])
        corners.append(resolved[owners[:, None], places, 0])
        uv_corners.append(resolved[owners[:, None], places, 1])
        order.append(np.array(members)[owners])
    if not corners:
        return np.zeros((0, 3), dtype=np.int64), np.zeros((0, 3), dtype=np.int64)
    as_written = np.concatenate(order).argsort(kind="stable")
    return np.concatenate(corners)[as_written].astype(np.int64), np.concatenate(uv_corners)[
        as_written
    ].astype(np.int64)


def _corner_numbers(lines: list[bytes], count: int, kind: int) -> Indices:
    """(N, count, 2) numbers of vertices and texture coordinates as they are written."""
    try:
        if kind == 0:
            words = [[corner.split(b"/") for corner in line.split()] for line in lines]
            both = [
                [(int(c[0]), int(c[1]) if len(c) > 1 and c[1] else _NO_NUMBER) for c in row]
                for row in words
            ]
            return np.array(both, dtype=np.int64).reshape(-1, count, 2)
        per_corner = abs(kind)
        text = b" ".join(lines).replace(b"//", b" ").replace(b"/", b" ")
        numbers = np.array(text.split(), dtype=np.int64).reshape(-1, count, per_corner)
    except ValueError as error:
        raise InvalidInput(
            f"a face holds something else than numbers of vertices ({error})"
        ) from error
    if kind in (2, 3):
        return numbers[..., :2]
    return np.stack([numbers[..., 0], np.full_like(numbers[..., 0], _NO_NUMBER)], axis=-1)
