"""Compare cameras, and FlexiCubes on given grids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.cameras import intrinsics_from_fov, orbit_cameras, zero123plus_cameras
from pipelines.surface.flexicubes import CubeGrid, flexicubes

from .comparison import CHUNK, Row, compare, compare_meshes, tensor_of


def report_cameras(folder: Path) -> Iterator[Row]:
    golden = np.load(folder / "cameras.npz")
    makers: dict[str, Callable[[], Tensor]] = {
        "zero123plus_cameras": lambda: zero123plus_cameras().tokens(),
        "zero123plus_cameras_r2_5_fov40": lambda: zero123plus_cameras(2.5, 40.0).tokens(),
        "orbit_120_r4_e20": lambda: orbit_cameras(120).c2w,
        "intrinsics_fov30": lambda: intrinsics_from_fov(30.0),
        "intrinsics_fov50": lambda: intrinsics_from_fov(50.0),
    }
    for name in golden.files:
        if name not in makers:
            yield Row(f"cameras {name}", *(float("inf"),) * 3, 1e-6, "unknown array")
            continue
        yield compare(f"cameras {name}", makers[name](), golden[name], 1e-6)


def report_flexicubes(folder: Path) -> Iterator[Row]:
    golden = np.load(folder / "flexicubes.npz")
    resolution = int(golden["resolution"])
    scale = float(golden["grid_vertices"].max() - golden["grid_vertices"].min())
    grid = CubeGrid(resolution, round(scale, 4))
    index = torch.cartesian_prod(*(torch.arange(resolution + 1),) * 3)
    yield compare("flexicubes grid_vertices", grid.vertices(index), golden["grid_vertices"], 2e-5)

    def looked_up(table: Tensor, per_axis: int) -> Callable[[Tensor], Tensor]:
        return lambda i: table[(i[:, 0] * per_axis + i[:, 1]) * per_axis + i[:, 2]]

    for name in (n.removesuffix("_sdf") for n in golden.files if n.endswith("_sdf")):
        values = tensor_of(golden[f"{name}_sdf"]).float().view((resolution + 1,) * 3)
        weights = tensor_of(golden[f"{name}_weights"])
        deformation = tensor_of(golden[f"{name}_deformation"])
        plain = flexicubes(values, grid, CHUNK)
        yield from compare_meshes(
            f"flexicubes {name} plain",
            *plain,
            golden[f"{name}_plain_vertices"],
            golden[f"{name}_plain_faces"],
            1e-5,
        )[0]
        learnt = flexicubes(
            values,
            grid,
            CHUNK,
            deformation=looked_up(deformation, resolution + 1),
            weights=looked_up(weights, resolution),
        )
        yield from compare_meshes(
            f"flexicubes {name}", *learnt, golden[f"{name}_vertices"], golden[f"{name}_faces"], 1e-5
        )[0]
