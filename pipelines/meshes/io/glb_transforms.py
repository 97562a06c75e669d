"""Transform the meshes of a glTF file by the matrices of its nodes.

Source: Khronos, glTF 2.0, section 3.5, and EXT_mesh_gpu_instancing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import InvalidInput
from ..topology import Floats
from .glb_container import GltfFile
from .pieces import Piece

INSTANCING = "EXT_mesh_gpu_instancing"
_VISIBILITY = "KHR_node_visibility"
_DEFAULTS = {"TRANSLATION": (0, 0, 0), "ROTATION": (0, 0, 0, 1), "SCALE": (1, 1, 1)}


def node_places(tree: Mapping[str, Any]) -> dict[int, tuple[Floats, bool]]:
    """Compute the world matrices of all nodes in a file's scene.

    Returns:
        By node index: the world matrix (4, 4), and whether the node is visible.

    Raises:
        InvalidInput: if a node is its own ancestor or has two parents.
    """
    nodes = tree.get("nodes", [])
    scenes = tree.get("scenes")
    if scenes:
        roots = scenes[tree.get("scene", 0)].get("nodes", [])
    else:
        children = {child for node in nodes for child in node.get("children", [])}
        roots = [i for i in range(len(nodes)) if i not in children]
    waiting = [(root, np.eye(4), True) for root in roots]
    found: dict[int, tuple[Floats, bool]] = {}
    while waiting:
        index, above, shown = waiting.pop()
        if index in found:
            raise InvalidInput("its nodes form a cycle")
        node = nodes[index]
        shown = shown and node.get("extensions", {}).get(_VISIBILITY, {}).get("visible", True)
        found[index] = (above @ _node_matrix(node), shown)
        waiting += [(child, found[index][0], shown) for child in node.get("children", [])]
    return found


def instance_matrices(file: GltfFile, node: Mapping[str, Any]) -> Floats:
    """Return the local matrices (N, 4, 4) of a node's instances, or one identity matrix."""
    instancing = node.get("extensions", {}).get(INSTANCING)
    if instancing is None:
        return np.eye(4)[None]
    attributes = instancing["attributes"]
    found = {name: file.accessor(attributes[name]) for name in _DEFAULTS if name in attributes}
    count = max((len(rows) for rows in found.values()), default=1)
    rows = [
        found.get(name, np.tile(default, (count, 1)).astype(np.float64))
        for name, default in _DEFAULTS.items()
    ]
    return _composed(*rows)


def place_piece(piece: Piece, place: Floats) -> Piece:
    """Transform a piece by a matrix (4, 4), which may mirror, shear or flatten it."""
    linear = place[:3, :3]
    mirrored = np.linalg.det(linear) < 0
    sign = -1.0 if mirrored else 1.0
    normals, tangents = piece.normals, piece.tangents
    if normals is not None:
        # The cofactor matrix equals the inverse transpose up to a factor. It also exists for
        # singular matrices.
        cofactors = np.cross(linear[[1, 2, 0]], linear[[2, 0, 1]])
        normals = sign * _unit(normals @ cofactors.T)
    if tangents is not None:
        turned = _unit(tangents[:, :3] @ linear.T)
        tangents = np.concatenate([turned, sign * tangents[:, 3:]], axis=1)
    return replace(
        piece,
        vertices=piece.vertices @ linear.T + place[:3, 3],
        faces=piece.faces[:, ::-1] if mirrored else piece.faces,
        normals=normals,
        tangents=tangents,
    )


def is_flat(place: Floats) -> bool:
    """Return whether a matrix (4, 4) collapses everything to a line or a point, as scale 0 does."""
    return bool(np.linalg.matrix_rank(place[:3, :3]) < 2)


def _node_matrix(node: Mapping[str, Any]) -> Floats:
    """Return a node's local matrix (4, 4).

    It is stored directly, or as translation, rotation (quaternion x, y, z, w) and scale.
    """
    if "matrix" in node:
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    rows = [
        np.array([node.get(name.lower(), default)], dtype=np.float64)
        for name, default in _DEFAULTS.items()
    ]
    matrix: Floats = _composed(*rows)[0]
    return matrix


def _composed(translation: Floats, rotation: Floats, scale: Floats) -> Floats:
    """Compose matrices (N, 4, 4) that scale, rotate and then translate.

    Args:
        translation: (N, 3).
        rotation: (N, 4) quaternions x, y, z, w; those of length 0 mean no rotation.
        scale: (N, 3).
    """
    from scipy.spatial.transform import Rotation  # slow to import

    turns = np.linalg.norm(rotation, axis=1, keepdims=True) > 0
    quaternions = np.where(turns, rotation, _DEFAULTS["ROTATION"])
    matrices = np.tile(np.eye(4), (len(rotation), 1, 1))
    matrices[:, :3, :3] = Rotation.from_quat(quaternions).as_matrix() * scale[:, None, :]
    matrices[:, :3, 3] = translation
    return matrices


def _unit(rows: Floats) -> Floats:
    """Normalize the rows of an array to length 1."""
    found: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
    return found
