"""Read meshes of other packs: those of trimesh, and objects with `v` and `f`.

Meshes are recognised by their attributes, since each pack defines its own classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..pipelines.errors import InvalidInput
from ..pipelines.meshes.mesh import Mesh


def foreign_mesh(value: Any) -> Mesh | None:
    """Convert a mesh of another pack, y up; return None if it is a MESH of core.

    Raises:
        InvalidInput: if it is not a triangle mesh.
    """
    if hasattr(value, "geometry") and hasattr(value, "to_mesh"):  # a trimesh.Scene
        value = value.to_mesh()
    if _has(value, "vertices", "faces"):
        if isinstance(value.vertices, (Tensor, list, tuple)):
            return None
        return _mesh(value.vertices, value.faces, **_visual(getattr(value, "visual", None)))
    if _has(value, "v", "f"):
        return _mesh(value.v, value.f, colors=getattr(value, "vc", None))
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise InvalidInput(
        f"This is not a mesh that can be read: {kind} has no vertices and faces. Save it as a GLB"
        " with the node pack that made it, and use Load Mesh File."
    )


def _has(value: Any, *names: str) -> bool:
    return all(getattr(value, name, None) is not None for name in names)


def _mesh(
    vertices: Any, faces: Any, *, colors: Any = None, uvs: Any = None, texture: Any = None
) -> Mesh:
    """Build a mesh from arrays or tensors of any precision; colours may be bytes."""
    points, corners = _tensor(vertices).float(), _tensor(faces).long()
    if points.ndim != 2 or corners.ndim != 2 or corners.shape[1:] != (3,) or not len(corners):
        raise InvalidInput(
            f"A mesh needs vertices (V, 3) and triangles (F, 3), got {tuple(points.shape)} and"
            f" {tuple(corners.shape)}."
        )
    return Mesh(
        points,
        corners,
        None if colors is None or texture is not None else _unit(colors)[:, :3],
        None if texture is None else _tensor(uvs).float(),
        None if texture is None else _unit(np.asarray(texture.convert("RGB"))),
    )


def _visual(visual: Any) -> dict[str, Any]:
    """Return the texture or the vertex colours of a trimesh."""
    material = getattr(visual, "material", None)
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    uvs = getattr(visual, "uv", None)
    if image is not None and uvs is not None:
        return {"uvs": uvs, "texture": image}
    return {"colors": visual.vertex_colors} if getattr(visual, "kind", None) == "vertex" else {}


def _tensor(values: Any) -> Tensor:
    """Convert an array, or a tensor on any device, to a tensor in host memory."""
    return values.detach().cpu() if isinstance(values, Tensor) else torch.tensor(np.array(values))


def _unit(values: Any) -> Tensor:
    """Scale bytes to [0, 1]; clamp other numbers to it."""
    tensor = _tensor(values)
    return (tensor.float() / (255 if tensor.dtype == torch.uint8 else 1)).clamp(0, 1)
