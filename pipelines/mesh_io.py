"""Meshes to files. Axis changes live here and nowhere else.

Files are y up with the front toward +z, as glTF wants and viewers expect: (x, y, z) -> (y, z, x), a rotation, so that nothing is mirrored
and no winding changes. STL, which goes to slicers, can be written z up.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import trimesh
from torch import Tensor

from .errors import EnvironmentProblem, InvalidInput
from .mesh import Mesh

FORMATS = ("obj", "glb", "ply", "stl")
UpAxis = Literal["y", "z"]
_ROWS = 65536


def save_mesh(mesh: Mesh, path: Path, *, up_axis: UpAxis = "y", comment: str = "") -> None:
    """Write a mesh in the format of the path's ending.

    Args:
        mesh: at least one triangle.
        path: ends in .obj, .glb, .ply or .stl; an existing file is replaced once the new one is whole.
        up_axis: "y" (front +z) or "z" (front -y, as in Blender).
        comment: text for the head of an OBJ.

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
    vertices, faces = _to_file_axes(mesh.vertices, up_axis), mesh.faces.cpu().numpy()
    colors = None if mesh.vertex_colors is None else mesh.vertex_colors.clamp(0, 1).cpu().numpy()
    with atomic_path(path) as partial:
        if suffix == "obj":
            with partial.open("wb") as file:
                for text in _obj_text(vertices, faces, colors, comment):
                    file.write(text)
        else:
            shape = trimesh.Trimesh(vertices, faces, process=False)
            if colors is not None:
                alpha = np.full((len(colors), 1), 255, np.uint8)
                shape.visual = trimesh.visual.ColorVisuals(shape, vertex_colors=np.hstack([(colors * 255).round().astype(np.uint8), alpha]))
            partial.write_bytes(_as_bytes(shape.export(file_type=suffix)))


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


def _to_file_axes(vertices: Tensor, up_axis: UpAxis) -> np.ndarray:
    order = torch.tensor([1, 2, 0])
    y_up = vertices.detach().cpu().float()[:, order]
    if up_axis == "y":
        return y_up.numpy()
    x, y, z = y_up.unbind(dim=1)
    return torch.stack([x, -z, y], dim=1).numpy()


def _obj_text(vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray | None, comment: str) -> Iterator[bytes]:
    for line in comment.splitlines():
        yield f"# {line}\n".encode()
    table = vertices if colors is None else np.hstack([vertices, colors])
    row = "v " + " ".join(["%.6f"] * 3 + ["%.4f"] * (table.shape[1] - 3)) + "\n"
    for part in np.array_split(table, -(-len(table) // _ROWS)):
        yield ((row * len(part)) % tuple(part.ravel().tolist())).encode()
    for part in np.array_split(faces + 1, -(-len(faces) // _ROWS)):
        yield (("f %d %d %d\n" * len(part)) % tuple(part.ravel().tolist())).encode()


def _as_bytes(exported: str | bytes) -> bytes:
    return exported.encode() if isinstance(exported, str) else exported
