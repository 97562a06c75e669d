"""Measure every stage on a GPU within minutes, and write the table of BENCHMARKS.md."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

import torch

from . import triposg
from .measuring import memory, resident, timed
from .stages import JOBS, STAGES, Stage, denoising_step, image_to_planes, views_to_triplane

LIMIT_S = 8 * 60  # the last stage may take a minute
BEGIN, END = "<!-- make bench-gpu: begin -->", "<!-- make bench-gpu: end -->"
_PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_NETWORKS = {"TripoSR planes": image_to_planes, "views to triplane": views_to_triplane}


def gpu_stages() -> dict[str, Stage]:
    """Return the stages to measure, the most important ones first."""
    found = dict(JOBS)
    kept = ("mesh at", "colours", "texture", "OBJ of")
    found |= {name: stage for name, stage in STAGES.items() if any(k in name for k in kept)}
    for precision, dtype in _PRECISIONS.items():
        for name, network in _NETWORKS.items():
            found[f"{name}, {precision}"] = network(dtype)
        found[f"Zero123++ step, {precision}"] = denoising_step(dtype)
        found[f"TripoSG guided step, {precision}"] = triposg.guided_step(dtype)
        found[f"TripoSG 100,000 points, {precision}"] = triposg.points(dtype)
    for name, network in _NETWORKS.items():
        found[f"{name}, bfloat16, torch.compile"] = network(torch.bfloat16, compiled=True)
    return found


def rows(
    stages: Mapping[str, Stage], device: torch.device, repeat: int, limit_s: float = LIMIT_S
) -> Iterator[str]:
    """Measure stages in this process, and yield a row of Markdown for each.

    A stage that fails is reported as such. Stages that would start after the limit are skipped.
    """
    deadline = time.monotonic() + limit_s
    for name, stage in stages.items():
        if time.monotonic() > deadline:
            yield f"| {name} | not measured: out of time | |"
            continue
        yield f"| {name} | {_figures(stage, device, repeat)} |"
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _figures(stage: Stage, device: torch.device, repeat: int) -> str:
    """Return the median seconds and the peak memory of a stage, as two cells of a table."""
    try:
        run, before = stage(device), resident()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()  # exclude the memory used to create the models
        timed(run, device)  # warm-up, and compilation
        seconds = statistics.median(timed(run, device)[0] for _ in range(repeat))
    except Exception as error:  # the other stages must still run
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        return f"failed: {reason[0][:80]} | "
    peaks = memory(before, device)
    return f"{seconds:.3f} | {peaks.get('device GiB', peaks['host GiB']):.2f}"


def write_table(device: torch.device, repeat: int, file: Path) -> None:
    """Measure the stages of `gpu_stages`, and replace the table in a Markdown file.

    The table replaces the text between `BEGIN` and `END`. Its rows are also printed.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    lines = [
        f"{name}, torch {torch.__version__}, {date.today().isoformat()}, random weights:",
        "",
        "| stage | seconds | GiB |",
        "|---|---|---|",
    ]
    print("\n".join(lines))
    for row in rows(gpu_stages(), device, repeat):
        print(row, flush=True)
        lines.append(row)
    table = "\n".join([BEGIN, *lines, END])
    text = re.sub(f"{BEGIN}.*{END}", lambda _: table, file.read_text(), flags=re.DOTALL)
    file.write_text(text)
