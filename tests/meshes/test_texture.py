from __future__ import annotations

import json
import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from pipelines.cameras import cameras_around
from pipelines.errors import EnvironmentProblem, InvalidInput
from pipelines.meshes.atlas import unfold
from pipelines.meshes.cleaning import clean
from pipelines.meshes.color_transfer import nearest_colors, texture_colors, texture_to_vertex_colors
from pipelines.meshes.io import load_mesh, save_mesh
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.projection import PosedImages
from pipelines.meshes.texture import (
    TextureLayout,
    bake_vertex_colors,
    size_for,
    texture_from_images,
)
from pipelines.rendering.render_mesh import render_mesh
from pipelines.settings import SurfaceSettings
from pipelines.surface.extraction import extract_mesh

from ..sample_fields import AnalyticField
from ..shapes import bake_texture, textured_l

CASES = Path(__file__).parents[1] / "data" / "cases"
SMALL = TextureLayout(512)

pytest.importorskip("xatlas", reason="there is no wheel of xatlas for this Python or processor")


def _stripes(points: torch.Tensor) -> torch.Tensor:
    """Return colours that change smoothly along each axis, so that all sides differ."""
    return torch.stack(
        [(points[:, 2] * 0.4 + 0.5), (points[:, 1] * 0.4 + 0.5), (points[:, 0] * 0.4 + 0.5)], dim=1
    ).clamp(0, 1)


def _ball(subdivisions: int = 4) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=subdivisions)
    vertices = torch.tensor(ball.vertices, dtype=torch.float32)
    return Mesh(vertices, torch.tensor(ball.faces), _stripes(vertices))


def test_bake_texture_has_the_colour_of_each_point():
    ball = _ball()
    textured = bake_texture(ball, _stripes, 512)
    assert textured.texture.shape == (512, 512, 3)
    assert textured.vertex_colors is None
    assert textured.volume() == pytest.approx(ball.volume(), rel=1e-5)
    assert float(textured.uvs.amin()) >= 0
    assert float(textured.uvs.amax()) <= 1
    # Points inside triangles, not only at vertices.
    weights = torch.rand(len(textured.faces), 3, generator=torch.Generator().manual_seed(0))
    weights = weights / weights.sum(dim=1, keepdim=True)
    points = (textured.vertices[textured.faces] * weights[..., None]).sum(dim=1)
    uv = (textured.uvs[textured.faces] * weights[..., None]).sum(dim=1)
    column = (uv[:, 0] * 512).long().clamp(0, 511)
    row = ((1 - uv[:, 1]) * 512).long().clamp(0, 511)
    error = (textured.texture[row, column] - _stripes(points)).abs()
    assert float(error.mean()) < 0.01
    assert float(error.max()) < 0.05


def test_bake_texture_fills_all_unpainted_pixels():
    textured = bake_texture(_ball(), lambda points: torch.zeros_like(points), 512)
    assert float(textured.texture.max()) == 0.0, "unpainted pixels are white"


@pytest.mark.parametrize("largest", [12_500, 400], ids=["one piece", "four pieces"])
def test_unfold_charts_do_not_overlap(largest, monkeypatch):
    monkeypatch.setattr("pipelines.meshes.atlas._LARGEST_PIECE", largest)
    ball = _ball(3)
    unfolded = unfold(ball, 512)
    assert torch.equal(unfolded.vertices[unfolded.faces], ball.vertices[ball.faces])
    corners = unfolded.uvs[unfolded.faces]
    (a, b) = (corners[:, 1] - corners[:, 0]).unbind(dim=1)
    (c, d) = (corners[:, 2] - corners[:, 0]).unbind(dim=1)
    area = float((a * d - b * c).abs().sum() / 2)
    from pipelines.meshes.rasterization import visible_triangles

    screen = torch.cat([unfolded.uvs * 1024 - 0.5, torch.ones(len(unfolded.uvs), 1)], dim=1)[
        unfolded.faces
    ]
    covered = len(visible_triangles(screen, 1024)[0]) / 1024**2
    assert covered == pytest.approx(area, rel=0.03)


def test_bake_vertex_colors_is_inverted_by_texture_to_vertex_colors():
    ball = _ball()
    textured = bake_vertex_colors(ball, SMALL)
    back = texture_to_vertex_colors(textured)
    assert back.texture is None
    torch.testing.assert_close(back.vertex_colors, _stripes(back.vertices), atol=0.03, rtol=0)
    torch.testing.assert_close(
        nearest_colors(ball, ball.vertices), ball.vertex_colors, atol=1e-3, rtol=0
    )
    with pytest.raises(InvalidInput, match="no vertex colours"):
        bake_vertex_colors(Mesh(ball.vertices, ball.faces))


@pytest.mark.parametrize("suffix", ["obj", "glb"])
def test_save_mesh_texture_is_read_back(tmp_path, suffix):
    mesh = textured_l()
    path = tmp_path / f"l.{suffix}"
    save_mesh(mesh, path)
    assert sorted(p.name for p in tmp_path.iterdir()) == (
        ["l.mtl", "l.obj", "l.png"] if suffix == "obj" else ["l.glb"]
    )
    loaded = load_mesh(path)
    assert loaded.texture.shape == (512, 512, 3)
    assert loaded.volume() == pytest.approx(mesh.volume(), rel=1e-5)
    torch.testing.assert_close(loaded.texture, mesh.texture, atol=1 / 255, rtol=0)
    colors = texture_to_vertex_colors(loaded)
    red = (colors.vertex_colors - torch.tensor([1.0, 0, 0])).abs().amax(dim=1) < 0.1
    assert torch.equal(red, loaded.vertices[:, 1] > 0.3), "only the tip is red"
    assert (loaded.vertices[red][:, 2] < -0.7).all(), "the tip is at the bottom"


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_save_mesh_glb_stores_jpeg_or_webp(tmp_path, kind):
    mesh = textured_l()
    save_mesh(mesh, tmp_path / "l.glb", texture_format=kind)
    assert f'"mimeType":"image/{kind}"'.encode() in (tmp_path / "l.glb").read_bytes()
    close = (load_mesh(tmp_path / "l.glb").texture - mesh.texture).abs() < 0.03
    assert float(close.float().mean()) > 0.98
    with pytest.raises(InvalidInput, match="save a GLB, or use PNG"):
        save_mesh(mesh, tmp_path / "l.obj", texture_format=kind)


@pytest.mark.parametrize(("pixels", "size"), [(64, 512), (512, 1024), (1024, 2048), (4000, 4096)])
def test_size_for_matches_the_images_resolution(pixels, size):
    """Compare with the resolution at the nearest point of a ball.

    The ball has radius 0.5 and a distance of 2 from a camera of 60 degrees. At its nearest point, a
    unit of length covers pixels / (2 tan 30) / 1.5 pixels.
    """
    shots = PosedImages(
        torch.ones(1, 3, 1, 1).expand(1, 3, pixels, pixels), cameras_around([0.0], [0.0], 2.0, 60.0)
    )
    ball = _ball()
    scaled = Mesh(ball.vertices / ball.vertices.norm(dim=1).amax() / 2, ball.faces)
    assert size_for(scaled, [shots], 4096) == size
    assert size_for(scaled, [shots], 700) == min(size, 700)


def test_load_mesh_mtl_never_leaves_its_folder(tmp_path, caplog):
    folder = tmp_path / "inside"
    save_mesh(textured_l(), folder / "l.obj")
    assert "map_Kd l.png\n" in (folder / "l.mtl").read_text()
    assert "mtllib l.mtl\n" in (folder / "l.obj").read_text()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "secret.png")
    for name in ("../secret.png", str(tmp_path / "secret.png"), "..\\secret.png"):
        (folder / "l.mtl").write_text(f"newmtl surface\nmap_Kd {name}\n")
        caplog.clear()
        assert load_mesh(folder / "l.obj").texture is None
        assert name in caplog.text, "the warning names the skipped image"


def test_save_mesh_without_textures_stores_colours_or_shape(tmp_path):
    mesh = textured_l()
    for suffix in ("ply", "stl", "3mf"):
        save_mesh(mesh, tmp_path / f"l.{suffix}")
        assert load_mesh(tmp_path / f"l.{suffix}").volume() == pytest.approx(
            mesh.volume(), rel=1e-4
        )
    assert load_mesh(tmp_path / "l.ply").vertex_colors is not None
    assert clean(mesh).vertex_colors is not None


def test_save_mesh_glb_embeds_its_texture_and_is_not_metallic(tmp_path):
    save_mesh(textured_l(), tmp_path / "l.glb")
    content = (tmp_path / "l.glb").read_bytes()
    tree = json.loads(content[20 : 20 + struct.unpack("<I", content[12:16])[0]])
    assert tree["materials"][0]["pbrMetallicRoughness"]["metallicFactor"] == 0
    assert "uri" not in json.dumps(tree)
    assert len(tree["images"]) == 1


def test_render_mesh_texture_looks_like_vertex_colours():
    ball = _ball()
    cameras = cameras_around([20.0, 200.0], [10.0, 10.0], 4.0, 30.0)
    with_colors = render_mesh(ball, cameras, 64)
    with_texture = render_mesh(bake_texture(ball, _stripes, 512), cameras, 64)
    assert float((with_colors - with_texture).abs().mean()) < 0.01


@pytest.mark.parametrize("soup", range(12))
def test_bake_vertex_colors_survives_planar_soups_with_backs(soup):
    rng = np.random.default_rng(soup)
    count = int(rng.integers(1, 6))
    vertices = rng.random((3 * count, 3)).astype(np.float32)
    vertices[:, 2] = 0
    if soup % 2:  # slivers
        vertices[2::3] = (
            vertices[0::3]
            + (vertices[1::3] - vertices[0::3]) * rng.random((count, 1))
            + rng.normal(0, 1e-3, (count, 3)) * [1, 1, 0]
        )
    faces = torch.arange(3 * count).view(-1, 3)
    mesh = Mesh(
        torch.from_numpy(vertices), torch.cat([faces, faces.flip(1)]), torch.rand(3 * count, 3)
    )
    baked = bake_vertex_colors(mesh, SMALL)
    assert len(baked.faces) == 2 * count
    assert set(map(tuple, baked.vertices.tolist())) <= set(map(tuple, mesh.vertices.tolist()))
    for k in range(count):
        front, back = baked.faces[k], baked.faces[count + k]
        assert sorted(front.tolist()) == sorted(back.tolist()), "both sides have the same uvs"


def test_bake_vertex_colors_refuses_slivers_alone():
    with pytest.raises(InvalidInput, match="sliver"):
        bake_vertex_colors(load_mesh(CASES / "xatlas-kills-process" / "slivers.obj"), SMALL)


@pytest.mark.parametrize("size", [1e-9, 1e8])
def test_bake_vertex_colors_of_any_mesh_size(size):
    ball = _ball(2)
    scaled = replace(ball, vertices=ball.vertices * size)
    baked = bake_vertex_colors(scaled, SMALL)
    torch.testing.assert_close(
        texture_to_vertex_colors(baked).vertex_colors,
        _stripes(baked.vertices / size),
        atol=0.05,
        rtol=0,
    )


def test_bake_vertex_colors_moves_a_texture_to_fewer_triangles(caplog):
    ball = _ball(4)
    textured = bake_texture(ball, _stripes, 512)
    again = bake_vertex_colors(textured, TextureLayout(512, 1000))
    assert len(again.faces) <= 1000
    middles = again.vertices[again.faces].mean(dim=1)
    found = texture_colors(again.texture, again.uvs[again.faces].mean(dim=1))
    torch.testing.assert_close(found, _stripes(middles), atol=0.03, rtol=0)
    assert not caplog.text, "nothing is dropped"


def test_bake_vertex_colors_interpolates_between_corners():
    box = trimesh.creation.box()
    corners = torch.tensor(box.vertices, dtype=torch.float32) + 0.5
    baked = bake_vertex_colors(Mesh(corners, torch.tensor(box.faces), corners), SMALL)
    weights = torch.rand(12, 3, generator=torch.Generator().manual_seed(0))
    weights = weights / weights.sum(dim=1, keepdim=True)
    points = (baked.vertices[baked.faces] * weights[..., None]).sum(dim=1)
    uv = (baked.uvs[baked.faces] * weights[..., None]).sum(dim=1)
    torch.testing.assert_close(texture_colors(baked.texture, uv), points, atol=0.01, rtol=0)


def test_bake_texture_texels_are_half_a_pixel_from_the_border(monkeypatch):
    """On a square that fills the texture, each texel has the colour at its own centre."""
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    square = Mesh(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]))
    monkeypatch.setattr(
        "pipelines.meshes.texture.unfold",
        lambda mesh, *_: replace(mesh, uvs=mesh.vertices[:, :2].contiguous()),
    )
    texture = bake_texture(square, lambda points: points, 512).texture
    column, row = torch.meshgrid(torch.arange(512), torch.arange(512), indexing="xy")
    torch.testing.assert_close(texture[..., 0], (column + 0.5) / 512, atol=0.1 / 512, rtol=0)
    torch.testing.assert_close(texture[..., 1], 1 - (row + 0.5) / 512, atol=0.1 / 512, rtol=0)


@pytest.mark.parametrize("size", [0, 511, 4097])
def test_bake_texture_refuses_sizes_out_of_range(size):
    with pytest.raises(InvalidInput, match="512"):
        bake_texture(_ball(2), _stripes, size)


def test_bake_texture_decimates_large_meshes_first():
    ball = _ball(5)
    assert len(bake_texture(ball, _stripes, 512, max_faces=1000).faces) <= 1000
    assert len(bake_texture(ball, _stripes, 512, max_faces=0).faces) == len(ball.faces)


def test_bake_vertex_colors_missing_xatlas_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "xatlas", None)
    with pytest.raises(EnvironmentProblem, match="pip install xatlas"):
        bake_vertex_colors(_ball(1), SMALL)


def test_texture_from_images_without_images_has_the_fields_colours():
    field = AnalyticField(lambda points: 0.5 - points.norm(dim=-1), lambda points: points + 0.5)
    mesh = extract_mesh(field, SurfaceSettings(resolution=32, colors=False))
    done = []
    painted = texture_from_images(
        mesh, [], TextureLayout(512, 400), field=field, progress=lambda *c: done.append(c[:2])
    )
    assert len(painted.faces) <= 400
    assert done[-1] == (3, 3)
    shown = texture_to_vertex_colors(painted).vertex_colors
    assert float((shown - (painted.vertices + 0.5)).abs().mean()) < 0.02
    assert len(texture_from_images(mesh, [], TextureLayout(512, 0), field=field).faces) == len(
        mesh.faces
    )
