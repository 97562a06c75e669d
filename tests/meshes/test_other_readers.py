"""Other programs read the saved files correctly."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from pipelines.meshes.io import FORMATS, save_mesh
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.placement import place
from pipelines.meshes.solid import make_solid

from ..shapes import l_shape, textured_l


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("make", [l_shape, textured_l], ids=["colours", "texture"])
def test_save_mesh_assimp_reads_the_same_box(tmp_path, suffix, make):
    """Each side of the L's box is at another distance, so a mirrored or rotated file would fail."""
    if shutil.which("assimp") is None:
        pytest.skip("assimp is not installed (Debian: assimp-utils)")
    save_mesh(make(), tmp_path / f"l.{suffix}")
    answer = subprocess.run(
        ["assimp", "info", str(tmp_path / f"l.{suffix}")],
        capture_output=True,
        text=True,
        check=True,
    )
    low, high = (
        [
            float(number)
            for number in re.search(rf"{name} point\s+\((.*?)\)", answer.stdout)[1].split()
        ]
        for name in ("Minimum", "Maximum")
    )
    assert low == pytest.approx([-0.1, -1.0, -0.1], abs=1e-5)
    assert high == pytest.approx([0.6, 1.0, 0.3], abs=1e-5)
    assert int(re.search(r"Faces:\s+(\d+)", answer.stdout)[1]) == 24


def _found_by(variable: str, script: str, mesh: Mesh, path: Path) -> dict[str, Any]:
    """Run a script on the saved mesh, by the interpreter that an environment variable names.

    Returns:
        the JSON that the script prints.
    """
    python = os.environ.get(variable)
    if python is None:
        pytest.skip(f"{variable} names no Python")
    save_mesh(mesh, path)
    answer = subprocess.run(
        [python, "-c", script, str(path)], capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(answer.stdout.split("FOUND ")[1].splitlines()[0])


BLENDER = """
import bpy, json, sys
bpy.ops.wm.read_factory_settings(use_empty=True)
path, suffix = sys.argv[-1], sys.argv[-1].rsplit(".", 1)[1]
if suffix == "glb":
    bpy.ops.import_scene.gltf(filepath=path)
else:
    getattr(bpy.ops.wm, f"{suffix}_import")(filepath=path, forward_axis="NEGATIVE_Z", up_axis="Y")
shape = next(o for o in bpy.data.objects if o.type == "MESH")
points = [shape.matrix_world @ v.co for v in shape.data.vertices]
box = [[f(p[i] for p in points) for i in range(3)] for f in (min, max)]
images = [list(i.size) for i in bpy.data.images if i.size[0]]
colors = len(shape.data.color_attributes)
print("FOUND", json.dumps({"box": box, "colors": colors, "images": images}))
"""


@pytest.mark.parametrize("suffix", ["obj", "glb", "ply", "stl"])
@pytest.mark.parametrize("make", [l_shape, textured_l], ids=["colours", "texture"])
def test_save_mesh_blender_reads_it_the_right_way_round(tmp_path, suffix, make):
    """In Blender, z is up and the front faces -y.

    BPY_PYTHON names an interpreter that has the package bpy.
    """
    found = _found_by("BPY_PYTHON", BLENDER, make(), tmp_path / f"l.{suffix}")
    assert found["box"][0] == pytest.approx([-0.1, -0.3, -1.0], abs=1e-5)
    assert found["box"][1] == pytest.approx([0.6, 0.1, 1.0], abs=1e-5)
    if make is textured_l and suffix in ("obj", "glb"):
        assert found["images"] == [[512, 512]]
    elif suffix != "stl":
        assert found["colors"] == 1


OPEN3D = """
import json, sys, numpy as np, open3d
mesh = open3d.io.read_triangle_mesh(sys.argv[-1], enable_post_processing=True)
points, colors = np.asarray(mesh.vertices), np.asarray(mesh.vertex_colors)
right = colors[points[:, 0] > 0.59].mean(axis=0).tolist() if len(colors) else None
textures = [list(np.asarray(t).shape[:2]) for t in mesh.textures if not t.is_empty()]
box = [points.min(axis=0).tolist(), points.max(axis=0).tolist()]
found = {"box": box, "faces": len(mesh.triangles), "right": right, "textures": textures}
print("FOUND", json.dumps(found))
"""


@pytest.mark.parametrize("suffix", ["obj", "glb", "ply", "stl"])
@pytest.mark.parametrize("make", [l_shape, textured_l], ids=["colours", "texture"])
def test_save_mesh_open3d_reads_box_and_colours(tmp_path, suffix, make):
    """OPEN3D_PYTHON names an interpreter that has the package open3d."""
    found = _found_by("OPEN3D_PYTHON", OPEN3D, make(), tmp_path / f"l.{suffix}")
    assert found["box"][0] == pytest.approx([-0.1, -1.0, -0.1], abs=1e-5)
    assert found["box"][1] == pytest.approx([0.6, 1.0, 0.3], abs=1e-5)
    assert found["faces"] == 24
    textured = make is textured_l and suffix in ("obj", "glb")
    assert found["textures"] == ([[512, 512]] if textured else [])
    assert found["right"] == (
        None if textured or suffix == "stl" else pytest.approx([1.0, 0.0, 0.0], abs=0.01)
    )


@pytest.mark.parametrize("suffix", ["stl", "3mf"])
@pytest.mark.parametrize("most", [0, 3000])
def test_make_solid_slicer_has_nothing_to_repair(tmp_path, suffix, most):
    """The input is a torn double shell with a ball that touches it."""
    slicer = shutil.which("prusa-slicer")
    if slicer is None:
        pytest.skip("prusa-slicer is not installed (Debian: prusa-slicer)")
    pytest.importorskip("igl")
    balls = [trimesh.creation.icosphere(4, radius) for radius in (1.0, 0.9)]
    balls.append(trimesh.creation.icosphere(3, 0.5).apply_translation([1.5, 0, 0]))
    shell = trimesh.util.concatenate(balls)
    kept = np.random.default_rng(0).random(len(shell.faces)) > 0.05
    torn = Mesh(torch.tensor(shell.vertices).float(), torch.tensor(shell.faces[kept]).long())
    path = tmp_path / f"solid.{suffix}"
    solid = make_solid(torn, 96, most)
    save_mesh(place(solid, size=40, pivot="bottom"), path, up_axis="z")
    said = subprocess.run([slicer, "--info", str(path)], capture_output=True, text=True, check=True)
    assert "manifold = yes" in said.stdout
    for word in ("open_edges", "facets_reversed", "degenerate", "edges_fixed", "facets_removed"):
        assert word not in said.stdout, said.stdout
    sliced = tmp_path / "solid.gcode"
    command = [slicer, "--export-gcode", "--output", str(sliced), str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert "repair" not in (said.stdout + said.stderr).lower()
    assert sliced.stat().st_size > 10_000
