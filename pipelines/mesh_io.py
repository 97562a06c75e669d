"""Meshes to files. Axis changes live here and nowhere else.

Files are y up with the front toward +z, as glTF wants and viewers expect: (x, y, z) -> (y, z, x), a rotation, so that nothing is mirrored
and no winding changes. STL, which goes to slicers, can be written z up.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .errors import EnvironmentProblem, InvalidInput
from .mesh import Mesh

FORMATS = ("obj", "glb", "ply", "stl")
UpAxis = Literal["y", "z"]
_ROWS = 65536
_MATTE = {"pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0}}  # glTF's default is a metal


def save_mesh(mesh: Mesh, path: Path, *, up_axis: UpAxis = "y", metadata: Mapping[str, str] | None = None) -> None:
    """Write a mesh in the format of the path's ending.

    Args:
        mesh: at least one triangle.
        path: ends in .obj, .glb, .ply or .stl; an existing file is replaced once the new one is whole.
        up_axis: "y" (front +z) or "z" (front -y, as in Blender).
        metadata: texts by name: comments at the head of an OBJ, `asset.extras` of a GLB; the other formats have no place for them.

    Raises:
        InvalidInput: if the ending is none of these or the mesh is empty.
        EnvironmentProblem: if the file cannot be written; no half file is left.

    Source: Wavefront OBJ with the `v x y z r g b` extension that MeshLab and Blender read; glTF 2.0, PLY and STL through trimesh.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise InvalidInput(f"A mesh is saved as one of {', '.join(FORMATS)}, got '{path.name}'.")
    if not len(mesh.faces):
        raise InvalidInput("The mesh has no triangles, so there is nothing to save.")
    turned = to_y_up(mesh) if up_axis == "y" else _y_up_to_z_up(to_y_up(mesh))
    with atomic_path(path) as partial:
        if suffix == "obj":
            with partial.open("wb") as file:
                for text in _obj_text(turned, metadata or {}):
                    file.write(text)
        else:
            partial.write_bytes(_glb(turned, metadata or {}) if suffix == "glb" else _ply_or_stl(turned, suffix))


def load_mesh(path: Path) -> Mesh:
    """Read a mesh that is y up with its front toward +z, with the colours of its vertices if it has any.

    Raises:
        InvalidInput: if the ending is none of `FORMATS`, or the file is damaged or holds no triangles.
    """
    import trimesh  # slow to import

    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise InvalidInput(f"A mesh is read from {', '.join(FORMATS)}, got '{path.name}'.")
    # From memory, so that no other file is read; materials stand in the way of a GLB's vertex colours.
    options = {"skip_materials": True} if suffix == "glb" else {}
    try:
        loaded = trimesh.load(io.BytesIO(path.read_bytes()), file_type=suffix, force="mesh", process=False, **options)
    except FileNotFoundError as error:
        raise InvalidInput(f"There is no file {path}.") from error
    except Exception as error:  # trimesh's parsers raise whatever goes wrong in them
        raise InvalidInput(f"{path.name} cannot be read as a mesh: it is damaged, or something else.") from error
    if not isinstance(loaded, trimesh.Trimesh) or not len(loaded.faces):
        raise InvalidInput(f"{path.name} holds no triangles.")
    colors = None
    if loaded.visual.kind == "vertex":
        colors = torch.from_numpy(loaded.visual.vertex_colors[:, :3].astype(np.float32) / 255)
        colors = _srgb(colors) if suffix == "glb" else colors
    mesh = Mesh(torch.tensor(loaded.vertices, dtype=torch.float32), torch.tensor(loaded.faces, dtype=torch.int64), colors)
    return from_y_up(mesh)


def to_y_up(mesh: Mesh) -> Mesh:
    """The mesh as files have it: y up, front +z."""
    return replace(mesh, vertices=mesh.vertices.float().roll(-1, dims=1))


def from_y_up(mesh: Mesh) -> Mesh:
    """The inverse of `to_y_up`: z up, front +x."""
    return replace(mesh, vertices=mesh.vertices.float().roll(1, dims=1))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name if the block ends well, and vanishes if not.

    Raises:
        EnvironmentProblem: if the disk refuses.
    """
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
        partial = Path(name)
        yield partial
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    except OSError as error:
        raise EnvironmentProblem(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _y_up_to_z_up(mesh: Mesh) -> Mesh:
    x, y, z = mesh.vertices.unbind(dim=1)
    return replace(mesh, vertices=torch.stack([x, -z, y], dim=1))


def _obj_text(mesh: Mesh, metadata: Mapping[str, str]) -> Iterator[bytes]:
    for name, text in metadata.items():
        for line in f"{name}: {text}".splitlines():
            yield f"# {line}\n".encode()
    vertices, faces = mesh.vertices.cpu().numpy(), mesh.faces.cpu().numpy()
    table = vertices if mesh.vertex_colors is None else np.hstack([vertices, mesh.vertex_colors.clamp(0, 1).cpu().numpy()])
    row = "v " + " ".join(["%.6f"] * 3 + ["%.4f"] * (table.shape[1] - 3)) + "\n"
    for part in np.array_split(table, -(-len(table) // _ROWS)):
        yield ((row * len(part)) % tuple(part.ravel().tolist())).encode()
    for part in np.array_split(faces + 1, -(-len(faces) // _ROWS)):
        yield (("f %d %d %d\n" * len(part)) % tuple(part.ravel().tolist())).encode()


def _ply_or_stl(mesh: Mesh, suffix: str) -> bytes:
    import trimesh  # slow to import

    shape = trimesh.Trimesh(mesh.vertices.cpu().numpy(), mesh.faces.cpu().numpy(), process=False)
    if mesh.vertex_colors is not None:
        colors = (mesh.vertex_colors.clamp(0, 1) * 255).round().byte().cpu().numpy()
        shape.visual = trimesh.visual.ColorVisuals(shape, vertex_colors=np.pad(colors, ((0, 0), (0, 1)), constant_values=255))
    exported: bytes = shape.export(file_type=suffix)
    return exported


def _glb(mesh: Mesh, metadata: Mapping[str, str]) -> bytes:
    import trimesh

    shape = trimesh.Trimesh(mesh.vertices.cpu().numpy(), mesh.faces.cpu().numpy(), process=False)
    if mesh.vertex_colors is not None:
        shape.vertex_attributes["_COLOR"] = _linear(mesh.vertex_colors.clamp(0, 1)).cpu().numpy()

    def finish(tree: dict[str, Any]) -> None:
        # trimesh would write colours as 8-bit numbers, too coarse for linear ones.
        for primitive in tree["meshes"][0]["primitives"]:
            primitive["material"] = 0
            if "_COLOR" in primitive["attributes"]:
                primitive["attributes"]["COLOR_0"] = primitive["attributes"].pop("_COLOR")
        tree["materials"] = [_MATTE]
        if metadata:
            tree["asset"]["extras"] = dict(metadata)

    exported: bytes = trimesh.exchange.gltf.export_glb(trimesh.Scene([shape]), tree_postprocessor=finish)
    return exported


def _linear(srgb: Tensor) -> Tensor:
    """sRGB in [0, 1] as linear light, which glTF's vertex colours are (glTF 2.0, section 3.9.2; IEC 61966-2-1)."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _srgb(linear: Tensor) -> Tensor:
    """The inverse of `_linear`."""
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp_min(1e-6) ** (1 / 2.4) - 0.055)
