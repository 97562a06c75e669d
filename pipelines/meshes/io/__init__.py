"""Save and load mesh files: one module for each format. Only this file converts axes.

By default, files are y up with the front toward +z, as glTF requires and viewers expect. The
conversion (x, y, z) -> (y, z, x) is a rotation, so it preserves the winding of triangles. For
slicers and CAD, files can be z up (front -y, as in Blender). `save_mesh` notes that in the file, so
that `load_mesh` converts it back.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
import torch

from ...errors import ImageTo3DError, InvalidInput
from ...files import atomic_path
from ..color_transfer import texture_to_vertex_colors
from ..material import Material
from ..mesh import Mesh, rotate
from . import glb_reading, glb_writing, obj_reading, obj_writing, ply, stl, threemf
from .glb_material import TextureFormat
from .joining import mesh_of

log = logging.getLogger(__name__)

FORMATS = ("obj", "glb", "ply", "stl", "3mf")
READABLE_FORMATS = (*FORMATS, "gltf")
UpAxis = Literal["y", "z"]
_READERS: Mapping[str, ModuleType] = {
    "obj": obj_reading,
    "glb": glb_reading,
    "gltf": glb_reading,
    "ply": ply,
    "stl": stl,
    "3mf": threemf,
}
#: Rotations from the library's axes (z up, front +x) to those of files, by up axis: front +z for y,
#: and front -y for z, as in Blender.
_TO_FILE = {
    "y": ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)),
    "z": ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
}
#: Errors that readers raise for damaged files.
_DAMAGE = (
    *(ValueError, LookupError, TypeError, AttributeError),
    *(OverflowError, RecursionError, struct.error),
)


def save_mesh(
    mesh: Mesh,
    path: Path,
    *,
    up_axis: UpAxis = "y",
    metadata: Mapping[str, str] | None = None,
    texture_format: TextureFormat = "png",
) -> list[Path]:
    """Write a mesh in the format given by the path's suffix.

    A GLB stores everything. An OBJ's material goes to `<name>.mtl` and its images to `<name>.png`
    and similar files in the same folder. If another program's file has that name, a number is
    added. PLY and 3MF store vertex colours; STL stores only the shape. A warning lists everything
    that the format cannot store.

    Args:
        mesh: at least one triangle.
        path: ends in .obj, .glb, .ply, .stl or .3mf. An existing file is overwritten only after
            the new one has been written completely.
        up_axis: "y" (front +z) or "z" (front -y, as in Blender).
        metadata: texts by name. They become comments at the top of an OBJ, or `asset.extras` of a
            GLB. Other formats drop them.
        texture_format: "png", "jpeg" or "webp", for GLB only. JPEG and WebP are a few times
            smaller, but some viewers do not support WebP. Textures of an OBJ are always PNG.

    Returns:
        the path, then the other files that were written.

    Raises:
        InvalidInput: if the suffix is unsupported, the mesh is empty, or the texture format is not
            PNG although the file is not a GLB.
        EnvironmentProblem: if the file cannot be written; no partial file remains.

    >>> import tempfile, torch
    >>> corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    >>> triangle = Mesh(corners, torch.tensor([[0, 1, 2]]), vertex_colors=torch.rand(3, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = save_mesh(triangle, Path(folder) / "triangle.glb", metadata={"made by": "hand"})
    ...     load_mesh(Path(folder) / "triangle.glb").vertices.tolist()
    [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise InvalidInput(
            f"The format of a mesh file must be {', '.join(FORMATS)}, got '{path.name}'."
        )
    if not len(mesh.faces):
        raise InvalidInput("The mesh has no triangles, so there is nothing to save.")
    if texture_format != "png" and suffix != "glb":
        raise InvalidInput(
            f"Only GLB supports {texture_format} textures, got {path.name}: save a GLB, or use PNG."
        )
    if left_out := lost(mesh, suffix):
        log.warning("%s", left_out)
    turned = rotate(mesh, torch.tensor(_TO_FILE[up_axis]))
    if suffix == "obj":
        return obj_writing.write(turned, path, metadata or {}, up_axis)
    if suffix == "glb":
        content = glb_writing.write(turned, metadata or {}, up_axis, texture_format)
    else:
        content = _READERS[suffix].write(texture_to_vertex_colors(turned), up_axis)
    with atomic_path(path) as partial:
        partial.write_bytes(content)
    return [path]


def lost(mesh: Mesh, suffix: str) -> str:
    """Return a warning that lists what a format (of `FORMATS`) cannot store of a mesh, or ""."""
    own = mesh.material or Material()
    textured = mesh.texture is not None and mesh.uvs is not None
    contents = (  # what it is called, whether the mesh has it, and the formats that store it
        ("the vertex colours", textured and mesh.vertex_colors is not None, "glb ply stl 3mf"),
        ("the colours", mesh.colored, "glb obj ply 3mf"),
        ("metalness and roughness", own.metallic_roughness is not None, "glb obj"),
        ("the normal map", own.normal_map is not None, "glb obj"),
        ("the emission", own.emissive is not None, "glb obj"),
        ("the ambient occlusion", own.occlusion_in_mr, "glb"),
        ("the opacity", mesh.vertex_alpha is not None, "glb"),
    )
    parts = [name for name, present, formats in contents if present and suffix not in formats]
    kept = " (its texture becomes vertex colours)" if textured and suffix in ("ply", "3mf") else ""
    if not parts:
        return f"{suffix.upper()} cannot store a texture{kept}." if kept else ""
    return f"{suffix.upper()} cannot store {', '.join(parts)}{kept}: save a GLB to keep everything."


def mesh_path(folder: Path, name: str, suffix: str, mesh: Mesh) -> Path:
    """Return the path at which to save a mesh with this name in a folder.

    An OBJ with a texture or a material consists of several files, so it gets its own subfolder.
    """
    own = suffix == "obj" and (mesh.texture is not None or mesh.material is not None)
    return (folder / name if own else folder) / f"{name}.{suffix}"


def load_mesh(path: Path) -> Mesh:
    """Read a mesh with its texture or colours.

    Files are assumed to be y up with the front toward +z, unless `save_mesh` noted otherwise in the
    file. A file with several materials becomes one mesh with one texture. Colours of materials and
    faces become vertex colours; vertices are duplicated where colours meet. Coordinates of a 3MF
    are converted to millimetres.

    Images and other files are only read from the mesh file's folder and its subfolders. Skipped
    content, such as missing images or free-form surfaces, is logged as a warning.

    Raises:
        InvalidInput: if the suffix is not in `READABLE_FORMATS`, or if the file is damaged, has no
            triangles, has infinite, NaN or too large coordinates, or needs an unsupported
            feature.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in READABLE_FORMATS:
        raise InvalidInput(
            f"The format of a mesh file must be {', '.join(READABLE_FORMATS)}, got '{path.name}'."
        )
    content = _content(path)
    try:
        with np.errstate(all="ignore"):
            pieces, up_axis = _READERS[suffix].read(content, path)
            mesh = mesh_of(pieces)
    except InvalidInput as error:
        raise InvalidInput(
            f"{path.name} is not readable as a mesh: {str(error).rstrip('.')}."
        ) from error
    except ImageTo3DError:
        raise
    except _DAMAGE as error:
        raise InvalidInput(
            f"{path.name} is not readable as a mesh: it is damaged, or in another format."
        ) from error
    return rotate(mesh, torch.tensor(_TO_FILE["z" if up_axis == "z" else "y"]).T)


def mesh_files(path: Path) -> list[Path]:
    """Return a mesh file and the other files that `load_mesh` reads along with it.

    Those are the existing material, image and binary files that the mesh file refers to. For a
    damaged mesh file, only the file itself is returned.

    Raises:
        InvalidInput: if the file does not exist.
    """
    content = _content(path)
    reader = _READERS.get(path.suffix.lower().removeprefix("."))
    companions = getattr(reader, "companions", None)
    try:
        beside = companions(content, path) if companions else []
    except (InvalidInput, *_DAMAGE):
        beside = []
    return list(dict.fromkeys([path, *beside]))


def to_y_up(mesh: Mesh) -> Mesh:
    """Rotate a mesh from the library's axes (z up, front +x) to those of files (y up, front +z)."""
    return rotate(mesh, torch.tensor(_TO_FILE["y"]))


def from_y_up(mesh: Mesh) -> Mesh:
    """Rotate a mesh from the axes of files (y up, front +z) to the library's (z up, front +x)."""
    return rotate(mesh, torch.tensor(_TO_FILE["y"]).T)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a NUL in the name is a ValueError
        raise InvalidInput(f"The file {str(path)[:200]!r} is missing or not readable.") from error
