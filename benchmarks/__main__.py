"""Measure the time, memory and hardware utilisation of each stage at full size.

Each stage runs in a fresh process.

python -m benchmarks [--device cuda] [--repeat 3] [--json FILE]
python -m benchmarks --device cuda --table BENCHMARKS.md
python -m benchmarks --growth FILE.png
python -m benchmarks --quality texture --assets OBJECTS.npz
python -m benchmarks --quality solid --assets OBJECTS.npz
python -m benchmarks --catalogue --assets OBJECTS.npz [--items 2000]
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from pipelines.devices import choose_device

from .catalogues import measure_catalogues
from .gpu import write_table
from .limits import operations_per_second, processor
from .measuring import measure
from .stages import JOBS, STAGES, Stage, surface
from .textures import measure_textures

GROWTH = (64, 96, 128, 192, 256, 384, 512)
# Seconds and GiB of the official implementation in float32 on two cores with AMX, measured by the
# project's founders.
OFFICIAL = {
    "views to triplane, float32": (34.0, 3.1),
    "FlexiCubes mesh at 128": (136.0, 20.9),
    "NeRF mesh at 256": (40.5, 4.8),
    "Zero123++ step, float32": (23.4, 4.6),
    "TripoSR planes, float32": (19.4, 2.99),
    "TripoSR mesh at 256": (80.6, 2.99),
}


def _in_fresh_process(stage: str, arguments: argparse.Namespace) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--device",
        arguments.device,
        "--repeat",
        str(arguments.repeat),
        "--stage",
        stage,
    ]
    found: dict[str, float] = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )
    return found


def _stage_named(name: str) -> Stage:
    """Return a stage of `STAGES` or `JOBS`, or of the growth curves ("PRESET RESOLUTION exact")."""
    known = STAGES | JOBS
    if name in known:
        return known[name]
    preset, resolution, way = name.split()
    return surface(preset, int(resolution), exact=way == "exact")


def print_table(arguments: argparse.Namespace) -> dict[str, Any]:
    rates = {
        name: operations_per_second(torch.device(arguments.device), dtype)
        for name, dtype in _DTYPES.items()
    }
    print(
        f"{processor()}; torch {torch.__version__}, {torch.get_num_threads()} threads;",
        *(f"{n} {r / 1e9:.0f} GFLOP/s" for n, r in rates.items()),
    )
    print(
        f"{'stage':42}{'seconds':>9}{'GiB':>7}{'points':>12}{'GFLOP':>9}"
        f"{'of limit':>10}{'official':>10}{'ratio':>8}"
    )
    table: dict[str, Any] = {}
    for stage in STAGES if arguments.device == "cpu" else STAGES | JOBS:
        figures = _in_fresh_process(stage, arguments)
        if figures.get("GFLOP") and "of limit" not in figures:
            figures["of limit"] = (
                figures["GFLOP"] * 1e9 / rates[_dtype_of(stage)] / figures["seconds"]
            )
        table[stage] = figures
        official = OFFICIAL.get(stage.replace("bfloat16", "float32"), (0.0, 0.0))[0]
        memory = figures.get("device GiB", figures.get("host GiB", 0.0))
        points, operations = figures.get("points", 0), figures.get("GFLOP", 0)
        work = f"{points:12,}{operations:9.0f}{figures.get('of limit', 0):10.0%}"
        print(
            f"{stage:42}{figures['seconds']:9.2f}{memory:7.2f}{work}"
            + (f"{official:10.1f}{official / figures['seconds']:7.1f}x" if official else ""),
            flush=True,
        )
    return {
        "processor": processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "limits": rates,
        "stages": table,
    }


def _dtype_of(stage: str) -> str:
    return "bfloat16" if "bfloat16" in stage else "float32"


_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(
        "--growth",
        type=Path,
        metavar="PNG",
        help="plot time and memory against resolution instead, also for the dense method",
    )
    parser.add_argument(
        "--table",
        type=Path,
        metavar="MD",
        help="measure all stages on a GPU within nine minutes instead, and write their table",
    )
    parser.add_argument(
        "--stage", help="measure one stage in this process and print its figures as JSON"
    )
    parser.add_argument(
        "--quality",
        choices=("texture", "solid"),
        help="instead, measure the colour error of textures of the objects of --assets, or how well"
        " Make Solid repairs broken shells of them",
    )
    parser.add_argument(
        "--catalogue",
        action="store_true",
        help="instead, measure catalogues of images of the objects of --assets",
    )
    parser.add_argument(
        "--items",
        type=int,
        default=200,
        help="images for --catalogue, or objects for --quality solid (default: 200)",
    )
    parser.add_argument(
        "--cells", type=int, default=128, help="resolution of --quality solid (default: 128)"
    )
    parser.add_argument("--assets", type=Path, help="objects_cc0.npz, see training/objects.py")
    arguments = parser.parse_args()
    if arguments.quality or arguments.catalogue:
        if arguments.assets is None:
            parser.error("--quality and --catalogue need --assets")
        if arguments.quality == "texture":
            measure_textures(arguments.assets)
        elif arguments.quality == "solid":
            from .solids import measure_solids

            measure_solids(arguments.assets, arguments.items, arguments.cells)
        else:
            measure_catalogues(arguments.assets, arguments.items)
        return
    if arguments.stage:
        print(
            json.dumps(
                measure(
                    _stage_named(arguments.stage),
                    choose_device(arguments.device),
                    arguments.repeat,
                    _DTYPES[_dtype_of(arguments.stage)],
                )
            )
        )
    elif arguments.table:
        write_table(choose_device(arguments.device), arguments.repeat, arguments.table)
    elif arguments.growth:
        from .growth import draw

        arguments.repeat = 0  # dense extraction takes a minute at 512
        draw(
            {
                f"{preset} {way}": {
                    r: _in_fresh_process(f"{preset} {r} {way}", arguments) for r in GROWTH
                }
                for preset in ("instant-mesh-large", "instant-nerf-large")
                for way in ("refined", "exact")
            },
            arguments.growth,
        )
    else:
        result = print_table(arguments)
        if arguments.json:
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
