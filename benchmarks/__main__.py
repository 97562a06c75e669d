"""Seconds and memory of each stage with the full-size models and random weights, each in a fresh process.

    python -m benchmarks [--device cuda] [--repeat 3] [--json FILE]

Speed does not depend on what is in the weights. Surfaces are taken from a smooth triplane whose decoder's bias is set so that about a fifth of
the volume is inside.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from pipelines.checkpoints import RECONSTRUCTION_PRESETS
from pipelines.devices import choose_device
from pipelines.isosurface.extraction import extract_surface
from pipelines.mesh import Mesh
from pipelines.mesh_io import save_mesh
from pipelines.reconstruction.model import ReconstructionModel
from pipelines.reconstruction.reconstruct import reconstruct
from pipelines.reconstruction.triplane import Triplane, density_of

INSIDE = 0.2


def _model(preset: str, device: torch.device, dtype: torch.dtype) -> ReconstructionModel:
    torch.manual_seed(0)
    return ReconstructionModel(RECONSTRUCTION_PRESETS[preset].config).requires_grad_(False).eval().to(device, dtype)


def _smooth_triplane(preset: str, device: torch.device) -> tuple[Triplane, float]:
    """A triplane of low frequencies, and the density that a fifth of the volume exceeds."""
    config = RECONSTRUCTION_PRESETS[preset].config
    decoder = _model(preset, device, torch.float32).decoder
    size = 2 * config.triplane_low_res
    noise = torch.randn(3, config.triplane_dim, 6, 6, generator=torch.Generator().manual_seed(1)).to(device)
    planes = F.interpolate(noise, size=(size, size), mode="bicubic")
    points = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(2)).to(device) * 2 - 1
    level = Triplane(planes, decoder, config).level_field.at(points, 20_000)[:, 0].quantile(1 - INSIDE)
    if config.surface == "mesh":
        decoder.net_sdf[-1].bias -= level
    return Triplane(planes, decoder, config), float(density_of(level))


def _views(dtype: torch.dtype) -> Callable[[torch.device], Callable[[], object]]:
    def prepare(device: torch.device) -> Callable[[], object]:
        model, views = _model("instant-mesh-large", device, dtype), torch.rand(6, 3, 320, 320, device=device)
        return lambda: reconstruct(model, views)

    return prepare


def _surface(preset: str, resolution: int) -> Callable[[torch.device], Callable[[], object]]:
    def prepare(device: torch.device) -> Callable[[], object]:
        triplane, threshold = _smooth_triplane(preset, device)
        limits: dict[str, Any] = {"threshold": threshold} if triplane.config.surface == "nerf" else {}
        return lambda: extract_surface(triplane, resolution=resolution, **limits)

    return prepare


def _obj(device: torch.device) -> Callable[[], object]:
    side = 708
    index = torch.arange(side * side).view(side, side)
    a, b, c, d = index[:-1, :-1].flatten(), index[1:, :-1].flatten(), index[:-1, 1:].flatten(), index[1:, 1:].flatten()
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([b, d, c], 1)])
    mesh = Mesh(torch.rand(side * side, 3), faces, torch.rand(side * side, 3))
    folder = tempfile.mkdtemp()
    return lambda: save_mesh(mesh, Path(folder) / "million.obj")


STAGES: dict[str, Callable[[torch.device], Callable[[], object]]] = {
    "views to triplane, float32": _views(torch.float32),
    "views to triplane, bfloat16": _views(torch.bfloat16),
    "FlexiCubes mesh at 128": _surface("instant-mesh-large", 128),
    "FlexiCubes mesh at 256": _surface("instant-mesh-large", 256),
    "NeRF mesh at 256": _surface("instant-nerf-large", 256),
    "NeRF mesh at 512": _surface("instant-nerf-large", 512),
    "OBJ of a million triangles": _obj,
}


def measure(stage: str, device: torch.device, repeat: int) -> dict[str, float]:
    """Median seconds, and GiB at most beyond what was held before the stage ran."""
    run = STAGES[stage](device)
    before = _resident()
    seconds = []
    for _ in range(repeat):
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    figures = {"seconds": statistics.median(seconds), "host GiB": (_resident_peak() - before) / 2**30}
    if device.type == "cuda":
        figures["device GiB"] = torch.cuda.max_memory_allocated() / 2**30
    return figures


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _resident_peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--stage", choices=STAGES, help="measure one stage in this process and print its figures as JSON")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    if arguments.stage:
        print(json.dumps(measure(arguments.stage, device, arguments.repeat)))
        return
    table = {}
    for stage in STAGES:
        command = [sys.executable, "-m", "benchmarks", "--device", arguments.device, "--repeat", str(arguments.repeat), "--stage", stage]
        table[stage] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{stage:30}", "  ".join(f"{name} {value:.2f}" for name, value in table[stage].items()), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"torch": torch.__version__, "device": arguments.device, "stages": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
