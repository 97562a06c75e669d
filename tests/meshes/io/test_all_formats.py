"""All formats: damaged files, and files that are written and read again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.errors import InvalidInput
from pipelines.meshes.color_transfer import texture_to_vertex_colors
from pipelines.meshes.io import FORMATS, load_mesh, save_mesh
from pipelines.meshes.mesh import Mesh

from .helpers import BLUE, CASES, ORANGE, RED, colors_of, is_a_cube


@pytest.mark.parametrize(
    "case",
    [
        "mesh-with-nan/nan.obj",
        "mesh-with-nan/nan.glb",
        "bake-hangs-on-huge-or-infinite/inf.obj",
        "bake-hangs-on-huge-or-infinite/huge.obj",
    ],
)
def test_load_refuses_nan_and_huge_coordinates(case):
    with pytest.raises(InvalidInput, match=r"not finite|larger than"):
        load_mesh(CASES / case)


@pytest.mark.parametrize("suffix", FORMATS)
def test_load_reads_up_axis_of_saved_files(tmp_path, suffix):
    box = trimesh.creation.box((1, 2, 3))
    mesh = Mesh(
        torch.tensor(box.vertices, dtype=torch.float32) + torch.tensor([0.5, 0, 0]),
        torch.tensor(box.faces),
    )
    for up_axis in ("y", "z"):
        save_mesh(mesh, tmp_path / f"x.{suffix}", up_axis=up_axis)
        back = load_mesh(tmp_path / f"x.{suffix}")
        torch.testing.assert_close(back.vertices.amin(dim=0), mesh.vertices.amin(dim=0))
        torch.testing.assert_close(back.vertices.amax(dim=0), mesh.vertices.amax(dim=0))


@st.composite
def _meshes(draw: st.DrawFn) -> Mesh:
    """Draw meshes of any size and position, some with colours, some with a texture."""
    count = draw(st.integers(3, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    size = 10.0 ** draw(st.integers(-9, 6))
    vertices = (torch.rand(count, 3, generator=generator) - 0.5) * size
    faces = torch.stack(
        [torch.randperm(count, generator=generator)[:3] for _ in range(draw(st.integers(1, 9)))]
    )
    look = draw(st.sampled_from(["bare", "colors", "texture"]))
    if look == "colors":
        return Mesh(vertices, faces, torch.rand(count, 3, generator=generator))
    if look == "texture":
        return Mesh(
            vertices,
            faces,
            uvs=torch.rand(count, 2, generator=generator) * 4 - 2,
            texture=torch.rand(4, 6, 3, generator=generator),
        )
    return Mesh(vertices, faces)


@settings(max_examples=40)
@given(mesh=_meshes())
@pytest.mark.parametrize("suffix", FORMATS)
def test_load_returns_what_was_saved(tmp_path, suffix, mesh):
    save_mesh(mesh, tmp_path / f"x.{suffix}")
    back = load_mesh(tmp_path / f"x.{suffix}")
    size = float(mesh.vertices.abs().max())
    torch.testing.assert_close(
        back.vertices[back.faces], mesh.vertices[mesh.faces], atol=2e-6 * size, rtol=0
    )
    if suffix in ("stl", "3mf"):
        return
    if mesh.texture is not None and suffix != "ply":
        torch.testing.assert_close(back.uvs[back.faces], mesh.uvs[mesh.faces], atol=2e-6, rtol=0)
        torch.testing.assert_close(back.texture, mesh.texture, atol=0.5 / 255 + 1e-4, rtol=0)
        return
    expected = texture_to_vertex_colors(mesh).vertex_colors
    assert (expected is None) == (back.vertex_colors is None)
    if expected is not None:
        torch.testing.assert_close(
            back.vertex_colors[back.faces], expected[mesh.faces], atol=0.5 / 255 + 1e-3, rtol=0
        )


@settings(max_examples=120)
@given(data=st.data())
@pytest.mark.parametrize("suffix", FORMATS)
def test_load_damaged_file_gives_a_mesh_or_one_sentence(tmp_path, suffix, data):
    path = tmp_path / f"x.{suffix}"
    numbers = torch.linspace(0, 1, 18).view(6, 3) ** 2
    save_mesh(Mesh(numbers, torch.tensor([[0, 1, 2], [3, 4, 5]]), numbers.flip(0)), path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    message = ""
    try:
        assert len(load_mesh(path).faces)
    except InvalidInput as error:
        message = str(error)
    assert not message or (path.name in message and "\n" not in message)


def test_save_obj_never_overwrites_foreign_files(tmp_path):
    Image.new("RGB", (20, 20), "green").save(tmp_path / "photo.png")
    (tmp_path / "photo.mtl").write_text("newmtl mine\n")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    mesh = Mesh(
        torch.rand(3, 3),
        torch.tensor([[0, 1, 2]]),
        uvs=torch.rand(3, 2),
        texture=torch.full((8, 8, 3), 0.25),
    )
    for _ in range(2):  # the second time, its own files are replaced
        save_mesh(mesh, tmp_path / "photo.obj")
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert {p.name for p in tmp_path.iterdir()} == {
        *before,
        "photo.obj",
        "photo-2.mtl",
        "photo-2.png",
    }
    torch.testing.assert_close(
        load_mesh(tmp_path / "photo.obj").texture, mesh.texture, atol=0.01, rtol=0
    )


def test_save_obj_reports_lost_vertex_colors(tmp_path, caplog):
    mesh = Mesh(
        torch.rand(3, 3),
        torch.tensor([[0, 1, 2]]),
        torch.rand(3, 3),
        torch.rand(3, 2),
        torch.full((8, 8, 3), 0.25),
    )
    save_mesh(mesh, tmp_path / "x.obj")
    assert "OBJ cannot store the vertex colours: save a GLB" in caplog.text
    save_mesh(replace(mesh, vertex_colors=None), tmp_path / "y.obj")
    assert "y.obj" not in caplog.text


def test_load_flat_colors_of_every_format():
    folder = CASES / "flat-colours-lost"
    assert colors_of(load_mesh(folder / "base-colour.glb")) == {ORANGE}
    assert colors_of(load_mesh(folder / "kd.obj")) == {RED}
    assert colors_of(load_mesh(folder / "base-materials.3mf")) == {RED}
    faces = load_mesh(folder / "faces.ply")
    assert colors_of(faces) == {RED, BLUE}
    assert all(len(faces.vertex_colors[face].unique(dim=0)) == 1 for face in faces.faces), (
        "no triangle is of two colours"
    )
    for name in ("base-colour.glb", "kd.obj", "base-materials.3mf", "faces.ply"):
        assert is_a_cube(load_mesh(folder / name))
