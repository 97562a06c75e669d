"""Images of objects that look like photographs: lamps, shadows, highlights, textures, JPEG.

A surface point gets light from the sky in every unobstructed direction, and from one to three lamps
with soft shadows. The light is added up linearly and then encoded as sRGB.
"""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from pipelines.images.formats import open_image

from . import rasterizing
from .shapes import HALF, Shape, axes_toward
from .views import CONFIG, Views, pixels_of

NOTHING = 9.0  # w of a ray that hits nothing
_LAMP_MAP = 192  # side length of a lamp's depth map in pixels
_OFF_SURFACE = (
    0.012  # offset of surface points along the normal, so that they do not shade themselves
)

Array = np.ndarray[Any, np.dtype[Any]]


class Paint:
    """Variation of an object's colours over space: none, clouds, stripes or patches."""

    def __init__(self, rng: np.random.Generator) -> None:
        cells = int(rng.integers(3, 16))
        noise = rng.normal(size=(1, 4, cells, cells, cells)).astype(np.float32)
        self.noise = torch.from_numpy(noise)
        self.kind = rng.choice(["none", "none", "none", "clouds", "clouds", "stripes", "patches"])
        self.strength = rng.uniform(0.03, 0.25)
        self.direction = rng.normal(size=3) * rng.uniform(5, 25)
        self.color = rng.uniform(0.05, 0.95, 3)
        self.share = rng.uniform(0.3, 1.0)

    def __call__(self, points: Array, colors: Array) -> Array:
        """Return the colours (N, 3) of an object at points (N, 3), in [0, 1]."""
        if self.kind == "none":
            return colors
        places = torch.from_numpy((points * 2).astype(np.float32))[None, None, None]
        sampled = F.grid_sample(self.noise, places, align_corners=True, padding_mode="reflection")
        noise = sampled[0, :, 0, 0].numpy().T
        if self.kind == "clouds":
            painted = (
                colors * np.exp(self.strength * noise[:, :3]) + 0.1 * self.strength * noise[:, 3:]
            )
        else:
            wave = noise[:, 3] - self.share
            if self.kind == "stripes":
                wave = np.sin(points @ self.direction) + 0.3 * noise[:, 3] - self.share + 0.6
            painted = np.where(wave[:, None] > 0, self.color, colors)
        return painted.clip(0, 1)


class _Light(NamedTuple):
    """Light of one image, and the gloss of its object.

    Attributes:
        directions: (L, 3) unit directions to the lamps.
        colors: (L, 3) colours of the lamps.
        sky: (3,) colour of the light from above.
        ground: (3,) colour of the light from below.
        gloss: strength of the highlights.
        exponent: sharpness of the highlights.
    """

    directions: Array
    colors: Array
    sky: Array
    ground: Array
    gloss: float
    exponent: float


def _random_light(back: Array, rng: np.random.Generator) -> _Light:
    count = int(rng.choice([1, 1, 2, 2, 3]))
    directions = back + rng.normal(size=(count, 3)) * 0.8 + [0, 0, 0.7]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    tint = 1 + rng.uniform(-0.15, 0.15, (count + 2, 1)) * [[1.0, 0.1, -1.0]]
    power = rng.uniform(0.3, 1.0, (count, 1)) * rng.choice([0.25, 1.0], p=[0.25, 0.75])
    sky = tint[-1] * rng.uniform(0.35, 0.8)
    ground = tint[-2] * rng.uniform(0.1, 0.6)
    gloss = rng.choice([0.0, 0.0, rng.uniform(0.05, 0.6)])
    return _Light(directions, tint[:count] * power, sky, ground, gloss, rng.uniform(8, 120))


def photographs(
    shape: Shape, paint: Paint, views: Views, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Render an object as it might be photographed.

    Returns:
        images: (B, S, S, 3) uint8, the object on white.
        masks: (B, S, S) uint8, 255 is the object.
        first: (B, S / 2, S / 2) float16 w of the first hits, `NOTHING` where there is none.
    """
    size = 2 * CONFIG.image_size
    screens = pixels_of(views, torch.from_numpy(shape.corners.reshape(-1, 3)), size)
    found = [
        _photograph(shape, paint, screen.reshape(-1, 3, 3), Views(numbers[None]), rng)
        for screen, numbers in zip(screens.numpy(), views.numbers, strict=True)
    ]
    images, masks, firsts = (np.stack(arrays) for arrays in zip(*found, strict=True))
    return images, masks, firsts


def _photograph(
    shape: Shape, paint: Paint, screen: Array, view: Views, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    size = 2 * CONFIG.image_size
    triangle, nearness, barycentric = rasterizing.rasterize(screen, size)
    hit = triangle >= 0
    rows, columns = hit.nonzero()
    owner = triangle[hit]
    b, c = barycentric[hit].T
    weights = np.stack([1 - b - c, b, c], axis=1) * screen[owner, :, 2]
    weights = (weights / weights.sum(axis=1, keepdims=True))[:, :, None]
    points = (shape.corners[owner] * weights).sum(axis=1)
    back, distance = view.axes[0, 2].numpy(), float(view.distance[0])
    eye = view.target[0].numpy() + back * (distance * float(view.side[0]))
    toward_eye = eye - points
    toward_eye /= np.linalg.norm(toward_eye, axis=1, keepdims=True)
    front = np.sign((shape.normals[owner] * toward_eye).sum(axis=1, keepdims=True))
    normals = (shape.corner_normals[owner] * weights).sum(axis=1)
    normals *= front / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-9)
    colors = paint(points, shape.colors[owner])
    shaded = _shade(shape, points, normals, toward_eye, colors, _random_light(back, rng), rng)
    image = np.full((size, size, 3), rng.uniform(0, 1, 3), np.float32)
    image[rows, columns] = shaded
    image = _halved(image)
    mask = _halved(hit[..., None].astype(np.float32))
    image = _as_jpeg(image, rng) * mask + (1 - mask)
    w = np.where(hit, (1 / nearness.clip(1e-6) - distance) / CONFIG.half_depth, NOTHING)
    first = np.min([w[i::4, j::4] for i in range(4) for j in range(4)], axis=0)
    return _bytes(image), _bytes(mask[..., 0]), first.astype(np.float16)


def _shade(
    shape: Shape,
    points: Array,
    normals: Array,
    toward_eye: Array,
    colors: Array,
    light: _Light,
    rng: np.random.Generator,
) -> Array:
    """Return sRGB (N, 3) in [0, 1] of surface points (N, 3)."""
    places = points + normals * _OFF_SURFACE
    share = (shape.axes[:, 2, 2:] + 1) / 2
    radiance = light.sky * share + light.ground * (1 - share)
    irradiance = rasterizing.sky_light(
        places, normals, shape.depth_maps, shape.axes, HALF, radiance
    )
    axes = axes_toward(light.directions)
    maps = rasterizing.parallel_depth_maps(shape.corners, axes, HALF, _LAMP_MAP)
    lit = rasterizing.visibility(places, maps, axes, HALF, int(rng.integers(1, 5)))
    lamps = lit * (normals @ light.directions.T).clip(0)
    irradiance = irradiance + lamps @ light.colors
    halves = toward_eye[:, None] + light.directions
    halves /= np.linalg.norm(halves, axis=2, keepdims=True).clip(1e-9)
    shine = (normals[:, None] * halves).sum(axis=2).clip(0) ** light.exponent * (lamps > 0)
    linear = colors**2.2 * irradiance + light.gloss * shine @ light.colors
    exposure = rng.uniform(0.75, 1.25) / np.quantile(irradiance, 0.85).clip(0.05)
    return (linear * exposure).clip(0, 1) ** (1 / 2.2)


def _as_jpeg(image: Array, rng: np.random.Generator) -> Array:
    """Blur an image (S, S, 3) in [0, 1] sometimes, and compress it as JPEG sometimes."""
    if rng.random() < 0.4:
        x = torch.from_numpy(image).permute(2, 0, 1)[None]
        width = rng.uniform(0.3, 0.9)
        taps = torch.exp(-0.5 * (torch.arange(-2, 3) / width) ** 2)
        taps = (taps / taps.sum()).to(x).expand(3, 1, -1)
        x = F.conv2d(F.pad(x, [2] * 4, "replicate"), taps[:, :, None], groups=3)
        image = F.conv2d(x, taps[..., None], groups=3)[0].permute(1, 2, 0).numpy()
    if rng.random() < 0.4:
        file = io.BytesIO()
        Image.fromarray(_bytes(image)).save(file, "JPEG", quality=int(rng.integers(40, 95)))
        image = np.asarray(open_image(file)) / 255
    return image


def _halved(image: Array) -> Array:
    """Halve the resolution of an image (H, W, C) by averaging 2 x 2 pixels."""
    return sum(image[i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4


def _bytes(image: Array) -> Array:
    return (image * 255).round().astype(np.uint8)
