"""Clean Mesh, Make Solid, Mesh Report and Render Mesh."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import trimesh
from comfy import model_management, utils
from server import PromptServer

from pipelines.meshes.material import Material
from pipelines.meshes.mesh import Mesh

from .inputs import small_ball


def test_make_solid_makes_one_body_and_save_mesh_names_losses_of_stl(nodes, tmp_path, monkeypatch):
    pytest.importorskip("igl")
    ball = trimesh.creation.icosphere(3)
    inner = trimesh.creation.icosphere(3, 0.9)
    shell = trimesh.util.concatenate([ball, inner])
    mesh = Mesh(
        torch.tensor(shell.vertices).float(),
        torch.tensor(shell.faces),
        torch.ones(len(shell.vertices), 3),
    )
    socket, text = nodes.MakeSolid.execute(nodes.mesh_sockets.mesh_socket([mesh]), 64, 4000)[:2]
    assert text.splitlines()[1].startswith("before: 2,560 triangles, 1,284 vertices, 2 part(s)")
    assert "one closed body" in text.splitlines()[0]
    (solid,) = nodes.mesh_sockets.meshes_of(socket)
    assert len(solid.faces) <= 4000
    assert solid.volume() == pytest.approx(ball.volume, rel=0.03)
    shown = []
    monkeypatch.setattr(nodes.host, "show_on_node", lambda node, text: shown.append(text))
    nodes.SaveMesh.execute(socket, "solid", "stl", "z", 80.0, "bottom")
    assert shown == ["STL cannot store the colours: save a GLB to keep everything."]
    nodes.SaveMesh.execute(socket, "solid", "3mf", "z", 80.0, "bottom")
    assert len(shown) == 1


def test_clean_mesh_reports_dropped_images(nodes):
    count = len(small_ball().vertices)
    mesh = replace(
        small_ball(), uvs=torch.rand(count, 2), material=Material(normal_map=torch.rand(4, 4, 3))
    )
    text = nodes.CleanMesh.execute(nodes.mesh_sockets.mesh_socket([mesh]), 0.0, 0, 0, 0, False)[1]
    assert text.splitlines()[-1] == "dropped, since they need the old uvs: normal_map"


def test_clean_mesh_reports_after_and_before(nodes):
    socket = nodes.mesh_sockets.mesh_socket([small_ball()])
    cleaned, text = nodes.CleanMesh.execute(socket, 0.05, 32, 0, 100, False).args
    assert len(nodes.mesh_sockets.meshes_of(cleaned)[0].faces) <= 100
    assert text.splitlines()[1].startswith("before: 320 triangles")
    assert PromptServer.instance.texts[-1] == ("1", text)


def test_mesh_report_measures_for_a_printer_at_the_size_of_the_file(nodes):
    socket = nodes.mesh_sockets.mesh_socket([small_ball()])
    plain, large, small = (
        nodes.MeshInfo.execute(socket, *values)[0].splitlines()
        for values in [(), ("50x50x50", 80.0), ("50x50x50", 40.0)]
    )
    assert len(plain) == 1
    assert "size 80 x" in large[0]
    assert large[1].endswith("does not fit the printer")
    assert small[1].endswith(", fits the printer")
    assert "got '50x50'" in nodes.MeshInfo.validate_inputs(printer="50x50")
    assert nodes.MeshInfo.validate_inputs(printer="") is True


def test_make_solid_orients_a_body(nodes):
    pytest.importorskip("igl")
    cone = trimesh.creation.cone(3, 1).apply_scale([1, 1, -1])
    cone.invert()
    mesh = Mesh(torch.tensor(cone.vertices).float(), torch.tensor(cone.faces))
    socket = nodes.mesh_sockets.mesh_socket([mesh])
    for orient, highest in ((False, 0.0), (True, 1.0)):
        solid = nodes.MakeSolid.execute(socket, 64, 0, orient)[0]
        (found,) = nodes.mesh_sockets.meshes_of(solid)
        widest = found.vertices[:, :2].norm(dim=1) > 2.9
        top = float(found.vertices[:, 2].amax())
        assert float(top - found.vertices[widest, 2].mean()) == pytest.approx(highest, abs=0.05)


def test_quad_remesh_gives_quads_that_save_mesh_keeps(nodes, tmp_path):
    pytest.importorskip("pynanoinstantmeshes")
    socket = nodes.mesh_sockets.mesh_socket([small_ball()])
    remeshed, text = nodes.QuadRemesh.execute(socket, 400).args
    assert "quads" in text.splitlines()[0]
    assert text.splitlines()[1].startswith("before: 320 triangles")
    path = nodes.host.folder_paths.get_output_directory()
    name = nodes.SaveMesh.execute(remeshed, "quads", "obj", "y", 0.0, "keep")[0]
    faces = [line for line in (Path(path) / name).read_text().splitlines() if line[:2] == "f "]
    assert {len(line.split()) for line in faces} == {5}


def test_render_mesh_renders_each_frame(nodes):
    images = nodes.RenderMesh.execute(nodes.mesh_sockets.mesh_socket([small_ball()]), 3, 10.0, 32)[
        0
    ]
    assert images.shape == (3, 32, 32, 3)
    assert float(images.amin()) < 0.9


@pytest.mark.parametrize(
    ("node", "values"),
    [
        pytest.param("CleanMesh", (0.05, 32, 20, 100, False), id="clean"),
        pytest.param("CleanMesh", (0.05, 32, 0, 0, True), id="clean-watertight"),
        pytest.param("MakeSolid", (64, 0), id="solid"),
    ],
)
def test_clean_mesh_and_make_solid_report_progress_and_stop(nodes, monkeypatch, node, values):
    pytest.importorskip("igl")
    socket = nodes.mesh_sockets.mesh_socket([small_ball()])
    getattr(nodes, node).execute(socket, *values)
    steps = [step[0] / step[1] for step in utils.bars[-1].steps]
    assert len(steps) > 1
    assert steps == sorted(steps)
    assert steps[-1] == 1
    monkeypatch.setattr(model_management, "interrupted", True)
    with pytest.raises(model_management.InterruptProcessingException):
        getattr(nodes, node).execute(socket, *values)


def test_clean_mesh_fits_into_cores_unit_cube(nodes):
    moved = replace(small_ball(), vertices=small_ball().vertices * torch.tensor([1.0, 2, 3]) + 5)
    socket = nodes.mesh_sockets.mesh_socket([moved])
    cleaned = nodes.CleanMesh.execute(socket, 0.0, 0, 0, 0, False, unit_cube=True)[0]
    assert float(cleaned.vertices.amin()) == pytest.approx(-0.5, abs=1e-5)
    assert float(cleaned.vertices.amax()) == pytest.approx(0.5, abs=1e-5)
