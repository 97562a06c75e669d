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
from PIL import Image
from torch import Tensor

from .cleanup import texture_to_vertex_colors
from .errors import EnvironmentProblem, InvalidInput
from .mesh import Mesh
from .pictures import to_pillow, to_tensor

FORMATS = ("obj", "glb", "ply", "stl", "3mf")
UpAxis = Literal["y", "z"]
_ROWS = 65536
_MATTE = {"pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0}}  # glTF's default is a metal


def save_mesh(mesh: Mesh, path: Path, *, up_axis: UpAxis = "y", metadata: Mapping[str, str] | None = None) -> None:
    """Write a mesh in the format of the path's ending.

    Args:
        mesh: at least one triangle. A texture goes into a GLB, or beside an OBJ as `<name>.mtl` and `<name>.png`; PLY takes its colours at the
            vertices; STL and 3MF have no colours.
        path: ends in .obj, .glb, .ply, .stl or .3mf; an existing file is replaced once the new one is whole.
        up_axis: "y" (front +z) or "z" (front -y, as in Blender).
        metadata: texts by name: comments at the head of an OBJ, `asset.extras` of a GLB; the other formats have no place for them.

    Raises:
        InvalidInput: if the ending is none of these or the mesh is empty.
        EnvironmentProblem: if the file cannot be written; no half file is left.

    Source: Wavefront OBJ with the `v x y z r g b` extension that MeshLab and Blender read; glTF 2.0, PLY, STL and 3MF through trimesh.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise InvalidInput(f"A mesh is saved as one of {', '.join(FORMATS)}, got '{path.name}'.")
    if not len(mesh.faces):
        raise InvalidInput("The mesh has no triangles, so there is nothing to save.")
    turned = to_y_up(mesh) if up_axis == "y" else _y_up_to_z_up(to_y_up(mesh))
    if suffix == "obj":
        _save_obj(turned, path, metadata or {})
        return
    with atomic_path(path) as partial:
        partial.write_bytes(_glb(turned, metadata or {}) if suffix == "glb" else _without_texture(turned, suffix))


def mesh_path(folder: Path, name: str, suffix: str, mesh: Mesh) -> Path:
    """Where a mesh of this name goes: into the folder, or, since a textured OBJ is three files, into a folder of its own in it."""
    return folder / name / f"{name}.obj" if suffix == "obj" and mesh.texture is not None else folder / f"{name}.{suffix}"


def load_mesh(path: Path) -> Mesh:
    """Read a mesh that is y up with its front toward +z, with its texture or the colours of its vertices if it has any.

    A material is looked for beside the file, by its bare name and nowhere else.

    Raises:
        InvalidInput: if the ending is none of `FORMATS`, or the file is damaged or holds no triangles.
    """
    import trimesh  # slow to import

    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise InvalidInput(f"A mesh is read from {', '.join(FORMATS)}, got '{path.name}'.")

    class Beside(trimesh.resolvers.FilePathResolver):
        def get(self, name: str) -> bytes:
            return (path.parent / Path(name.replace("\\", "/")).name).read_bytes()

    def read(**options: bool) -> Any:
        return trimesh.load(io.BytesIO(content), file_type=suffix, force="mesh", process=False, resolver=Beside(str(path)), **options)

    try:
        content = path.read_bytes()
        loaded = read()
        if suffix == "glb" and _image_of(loaded) is None:
            loaded = read(skip_materials=True)  # materials stand in the way of vertex colours
    except FileNotFoundError as error:
        raise InvalidInput(f"There is no file {path}.") from error
    except Exception as error:  # trimesh's parsers raise whatever goes wrong in them
        raise InvalidInput(f"{path.name} cannot be read as a mesh: it is damaged, or something else.") from error
    if not isinstance(loaded, trimesh.Trimesh) or not len(loaded.faces):
        raise InvalidInput(f"{path.name} holds no triangles.")
    vertices, faces = torch.tensor(loaded.vertices, dtype=torch.float32), torch.tensor(loaded.faces, dtype=torch.int64)
    image = _image_of(loaded)
    if image is not None:
        texture = to_tensor(image.convert("RGB")).permute(1, 2, 0).contiguous()
        return from_y_up(Mesh(vertices, faces, uvs=torch.tensor(loaded.visual.uv, dtype=torch.float32), texture=texture))
    colors = None
    if loaded.visual.kind == "vertex":
        colors = torch.from_numpy(loaded.visual.vertex_colors[:, :3].astype(np.float32) / 255)
        colors = _srgb(colors) if suffix == "glb" else colors
    return from_y_up(Mesh(vertices, faces, colors))


def _image_of(loaded: Any) -> Image.Image | None:
    """The texture of what trimesh has read, if each vertex has a place in it."""
    material, uv = getattr(loaded.visual, "material", None), getattr(loaded.visual, "uv", None)
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    return image if uv is not None and len(uv) == len(loaded.vertices) else None


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


def _obj_text(mesh: Mesh, metadata: Mapping[str, str], material: str) -> Iterator[bytes]:
    for name, text in metadata.items():
        for line in f"{name}: {text}".splitlines():
            yield f"# {line}\n".encode()
    vertices, faces = mesh.vertices.cpu().numpy(), mesh.faces.cpu().numpy()
    table = vertices if mesh.vertex_colors is None else np.hstack([vertices, mesh.vertex_colors.clamp(0, 1).cpu().numpy()])
    row = "v " + " ".join(["%.6f"] * 3 + ["%.4f"] * (table.shape[1] - 3)) + "\n"
    for part in np.array_split(table, -(-len(table) // _ROWS)):
        yield ((row * len(part)) % tuple(part.ravel().tolist())).encode()
    corner = "%d"
    if mesh.uvs is not None and mesh.texture is not None:
        yield f"mtllib {material}\nusemtl surface\n".encode()
        for part in np.array_split(mesh.uvs.cpu().numpy(), -(-len(vertices) // _ROWS)):
            yield (("vt %.6f %.6f\n" * len(part)) % tuple(part.ravel().tolist())).encode()
        corner, faces = "%d/%d", faces.repeat(2, axis=1)  # a vertex and its place in the texture have the same number
    row = f"f {corner} {corner} {corner}\n"
    for part in np.array_split(faces + 1, -(-len(faces) // _ROWS)):
        yield ((row * len(part)) % tuple(part.ravel().tolist())).encode()


def _save_obj(mesh: Mesh, path: Path, metadata: Mapping[str, str]) -> None:
    if mesh.texture is not None:
        material, picture = path.with_suffix(".mtl"), path.with_suffix(".png")
        with atomic_path(picture) as partial:
            to_pillow(mesh.texture.permute(2, 0, 1)).save(partial)
        with atomic_path(material) as partial:
            partial.write_text(f"newmtl surface\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {picture.name}\n", encoding="utf-8")
    with atomic_path(path) as partial, partial.open("wb") as file:
        for text in _obj_text(mesh, metadata, path.with_suffix(".mtl").name):
            file.write(text)


def _trimesh(mesh: Mesh) -> Any:
    import trimesh  # slow to import

    return trimesh.Trimesh(mesh.vertices.cpu().numpy(), mesh.faces.cpu().numpy(), process=False)


def _without_texture(mesh: Mesh, suffix: str) -> bytes:
    import trimesh

    mesh, shape = texture_to_vertex_colors(mesh), _trimesh(mesh)
    if mesh.vertex_colors is not None and suffix == "ply":
        colors = (mesh.vertex_colors.clamp(0, 1) * 255).round().byte().cpu().numpy()
        shape.visual = trimesh.visual.ColorVisuals(shape, vertex_colors=np.pad(colors, ((0, 0), (0, 1)), constant_values=255))
    exported: bytes = shape.export(file_type=suffix)
    return exported


def _glb(mesh: Mesh, metadata: Mapping[str, str]) -> bytes:
    import trimesh

    shape = _trimesh(mesh)
    if mesh.texture is not None and mesh.uvs is not None:
        image = to_pillow(mesh.texture.permute(2, 0, 1))
        material = trimesh.visual.material.PBRMaterial(baseColorTexture=image, metallicFactor=0.0, roughnessFactor=1.0)
        shape.visual = trimesh.visual.TextureVisuals(uv=mesh.uvs.cpu().numpy(), material=material)
    elif mesh.vertex_colors is not None:
        shape.vertex_attributes["_COLOR"] = _linear(mesh.vertex_colors.clamp(0, 1)).cpu().numpy()

    def finish(tree: dict[str, Any]) -> None:
        # trimesh would write colours as 8-bit numbers, too coarse for linear ones.
        for primitive in tree["meshes"][0]["primitives"]:
            primitive.setdefault("material", 0)
            if "_COLOR" in primitive["attributes"]:
                primitive["attributes"]["COLOR_0"] = primitive["attributes"].pop("_COLOR")
        tree.setdefault("materials", [_MATTE])
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
