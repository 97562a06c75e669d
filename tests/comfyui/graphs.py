"""The graphs that the tests run, and what they read of the results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..tiny_models import MODEL
from .server import PACK, Run, Server

PHOTO = PACK / "workflows" / "api" / "1 Photo - picture to OBJ.json"
SIX_VIEWS = PACK / "workflows" / "api" / "2 InstantMesh - picture to OBJ.json"
STEPS = 3


def six_views_graph(prefix: str) -> dict[str, Any]:
    """The workflow of six views with tiny models, few steps and a coarse grid."""
    graph = json.loads(SIX_VIEWS.read_text())
    set_inputs(graph, "LoadMultiviewModel", dtype="float32")
    set_inputs(graph, "LoadReconstructionModel", model=MODEL, dtype="float32")
    set_inputs(graph, "GenerateViews", steps=STEPS)
    set_inputs(graph, "ExtractMesh", resolution=32)
    set_inputs(graph, "SaveMesh", filename_prefix=prefix)
    return graph


def photo_graph(prefix: str) -> dict[str, Any]:
    graph = json.loads(PHOTO.read_text())
    set_inputs(graph, "SaveMesh", filename_prefix=prefix)
    return graph


def node_id(graph: dict[str, Any], kind: str) -> str:
    return next(
        key for key, node in graph.items() if node["class_type"] in (kind, f"ImageTo3D_{kind}")
    )


def set_inputs(graph: dict[str, Any], kind: str, **inputs: Any) -> None:
    graph[node_id(graph, kind)]["inputs"].update(inputs)


def saved_paths(
    server: Server, run: Run, graph: dict[str, Any], kind: str = "SaveMesh"
) -> list[Path]:
    assert run.error is None, run.error
    return [
        server.output / f["subfolder"] / f["filename"]
        for f in run.outputs[node_id(graph, kind)]["3d"]
    ]


def write_image(
    server: Server, name: str, color: tuple[int, int, int], transparent: bool = False
) -> str:
    """A box of one colour on white, or on nothing."""
    pixels = np.full((96, 128, 4), 255, np.uint8)
    if transparent:
        pixels[..., 3] = 0
    pixels[20:80, 40:90] = (*color, 255)
    Image.fromarray(pixels if transparent else pixels[..., :3]).save(server.input / name)
    return name


def read_vertices(path: Path) -> np.ndarray:
    return np.array(
        [line.split()[1:4] for line in path.read_text().splitlines() if line.startswith("v ")],
        float,
    )
