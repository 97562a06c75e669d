"""Colours, textures and texture coordinates of a glTF file.

Source: Khronos, glTF 2.0, section 3.8, and the extensions KHR_texture_transform,
KHR_materials_pbrSpecularGlossiness, EXT_texture_webp, EXT_texture_avif and MSFT_texture_dds.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InvalidInput
from ...images.colors import to_srgb
from ..material import Material
from ..topology import Floats
from .glb_container import WEBP, GltfFile
from .glb_material import GLOSSY, read_material, texture_place
from .textures import TextureImage, decode_texture

log = logging.getLogger(__name__)

#: Extensions that offer an alternative image for a texture in another format.
TEXTURE_EXTENSIONS = (WEBP, "EXT_texture_avif", "MSFT_texture_dds")
_CLAMP, _MIRROR = 33071, 33648


class Surfaces:
    """The materials and textures of a glTF file. Each is read once and cached."""

    def __init__(self, file: GltfFile) -> None:
        self._file, self._tree = file, file.tree
        self._decoded = cache(partial(_decoded, file))
        self._material = cache(lambda i: read_material(self._tree["materials"][i], self._pixels))
        self._reported: set[int] = set()

    def other_properties(self, primitive: Mapping[str, Any]) -> Material | None:
        """Load the properties of a primitive's material other than its colour.

        Primitives with the same material get the same object.
        """
        number = primitive.get("material")
        return None if number is None else self._material(number)

    def color(
        self, primitive: Mapping[str, Any]
    ) -> tuple[Floats | None, TextureImage | None, Floats | None]:
        """Return the colour, the colour texture and the texture coordinates of a primitive.

        Returns:
            color: (3,) sRGB in [0, 1], or None if it is white.
            image: the texture, or None.
            uvs: (V, 2) with the origin at the lower left, or None.

        Raises:
            InvalidInput: if the texture is not readable.
        """
        factor, texture = self._base_color(primitive)
        color = None
        if factor is not None and min(factor[:3]) < 1:
            color = to_srgb(torch.tensor(factor[:3], dtype=torch.float64)).clamp(0, 1).numpy()
        attributes = primitive["attributes"]
        number, change = texture_place(texture or {})
        name = f"TEXCOORD_{number}"
        if name not in attributes:
            return color, None, None
        uvs = self._file.accessor(attributes[name])
        image = None
        if texture is not None:
            uvs = _transformed(uvs, change)
            image, uvs = self._texture(self._tree["textures"][texture["index"]], uvs)
            self._report_opacity(primitive["material"], image)
        return color, image, np.stack([uvs[:, 0], 1 - uvs[:, 1]], axis=1)

    def _report_opacity(self, number: int, image: TextureImage) -> None:
        """Warn, once per material, that its texture's opacity is ignored."""
        mode = self._tree["materials"][number].get("alphaMode", "OPAQUE")
        if image.translucent and mode != "OPAQUE" and number not in self._reported:
            self._reported.add(number)
            log.warning("%s: skipped the opacity of a texture.", self._file.path.name)

    def _base_color(
        self, primitive: Mapping[str, Any]
    ) -> tuple[list[float] | None, Mapping[str, Any] | None]:
        """Return a primitive's linear colour factor and colour texture.

        Specular-glossiness and metallic-roughness materials are supported.
        """
        if "material" not in primitive:
            return None, None
        material = self._tree["materials"][primitive["material"]]
        glossy = material.get("extensions", {}).get(GLOSSY)
        if glossy is not None:
            return glossy.get("diffuseFactor"), glossy.get("diffuseTexture")
        metallic = material.get("pbrMetallicRoughness", {})
        return metallic.get("baseColorFactor"), metallic.get("baseColorTexture")

    def _pixels(self, texture: int) -> Tensor | None:
        """Return the image of a texture; if it is not readable, log a warning and return None."""
        try:
            return self._image(self._tree["textures"][texture]).pixels
        except InvalidInput as error:
            log.warning("%s: %s: skipped.", self._file.path.name, error)
            return None

    def _texture(self, texture: Mapping[str, Any], uvs: Floats) -> tuple[TextureImage, Floats]:
        """Return a texture's image, and uvs after applying the sampler's clamping or mirroring."""
        sampler = self._tree["samplers"][texture["sampler"]] if "sampler" in texture else {}
        uvs = uvs.copy()
        mirrored = ""
        for axis, wrap in enumerate((sampler.get("wrapS"), sampler.get("wrapT"))):
            if wrap == _CLAMP:
                uvs[:, axis] = uvs[:, axis].clip(0, 1)
            elif wrap == _MIRROR and (uvs[:, axis].min() < 0 or uvs[:, axis].max() > 1):
                uvs[:, axis] /= 2
                mirrored += "uv"[axis]
        return self._image(texture, mirrored), uvs

    def _image(self, texture: Mapping[str, Any], mirrored: str = "") -> TextureImage:
        """Return a texture's first readable image.

        With "u" or "v" in `mirrored`, the image is extended by its mirror image along that axis.
        Pieces with the same image share one object.
        """
        extensions = texture.get("extensions", {})
        found = [extensions.get(name, {}).get("source") for name in TEXTURE_EXTENSIONS]
        sources = [source for source in (*found, texture.get("source")) if source is not None]
        if not sources:
            named = ", ".join(extensions) or "a source"
            raise InvalidInput(
                f"its texture needs {named}, which is not supported: save it with PNG or JPEG"
            )
        for source in sources:
            try:
                return self._decoded(source, mirrored)
            except InvalidInput:
                raise
            except Exception as error:  # Pillow's plugins raise errors of any type
                log.debug("image %d: %s", source, error)
        name = self._tree["images"][sources[-1]].get("name", sources[-1])
        raise InvalidInput(f"its image {name} is not readable")


def _decoded(file: GltfFile, source: int, mirrored: str) -> TextureImage:
    """Decode an image, and extend it by its mirror image along the axes "u", "v" or both."""
    image = decode_texture(file.image_bytes(source))
    for axis in mirrored:
        dim = 1 if axis == "u" else 0
        pixels = torch.cat([image.pixels, image.pixels.flip(dim)], dim=dim)
        image = replace(image, pixels=pixels)
    return image


def _transformed(uvs: Floats, change: Mapping[str, Any]) -> Floats:
    """Apply a KHR_texture_transform to uvs (V, 2): scale, rotate, then translate."""
    angle = change.get("rotation", 0.0)
    scaled = uvs * np.array(change.get("scale", (1, 1)), dtype=np.float64)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved: Floats = scaled @ turn.T + np.array(change.get("offset", (0, 0)), dtype=np.float64)
    return moved
