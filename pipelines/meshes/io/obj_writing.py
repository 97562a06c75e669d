"""Write Wavefront OBJ with its MTL and images.

Vertex colours follow the coordinates (`v x y z r g b`), as in files of MeshLab and Blender.
Source: Wavefront, "Object Files (.obj)" and "MTL material format", versions 3.0 and 4.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from ...files import SIGNATURE, atomic_path, free_or_own
from ...images.reading import save_image
from ..material import Material
from ..mesh import Mesh
from .mtl import material_lines
from .obj_reading import UP_AXIS

_ROWS_AT_ONCE = 65536


def write(mesh: Mesh, path: Path, metadata: Mapping[str, str], up_axis: str) -> list[Path]:
    """Write a mesh, already in the file's axes, with its material and images in the same folder.

    The material goes to `<name>.mtl`, the texture to `<name>.png`, other images to
    `<name>-roughness.png`, `-metallic`, `-normal_map` and `-emissive`. If another program's file
    has such a name, a number is added to make the name unique.

    Returns:
        the paths of the OBJ, its MTL and its images.
    """
    textured = mesh.texture is not None or mesh.material is not None
    others = _write_material(mesh, path) if textured else []
    with atomic_path(path) as partial, partial.open("wb") as file:
        for part in _text(mesh, metadata, others[0].name if others else None, up_axis):
            file.write(part)
    return [path, *others]


def _write_material(mesh: Mesh, path: Path) -> list[Path]:
    """Write a mesh's MTL and images to the folder of an OBJ, and return their paths."""
    own = mesh.material or Material()
    if mesh.uvs is None:
        own = own.without_images() or Material()
    places = {}
    for name, image in _images(mesh, own).items():
        places[name] = free_or_own(path.with_name(f"{path.stem}{name and '-' + name}.png"))
        save_image(image.permute(2, 0, 1)[None], places[name])
    names = {name: place.name for name, place in places.items()}
    base = own.base_color
    color = "1 1 1" if base is None else " ".join(f"{c:.6g}" for c in base.tolist())
    text = f"# {SIGNATURE}\nnewmtl surface\nKa 0 0 0\nKd {color}\nKs 0 0 0\n"
    if "" in names:
        text += f"map_Kd {names.pop('')}\n"
    material = free_or_own(path.with_suffix(".mtl"))
    with atomic_path(material) as partial:
        partial.write_text(text + material_lines(own, names), encoding="utf-8")
    return [material, *places.values()]


def _images(mesh: Mesh, own: Material) -> dict[str, Tensor]:
    """Return a mesh's images (H, W, 3) by file name suffix; the colour texture has none ("")."""
    images: dict[str, Tensor] = {}
    if mesh.texture is not None and mesh.uvs is not None:
        images[""] = mesh.texture
    packed = own.metallic_roughness
    if packed is not None:
        images["roughness"] = packed[..., 1:2].expand(-1, -1, 3)
        images["metallic"] = packed[..., 2:3].expand(-1, -1, 3)
    rest = {"normal_map": own.normal_map, "emissive": own.emissive}
    return images | {name: image for name, image in rest.items() if image is not None}


def decimals(values: np.ndarray) -> int:
    """Return how many decimal places show the largest absolute value with seven digits."""
    largest = float(np.abs(values).max(initial=0.0))
    return int(np.clip(6 - np.floor(np.log10(largest)), 0, 45)) if largest else 6


def _text(
    mesh: Mesh, metadata: Mapping[str, str], material: str | None, up_axis: str
) -> Iterator[bytes]:
    if up_axis != "y":
        yield f"{UP_AXIS}{up_axis}\n".encode()
    for name, text in metadata.items():
        for line in f"{name}: {text}".splitlines():
            yield f"# {line}\n".encode()
    vertices = mesh.vertices.cpu().numpy()
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
    # A vertex, its texture coordinate and its normal have the same index.
    present = (True, mesh.uvs is not None, mesh.normals is not None)
    corner = "/".join(["%d" * has for has in present]).rstrip("/")
    for faces in mesh.polygons():
        numbers = (faces.cpu().numpy() + 1).repeat(corner.count("%d"), axis=1)
        yield from _rows(f"f{f' {corner}' * faces.shape[1]}\n", numbers)


def _rows(row: str, table: np.ndarray) -> Iterator[bytes]:
    for start in range(0, len(table), _ROWS_AT_ONCE):
        part = table[start : start + _ROWS_AT_ONCE]
        yield ((row * len(part)) % tuple(part.ravel().tolist())).encode()
