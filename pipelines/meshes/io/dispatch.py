"""Save and load meshes. Only this module converts axes.

Files are y up with the front toward +z, as glTF requires and viewers expect: (x, y, z) ->
(y, z, x), a rotation, which keeps the winding. They can be written z up (front -y, as in Blender)
for slicers and CAD; a note in the file then tells `load_mesh`.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Mapping
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
from .pieces import mesh_of

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
#: Formats that may refer to other files.
_COMPANIONS: Mapping[str, Callable[[bytes, Path], list[Path]]] = {
    "obj": obj_reading.companions,
    "glb": glb_reading.companions,
    "gltf": glb_reading.companions,
    "ply": ply.companions,
}
_DAMAGE = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    struct.error,
    RecursionError,
)


def save_mesh(
    mesh: Mesh,
    path: Path,
    *,
    up_axis: UpAxis = "y",
    metadata: Mapping[str, str] | None = None,
    texture_format: TextureFormat = "png",
) -> None:
    """Write a mesh in the format of the path's suffix.

    A GLB holds everything. An OBJ has its material in `<name>.mtl` and its images in `<name>.png`
    and similar files beside it, numbered if another program's file has that name. PLY and 3MF keep
    colours at the vertices, STL only the shape. What a format cannot hold is logged as a warning.

    Args:
        mesh: at least one triangle.
        path: ends in .obj, .glb, .ply, .stl or .3mf. An existing file is replaced only by a
            complete one.
        up_axis: "y" (front +z) or "z" (front -y, as in Blender).
        metadata: texts by name: comments at the top of an OBJ, `asset.extras` of a GLB; dropped by
            the other formats.
        texture_format: "png", "jpeg" or "webp", for a GLB. JPEG and WebP are a few times smaller;
            some viewers do not read WebP. Textures beside an OBJ are PNG.

    Raises:
        InvalidInput: if the suffix is none of these, the mesh is empty, or a texture format other
            than PNG is given for another format than GLB.
        EnvironmentProblem: if the file cannot be written; no partial file remains.

    >>> import tempfile, torch
    >>> corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    >>> triangle = Mesh(corners, torch.tensor([[0, 1, 2]]), vertex_colors=torch.rand(3, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_mesh(triangle, Path(folder) / "triangle.glb", metadata={"made by": "hand"})
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
    upright = to_y_up(mesh) if up_axis == "y" else _y_up_to_z_up(to_y_up(mesh))
    if suffix == "obj":
        obj_writing.write(upright, path, metadata or {}, up_axis)
        return
    in_glb = suffix == "glb"
    content = (
        glb_writing.write(upright, metadata or {}, up_axis, texture_format)
        if in_glb
        else _READERS[suffix].write(texture_to_vertex_colors(upright), up_axis)
    )
    with atomic_path(path) as partial:
        partial.write_bytes(content)


def lost(mesh: Mesh, suffix: str) -> str:
    """Return a sentence about what a format (one of `FORMATS`) cannot hold of a mesh, or ""."""
    own = mesh.material or Material()
    textured = mesh.texture is not None and mesh.uvs is not None
    names = {
        "metallic_roughness": "metal and roughness",
        "normal_map": "the relief",
        "emissive": "the glow",
    }
    material = [names[name] for name in own.images]
    if own.occlusion_in_mr:
        material.append("the ambient occlusion")
    opacity = ["the opacity"] if mesh.vertex_alpha is not None else []
    parts: list[str] = []
    if suffix == "obj":
        parts = ["the vertex colours"] if textured and mesh.vertex_colors is not None else []
        parts += ["the ambient occlusion"] if own.occlusion_in_mr else []
        parts += opacity
    elif suffix != "glb":
        parts = ["the colours"] if suffix == "stl" and mesh.colored else []
        parts += material + opacity
    kept = " (its texture becomes vertex colours)" if textured and suffix in ("ply", "3mf") else ""
    if not parts:
        return f"{suffix.upper()} cannot store a texture{kept}." if kept else ""
    return f"{suffix.upper()} cannot store {', '.join(parts)}{kept}: save a GLB to keep everything."


def mesh_path(folder: Path, name: str, suffix: str, mesh: Mesh) -> Path:
    """Return the path of a mesh of this name in a folder.

    An OBJ with a texture or a material gets a folder of its own, since it is several files.
    """
    return (
        folder / name / f"{name}.obj"
        if suffix == "obj" and (mesh.texture is not None or mesh.material is not None)
        else folder / f"{name}.{suffix}"
    )


def load_mesh(path: Path) -> Mesh:
    """Read a mesh with its texture or colours.

    Files are y up with the front toward +z, unless a note of `save_mesh` says otherwise. Several
    materials become one mesh with one texture. Colours of materials and faces become vertex
    colours; vertices are doubled where colours meet. A 3MF is in millimetres.

    Files that the mesh file names must be in its folder or below it. What is skipped, such as
    missing images or free-form surfaces, is logged as a warning.

    Raises:
        InvalidInput: if the suffix is none of `READABLE_FORMATS`; if the file is damaged, has no
            triangles, has coordinates that are not finite or absurdly large, or needs a feature
            that is not supported.
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
            f"{path.name} is not readable as a mesh: it is damaged, or something else."
        ) from error
    return from_y_up(mesh if up_axis == "y" else _z_up_to_y_up(mesh))


def mesh_files(path: Path) -> list[Path]:
    """Return a mesh file and the files beside it that `load_mesh` reads with it.

    These are materials, images and numbers that the file names and that exist. Of a damaged file,
    only itself is returned.

    Raises:
        InvalidInput: if the file does not exist.
    """
    content = _content(path)
    companions = _COMPANIONS.get(path.suffix.lower().removeprefix("."))
    try:
        beside = companions(content, path) if companions else []
    except (InvalidInput, *_DAMAGE):
        beside = []
    return list(dict.fromkeys([path, *beside]))


def to_y_up(mesh: Mesh) -> Mesh:
    """Rotate a mesh to the axes of files: y up, front +z."""
    return rotate(mesh, torch.eye(3).roll(-1, dims=0))


def from_y_up(mesh: Mesh) -> Mesh:
    """Rotate a mesh from the axes of files to the library's: z up, front +x."""
    return rotate(mesh, torch.eye(3).roll(1, dims=0))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a NUL in the name is a ValueError
        raise InvalidInput(f"The file {str(path)[:200]!r} is missing or not readable.") from error


def _y_up_to_z_up(mesh: Mesh) -> Mesh:
    return rotate(mesh, torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]))


def _z_up_to_y_up(mesh: Mesh) -> Mesh:
    return rotate(mesh, torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]))
