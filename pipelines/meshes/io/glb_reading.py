"""Binary glTF, read.

trimesh reads GLB too, but takes normalised integers for what they are not, leaves sparse and
compressed data at zero, and loses texture transforms, second texture coordinates, skins, fans and
strips.

Source: Khronos, glTF 2.0, and the extensions KHR_mesh_quantization, KHR_texture_transform,
KHR_materials_pbrSpecularGlossiness and EXT_texture_webp.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InvalidInput
from ...images.colors import to_srgb
from ...images.formats import TEXTURE_FORMATS, open_image
from ..material import Material
from ..topology import Floats, Indices
from .glb_container import COMPRESSED, GLB, WEBP
from .glb_material import read_material
from .pieces import EmbeddedImage, Piece, read_embedded_image

_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_CLAMP, _MIRROR = 33071, 33648
#: Extensions that change what is read here, and those that change nothing in shape and colour.
_READ = {
    "KHR_mesh_quantization",
    "KHR_texture_transform",
    "KHR_materials_pbrSpecularGlossiness",
    WEBP,
}
_HARMLESS = (
    "KHR_materials_",
    "KHR_lights_",
    "KHR_xmp",
    "KHR_animation_",
    "EXT_lights_",
    "KHR_node_visibility",
    "KHR_texture_basisu",
)


def read(content: bytes, path: Path) -> tuple[list[Piece], str]:
    """The pieces of the file's scene, in the pose that it stands in, and its upright axis.

    Raises:
        InvalidInput: if the file is damaged, or needs what is not read.
    """
    glb = GLB(content, path)
    for extension in glb.tree.get("extensionsRequired", []):
        if extension in COMPRESSED:
            raise InvalidInput(
                f"it is compressed ({extension}), which is not read: save it without compression"
            )
        if extension not in _READ and not extension.startswith(_HARMLESS):
            raise InvalidInput(
                f"it needs the glTF extension {extension}, which is not read: save it without"
            )
    scene = _Scene(glb)
    pieces = [piece for node, place in scene.nodes() for piece in scene.pieces_of(node, place)]
    extras = glb.tree.get("asset", {}).get("extras")
    up_axis = extras.get("up_axis", "y") if isinstance(extras, dict) else "y"
    return pieces, "z" if up_axis == "z" else "y"


class _Scene:
    """What a file's nodes, meshes and materials stand for."""

    def __init__(self, glb: GLB) -> None:
        self.glb, self.tree = glb, glb.tree
        self._images: dict[tuple[int, str], EmbeddedImage] = {}
        self._materials: dict[int, Material | None] = {}
        self._places = dict(self._walk())

    def nodes(self) -> Iterator[tuple[dict[str, Any], Floats]]:
        """The scene's nodes that have a mesh, with their matrices."""
        for index, place in self._places.items():
            node = self.tree["nodes"][index]
            if "mesh" in node:
                yield node, place

    def _walk(self) -> Iterator[tuple[int, Floats]]:
        nodes = self.tree.get("nodes", [])
        scenes = self.tree.get("scenes")
        if scenes:
            roots = scenes[self.tree.get("scene", 0)].get("nodes", [])
        else:
            children = {child for node in nodes for child in node.get("children", [])}
            roots = [i for i in range(len(nodes)) if i not in children]
        waiting = [(root, np.eye(4)) for root in roots]
        seen: set[int] = set()
        while waiting:
            index, above = waiting.pop()
            if index in seen:
                raise InvalidInput("its nodes go in a circle")
            seen.add(index)
            place = above @ _matrix(nodes[index])
            yield index, place
            waiting += [(child, place) for child in nodes[index].get("children", [])]

    def pieces_of(self, node: dict[str, Any], place: Floats) -> Iterator[Piece]:
        """The triangles of a node's mesh where the node puts them."""
        mesh = self.tree["meshes"][node["mesh"]]
        for primitive in mesh["primitives"]:
            if primitive.get("mode", _TRIANGLES) not in (_TRIANGLES, _STRIP, _FAN):
                continue  # points and lines
            compressed = COMPRESSED & primitive.get("extensions", {}).keys()
            attributes = primitive["attributes"]
            if compressed and (
                "POSITION" not in attributes or not self.glb.has_data(attributes["POSITION"])
            ):
                raise InvalidInput(
                    f"it is compressed ({compressed.pop()}), which is not read: save it without"
                    " compression"
                )
            positions = self.glb.accessor(attributes["POSITION"])
            for weight, target in zip(
                node.get("weights", mesh.get("weights", [])),
                primitive.get("targets", []),
                strict=False,
            ):
                if weight and "POSITION" in target:
                    positions = positions + weight * self.glb.accessor(target["POSITION"])
            faces = self._faces(primitive, len(positions))
            own = place
            if "skin" in node and "JOINTS_0" in attributes:
                positions = self._skinned(positions, attributes, self.tree["skins"][node["skin"]])
                own = np.eye(4)
            positions = positions @ own[:3, :3].T + own[:3, 3]
            if np.linalg.det(own[:3, :3]) < 0:
                faces = faces[:, ::-1]
            color, image, uvs = self._material(primitive)
            colors = alpha = None
            if "COLOR_0" in attributes:
                rgba = self.glb.accessor(attributes["COLOR_0"]).clip(0, 1)
                linear = torch.from_numpy(rgba[:, :3])
                colors = to_srgb(linear).numpy() if bool((linear < 1).any()) else None
                alpha = rgba[:, 3] if rgba.shape[1] == 4 and (rgba[:, 3] < 1).any() else None
            yield Piece(
                positions,
                faces,
                color,
                colors,
                uvs,
                image,
                alpha=alpha,
                **self._directions(node, primitive, own),
                material=self._beside_color(primitive),
            )

    def _directions(
        self, node: dict[str, Any], primitive: dict[str, Any], place: Floats
    ) -> dict[str, Floats | None]:
        """Normals and tangents where the node puts them; none where a skin or a target bends it."""
        attributes = primitive["attributes"]
        if "skin" in node or primitive.get("targets"):
            return {}
        turn = place[:3, :3]
        found: dict[str, Floats | None] = {}
        if "NORMAL" in attributes:
            normals = self.glb.accessor(attributes["NORMAL"]) @ np.linalg.inv(turn)
            found["normals"] = _unit(normals)
        if "TANGENT" in attributes:
            rows = self.glb.accessor(attributes["TANGENT"])
            sign = np.sign(np.linalg.det(turn)) * rows[:, 3:]
            found["tangents"] = np.concatenate([_unit(rows[:, :3] @ turn.T), sign], axis=1)
        return found

    def _beside_color(self, primitive: dict[str, Any]) -> Material | None:
        """What the primitive's material says beside its colour; the same object each time.

        Its images count where they lie as the colour's texture does, on coordinates that are not
        changed.
        """
        number = primitive.get("material")
        if number is None:
            return None
        if number not in self._materials:
            own = self.tree["materials"][number]
            self._materials[number] = read_material(own, self._pixels)
        return self._materials[number]

    def _pixels(self, texture: int) -> Tensor | None:
        """The image of a texture, or None where there is none."""
        entry = self.tree["textures"][texture]
        source = entry.get("extensions", {}).get(WEBP, {}).get("source", entry.get("source"))
        return None if source is None else self._image(source).pixels

    def _faces(self, primitive: dict[str, Any], count: int) -> Indices:
        corners = (
            self.glb.accessor(primitive["indices"])[:, 0].astype(np.int64)
            if "indices" in primitive
            else np.arange(count)
        )
        mode = primitive.get("mode", _TRIANGLES)
        if mode == _TRIANGLES:
            faces = corners[: len(corners) // 3 * 3].reshape(-1, 3)
        elif mode == _STRIP:
            faces = np.stack([corners[:-2], corners[1:-1], corners[2:]], axis=1)
            faces[1::2] = faces[1::2][:, [1, 0, 2]]
        else:
            faces = np.stack(
                [np.full(max(len(corners) - 2, 0), corners[0]), corners[1:-1], corners[2:]], axis=1
            )
        if len(faces) and faces.max() >= count:
            raise InvalidInput("a triangle names a vertex that is not there")
        return faces

    def _skinned(
        self, positions: Floats, attributes: dict[str, int], skin: dict[str, Any]
    ) -> Floats:
        """Positions where the joints of the skin hold them."""
        joints = np.stack([self._places.get(joint, np.eye(4)) for joint in skin["joints"]])
        if "inverseBindMatrices" in skin:
            joints = joints @ self.glb.accessor(skin["inverseBindMatrices"]).reshape(
                -1, 4, 4
            ).transpose(0, 2, 1)
        moved = np.zeros((len(positions), 4))
        homogeneous = np.pad(positions, ((0, 0), (0, 1)), constant_values=1.0)
        total = np.zeros((len(positions), 1))
        number = 0
        while f"JOINTS_{number}" in attributes:
            which = self.glb.accessor(attributes[f"JOINTS_{number}"]).astype(np.int64)
            weights = self.glb.accessor(attributes[f"WEIGHTS_{number}"])
            for k in range(4):
                moved += weights[:, k, None] * np.einsum(
                    "nij,nj->ni", joints[which[:, k]], homogeneous
                )
                total += weights[:, k, None]
            number += 1
        return np.where(total > 0, moved[:, :3] / np.maximum(total, 1e-12), positions)

    def _material(
        self, primitive: dict[str, Any]
    ) -> tuple[Floats | None, EmbeddedImage | None, Floats | None]:
        """SRGB colour, texture and its coordinates, of the metallic or the glossy kind."""
        if "material" not in primitive:
            return None, None, None
        material = self.tree["materials"][primitive["material"]]
        glossy = material.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness")
        if glossy is not None:
            factor, texture = glossy.get("diffuseFactor"), glossy.get("diffuseTexture")
        else:
            metallic = material.get("pbrMetallicRoughness", {})
            factor, texture = metallic.get("baseColorFactor"), metallic.get("baseColorTexture")
        color = None
        if factor is not None and min(factor[:3]) < 1:
            color = to_srgb(torch.tensor(factor[:3], dtype=torch.float64)).clamp(0, 1).numpy()
        if texture is None:
            return color, None, self._plain_uvs(primitive)
        change = texture.get("extensions", {}).get("KHR_texture_transform", {})
        name = f"TEXCOORD_{change.get('texCoord', texture.get('texCoord', 0))}"
        if name not in primitive["attributes"]:
            return color, None, None
        uvs = _transformed(self.glb.accessor(primitive["attributes"][name]), change)
        image, uvs = self._texture(self.tree["textures"][texture["index"]], uvs)
        return color, image, np.stack([uvs[:, 0], 1 - uvs[:, 1]], axis=1)

    def _plain_uvs(self, primitive: dict[str, Any]) -> Floats | None:
        """Coordinates from the lower left, of a mesh without a texture of its colour."""
        if "TEXCOORD_0" not in primitive["attributes"]:
            return None
        uvs = self.glb.accessor(primitive["attributes"]["TEXCOORD_0"])
        return np.stack([uvs[:, 0], 1 - uvs[:, 1]], axis=1)

    def _texture(self, texture: dict[str, Any], uvs: Floats) -> tuple[EmbeddedImage, Floats]:
        """The image of a texture, and the coordinates in it.

        The coordinates find in an image that repeats what the sampler says.
        """
        extensions = texture.get("extensions", {})
        source = extensions.get(WEBP, {}).get("source", texture.get("source"))
        if source is None:
            raise InvalidInput(
                f"its texture needs {', '.join(extensions) or 'a source'}, which is not read: save"
                " it with PNG or JPEG"
            )
        sampler = self.tree["samplers"][texture["sampler"]] if "sampler" in texture else {}
        uvs = uvs.copy()
        flips = ""
        for axis, wrap in enumerate((sampler.get("wrapS"), sampler.get("wrapT"))):
            if wrap == _CLAMP:
                uvs[:, axis] = uvs[:, axis].clip(0, 1)
            elif wrap == _MIRROR and (uvs[:, axis].min() < 0 or uvs[:, axis].max() > 1):
                uvs[:, axis] /= 2
                flips += "uv"[axis]
        key = (source, flips)
        if key not in self._images:
            image = self._image(source)
            for direction in flips:
                dim = 1 if direction == "u" else 0
                image = EmbeddedImage(torch.cat([image.pixels, image.pixels.flip(dim)], dim=dim))
            self._images[key] = image
        return self._images[key], uvs

    def _image(self, source: int) -> EmbeddedImage:
        image = self.tree["images"][source]
        data = self.glb.bytes_of(image)
        try:
            with open_image(io.BytesIO(data), TEXTURE_FORMATS) as opened:
                return read_embedded_image(opened)
        except Exception as error:  # Pillow's plugins raise whatever goes wrong in them
            raise InvalidInput(f"its image {image.get('name', source)} cannot be read") from error


def _matrix(node: dict[str, Any]) -> Floats:
    """(4, 4) of a node: its matrix, or translation, rotation (x, y, z, w) and scale."""
    if "matrix" in node:
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    x, y, z, w = np.array(node.get("rotation", (0, 0, 0, 1)), dtype=np.float64)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    place = np.eye(4)
    place[:3, :3] = rotation * np.array(node.get("scale", (1, 1, 1)), dtype=np.float64)
    place[:3, 3] = node.get("translation", (0, 0, 0))
    return place


def _unit(rows: Floats) -> Floats:
    """Directions of length one."""
    found: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return found


def _transformed(uvs: Floats, change: Mapping[str, Any]) -> Floats:
    """Coordinates after KHR_texture_transform: scaled, turned, moved."""
    angle = change.get("rotation", 0.0)
    scaled = uvs * np.array(change.get("scale", (1, 1)), dtype=np.float64)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved: Floats = scaled @ turn.T + np.array(change.get("offset", (0, 0)), dtype=np.float64)
    return moved
