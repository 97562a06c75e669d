"""Remesh surfaces to quads whose edges follow the surface's features.

pynanoinstantmeshes wraps the authors' Instant Meshes. It is deterministic and takes about a second,
but drops details and components smaller than a quad, and may leave open edges.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import replace

import numpy as np
import torch

from ..errors import EnvironmentProblem, InvalidInput
from ..progress import Progress, silent, stage
from .color_transfer import nearest_colors, with_base_color
from .isolation import run_isolated
from .mesh import Mesh
from .texture import MAX_SIZE, MIN_SIZE, TextureLayout, bake_vertex_colors
from .topology import bare_shape, merge_vertices, open_edges

log = logging.getLogger(__name__)

MIN_QUADS, MAX_QUADS = 100, 1_000_000
_SUBDIVISION = 4  # the library's last step divides each face into this many quads
_TIMEOUT_S, _TIMEOUT_S_PER_FACE = 120.0, 5e-4  # about 50 times the usual duration


def remesh_quads(mesh: Mesh, quads: int, progress: Progress = silent) -> Mesh:
    """Remesh a surface to quads of about equal size.

    Args:
        mesh: at least one triangle.
        quads: approximate number of quads, 100 to 1,000,000.
        progress: called throughout; raise in it to stop the work.

    Returns:
        a mesh whose triangles form quads, see `Mesh.polygons`. A texture is baked again for it;
        vertex colours are those of the nearest points of the mesh. Open edges log a warning.

    Raises:
        InvalidInput: if the number is out of range, or too small to represent the mesh.
        EnvironmentProblem: if pynanoinstantmeshes is missing or crashes, or colours are to be
            transferred and libigl is missing.

    Source: Jakob et al., "Instant field-aligned meshes" (SIGGRAPH Asia 2015).
    """
    if not MIN_QUADS <= quads <= MAX_QUADS:
        raise InvalidInput(f"quads must be between {MIN_QUADS:,} and {MAX_QUADS:,}, got {quads:,}.")
    if importlib.util.find_spec("pynanoinstantmeshes") is None:
        raise EnvironmentProblem(
            "Quads need the package pynanoinstantmeshes: run 'pip install pynanoinstantmeshes'. It"
            " has wheels for Linux and Windows on x86-64, and for Macs with Apple chips."
        )
    shape = merge_vertices(bare_shape(mesh))
    found = run_isolated(
        "remesh_quads",
        {
            "vertices": shape.vertices.cpu().numpy(),
            "faces": shape.faces.numpy(),
            "vertex_count": quads // _SUBDIVISION,
        },
        library="Quad remeshing",
        remedy="make the mesh solid first, or choose another number of quads.",
        timeout_s=_TIMEOUT_S + _TIMEOUT_S_PER_FACE * (len(shape.faces) + quads),
        progress=stage(progress, 0, 2),
    )
    corners = torch.from_numpy(found["quads"].astype(np.int64))
    if not len(corners):
        raise InvalidInput(f"{quads:,} quads are too few for the mesh: choose more.")
    triangles = corners[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)
    remeshed = Mesh(torch.from_numpy(found["vertices"]).float(), triangles, paired=True)
    if count := open_edges(remeshed):
        log.warning("The quads have %d open edges: make the mesh solid first to close them.", count)
    return _with_colors(remeshed, mesh, stage(progress, 1, 2))


def _with_colors(remeshed: Mesh, source: Mesh, progress: Progress) -> Mesh:
    """Copy the texture, or else the colours, of the nearest points of another mesh."""
    if source.texture is not None and source.uvs is not None:
        size = min(max(*source.texture.shape[:2], MIN_SIZE), MAX_SIZE)
        return bake_vertex_colors(
            remeshed, TextureLayout(size, 0), source=source, progress=progress
        )
    source = with_base_color(source)
    material = source.material and source.material.without_images()
    remeshed = replace(remeshed, material=material)
    if not source.colored:
        return remeshed
    # Vertices are not split where colours meet: that would cut quads into triangles.
    colors = nearest_colors(source, remeshed.vertices, progress)
    return replace(remeshed, vertex_colors=colors)
