"""Binary glTF.

trimesh reads GLB too, but takes normalised integers for what they are not, leaves sparse and
compressed data at zero, and loses texture transforms, second texture coordinates, skins, fans and
strips; and it writes colours in eight bits.

Source: Khronos, glTF 2.0, and the extensions KHR_mesh_quantization, KHR_texture_transform,
KHR_materials_pbrSpecularGlossiness and EXT_texture_webp.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...errors import InvalidInput
from ...pictures.colors import to_linear, to_srgb
from ...pictures.reading import png_bytes, to_pillow
from ..material import Material
from ..mesh import Mesh
from .glb_material import TextureFormat, read_material, written_material
from .pieces import Floats, Indices, Picture, Piece, read_picture_of

log = logging.getLogger(__name__)

_QUALITY = 92  # of JPEG and WebP
_WEBP = "EXT_texture_webp"
_MAGIC = 0x46546C67
_JSON, _BIN = 0x4E4F534A, 0x004E4942
_COMPONENTS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_CLAMP, _MIRROR = 33071, 33648
_ARRAY, _ELEMENTS = 34962, 34963
#: Extensions that change what is read here, and those that change nothing in shape and colour.
_READ = {
    "KHR_mesh_quantization",
    "KHR_texture_transform",
    "KHR_materials_pbrSpecularGlossiness",
    _WEBP,
}
_COMPRESSED = {"KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression"}
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
    tree, binary = _chunks(content)
    for extension in tree.get("extensionsRequired", []):
        if extension in _COMPRESSED:
            raise InvalidInput(
                f"it is compressed ({extension}), which is not read: save it without compression"
            )
        if extension not in _READ and not extension.startswith(_HARMLESS):
            raise InvalidInput(
                f"it needs the glTF extension {extension}, which is not read: save it without"
            )
    file = _File(tree, binary, path)
    pieces = [piece for node, place in file.nodes() for piece in file.pieces_of(node, place)]
    extras = tree.get("asset", {}).get("extras")
    up_axis = extras.get("up_axis", "y") if isinstance(extras, dict) else "y"
    return pieces, "z" if up_axis == "z" else "y"


def write(
    mesh: Mesh, metadata: Mapping[str, str], up_axis: str, texture_format: TextureFormat
) -> bytes:
    """A GLB of a mesh that is already turned.

    Its colours are float32 linear light; its pictures are inside. A WebP needs a reader that knows
    the extension EXT_texture_webp.
    """
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    binary = bytearray()

    def add_view(data: bytes, target: int | None = None) -> int:
        binary.extend(b"\0" * (-len(binary) % 4))
        views.append(
            {"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)}
            | ({"target": target} if target else {})
        )
        binary.extend(data)
        return len(views) - 1

    def add(array: np.ndarray, kind: str, target: int, **bounds: list[float]) -> int:
        component = 5125 if array.dtype == np.uint32 else 5126
        view = add_view(array.tobytes(), target)
        accessors.append(
            {
                "bufferView": view,
                "componentType": component,
                "count": len(array.reshape(-1, _WIDTHS[kind])),
                "type": kind,
            }
            | bounds
        )
        return len(accessors) - 1

    vertices = mesh.vertices.float().cpu().numpy().astype("<f4")
    attributes = {
        "POSITION": add(
            vertices,
            "VEC3",
            _ARRAY,
            min=vertices.min(axis=0).tolist(),
            max=vertices.max(axis=0).tolist(),
        )
    }
    for attribute, values, kind in (
        ("NORMAL", mesh.normals, "VEC3"),
        ("TANGENT", mesh.tangents, "VEC4"),
    ):
        if values is not None:
            attributes[attribute] = add(values.float().cpu().numpy().astype("<f4"), kind, _ARRAY)
    tree: dict[str, Any] = {"asset": {"version": "2.0", "generator": "Image to 3D"}}
    if mesh.vertex_colors is not None or mesh.vertex_alpha is not None:
        srgb = torch.ones_like(mesh.vertices) if mesh.vertex_colors is None else mesh.vertex_colors
        colors = to_linear(srgb.float().clamp(0, 1)).cpu()
        if mesh.vertex_alpha is not None:
            colors = torch.cat([colors, mesh.vertex_alpha.float().cpu()[:, None]], dim=1)
        kind = "VEC3" if mesh.vertex_alpha is None else "VEC4"
        attributes["COLOR_0"] = add(colors.numpy().astype("<f4"), kind, _ARRAY)
    if mesh.uvs is not None:
        uvs = mesh.uvs.float().cpu().numpy().astype("<f4")
        attributes["TEXCOORD_0"] = add(np.stack([uvs[:, 0], 1 - uvs[:, 1]], axis=1), "VEC2", _ARRAY)

    def add_picture(picture: Tensor, kind: TextureFormat) -> int:
        view = add_view(_encoded(picture.permute(2, 0, 1)[None], kind))
        images = tree.setdefault("images", [])
        images.append({"bufferView": view, "mimeType": f"image/{kind}"})
        texture: dict[str, Any] = {"source": len(images) - 1}
        if kind == "webp":
            tree["extensionsRequired"] = [_WEBP]
            texture = {"extensions": {_WEBP: texture}}
        tree.setdefault("textures", []).append(texture)
        return len(tree["textures"]) - 1

    material = written_material(mesh, texture_format, add_picture)
    used = [*tree.get("extensionsRequired", []), *material.get("extensions", {})]
    if used:
        tree["extensionsUsed"] = used
    faces = mesh.faces.cpu().numpy().astype("<u4").reshape(-1)
    primitive = {
        "attributes": attributes,
        "indices": add(faces, "SCALAR", _ELEMENTS),
        "material": 0,
    }
    extras = dict(metadata) | ({"up_axis": "z"} if up_axis == "z" else {})
    if extras:
        tree["asset"]["extras"] = extras
    tree |= {
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [material],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary.extend(b"\0" * (-len(binary) % 4))
    length = 12 + 8 + len(text) + 8 + len(binary)
    return b"".join(
        [
            struct.pack("<III", _MAGIC, 2, length),
            struct.pack("<II", len(text), _JSON),
            text,
            struct.pack("<II", len(binary), _BIN),
            binary,
        ]
    )


def _chunks(content: bytes) -> tuple[dict[str, Any], bytes]:
    if len(content) < 20 or struct.unpack_from("<I", content)[0] != _MAGIC:
        raise InvalidInput("it is damaged, or something else")
    version, length = struct.unpack_from("<II", content, 4)
    if version != 2:
        raise InvalidInput(f"it is glTF {version}, of which only version 2 is read")
    if length > len(content):
        raise InvalidInput("it is cut off")
    chunks: dict[int, bytes] = {}
    place = 12
    while place + 8 <= length:
        size, kind = struct.unpack_from("<II", content, place)
        chunks.setdefault(kind, content[place + 8 : place + 8 + size])
        place += 8 + size
    tree = json.loads(chunks[_JSON])
    if not isinstance(tree, dict):
        raise InvalidInput("it is damaged, or something else")
    return tree, chunks.get(_BIN, b"")


class _File:
    """A parsed file, and what its numbers stand for."""

    def __init__(self, tree: dict[str, Any], binary: bytes, path: Path) -> None:
        self.tree, self.binary, self.path = tree, binary, path
        self._pictures: dict[tuple[int, str], Picture] = {}
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
            compressed = _COMPRESSED & primitive.get("extensions", {}).keys()
            attributes = primitive["attributes"]
            if compressed and (
                "POSITION" not in attributes or not self._has_data(attributes["POSITION"])
            ):
                raise InvalidInput(
                    f"it is compressed ({compressed.pop()}), which is not read: save it without"
                    " compression"
                )
            positions = self.accessor(attributes["POSITION"])
            for weight, target in zip(
                node.get("weights", mesh.get("weights", [])),
                primitive.get("targets", []),
                strict=False,
            ):
                if weight and "POSITION" in target:
                    positions = positions + weight * self.accessor(target["POSITION"])
            faces = self._faces(primitive, len(positions))
            own = place
            if "skin" in node and "JOINTS_0" in attributes:
                positions = self._skinned(positions, attributes, self.tree["skins"][node["skin"]])
                own = np.eye(4)
            positions = positions @ own[:3, :3].T + own[:3, 3]
            if np.linalg.det(own[:3, :3]) < 0:
                faces = faces[:, ::-1]
            color, picture, uvs = self._material(primitive)
            colors = alpha = None
            if "COLOR_0" in attributes:
                rgba = self.accessor(attributes["COLOR_0"]).clip(0, 1)
                linear = torch.from_numpy(rgba[:, :3])
                colors = to_srgb(linear).numpy() if bool((linear < 1).any()) else None
                alpha = rgba[:, 3] if rgba.shape[1] == 4 and (rgba[:, 3] < 1).any() else None
            yield Piece(
                positions,
                faces,
                color,
                colors,
                uvs,
                picture,
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
            normals = self.accessor(attributes["NORMAL"]) @ np.linalg.inv(turn)
            found["normals"] = _unit(normals)
        if "TANGENT" in attributes:
            rows = self.accessor(attributes["TANGENT"])
            sign = np.sign(np.linalg.det(turn)) * rows[:, 3:]
            found["tangents"] = np.concatenate([_unit(rows[:, :3] @ turn.T), sign], axis=1)
        return found

    def _beside_color(self, primitive: dict[str, Any]) -> Material | None:
        """What the primitive's material says beside its colour; the same object each time.

        Its pictures count where they lie as the colour's texture does, on coordinates that are not
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
        """The picture of a texture, or None where there is none."""
        entry = self.tree["textures"][texture]
        source = entry.get("extensions", {}).get(_WEBP, {}).get("source", entry.get("source"))
        return None if source is None else self._picture(source).pixels

    def accessor(self, index: int) -> Floats:
        """(N, width) numbers of an accessor, with sparse changes, integers in their range."""
        accessor = self.tree["accessors"][index]
        dtype = np.dtype(_COMPONENTS[accessor["componentType"]])
        width = _WIDTHS[accessor["type"]]
        count = accessor["count"]
        if not self._has_data(index):
            raise InvalidInput(
                "some of its numbers are stored in a way that is not read: save it anew, without"
                " compression"
            )
        if "bufferView" in accessor:
            values = self._array(
                accessor["bufferView"], accessor.get("byteOffset", 0), dtype, width, count
            ).astype(np.float64)
        else:
            values = np.zeros((count, width))
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            at, new = sparse["indices"], sparse["values"]
            kind = np.dtype(_COMPONENTS[at["componentType"]])
            rows = self._array(at["bufferView"], at.get("byteOffset", 0), kind, 1, sparse["count"])[
                :, 0
            ].astype(np.int64)
            values[rows] = self._array(
                new["bufferView"], new.get("byteOffset", 0), dtype, width, sparse["count"]
            )
        if accessor.get("normalized") and dtype.kind in "iu":
            values = np.maximum(values / np.iinfo(dtype).max, -1)
        return values

    def _has_data(self, index: int) -> bool:
        accessor = self.tree["accessors"][index]
        return "sparse" in accessor or "bufferView" in accessor

    def _array(
        self, view: int, offset: int, dtype: np.dtype[Any], width: int, count: int
    ) -> np.ndarray:
        where = self.tree["bufferViews"][view]
        if _COMPRESSED & where.get("extensions", {}).keys():
            raise InvalidInput(
                "it is compressed (EXT_meshopt_compression), which is not read: save it without"
                " compression"
            )
        size = dtype.itemsize * width
        stride = where.get("byteStride", size)
        start = where.get("byteOffset", 0) + offset
        buffer = self._buffer(where["buffer"])
        if count and start + stride * (count - 1) + size > len(buffer):
            raise InvalidInput("it is cut off")
        return np.ndarray((count, width), dtype, buffer, start, (stride, dtype.itemsize))

    def _buffer(self, index: int) -> bytes:
        uri = self.tree["buffers"][index].get("uri")
        return self.binary if uri is None else self._fetch(uri)

    def _fetch(self, uri: str) -> bytes:
        """What a data URI holds, or a file beside the GLB."""
        if uri.startswith("data:"):
            return base64.b64decode(uri.partition(",")[2])
        place = (self.path.parent / unquote(uri)).resolve()
        if not place.is_relative_to(self.path.parent.resolve()) or not place.is_file():
            raise InvalidInput(f"it names the file {unquote(uri)}, which is not beside it")
        return place.read_bytes()

    def _faces(self, primitive: dict[str, Any], count: int) -> Indices:
        corners = (
            self.accessor(primitive["indices"])[:, 0].astype(np.int64)
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
            joints = joints @ self.accessor(skin["inverseBindMatrices"]).reshape(
                -1, 4, 4
            ).transpose(0, 2, 1)
        moved = np.zeros((len(positions), 4))
        homogeneous = np.pad(positions, ((0, 0), (0, 1)), constant_values=1.0)
        total = np.zeros((len(positions), 1))
        number = 0
        while f"JOINTS_{number}" in attributes:
            which = self.accessor(attributes[f"JOINTS_{number}"]).astype(np.int64)
            weights = self.accessor(attributes[f"WEIGHTS_{number}"])
            for k in range(4):
                moved += weights[:, k, None] * np.einsum(
                    "nij,nj->ni", joints[which[:, k]], homogeneous
                )
                total += weights[:, k, None]
            number += 1
        return np.where(total > 0, moved[:, :3] / np.maximum(total, 1e-12), positions)

    def _material(
        self, primitive: dict[str, Any]
    ) -> tuple[Floats | None, Picture | None, Floats | None]:
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
        uvs = _transformed(self.accessor(primitive["attributes"][name]), change)
        picture, uvs = self._texture(self.tree["textures"][texture["index"]], uvs)
        return color, picture, np.stack([uvs[:, 0], 1 - uvs[:, 1]], axis=1)

    def _plain_uvs(self, primitive: dict[str, Any]) -> Floats | None:
        """Coordinates from the lower left, of a mesh without a texture of its colour."""
        if "TEXCOORD_0" not in primitive["attributes"]:
            return None
        uvs = self.accessor(primitive["attributes"]["TEXCOORD_0"])
        return np.stack([uvs[:, 0], 1 - uvs[:, 1]], axis=1)

    def _texture(self, texture: dict[str, Any], uvs: Floats) -> tuple[Picture, Floats]:
        """The picture of a texture, and the coordinates in it.

        The coordinates find in a picture that repeats what the sampler says.
        """
        extensions = texture.get("extensions", {})
        source = extensions.get(_WEBP, {}).get("source", texture.get("source"))
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
        if key not in self._pictures:
            picture = self._picture(source)
            for direction in flips:
                dim = 1 if direction == "u" else 0
                picture = Picture(torch.cat([picture.pixels, picture.pixels.flip(dim)], dim=dim))
            self._pictures[key] = picture
        return self._pictures[key], uvs

    def _picture(self, source: int) -> Picture:
        image = self.tree["images"][source]
        if "bufferView" in image:
            where = self.tree["bufferViews"][image["bufferView"]]
            start = where.get("byteOffset", 0)
            data = self._buffer(where["buffer"])[start : start + where["byteLength"]]
        else:
            data = self._fetch(image["uri"])
        try:
            with Image.open(io.BytesIO(data)) as opened:
                return read_picture_of(opened)
        except Exception as error:  # Pillow's plugins raise whatever goes wrong in them
            raise InvalidInput(f"its picture {image.get('name', source)} cannot be read") from error


def _encoded(texture: Tensor, kind: TextureFormat) -> bytes:
    if kind == "png":
        return png_bytes(texture)
    buffer = io.BytesIO()
    to_pillow(texture).save(buffer, kind, quality=_QUALITY, subsampling=0)
    return buffer.getvalue()


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
