"""Compare a folder of golden arrays with this code, array by array.

    python -m tests.golden_report DIR

The folder contains one or more of the groups in `tests/golden`, written by the reference
implementations. All sizes are read from its files. The exit code is 1 if an array differs, a group
is incomplete, or there is no group.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from .comparison import Row
from .geometry import report_cameras, report_flexicubes
from .instant_mesh import report_manifest, report_mesh_model, report_nerf_model
from .triposg import report_triposg, report_triposg_manifest
from .triposr import report_triposr, report_triposr_manifest
from .zero123plus import report_zero123plus

GROUPS = {
    "cameras": ("cameras.npz",),
    "manifest": ("checkpoint_manifest.json",),
    "flexicubes": ("flexicubes.npz",),
    "mesh model": ("lrm_tiny.json", "instant_mesh_tiny.npz", "instant_mesh_tiny.safetensors"),
    "nerf model": ("lrm_tiny.json", "instant_nerf_tiny.npz", "instant_nerf_tiny.safetensors"),
    "triposr": ("triposr_tiny.json", "triposr_tiny.npz", "triposr_tiny.safetensors"),
    "triposr manifest": ("triposr_manifest.json",),
    "triposg": (
        "triposg_tiny.json",
        "triposg_tiny.npz",
        *(f"triposg_tiny_{part}.safetensors" for part in ("transformer", "vae", "image_encoder")),
    ),
    "triposg manifest": ("triposg_manifest.json",),
    "zero123plus": (
        "zero123plus_tiny.json",
        "zero123plus_tiny.npz",
        *(
            f"zero123plus_tiny_{part}.safetensors"
            for part in ("unet", "vae", "text_encoder", "vision_encoder")
        ),
    ),
}
_SHARED_FILES = {"lrm_tiny.json"}  # does not identify a group

REPORTS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "cameras": report_cameras,
    "manifest": report_manifest,
    "flexicubes": report_flexicubes,
    "mesh model": report_mesh_model,
    "nerf model": report_nerf_model,
    "triposr": report_triposr,
    "triposr manifest": report_triposr_manifest,
    "triposg": report_triposg,
    "triposg manifest": report_triposg_manifest,
    "zero123plus": report_zero123plus,
}


def report(folder: Path) -> tuple[list[Row], list[str]]:
    """Return the comparisons of a folder's arrays, and descriptions of incomplete groups."""
    rows: list[Row] = []
    problems: list[str] = []
    for group, files in GROUPS.items():
        there = [f for f in files if (folder / f).exists()]
        if not set(there) - _SHARED_FILES:
            continue
        missing = [f for f in files if f not in there]
        if missing:
            problems.append(f"{group}: incomplete, without {', '.join(missing)}")
            continue
        try:
            found = list(REPORTS[group](folder))
        except Exception as error:
            # A missing or malformed array fails its group; the other groups are still reported.
            problems.append(f"{group}: {type(error).__name__}: {error}")
            continue
        rows += found
    if not rows and not problems:
        problems.append(f"{folder} holds none of the groups {', '.join(GROUPS)}")
    return rows, problems


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python -m tests.golden_report DIR", file=sys.stderr)
        return 2
    rows, problems = report(Path(arguments[0]))
    width = max((len(r.name) for r in rows), default=10)
    print(f"{'array':{width}}  {'absolute':>9}  {'relative':>9}  {'tolerance':>9}  verdict")
    for row in rows:
        verdict = "ok" if row.passed else "FAILED"
        print(
            f"{row.name:{width}}  {row.absolute:9.2e}  {row.relative:9.2e}  {row.tolerance:9.1e} "
            f" {verdict:7} {row.note}"
        )
    for problem in problems:
        print(f"FAILED  {problem}")
    failed = len(problems) + sum(not r.passed for r in rows)
    print(f"{len(rows)} arrays, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
