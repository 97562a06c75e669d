"""Meshes of other packs at MESH sockets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from pipelines.errors import InvalidInput

from .inputs import small_ball


def _box(**visual: Any) -> trimesh.Trimesh:
    return trimesh.Trimesh(*_arrays(), process=False, **visual)


def _arrays() -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices and faces of a box, 1 x 2 x 3, y up."""
    box = trimesh.creation.box((1.0, 2.0, 3.0))
    return np.asarray(box.vertices), np.asarray(box.faces)


def _is_the_box(mesh: Any) -> bool:
    size = mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0)
    return size.tolist() == [3.0, 1.0, 2.0] and mesh.volume() == pytest.approx(6)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(_box(), id="trimesh"),
        pytest.param(trimesh.Scene([_box()]), id="scene"),
        pytest.param(SimpleNamespace(v=torch.tensor(_arrays()[0]), f=_arrays()[1]), id="v-and-f"),
    ],
)
def test_meshes_of_reads_meshes_of_other_packs(nodes, value):
    (mesh,) = nodes.mesh_sockets.meshes_of(value)
    assert _is_the_box(mesh)


def test_meshes_of_reads_lists_of_any_meshes(nodes):
    first, second = nodes.mesh_sockets.meshes_of([_box(), _box()])
    assert _is_the_box(first)
    assert _is_the_box(second)


def test_meshes_of_a_list_of_core_meshes_reads_them(nodes):
    socket = nodes.mesh_sockets.mesh_socket([small_ball()])
    assert len(nodes.mesh_sockets.meshes_of([socket, _box()])) == 2


def test_meshes_of_a_trimesh_keeps_vertex_colours(nodes):
    red = np.tile(np.uint8([255, 0, 0, 255]), (8, 1))
    (mesh,) = nodes.mesh_sockets.meshes_of(_box(vertex_colors=red))
    torch.testing.assert_close(mesh.vertex_colors, torch.tensor([1.0, 0, 0]).expand(8, -1))


def test_meshes_of_a_trimesh_keeps_its_texture(nodes):
    visual = trimesh.visual.TextureVisuals(
        uv=np.full((8, 2), 0.25), image=Image.new("RGB", (4, 2), "blue")
    )
    (mesh,) = nodes.mesh_sockets.meshes_of(_box(visual=visual))
    assert mesh.texture.shape == (2, 4, 3)
    torch.testing.assert_close(mesh.texture[0, 0], torch.tensor([0.0, 0, 1]))
    torch.testing.assert_close(mesh.uvs, torch.full((8, 2), 0.25))


@pytest.mark.parametrize(
    "visual",
    [
        pytest.param({"vertex_colors": np.tile(np.uint8([255, 0, 0, 255]), (8, 1))}, id="colours"),
        pytest.param(
            {
                "visual": trimesh.visual.TextureVisuals(
                    uv=np.full((8, 2), 0.25), image=Image.new("RGB", (4, 2), "blue")
                )
            },
            id="texture",
        ),
    ],
)
def test_convert_trimesh_of_its_own_output_changes_nothing(nodes, visual):
    mesh, (made,) = nodes.ConvertTrimesh.execute(_box(**visual)).args
    again, (same,) = nodes.ConvertTrimesh.execute(made).args
    assert made.extents.tolist() == [1.0, 2.0, 3.0]
    assert same.visual.kind == made.visual.kind
    torch.testing.assert_close(again.vertices, mesh.vertices)
    for name in ("vertex_colors", "uvs", "texture"):
        torch.testing.assert_close(getattr(again, name, None), getattr(mesh, name, None))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("a.obj", id="path"),
        pytest.param(object(), id="object"),
        pytest.param([], id="empty-list"),
        pytest.param(SimpleNamespace(v=np.zeros((3, 3)), f=np.zeros((0, 3))), id="no-triangles"),
        pytest.param(SimpleNamespace(v=np.zeros((4, 3)), f=np.zeros((1, 4))), id="quads"),
    ],
)
def test_meshes_of_other_objects_raises_one_clear_error(nodes, value):
    with pytest.raises(InvalidInput, match="vertices"):
        nodes.mesh_sockets.meshes_of(value)
