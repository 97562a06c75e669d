"""The result of Make Solid is closed, even after merging vertices by position."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

import pytest
import trimesh

from pipelines.errors import InvalidInput
from pipelines.image_to_3d import ImageTo3D
from pipelines.images.reading import read_image
from pipelines.meshes.cleaning import clean
from pipelines.meshes.decimation import decimate
from pipelines.meshes.io import READABLE_FORMATS, load_mesh
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.solid import make_solid
from pipelines.settings import Settings, SurfaceSettings

from ..shapes import to_mesh

pytest.importorskip("manifold3d", reason="manifold3d is not installed")
pytest.importorskip("igl", reason="libigl is not installed")
from .checks import printable_bodies

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "data" / "cases"
CASE_MESHES = [path for path in sorted(CASES.rglob("*")) if path.suffix[1:] in READABLE_FORMATS]

SHAPES = {
    "ball": trimesh.creation.icosphere(subdivisions=4),
    "torus": trimesh.creation.torus(1, 0.3),
    "thin ring": trimesh.creation.torus(1, 0.02).subdivide(),
    "thin plate": trimesh.creation.box((1, 1, 0.002)).subdivide_loop(4),
}


@cache
def photo_mesh(name: str, resolution: int) -> Mesh:
    """Extract the mesh of one of the workflows' images."""
    image = read_image(ROOT / "workflows" / f"{name}.png")
    settings = Settings(surface=SurfaceSettings(resolution=resolution))
    return ImageTo3D.load(device="cpu")(image, settings).mesh


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("max_faces", [1000, 100, 20])
def test_decimate_keeps_one_closed_body(name, max_faces):
    fewer = decimate(to_mesh(SHAPES[name]), max_faces)
    assert len(fewer.faces) <= max_faces
    assert len(printable_bodies(fewer)) == 1


def test_decimate_warns_if_so_few_triangles_cannot_be_closed(caplog):
    boxes = [trimesh.creation.box().apply_translation([2 * i, 0, 0]) for i in range(9)]
    with caplog.at_level(logging.WARNING):
        fewer = decimate(to_mesh(trimesh.util.concatenate(boxes), colors=False), 20)
    assert len(fewer.faces) <= 20
    assert "no longer closed" in caplog.text


@pytest.mark.parametrize("name", ["cup", "demo"])
@pytest.mark.parametrize("max_faces", [0, 20_000, 2000, 200])
def test_make_solid_keeps_one_body_of_a_photograph(name, max_faces):
    solid = make_solid(photo_mesh(name, 96), max_faces=max_faces)
    assert len(solid.faces) <= (max_faces or len(solid.faces))
    assert len(printable_bodies(solid)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cup", "demo"])
@pytest.mark.parametrize("max_faces", [200_000, 50_000, 10_000])
def test_make_solid_keeps_one_body_of_a_photograph_at_256_cells(name, max_faces):
    """At the node's default, the cup once had 21 bodies; 20 were a triangle and its reverse."""
    solid = make_solid(photo_mesh(name, 256), max_faces=max_faces)
    assert len(solid.faces) <= max_faces
    assert len(printable_bodies(solid)) == 1


def test_clean_keeps_a_photograph_closed_when_it_decimates():
    """The settings are those of template 7."""
    cleaned = clean(photo_mesh("cup", 128), min_part_share=0.05, hole_edges=32, max_faces=20_000)
    assert len(printable_bodies(cleaned)) == 1


@pytest.mark.parametrize("path", CASE_MESHES, ids=lambda path: path.name)
@pytest.mark.parametrize("max_faces", [0, 500])
def test_make_solid_makes_every_case_printable_or_refuses_it(path, max_faces):
    try:
        solid = make_solid(load_mesh(path), 24, max_faces)
    except InvalidInput:
        return
    assert len(solid.faces) <= (max_faces or len(solid.faces))
    printable_bodies(solid)
