"""Read glTF, either binary (GLB) or JSON with separate files (.gltf).

trimesh is not used here. It misreads normalized integers and returns zeros for sparse and
compressed data. It ignores texture transforms, second texture coordinates, skins, instances, fans
and strips.

Source: Khronos, glTF 2.0, and the extensions in `_SUPPORTED`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import InvalidInput
from ...images.colors import to_srgb
from ..topology import Floats, Indices
from .glb_container import COMPRESSED, GltfFile, refuse_compressed
from .glb_material import EMISSIVE_STRENGTH, GLOSSY, UNLIT
from .glb_surface import TEXTURE_EXTENSIONS, Surfaces
from .glb_transforms import INSTANCING, instance_matrices, is_flat, node_places, place_piece
from .pieces import Piece
from .polygons import check_indices, strip_triangles

log = logging.getLogger(__name__)

_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_MAX_FACES = 50_000_000  # of all instances of a mesh
_SUPPORTED = {
    "KHR_mesh_quantization",
    "KHR_texture_transform",
    "KHR_node_visibility",
    GLOSSY,
    UNLIT,
    EMISSIVE_STRENGTH,
    INSTANCING,
    *TEXTURE_EXTENSIONS,
}
#: Prefixes of extensions that do not affect shape or colour; they are ignored silently.
_WITHOUT_EFFECT = ("KHR_lights_", "KHR_xmp", "KHR_animation_", "EXT_lights_")
#: Prefixes of extensions that a file can be read without, even if it requires them.
_OPTIONAL = (*_WITHOUT_EFFECT, "KHR_materials_", "KHR_texture_basisu")


def read(content: bytes, path: Path) -> tuple[list[Piece], str]:
    """Read the pieces of a file's scene in the stored pose, and the file's up axis.

    Skipped content is logged as a warning.

    Raises:
        InvalidInput: if the file is damaged or needs an unsupported feature.
    """
    file = GltfFile(content, path)
    _check_extensions(file)
    scene = _Scene(file)
    pieces = list(scene.pieces())
    for what, count in scene.skipped.items():
        log.warning("%s: skipped %s (%d).", path.name, what, count)
    extras = file.tree.get("asset", {}).get("extras")
    return pieces, extras.get("up_axis", "y") if isinstance(extras, dict) else "y"


def companions(content: bytes, path: Path) -> list[Path]:
    """Return the existing buffer and image files that a file refers to."""
    return GltfFile(content, path).companions()


def _check_extensions(file: GltfFile) -> None:
    """Raise if the file requires an unsupported extension; warn about optional ones."""
    required = file.tree.get("extensionsRequired", [])
    refuse_compressed(required)
    for extension in required:
        if extension not in _SUPPORTED and not extension.startswith(_OPTIONAL):
            raise InvalidInput(
                f"it needs the glTF extension {extension}, which is not supported: save it without"
            )
    ignored = [
        extension
        for extension in dict.fromkeys([*file.tree.get("extensionsUsed", []), *required])
        if extension not in _SUPPORTED | COMPRESSED and not extension.startswith(_WITHOUT_EFFECT)
    ]
    if ignored:
        log.warning("%s: skipped the glTF extensions %s.", file.path.name, ", ".join(ignored))


class _Scene:
    """The triangles of a file's scene.

    Attributes:
        skipped: number of skipped items of each kind, for the warning.
    """

    def __init__(self, file: GltfFile) -> None:
        self.skipped: Counter[str] = Counter()
        self._file, self._tree = file, file.tree
        self._surfaces = Surfaces(file)
        self._places = node_places(file.tree)

    def pieces(self) -> Iterator[Piece]:
        """Yield the triangles of all visible meshes, transformed by their nodes."""
        for index, (place, shown) in self._places.items():
            node = self._tree["nodes"][index]
            if "mesh" in node and not shown:
                self.skipped["hidden meshes"] += 1
            elif "mesh" in node:
                places = place @ instance_matrices(self._file, node)
                for primitive in self._tree["meshes"][node["mesh"]]["primitives"]:
                    yield from self._placed(node, primitive, places)

    def _placed(
        self, node: dict[str, Any], primitive: dict[str, Any], places: Floats
    ) -> Iterator[Piece]:
        """Yield the triangles of a primitive once for each of the matrices `places` (N, 4, 4)."""
        if primitive.get("mode", _TRIANGLES) not in (_TRIANGLES, _STRIP, _FAN):
            self.skipped["sets of points or lines"] += 1
            return
        piece = self._piece(node, primitive)
        if "skin" in node and "JOINTS_0" in primitive["attributes"]:
            yield piece  # its joints already include the transform
            return
        if len(piece.faces) * len(places) > _MAX_FACES:
            raise InvalidInput(
                f"it repeats a mesh of {len(piece.faces)} triangles {len(places)} times, which is"
                f" more than {_MAX_FACES} triangles"
            )
        for place in places:
            if is_flat(place):
                self.skipped["meshes of scale 0"] += 1
            else:
                yield place_piece(piece, place)

    def _piece(self, node: dict[str, Any], primitive: dict[str, Any]) -> Piece:
        """Return the triangles of a primitive in its mesh's local coordinates."""
        attributes = primitive["attributes"]
        if "POSITION" not in attributes or not self._file.has_data(attributes["POSITION"]):
            refuse_compressed(primitive.get("extensions", {}))
        positions = self._positions(node, primitive)
        color, image, uvs = self._surfaces.color(primitive)
        colors, alpha = self._vertex_colors(attributes)
        bent = "skin" in node or bool(primitive.get("targets"))
        return Piece(
            positions,
            self._faces(primitive, len(positions)),
            color,
            colors,
            uvs,
            image,
            normals=None if bent else self._optional(attributes, "NORMAL"),
            tangents=None if bent else self._optional(attributes, "TANGENT"),
            alpha=alpha,
            material=self._surfaces.other_properties(primitive),
        )

    def _optional(self, attributes: dict[str, int], name: str) -> Floats | None:
        return self._file.accessor(attributes[name]) if name in attributes else None

    def _vertex_colors(self, attributes: dict[str, int]) -> tuple[Floats | None, Floats | None]:
        """Return sRGB colours (V, 3) and opacities (V,); each is None if all its values are 1."""
        rgba = self._optional(attributes, "COLOR_0")
        if rgba is None:
            return None, None
        rgba = rgba.clip(0, 1)
        linear = torch.from_numpy(rgba[:, :3])
        colors = to_srgb(linear).numpy() if bool((linear < 1).any()) else None
        alpha = rgba[:, 3] if rgba.shape[1] == 4 and (rgba[:, 3] < 1).any() else None
        return colors, alpha

    def _positions(self, node: dict[str, Any], primitive: dict[str, Any]) -> Floats:
        """Return positions (V, 3) with morph targets and joints applied."""
        attributes = primitive["attributes"]
        positions = self._file.accessor(attributes["POSITION"])
        weights = node.get("weights", self._tree["meshes"][node["mesh"]].get("weights", []))
        for weight, target in zip(weights, primitive.get("targets", []), strict=False):
            if weight and "POSITION" in target:
                positions = positions + weight * self._file.accessor(target["POSITION"])
        if "skin" in node and "JOINTS_0" in attributes:
            return self._skinned(positions, attributes, self._tree["skins"][node["skin"]])
        return positions

    def _faces(self, primitive: dict[str, Any], count: int) -> Indices:
        corners = np.arange(count)
        if "indices" in primitive:
            corners = self._file.accessor(primitive["indices"])[:, 0].astype(np.int64)
        mode = primitive.get("mode", _TRIANGLES)
        if mode == _TRIANGLES:
            corners = corners[: len(corners) // 3 * 3]
        check_indices(corners, count)
        if mode == _STRIP:
            return strip_triangles(corners)
        if mode == _FAN:
            return np.insert(np.stack([corners[1:-1], corners[2:]], axis=1), 0, corners[0], axis=1)
        return corners.reshape(-1, 3)

    def _skinned(
        self, positions: Floats, attributes: dict[str, int], skin: dict[str, Any]
    ) -> Floats:
        """Deform positions (V, 3) by the joints of a skin."""
        outside = (np.eye(4), True)
        joints = np.stack([self._places.get(joint, outside)[0] for joint in skin["joints"]])
        if "inverseBindMatrices" in skin:
            inverse = self._file.accessor(skin["inverseBindMatrices"]).reshape(-1, 4, 4)
            joints = joints @ inverse.transpose(0, 2, 1)
        moved = np.zeros((len(positions), 4))
        homogeneous = np.pad(positions, ((0, 0), (0, 1)), constant_values=1.0)
        total = np.zeros((len(positions), 1))
        for name in (name for name in attributes if name.startswith("JOINTS_")):
            which = self._file.accessor(attributes[name]).astype(np.int64)
            weights = self._file.accessor(attributes[name.replace("JOINTS", "WEIGHTS")])
            for joint, weight in zip(which.T, weights.T[..., None], strict=True):
                moved += weight * np.einsum("nij,nj->ni", joints[joint], homogeneous)
                total += weight
        return np.where(total > 0, moved[:, :3] / np.maximum(total, 1e-12), positions)
