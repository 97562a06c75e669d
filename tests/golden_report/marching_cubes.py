"""Compare surfaces of densities with those of other implementations of marching cubes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.fields.field import DensityField
from pipelines.settings import SurfaceSettings
from pipelines.surface.extraction import density_surface

from .comparison import CHUNK, Row, Ties, compare, compare_meshes


def compare_marching_cubes(
    name: str,
    field: DensityField,
    density: np.ndarray,
    threshold: float,
    golden: Any,
    colors: np.ndarray,
    color_tolerance: float,
) -> Iterator[Row]:
    """Compare the vertices on grid edges, the triangles in each cell, and the colours.

    Args:
        name: name of the group.
        field: the field whose surface is compared.
        density: (R + 1, R + 1, R + 1) golden densities on the grid.
        threshold: density of the surface.
        golden: golden arrays `mc_vertices` and `mc_faces`.
        colors: (V, 3) golden colours in [0, 1].
        color_tolerance: tolerance of the colours.
    """
    resolution, side = density.shape[0] - 1, field.half_side
    settings = SurfaceSettings(chunk_size=CHUNK, threshold=threshold, exact=True)
    settings = settings.model_copy(
        update={"resolution": resolution}
    )  # may be below the setting's bound
    vertices, faces = density_surface(field, settings, closed=False)
    axis = np.linspace(-side, side, resolution + 1)
    # Grid values may differ by the tolerance of the densities.
    ties = Ties.of(density, threshold, 1e-4 * float(density.max()), axis)
    inner = _inside_cells(vertices.numpy(), resolution, side)
    rows, match = compare_meshes(
        f"{name} mc",
        vertices[~inner],
        faces[:0],
        golden["mc_vertices"],
        golden["mc_faces"][:0],
        1e-4,
        ties=ties,
    )
    yield replace(rows[1], note=_left_out(rows[0], int(inner.sum())))
    numbers = np.full(len(vertices), -1)
    numbers[~inner.numpy()] = match
    yield _same_cells(
        name,
        numbers[faces.numpy()],
        vertices.numpy()[faces.numpy()],
        golden["mc_vertices"],
        golden["mc_faces"],
        resolution,
        side,
        ties,
    )
    sure = ~ties.beside(vertices.numpy()) & ~inner.numpy()
    with torch.no_grad():
        found = field.colors(vertices, CHUNK).clamp(0, 1)
    wanted = colors[numbers[sure]].clip(0, 1)
    yield compare(f"{name} mc_colors", found[sure], wanted, color_tolerance)


def _inside_cells(vertices: np.ndarray, resolution: int, half_side: float) -> Tensor:
    """Return which vertices (V,) are not on an edge of the grid.

    Only Lewiner's marching cubes has such vertices.
    """
    place = (vertices.astype(np.float64) / half_side + 1) / 2 * resolution
    between = np.abs(place - place.round()) > 1e-3
    return torch.from_numpy(between.sum(axis=1) > 1)


def _left_out(counts: Row, inner: int) -> str:
    _, _, ties = counts.note.partition("; beside")
    return f"without {inner} inside cells" + (f"; beside{ties}" if ties else "")


def _same_cells(
    name: str,
    ours: np.ndarray,
    our_corners: np.ndarray,
    golden_vertices: np.ndarray,
    theirs: np.ndarray,
    resolution: int,
    half_side: float,
    ties: Ties,
) -> Row:
    """Compare the share of grid cells whose triangles use different vertices.

    The triangles themselves may differ: implementations divide a cell's polygon differently.

    Args:
        name: name of the group.
        ours: (F, 3) golden indices of our triangles' vertices; -1 for vertices inside a cell.
        our_corners: (F, 3, 3) positions of these vertices.
        golden_vertices: (V, 3).
        theirs: (F', 3) golden triangles.
        resolution: cells along an edge of the grid.
        half_side: half of the grid's side.
        ties: cells beside these are skipped.
    """

    def cells(faces: np.ndarray, corners: np.ndarray) -> dict[tuple[int, ...], set[int]]:
        middles = corners.mean(axis=1)
        sure = ~ties.beside(middles)
        index = ((middles[sure] / half_side + 1) / 2 * resolution).astype(int)
        joined: dict[tuple[int, ...], set[int]] = {}
        for cell, face in zip(map(tuple, index.tolist()), faces[sure].tolist(), strict=True):
            joined.setdefault(cell, set()).update(number for number in face if number >= 0)
        return joined

    a, b = cells(ours, our_corners), cells(theirs, golden_vertices[theirs])
    share = sum(a.get(c) != b.get(c) for c in a.keys() | b.keys()) / max(len(b), 1)
    return Row(
        f"{name} mc_faces", share, share, share, 0.001, "share of cells with different vertices"
    )
