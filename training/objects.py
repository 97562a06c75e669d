"""Objects of the training set by name; some collected objects are held out.

An object file (`objects_*.npz`) holds triangle soups in a box of side 1, z up, in a compact form:
each array holds data of N objects as LZMA-compressed, little-endian bytes.

| array | decoded | meaning |
|---|---|---|
| `names` | UTF-8, one a line | `collection/path` |
| `vertex_offsets`, `face_offsets` | int32 (N + 1,) | object i owns `[offsets[i], offsets[i + 1])` |
| `vertices` | int16 (3, V) | first vertex, then differences; `cumsum / 4095 - 0.5` decodes them |
| `faces` | int16 (3, F) | first corner, as differences; second and third minus the first |
| `face_colors` | uint8 (3, F) | sRGB |
"""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .procedural import KINDS, make_procedural_object
from .smooth_objects import make_smooth_object

HELD_OUT_EVERY = 20
_STRETCH = 1.5  # largest factor by which an axis of a deformed object is stretched or shrunk
_TAPER, _LEAN, _TWIST = 0.8, 0.35, 1.2  # largest change from bottom to top; the twist in radians
_FLAT = 0.01  # share of the longest side; thinner sheets are left out of training

Array = np.ndarray[Any, np.dtype[Any]]


class Soup(NamedTuple):
    """Vertices (V, 3) in a box of side 1, faces (F, 3) and their colours (F, 3), 0 to 255."""

    vertices: Array
    faces: Array
    colors: Array


class ObjectFile:
    """The objects of one file, by index."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            raw = {name: lzma.decompress(file[name].tobytes()) for name in file.files}
        self.prefix = path.stem.removeprefix("objects_")
        self.names = raw["names"].decode().split("\n")
        self._vertex_offsets = np.frombuffer(raw["vertex_offsets"], "<i4")
        self._face_offsets = np.frombuffer(raw["face_offsets"], "<i4")
        self._steps = np.frombuffer(raw["vertices"], "<i2").reshape(3, -1)
        self._corners = np.frombuffer(raw["faces"], "<i2").reshape(3, -1)
        self._colors = np.frombuffer(raw["face_colors"], np.uint8).reshape(3, -1)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> Soup:
        of_vertices = slice(*self._vertex_offsets[i : i + 2])
        of_faces = slice(*self._face_offsets[i : i + 2])
        vertices = np.cumsum(self._steps[:, of_vertices], axis=1, dtype=float).T / 4095 - 0.5
        corners = self._corners[:, of_faces].astype(int)
        first = np.cumsum(corners[0])
        faces = np.stack([first, first + corners[1], first + corners[2]], axis=1)
        return Soup(vertices, faces, self._colors[:, of_faces].T.astype(float))


def write_object_file(path: Path, objects: list[tuple[str, Soup]]) -> None:
    """Write named objects so that `ObjectFile` reads them."""
    soups = [soup for _, soup in objects]
    steps, corners = [], []
    for soup in soups:
        quantized = ((soup.vertices + 0.5) * 4095).round().astype(int)
        steps.append(np.diff(quantized, axis=0, prepend=0).T)
        first, second, third = soup.faces.T
        corners.append(np.stack([np.diff(first, prepend=0), second - first, third - first]))
    arrays = {
        "vertex_offsets": np.cumsum([0, *(len(soup.vertices) for soup in soups)], dtype="<i4"),
        "face_offsets": np.cumsum([0, *(len(soup.faces) for soup in soups)], dtype="<i4"),
        "vertices": np.concatenate(steps, axis=1).astype("<i2"),
        "faces": np.concatenate(corners, axis=1).astype("<i2"),
        "face_colors": np.concatenate([s.colors for s in soups]).round().astype(np.uint8).T,
    }
    raw = {name: array.tobytes() for name, array in arrays.items()}
    raw["names"] = "\n".join(name for name, _ in objects).encode()
    np.savez(path, **{n: np.frombuffer(lzma.compress(data), np.uint8) for n, data in raw.items()})


def is_held_out(name: str) -> bool:
    """Return whether an object `<file>-<index>` is for measuring only."""
    _, _, index = name.rpartition("-")
    return name.count("-") == 1 and name.split("-")[0] not in _MADE and _held_out(int(index))


def _held_out(index: int) -> bool:
    return index % HELD_OUT_EVERY == 0


_MADE = ("smooth", "joined", *KINDS)


class Counts(NamedTuple):
    """Numbers of objects that are generated, in addition to the collected ones."""

    deformed: int = 1  # copies of each collected object
    joined: int = 1500
    smooth: int = 1200
    procedural: int = 600  # objects of each kind


class Objects:
    """The objects of the set by name.

    `cc0-00012` is object 12 of `objects_cc0.npz`, and `cc0-00012-deformed-0` a deformed copy of it.
    `joined-00003`, `smooth-00003`, `furniture-00003` and so on are generated from the seed 3.
    """

    def __init__(self, paths: list[Path]) -> None:
        files = [ObjectFile(path) for path in paths]
        self.files = {file.prefix: file for file in files}
        self.training = [
            (file.prefix, i) for file in files for i in range(len(file)) if not _held_out(i)
        ]

    def held_out(self) -> list[str]:
        return [
            f"{prefix}-{i:05d}"
            for prefix, file in self.files.items()
            for i in range(0, len(file), HELD_OUT_EVERY)
        ]

    def names(self, counts: Counts) -> list[str]:
        """Return the names of held-out objects, then all others in an order that mixes kinds."""
        own = [f"{prefix}-{i:05d}" for prefix, i in self.training]
        made = [
            *(f"{name}-deformed-{k}" for k in range(counts.deformed) for name in own),
            *(f"joined-{i:05d}" for i in range(counts.joined)),
            *(f"smooth-{i:05d}" for i in range(counts.smooth)),
            *(f"{kind}-{i:05d}" for kind in KINDS for i in range(counts.procedural)),
        ]
        rest = own + made
        order = np.random.default_rng(0).permutation(len(rest))
        return self.held_out() + [rest[i] for i in order]

    def make(self, name: str) -> Soup | None:
        """Return the object of that name; None for sheets that are too thin to train on."""
        kind, index, *rest = name.split("-")
        if kind == "smooth":
            return Soup(*make_smooth_object(int(index)))
        if kind in KINDS:
            return Soup(*make_procedural_object(kind, int(index)))
        if kind == "joined":
            return joined(*self._two(int(index)), np.random.default_rng([3, int(index)]))
        soup = self.files[kind][int(index)]
        if is_held_out(name):
            return soup
        if np.ptp(soup.vertices, axis=0).min() < _FLAT:
            return None
        if rest:
            rng = np.random.default_rng([int(index), int(rest[1]), sum(kind.encode())])
            soup = soup._replace(vertices=deformed(soup.vertices, rng))
        return soup

    def _two(self, seed: int) -> Iterator[Soup]:
        for k in np.random.default_rng([2, seed]).integers(len(self.training), size=2):
            prefix, index = self.training[k]
            yield self.files[prefix][index]


def deformed(vertices: Array, rng: np.random.Generator) -> Array:
    """Return vertices (V, 3) in a box of side 1: stretched, perhaps tapered, leant and twisted."""
    x, y, z = (vertices * _STRETCH ** rng.uniform(-1, 1, 3)).T
    height = np.ptp(z)
    up = (z - z.min()) / height - 0.5 if height else z  # -0.5 at the bottom, 0.5 at the top
    taper, twist = rng.uniform(-1, 1, 2) * (rng.random(2) < 0.4) * (_TAPER, _TWIST)
    lean = rng.uniform(-1, 1, (2, 1)) * (rng.random() < 0.4) * _LEAN * height
    turn = np.exp(1j * twist * up)
    across = (x + 1j * y) * turn * (1 + taper * up)
    x, y = np.stack([across.real, across.imag]) + lean * up
    return _boxed(np.stack([x, y, z], axis=1))


def joined(first: Soup, second: Soup, rng: np.random.Generator) -> Soup:
    """Put one object, scaled down, beside or on top of another; either may be cut first."""
    kept = [_part(soup, rng) for soup in (first, second)]
    a, b = (_boxed(soup.vertices) for soup in kept)
    b = b * rng.uniform(0.3, 0.9)
    axis = int(rng.choice([0, 1, 2, 2]))
    offset = rng.uniform(-0.25, 0.25, 3)
    side = -1 if axis < 2 and rng.random() < 0.5 else 1
    touching = (a if side > 0 else b)[:, axis].max() - (b if side > 0 else a)[:, axis].min()
    offset[axis] = side * (touching - rng.uniform(0, 0.15))
    vertices = np.concatenate([a, b + offset])
    faces = np.concatenate([kept[0].faces, kept[1].faces + len(a)])
    return Soup(_boxed(vertices), faces, np.concatenate([soup.colors for soup in kept]))


def _part(soup: Soup, rng: np.random.Generator) -> Soup:
    """Turn an object about z, and sometimes keep only its triangles on one side of a plane."""
    angle = rng.uniform(0, 2 * np.pi)
    across = (soup.vertices[:, 0] + 1j * soup.vertices[:, 1]) * np.exp(1j * angle)
    vertices = np.stack([across.real, across.imag, soup.vertices[:, 2]], axis=1)
    middles = vertices[soup.faces].mean(axis=1)
    axis = int(rng.integers(3))
    upper = middles[:, axis] > np.quantile(middles[:, axis], rng.uniform(0.2, 0.6))
    if rng.random() < 0.5 or not upper.any():
        upper = np.ones(len(upper), bool)
    used, faces = np.unique(soup.faces[upper], return_inverse=True)
    return Soup(vertices[used], faces.reshape(-1, 3), soup.colors[upper])


def _boxed(vertices: Array) -> Array:
    """Return vertices (V, 3) moved and scaled into a box of side 1 around the origin."""
    vertices = vertices - (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    return vertices / max(np.ptp(vertices, axis=0).max(), 1e-6)
