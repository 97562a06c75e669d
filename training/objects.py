"""Procedural objects: signed-distance primitives with random proportions and colours.

An object stands on no ground, its front faces +x, z is up, and its bounding sphere has radius
`BOUNDING_RADIUS`. Signed distances are positive inside, as everywhere in this project.
"""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

BOUNDING_RADIUS = 0.95
Vec3 = tuple[float, float, float]
Form = Literal["ellipsoid", "box", "cone", "torus", "prism"]


@dataclass(frozen=True)
class Primitive:
    """One part of an object.

    Attributes:
        form: ellipsoid (half axes), box (half edges), cone (radius below, radius above, half
            height; along z), torus (ring radius, tube radius, -; around z), prism (half width, half
            depth, height of the gable; base at z = 0).
        size: the form's three numbers.
        center: position of the form's origin.
        color: albedo in [0, 1].
        rotation: (3, 3) from the form's frame to the object's, or None.
        rounding: radius of a box's edges.
    """

    form: Form
    size: Vec3
    center: Vec3
    color: Vec3
    rotation: Tensor | None = None
    rounding: float = 0.0

    def outside_distance(self, points: Tensor) -> Tensor:
        """(N,) distance to the surface, negative inside; a lower bound for ellipsoids and
        prisms.
        """
        p = points - points.new_tensor(self.center)
        if self.rotation is not None:
            p = p @ self.rotation.to(p)  # rows times R is R^T times columns: into the form's frame
        a, b, c = self.size
        if self.form == "ellipsoid":
            axes = p.new_tensor(self.size)
            k0 = (p / axes).norm(dim=1)
            k1 = (p / axes**2).norm(dim=1).clamp_min(1e-6)
            return k0 * (k0 - 1) / k1
        if self.form == "box":
            q = p.abs() - p.new_tensor(self.size) + self.rounding
            return q.clamp_min(0).norm(dim=1) + q.amax(dim=1).clamp_max(0) - self.rounding
        if self.form == "torus":
            ring = p[:, :2].norm(dim=1) - a
            return torch.sqrt(ring**2 + p[:, 2] ** 2) - b
        if self.form == "prism":
            slope = math.hypot(b, c)
            gable = (p[:, 1].abs() * c + p[:, 2] * b - b * c) / slope
            return torch.maximum(torch.maximum(gable, -p[:, 2]), p[:, 0].abs() - a)
        radius = p[:, :2].norm(dim=1)
        ax = radius - torch.minimum(radius, torch.where(p[:, 2] < 0, a, b))
        ay = p[:, 2].abs() - c
        kx, ky = b - a, 2 * c
        t = ((b - radius) * kx + (c - p[:, 2]) * ky) / (kx * kx + ky * ky)
        t = t.clamp(0, 1)
        bx, by = radius - b + kx * t, p[:, 2] - c + ky * t
        inside = (bx < 0) & (ay < 0)
        distance = torch.minimum(ax**2 + ay**2, bx**2 + by**2).sqrt()
        return torch.where(inside, -distance, distance)

    def reach(self) -> Vec3:
        """Half edges of a box around the center that holds the form in any rotation-free frame."""
        a, b, c = self.size
        if self.form == "cone":
            return (max(a, b), max(a, b), c)
        if self.form == "torus":
            return (a + b, a + b, b)
        return self.size

    def sample_box(
        self, count: int, margin: float, generator: torch.Generator, outward: float = 1.0
    ) -> Tensor:
        """(count, 3) points in the form's box grown by `margin`: uniform, or with `outward` > 1
        many on its faces and corners.
        """
        half = torch.tensor(self.reach()) + margin
        p = ((torch.rand(count, 3, generator=generator) * 2 - 1) * outward).clamp(-1, 1) * half
        if self.rotation is not None:
            p = p @ self.rotation.T
        return p + torch.tensor(self.center)


@dataclass(frozen=True)
class ProceduralObject:
    """A named union of primitives."""

    kind: str
    parts: tuple[Primitive, ...]

    def signed_distance(self, points: Tensor) -> Tensor:
        """(N,) signed distance, positive inside."""
        return -torch.stack([part.outside_distance(points) for part in self.parts]).amin(dim=0)

    def color(self, points: Tensor) -> Tensor:
        """(N, 3) albedo of the part nearest to each point."""
        nearest = torch.stack([part.outside_distance(points) for part in self.parts]).argmin(dim=0)
        return points.new_tensor([part.color for part in self.parts])[nearest]

    def normal(self, points: Tensor) -> Tensor:
        """(N, 3) outward unit normals, by central differences over a tetrahedron."""
        corners = points.new_tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
        taps = (points[:, None] + 1e-3 * corners).flatten(0, 1)  # (4 N, 3)
        gradient = (-self.signed_distance(taps)).unflatten(0, (-1, 4)) @ corners
        return torch.nn.functional.normalize(gradient, dim=1)


def _rotation(axis: Literal["x", "y", "z"], degrees: float) -> Tensor:
    angle = math.radians(degrees)
    c, s = math.cos(angle), math.sin(angle)
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = torch.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def _limb(start: Vec3, end: Vec3, radius_start: float, radius_end: float, color: Vec3) -> Primitive:
    """A cone from `start` to `end`."""
    a, b = torch.tensor(start), torch.tensor(end)
    z = torch.nn.functional.normalize(b - a, dim=0)
    helper = torch.tensor([1.0, 0, 0]) if abs(float(z[0])) < 0.9 else torch.tensor([0, 1.0, 0])
    x = torch.nn.functional.normalize(torch.linalg.cross(helper, z), dim=0)
    rotation = torch.stack([x, torch.linalg.cross(z, x), z], dim=1)
    middle = ((a + b) / 2).tolist()
    half = float((b - a).norm()) / 2
    return Primitive(
        "cone", (radius_start, radius_end, half), (middle[0], middle[1], middle[2]), color, rotation
    )


def _color(rng: random.Random, low: float = 0.3, high: float = 1.0) -> Vec3:
    return colorsys.hsv_to_rgb(
        rng.random(),
        rng.choice([rng.uniform(0, 0.25), rng.uniform(0.4, 0.95)]),
        rng.uniform(low, high),
    )


def _near(
    rng: random.Random, hue: float, saturation: float, value: float, spread: float = 0.06
) -> Vec3:
    def clamp(x: float) -> float:
        return min(max(x, 0.0), 1.0)

    return colorsys.hsv_to_rgb(
        (hue + rng.uniform(-spread, spread)) % 1,
        clamp(saturation + rng.uniform(-0.2, 0.2)),
        clamp(value + rng.uniform(-0.2, 0.2)),
    )


def _mushroom(rng: random.Random) -> list[Primitive]:
    stem, cap = _near(rng, 0.11, 0.2, 0.9), _color(rng)
    r, h, w = rng.uniform(0.12, 0.3), rng.uniform(0.35, 0.8), rng.uniform(0.5, 0.9)
    height = rng.uniform(0.25, 0.55)
    parts = [Primitive("cone", (r * rng.uniform(1, 1.5), r, h / 2), (0, 0, h / 2), stem)]
    parts.append(Primitive("ellipsoid", (w, w, height), (0, 0, h), cap))
    spot = _near(rng, 0.1, 0.1, 0.95)
    for _ in range(rng.randint(0, 7)):
        azimuth, tilt = rng.uniform(0, 2 * math.pi), rng.uniform(0.1, 1.2)
        at = (
            w * math.sin(tilt) * math.cos(azimuth),
            w * math.sin(tilt) * math.sin(azimuth),
            h + height * math.cos(tilt),
        )
        size = rng.uniform(0.07, 0.15)
        parts.append(Primitive("ellipsoid", (size, size, size), at, spot))
    return parts


def _snowman(rng: random.Random) -> list[Primitive]:
    snow, r = _near(rng, 0.6, 0.05, 0.95), rng.uniform(0.4, 0.55)
    m, top = r * rng.uniform(0.65, 0.85), r * rng.uniform(0.45, 0.65)
    zm, zt = r + m * 0.7, r + m * 1.5 + top * 0.6
    parts = [
        Primitive("ellipsoid", (s, s, s), (0, 0, z), snow)
        for s, z in ((r, 0.0), (m, zm), (top, zt))
    ]
    parts.append(
        _limb(
            (top * 0.8, 0, zt),
            (top + rng.uniform(0.15, 0.35), 0, zt),
            0.07,
            0.01,
            _near(rng, 0.07, 0.9, 0.95, 0.03),
        )
    )
    if rng.random() < 0.7:
        hat, brim = _color(rng, 0.1, 0.8), top * rng.uniform(1.0, 1.4)
        parts.append(Primitive("cone", (brim, brim, 0.03), (0, 0, zt + top * 0.8), hat))
        parts.append(
            Primitive("cone", (top * 0.7, top * 0.65, 0.17), (0, 0, zt + top * 0.8 + 0.18), hat)
        )
    if rng.random() < 0.6:
        parts.append(Primitive("torus", (top * 0.8, 0.07, 0), (0, 0, zt - top * 0.75), _color(rng)))
    if rng.random() < 0.6:
        arm = _near(rng, 0.07, 0.6, 0.4)
        reach = rng.uniform(0.35, 0.6)
        lift = rng.uniform(-0.1, 0.35)
        parts += [
            _limb((0, s * m * 0.8, zm), (0, s * (m + reach), zm + lift), 0.045, 0.035, arm)
            for s in (-1, 1)
        ]
    return parts


def _table(rng: random.Random) -> list[Primitive]:
    wood = _color(rng)
    x = rng.uniform(0.45, 0.85)
    y = rng.uniform(0.45, 0.85)
    h = rng.uniform(0.5, 1.2)
    t, r = rng.uniform(0.04, 0.09), rng.uniform(0.045, 0.09)
    leg = wood if rng.random() < 0.5 else _color(rng)
    if rng.random() < 0.35:
        parts = [Primitive("cone", (x, x, t), (0, 0, h), wood)]
        if rng.random() < 0.5:
            return [
                *parts,
                _limb((0, 0, 0), (0, 0, h), r * 1.6, r * 1.3, leg),
                Primitive("cone", (x * 0.6, x * 0.5, 0.04), (0, 0, 0), leg),
            ]
        y, inset = x, 0.62
    else:
        parts = [Primitive("box", (x, y, t), (0, 0, h), wood, rounding=0.02)]
        inset = rng.uniform(0.8, 0.92)
    splay = rng.uniform(1.0, 1.15)
    for sx in (-1, 1):
        for sy in (-1, 1):
            foot = (sx * x * inset * splay, sy * y * inset * splay, 0.0)
            parts.append(
                _limb(foot, (sx * x * inset, sy * y * inset, h), r * rng.uniform(0.7, 1), r, leg)
            )
    return parts


def _chair(rng: random.Random) -> list[Primitive]:
    seat = _color(rng)
    w = rng.uniform(0.35, 0.5)
    d = rng.uniform(0.35, 0.5)
    h = rng.uniform(0.4, 0.7)
    r, t, back = rng.uniform(0.04, 0.075), rng.uniform(0.04, 0.08), rng.uniform(0.45, 0.9)
    leg = seat if rng.random() < 0.5 else _color(rng)
    parts = [Primitive("box", (d, w, t), (0, 0, h), seat, rounding=0.02)]
    for sx in (-1, 1):
        for sy in (-1, 1):
            parts.append(
                _limb((sx * (d - r), sy * (w - r), 0), (sx * (d - r), sy * (w - r), h), r, r, leg)
            )
    if rng.random() < 0.55:
        parts.append(
            Primitive(
                "box", (0.045, w, back / 2), (-d + 0.045, 0, h + back / 2), seat, rounding=0.02
            )
        )
    else:
        parts += [
            _limb((-d + r, s * (w - r), h), (-d + r, s * (w - r), h + back), r, r, leg)
            for s in (-1, 1)
        ]
        parts.append(
            Primitive(
                "box",
                (0.045, w, back * rng.uniform(0.15, 0.3)),
                (-d + r, 0, h + back * 0.75),
                seat,
                rounding=0.02,
            )
        )
    if rng.random() < 0.35:
        for s in (-1, 1):
            parts.append(
                Primitive("box", (d, 0.05, 0.04), (0, s * w, h + back * 0.4), leg, rounding=0.02)
            )
            parts.append(
                _limb((d - 0.06, s * w, h), (d - 0.06, s * w, h + back * 0.4), 0.05, 0.05, leg)
            )
    return parts


def _house(rng: random.Random) -> list[Primitive]:
    wall = _color(rng, 0.55)
    x = rng.uniform(0.4, 0.75)
    y = rng.uniform(0.4, 0.75)
    h = rng.uniform(0.25, 0.5)
    roof, eave, gable = _color(rng, 0.2, 0.9), rng.uniform(1.05, 1.2), rng.uniform(0.3, 0.65)
    parts = [Primitive("box", (x, y, h), (0, 0, h), wall)]
    if rng.random() < 0.7:
        turn = _rotation("z", 90) if rng.random() < 0.5 else None
        size = (x * eave, y * eave, gable) if turn is None else (y * eave, x * eave, gable)
        parts.append(Primitive("prism", size, (0, 0, 2 * h), roof, turn))
    else:
        r = min(x, y) * eave
        parts.append(Primitive("cone", (r, 0.03, gable / 2), (0, 0, 2 * h + gable / 2), roof))
    width, door = rng.uniform(0.1, 0.16), _color(rng, 0.1, 0.7)
    parts.append(
        Primitive("box", (0.03, width, h * 0.6), (x, rng.uniform(-0.5, 0.5) * y, h * 0.6), door)
    )
    glass = _near(rng, 0.55, 0.3, 0.8)
    for s in (-1, 1):
        if rng.random() < 0.6:
            parts.append(
                Primitive(
                    "box", (0.13, 0.03, 0.11), (rng.uniform(-0.4, 0.4) * x, s * y, h * 1.1), glass
                )
            )
    if rng.random() < 0.6:
        top = 2 * h + gable * rng.uniform(0.7, 1.1)
        parts.append(
            _limb(
                (x * 0.4, y * 0.35, 2 * h),
                (x * 0.4, y * 0.35, top),
                0.1,
                0.1,
                _near(rng, 0.03, 0.6, 0.6),
            )
        )
    return parts


def _tree(rng: random.Random) -> list[Primitive]:
    trunk = _near(rng, 0.08, 0.6, 0.45)
    leaf = _near(rng, rng.choice([0.3, 0.3, 0.1, 0.95]), 0.7, 0.6, 0.08)
    r, h = rng.uniform(0.08, 0.16), rng.uniform(0.4, 0.9)
    parts = [_limb((0, 0, 0), (0, 0, h), r * rng.uniform(1, 1.4), r, trunk)]
    if rng.random() < 0.5:
        tiers = rng.randint(1, 4)
        w = rng.uniform(0.45, 0.7)
        z = h * 0.8
        step = rng.uniform(0.3, 0.45)
        for i in range(tiers):
            width = w * (1 - 0.2 * i)
            parts.append(
                Primitive(
                    "cone",
                    (width, width * 0.12, step * 0.7),
                    (0, 0, z + step * 0.7 + step * i),
                    leaf,
                )
            )
    else:
        fruit = _near(rng, 0.0, 0.85, 0.85)
        for _ in range(rng.randint(1, 4)):
            s = rng.uniform(0.35, 0.6)
            x = rng.uniform(-0.25, 0.25)
            y = rng.uniform(-0.25, 0.25)
            z = h + s * 0.5 + rng.uniform(-0.1, 0.25)
            parts.append(Primitive("ellipsoid", (s, s, s), (x, y, z), leaf))
            for _ in range(rng.randint(0, 2)):
                angle = rng.uniform(0, 2 * math.pi)
                parts.append(
                    Primitive(
                        "ellipsoid",
                        (0.1, 0.1, 0.1),
                        (x + s * math.cos(angle), y + s * math.sin(angle), z),
                        fruit,
                    )
                )
    return parts


def _rocket(rng: random.Random) -> list[Primitive]:
    body, tip, fin = _color(rng, 0.6), _color(rng), _color(rng)
    r, h, nose = rng.uniform(0.18, 0.34), rng.uniform(0.5, 0.8), rng.uniform(0.3, 0.6)
    parts = [Primitive("cone", (r * rng.uniform(0.8, 1), r, h), (0, 0, 0), body)]
    parts.append(Primitive("cone", (r, 0.02, nose / 2), (0, 0, h + nose / 2), tip))
    count, reach, tall = rng.choice([3, 4, 4]), rng.uniform(0.15, 0.35), rng.uniform(0.15, 0.3)
    offset = rng.uniform(0, 360)
    for i in range(count):
        angle = offset + 360 * i / count
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        out = r + reach * 0.4
        parts.append(
            Primitive(
                "box",
                (reach, 0.045, tall),
                (c * out, s * out, -h + tall * 0.8),
                fin,
                _rotation("z", angle),
                0.02,
            )
        )
    window = _near(rng, 0.55, 0.4, 0.85)
    for i in range(rng.randint(1, 3)):
        parts.append(
            Primitive("ellipsoid", (0.07, 0.11, 0.11), (r * 0.95, 0, h * 0.6 - 0.32 * i), window)
        )
    parts.append(
        Primitive("cone", (r * 0.75, r * 0.5, 0.07), (0, 0, -h - 0.06), _color(rng, 0.1, 0.5))
    )
    return parts


def _robot(rng: random.Random) -> list[Primitive]:
    body, limb = _color(rng, 0.4), _color(rng)
    x, y, z = rng.uniform(0.18, 0.3), rng.uniform(0.25, 0.42), rng.uniform(0.28, 0.42)
    head, r = rng.uniform(0.18, 0.28), rng.uniform(0.07, 0.11)
    parts = [Primitive("box", (x, y, z), (0, 0, 0), body, rounding=rng.uniform(0.02, 0.1))]
    if rng.random() < 0.6:
        parts.append(
            Primitive("box", (head * 0.9, head, head * 0.85), (0, 0, z + head), body, rounding=0.05)
        )
    else:
        parts.append(Primitive("ellipsoid", (head, head, head), (0, 0, z + head * 0.9), limb))
    eye = _near(rng, rng.random(), 0.7, 0.9)
    lift, leg, arm = rng.uniform(-0.35, 0.3), rng.uniform(0.35, 0.55), rng.uniform(0.3, 0.5)
    for s in (-1, 1):
        parts.append(
            Primitive(
                "ellipsoid", (0.06, 0.07, 0.07), (head * 0.92, s * head * 0.45, z + head), eye
            )
        )
        parts.append(_limb((0, s * y * 0.55, -z), (0, s * y * 0.6, -z - leg), r, r, limb))
        parts.append(
            Primitive("box", (0.17, 0.12, 0.06), (0.05, s * y * 0.6, -z - leg), body, rounding=0.02)
        )
        parts.append(
            _limb(
                (0, s * y, z * 0.7),
                (arm * 0.2, s * (y + arm * 0.8), z * 0.7 - arm * 0.7 + max(lift, 0)),
                r,
                r * 0.9,
                limb,
            )
        )
    if rng.random() < 0.6:
        parts.append(
            _limb((0, 0, z + head * 1.7), (0, 0, z + head * 1.7 + 0.2), 0.035, 0.035, limb)
        )
        parts.append(Primitive("ellipsoid", (0.07, 0.07, 0.07), (0, 0, z + head * 1.7 + 0.22), eye))
    return parts


def _car(rng: random.Random) -> list[Primitive]:
    paint = _color(rng, 0.4)
    x = rng.uniform(0.65, 0.85)
    y = rng.uniform(0.3, 0.42)
    z = rng.uniform(0.12, 0.22)
    cab, wheel = rng.uniform(0.12, 0.22), rng.uniform(0.15, 0.22)
    parts = [Primitive("box", (x, y, z), (0, 0, z), paint, rounding=0.08)]
    at, long = rng.uniform(-0.2, 0.05) * x, rng.uniform(0.4, 0.6) * x
    top = paint if rng.random() < 0.4 else _near(rng, 0.55, 0.3, 0.6)
    parts.append(
        Primitive("box", (long, y * 0.9, cab), (at, 0, 2 * z + cab * 0.8), top, rounding=0.07)
    )
    tyre = _near(rng, 0.6, 0.1, 0.2)
    for sx in (-1, 1):
        for sy in (-1, 1):
            parts.append(
                Primitive(
                    "cone",
                    (wheel, wheel, 0.07),
                    (sx * x * 0.6, sy * y, 0.04),
                    tyre,
                    _rotation("x", 90),
                )
            )
        parts.append(
            Primitive(
                "ellipsoid",
                (0.04, 0.07, 0.07),
                (x, sx * y * 0.6, z * 1.1),
                _near(rng, 0.15, 0.3, 0.95),
            )
        )
    return parts


def _lamp(rng: random.Random) -> list[Primitive]:
    shade, stand = _color(rng, 0.6), _color(rng, 0.2)
    h = rng.uniform(0.7, 1.2)
    r = rng.uniform(0.045, 0.08)
    w = rng.uniform(0.3, 0.5)
    tall = rng.uniform(0.18, 0.3)
    parts = [Primitive("cone", (w, w * rng.uniform(0.45, 0.9), tall), (0, 0, h), shade)]
    parts.append(_limb((0, 0, 0), (0, 0, h), r, r, stand))
    parts.append(
        Primitive(
            "cone", (rng.uniform(0.25, 0.42), rng.uniform(0.12, 0.25), 0.06), (0, 0, 0), stand
        )
    )
    if rng.random() < 0.4:
        s = rng.uniform(0.14, 0.24)
        parts.append(
            Primitive("ellipsoid", (s, s, s), (0, 0, h * rng.uniform(0.2, 0.4)), _color(rng))
        )
    return parts


KINDS: dict[str, Callable[[random.Random], list[Primitive]]] = {
    "mushroom": _mushroom,
    "snowman": _snowman,
    "table": _table,
    "chair": _chair,
    "house": _house,
    "tree": _tree,
    "rocket": _rocket,
    "robot": _robot,
    "car": _car,
    "lamp": _lamp,
}
THIN_LEGGED = ("table", "chair")
MAX_YAW_DEG = 60.0


def kind_of(seed: int) -> str:
    """The kind of a seed's object: all kinds take turns."""
    return list(KINDS)[seed % len(KINDS)]


def make_object(seed: int) -> ProceduralObject:
    """The object of a seed: its kind takes its turn, the rest is drawn from the seed.

    It is turned about z by up to `MAX_YAW_DEG`, centred and scaled into the bounding sphere.
    """
    kind = kind_of(seed)
    rng = random.Random(seed)
    parts = KINDS[kind](rng)
    turn = _rotation("z", rng.uniform(-MAX_YAW_DEG, MAX_YAW_DEG))
    parts = [
        replace(
            p,
            center=_vec3(turn @ torch.tensor(p.center, dtype=torch.float32)),
            rotation=turn if p.rotation is None else turn @ p.rotation,
        )
        for p in parts
    ]
    generator = torch.Generator().manual_seed(seed)
    cloud = torch.cat([p.sample_box(1024, 0.0, generator, outward=1.6) for p in parts])
    cloud = cloud[-torch.stack([p.outside_distance(cloud) for p in parts]).amin(dim=0) > -1e-3]
    center = (cloud.amax(dim=0) + cloud.amin(dim=0)) / 2
    scale = BOUNDING_RADIUS / float((cloud - center).norm(dim=1).max())
    scaled = [
        replace(
            p,
            size=_vec3(torch.tensor(p.size) * scale),
            center=_vec3((torch.tensor(p.center) - center) * scale),
            rounding=p.rounding * scale,
        )
        for p in parts
    ]
    return ProceduralObject(kind, tuple(scaled))


def _vec3(values: Tensor) -> Vec3:
    x, y, z = values.tolist()
    return (x, y, z)
