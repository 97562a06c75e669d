"""Every node's schema and `execute`, and that a graph gives what the command line gives."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import folder_paths
import numpy as np
import pytest
import torch
import trimesh
from comfy import model_management, utils
from comfy_api import latest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from server import PromptServer

from pipelines.cameras import zero123plus_cameras
from pipelines.errors import EnvironmentProblem, InvalidInput
from pipelines.image_to_3d import ImageTo3D
from pipelines.images import background
from pipelines.images.framing import frame_foreground
from pipelines.meshes.color_transfer import texture_to_vertex_colors
from pipelines.meshes.io import FORMATS, load_mesh, save_mesh
from pipelines.meshes.material import Material
from pipelines.meshes.mesh import Mesh
from pipelines.multiview.generation import generate_views
from pipelines.multiview.sampling import GeneratedViews
from pipelines.settings import Settings, SurfaceSettings, ViewSettings
from pipelines.weights.presets import MULTIVIEW_PRESETS

from ..tiny_models import MODEL, VIEW_SIZE, VIEWS_MODEL

STEPS = 2


def _names(nodes: ModuleType) -> list[str]:
    return [node.__name__ for node in nodes.NODES]


def _image(height: int = 96, width: int = 128) -> torch.Tensor:
    """IMAGE of a red box on white."""
    image = torch.ones(1, height, width, 3)
    image[:, 20:70, 30:90] = torch.tensor([0.8, 0.1, 0.1])
    return image


def _mesh(colors: bool = True) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=2)
    vertices = torch.tensor(ball.vertices, dtype=torch.float32)
    return Mesh(vertices, torch.tensor(ball.faces), (vertices + 1) / 2 if colors else None)


@pytest.fixture(scope="session")
def managed(nodes: ModuleType, models_dir: Path) -> tuple[Any, Any]:
    """Both tiny models as the loader nodes give them."""
    folder_paths.add_model_folder_path("image_to_3d", str(models_dir))
    views = nodes.LoadMultiviewModel.execute(VIEWS_MODEL, "float32")[0]
    return views, nodes.LoadReconstructionModel.execute(MODEL, "float32")[0]


@pytest.fixture(scope="session")
def triplane(nodes: ModuleType, managed: tuple[Any, Any]) -> Any:
    image = _image().permute(0, 3, 1, 2)
    framed, _ = frame_foreground(image, (image[:, 1:2] < 0.5).float(), size=128)
    views = nodes.GenerateViews.execute(
        managed[0], framed.permute(0, 2, 3, 1), 1, STEPS, 2.0, "euler_ancestral"
    )[0]
    return nodes.Reconstruct.execute(managed[1], views)[0]


def test_the_extension_lists_all_nodes_and_offers_the_templates_images(nodes):
    listed = asyncio.run(nodes.ImageTo3DExtension().get_node_list())
    assert len(listed) == len(set(_names(nodes))) == 19
    for name in ("image-to-3d-cup.png", "image-to-3d-demo.png"):
        assert (Path(folder_paths.get_input_directory()) / name).exists()
    schemas = [node.define_schema() for node in listed]
    assert len({s.fields["node_id"] for s in schemas}) == len(listed)
    for node, schema in zip(listed, schemas, strict=True):
        parameters = inspect.signature(node.execute).parameters
        named = {port.id for port in schema.inputs}
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        assert parameters.keys() - {"cls", "values"} <= named
        assert takes_any or named <= parameters.keys()
        for port in schema.inputs:
            if port.options.get("optional") and port.id in parameters:
                assert parameters[port.id].default is not inspect.Parameter.empty, (
                    f"{node.__name__}.{port.id}"
                )


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_remove_background_leaves_white_around_and_the_soft_edge_in_the_mask(nodes, channels):
    image = (
        _image()[..., :channels]
        if channels < 4
        else torch.cat([_image(), torch.ones(1, 96, 128, 1)], dim=-1)
    )
    if channels == 1:
        image = _image()[..., 1:2]
    cut, mask = nodes.RemoveBackground.execute(image, "plain", 0.05).args
    assert cut.shape == (1, 96, 128, 3)
    assert float(mask[0, 40, 60]) == 1.0
    assert float(mask[0, 2, 2]) == 0.0
    torch.testing.assert_close(cut[0, 2, 2], torch.ones(3))
    torch.testing.assert_close(cut[0, 40, 60], image[0, 40, 60, :3].expand(3))
    assert utils.bars[-1].steps[-1][:2] == (1, 1)


def test_own_masks_are_cut_by_the_threshold_and_resized(nodes):
    own = torch.full((1, 48, 64), 0.5)
    own[:, :24] = 0.04
    cut, mask = nodes.RemoveBackground.execute(_image(), "auto", 0.05, own).args
    assert mask.shape == (1, 96, 128)
    assert float(mask[0, 10, 10]) == 0.0
    assert float(mask[0, 80, 10]) == 0.5
    assert cut.shape == (1, 96, 128, 3)
    with pytest.raises(InvalidInput, match="3 masks and 1 images"):
        nodes.RemoveBackground.execute(_image(), "auto", 0.05, own.expand(3, -1, -1))


@pytest.mark.parametrize("method", ["auto", "u2net"])
@pytest.mark.parametrize("place", ["rembg/u2net.onnx", "rembg/models/u2net/u2net.onnx"])
def test_a_background_model_in_a_second_folder_is_found(
    nodes, tmp_path, monkeypatch, method, place
):
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network")

    # rembg would fetch a damaged file anew, and wait a minute where nothing answers.
    monkeypatch.setattr("pooch.retrieve", no_network)
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    file.write_bytes(b"damaged")
    folder_paths.add_model_folder_path("rembg", str(tmp_path / "rembg"))
    assert nodes.host.background_dir(method) == tmp_path / "rembg"
    with pytest.raises(EnvironmentProblem) as caught:
        nodes.RemoveBackground.execute(torch.rand(1, 64, 64, 3), method, 0.05)
    assert str(file) in str(caught.value)


def test_no_background_model_stays_in_memory_after_the_node(nodes, monkeypatch):
    monkeypatch.setattr(
        background, "_model_mask", lambda rgb, *_: background._session("silueta", None, "cpu")
    )
    monkeypatch.setattr("rembg.new_session", lambda *_, **__: torch.ones(1, 64, 64))
    nodes.RemoveBackground.execute(torch.rand(1, 64, 64, 3), "silueta", 0.05)
    assert background._session.cache_info().currsize == 0


def test_frame_foreground(nodes):
    mask = (_image()[..., 1] < 0.5).float()
    framed, framed_mask = nodes.FrameForeground.execute(_image(), mask, 0.5, 64, "#00ff00").args
    assert framed.shape == (1, 64, 64, 3)
    assert framed_mask.shape == (1, 64, 64)
    torch.testing.assert_close(framed[0, 1, 1], torch.tensor([0.0, 1.0, 0.0]))
    assert int((framed_mask[0, 32] > 0.5).sum()) == pytest.approx(32, abs=1)


@st.composite
def _soft_images(draw: st.DrawFn) -> torch.Tensor:
    """(4, H, W) with straight alpha: a disc whose edge fades, of any darkness, on any colours."""
    size = draw(st.integers(48, 80))
    softness = draw(st.floats(0.5, 12.0))
    radius = draw(st.floats(0.2, 0.45)) * size
    darkness = draw(st.floats(0.0, 1.0))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    alpha = ((radius - ((x - size / 2) ** 2 + (y - size / 2) ** 2).sqrt()) / softness + 0.5).clamp(
        0, 1
    )
    rgb = torch.rand(3, size, size, generator=generator) * darkness
    return torch.cat([rgb, alpha[None]])


@settings(max_examples=15)
@given(image=_soft_images())
@pytest.mark.parametrize("method", ["auto", "alpha", "plain"])
def test_a_graph_frames_as_the_command_line_does(nodes, method, image):
    graph = nodes.RemoveBackground.execute(
        image.permute(1, 2, 0)[None], method, Settings().alpha_threshold
    )
    framed, framed_mask = nodes.FrameForeground.execute(*graph.args, 0.85, 512, "#ffffff").args
    masks = background.remove_background(image[None], method, threshold=Settings().alpha_threshold)
    expected, expected_mask = frame_foreground(image[None, :3], masks)
    torch.testing.assert_close(framed.permute(0, 3, 1, 2), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(framed_mask[:, None], expected_mask, atol=1e-5, rtol=0)


def test_a_graph_makes_the_mesh_that_the_command_line_makes(nodes, managed):
    size = 64
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    alpha = ((20 - ((x - 32) ** 2 + (y - 32) ** 2).sqrt()) / 8 + 0.5).clamp(0, 1)
    image = torch.cat([torch.zeros(3, size, size), alpha[None]])  # black, with a soft edge
    chain = ImageTo3D(managed[0].model, managed[1].model)
    expected = chain(
        image[None],
        Settings(
            views=ViewSettings(steps=STEPS, guidance=2.0, seed=3),
            surface=SurfaceSettings(resolution=32),
        ),
    )
    cut = nodes.RemoveBackground.execute(image.permute(1, 2, 0)[None], "auto", 0.05)
    framed = nodes.FrameForeground.execute(*cut.args, 0.85, 512, "#ffffff")
    torch.testing.assert_close(framed[0].permute(0, 3, 1, 2), expected.framed, atol=1e-5, rtol=0)
    views = nodes.GenerateViews.execute(
        managed[0], framed[0], 3, STEPS, 2.0, "euler_ancestral", framed[1]
    )
    torch.testing.assert_close(views[0].permute(0, 3, 1, 2), expected.views, atol=1e-3, rtol=0)
    triplanes = nodes.Reconstruct.execute(managed[1], views[0])
    (mesh,) = nodes.sockets.meshes_of(
        nodes.ExtractMesh.execute(triplanes[0], 32, 131072, 10.0, True, True)[0]
    )
    assert len(mesh.faces) == pytest.approx(len(expected.mesh.faces), rel=0.01)
    assert mesh.volume() == pytest.approx(expected.mesh.volume(), rel=1e-2)
    torch.testing.assert_close(
        mesh.vertices.amax(dim=0), expected.mesh.vertices.amax(dim=0), atol=5e-3, rtol=0
    )


def test_a_model_that_draws_on_grey_sees_the_soft_edge_once(managed, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "pipelines.multiview.generation.sample_views",
        lambda model, image, *_, **__: (
            seen.append(image) or GeneratedViews(torch.ones(6, 3, 8, 8), 1)
        ),
    )
    grey = replace(managed[0].model, background=MULTIVIEW_PRESETS["zero123plus"].background)
    color, alpha = torch.full((1, 3, 4, 4), 0.2), torch.linspace(0, 1, 16).view(1, 1, 4, 4)
    generate_views(grey, color * alpha + 1 - alpha, alpha)
    torch.testing.assert_close(seen[0], color * alpha + grey.background * (1 - alpha))


def test_generate_views_gives_six_views_and_their_grid(nodes, managed):
    image = torch.cat([_image(64, 64), _image(64, 64)])
    views, grid = nodes.GenerateViews.execute(
        managed[0], image, 2**64 - 1, STEPS, 2.0, "euler_ancestral"
    ).args
    assert views.shape == (12, VIEW_SIZE, VIEW_SIZE, 3)
    side = VIEW_SIZE
    assert grid.shape == (2, 3 * side, 2 * side, 3)
    for i, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]):
        torch.testing.assert_close(
            grid[1, row * side : (row + 1) * side, column * side : (column + 1) * side],
            views[6 + i],
        )
    assert not torch.equal(views[:6], views[6:]), "the second image has the next seed"
    assert model_management.loaded[-1] is managed[0].patcher


def test_the_number_of_views_is_never_guessed(nodes, managed):
    twelve = torch.rand(12, 32, 32, 3)
    assert len(nodes.Reconstruct.execute(managed[1], twelve)[0]) == 2
    assert len(nodes.Reconstruct.execute(managed[1], twelve, views_per_object="4")[0]) == 3
    assert (
        len(nodes.Reconstruct.execute(managed[1], twelve, zero123plus_cameras()[[0, 1, 2]])[0]) == 4
    )
    with pytest.raises(InvalidInput, match="6 views; 8 views do not come out even"):
        nodes.Reconstruct.execute(managed[1], twelve[:8])


def test_view_cameras(nodes):
    cameras = nodes.ViewCameras.execute("0, 90", "10", 3.0, 40.0)[0]
    assert len(cameras) == 2
    assert float(cameras.c2w[0, 2, 3]) == pytest.approx(3 * np.sin(np.radians(10)))


@pytest.mark.parametrize("bare", [False, True])
def test_extract_mesh_asks_for_memory_and_gives_linear_colours(nodes, triplane, monkeypatch, bare):
    if bare:
        monkeypatch.setattr(
            latest, "Types", SimpleNamespace(MESH=latest.BareMESH, File3D=latest.File3D)
        )
    mesh = nodes.ExtractMesh.execute(triplane * 2, 32, 131072, 10.0, True, True)[0]
    assert mesh.vertices.shape[0] == 2
    assert model_management.freed[-1] > 0
    colors = triplane[0].colors(nodes.sockets.meshes_of(mesh)[0].vertices, 65536).clamp(0, 1)
    torch.testing.assert_close(
        nodes.sockets.meshes_of(mesh)[0].vertex_colors, colors, atol=1e-4, rtol=0
    )
    assert float((mesh.vertex_colors[0, : len(colors)] - colors).abs().max()) > 0.05, (
        "what core gets is linear light"
    )
    assert (
        nodes.ExtractMesh.execute(triplane, 32, 131072, 10.0, False, False)[0].vertices.shape[0]
        == 1
    )


def test_extract_mesh_asks_for_more_memory_at_a_higher_resolution(nodes, triplane):
    for resolution in (32, 48):
        nodes.ExtractMesh.execute(triplane, resolution, 131072, 10.0, True, False)
    assert model_management.freed[-1] > model_management.freed[-2]


def test_render_orbit(nodes, triplane):
    frames, masks, depth = nodes.RenderOrbit.execute(triplane, 2, 20.0, 4.0, 32).args
    assert frames.shape == depth.shape == (2, 32, 32, 3)
    assert masks.shape == (2, 32, 32)
    assert 0 < float(masks.mean()) < 1
    assert model_management.freed[-1] > 0


def test_a_stop_reaches_the_work(nodes, triplane):
    model_management.interrupted = True
    with pytest.raises(model_management.InterruptProcessingException):
        nodes.RenderOrbit.execute(triplane, 2, 20.0, 4.0, 32)


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("textured", [False, True])
def test_meshes_come_back_from_the_socket_as_they_went_in(nodes, monkeypatch, bare, textured):
    if bare:
        monkeypatch.setattr(
            latest, "Types", SimpleNamespace(MESH=latest.BareMESH, File3D=latest.File3D)
        )
    one, two = _mesh(), replace(_mesh(), faces=_mesh().faces[:7])
    if textured:
        one, two = (
            replace(
                m, vertex_colors=None, uvs=m.vertices[:, :2] / 2 + 0.5, texture=torch.rand(8, 6, 3)
            )
            for m in (one, two)
        )
    back = nodes.sockets.meshes_of(nodes.sockets.mesh_socket([one, two]))
    for mesh, own in zip(back, (one, two), strict=True):
        assert torch.equal(mesh.faces, own.faces)
        torch.testing.assert_close(mesh.vertices, own.vertices)
        for name in ("vertex_colors", "uvs", "texture"):
            a, b = getattr(mesh, name), getattr(own, name)
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b, atol=2e-4, rtol=0)


@pytest.mark.parametrize("bare", [False, True])
def test_the_whole_of_a_mesh_goes_in_and_out(nodes, monkeypatch, bare):
    if bare:
        monkeypatch.setattr(
            latest, "Types", SimpleNamespace(MESH=latest.BareMESH, File3D=latest.File3D)
        )
    count = len(_mesh().vertices)
    normals = torch.nn.functional.normalize(torch.rand(count, 3), dim=1)
    whole = replace(
        _mesh(),
        uvs=torch.rand(count, 2),
        texture=torch.rand(8, 6, 3),
        normals=normals,
        tangents=torch.cat([normals.roll(1, dims=1), -torch.ones(count, 1)], dim=1),
        vertex_alpha=torch.rand(count),
        material=Material(
            torch.rand(4, 4, 3),
            torch.rand(4, 4, 3),
            torch.rand(4, 4, 3),
            occlusion_in_mr=True,
            factors={"metallic_factor": 0.5, "of_some_later_version": [1, 2]},
        ),
    )
    short = replace(whole, faces=whole.faces[:7])
    back = nodes.sockets.meshes_of(nodes.sockets.mesh_socket([whole, short]))
    for mesh, own in zip(back, (whole, short), strict=True):
        for name in ("vertices", "faces", "uvs", "texture", "normals", "tangents", "vertex_alpha"):
            torch.testing.assert_close(getattr(mesh, name), getattr(own, name), msg=name)
        for name, image in own.material.images.items():
            torch.testing.assert_close(mesh.material.images[name], image)
        assert mesh.material.occlusion_in_mr
        assert mesh.material.factors == own.material.factors


def test_batches_of_meshes_with_other_materials(nodes, caplog):
    unlit = replace(_mesh(), material=Material(unlit=True, factors={"metallic_factor": 1.0}))
    socket = nodes.sockets.mesh_socket([unlit, _mesh()])
    assert (socket.unlit, getattr(socket, "material", None)) == (False, None)
    assert "their numbers are left out" in caplog.text
    (back,) = nodes.sockets.meshes_of(nodes.sockets.mesh_socket([unlit]))
    assert back.material.unlit
    uvs = torch.rand(len(_mesh().vertices), 2)
    glowing = replace(_mesh(), uvs=uvs, material=Material(emissive=torch.rand(4, 4, 3)))
    socket = nodes.sockets.mesh_socket([glowing, replace(_mesh(), uvs=uvs)])
    assert float(socket.emissive[1].abs().max()) == 0


def test_batches_as_lists_and_meshes_without_a_batch(nodes):
    """As core's TRELLIS nodes make them."""
    one = _mesh()
    core = latest.Types.MESH(
        [one.vertices, one.vertices[:3]], [one.faces, torch.tensor([[0, 1, 2]])]
    )
    core.vertex_colors = [torch.rand(len(one.vertices), 4), torch.rand(3, 4)]
    first, second = nodes.sockets.meshes_of(core)
    assert (len(first.vertices), len(second.vertices), len(second.faces)) == (
        len(one.vertices),
        3,
        1,
    )
    torch.testing.assert_close(second.vertex_alpha, core.vertex_colors[1][:, 3])
    single = latest.Types.MESH(one.vertices, one.faces)
    single.vertex_colors = torch.rand(len(one.vertices), 3)
    assert len(nodes.sockets.meshes_of(single)[0].faces) == len(one.faces)
    core.vertex_colors = core.vertex_colors[:1]
    with pytest.raises(InvalidInput, match="2 meshes and 1 of vertex_colors"):
        nodes.sockets.meshes_of(core)


def test_files_of_cores_3d_nodes_are_read(nodes, tmp_path):
    path, bare = tmp_path / "ball.glb", tmp_path / "upload"
    save_mesh(_mesh(), path)
    shutil.copy(path, bare)
    for file in (
        latest.File3D(str(path)),
        latest.File3D(str(bare), "glb"),
        latest.File3D(BytesIO(path.read_bytes()), "glb"),
    ):
        (back,) = nodes.sockets.meshes_of(nodes.LoadMesh.execute("", file)[0])
        torch.testing.assert_close(back.vertices, _mesh().vertices)
    with pytest.raises(InvalidInput, match="The format of a mesh file must be obj"):
        nodes.LoadMesh.execute("", latest.File3D(BytesIO(b"x"), "fbx"))


def test_make_solid_and_what_a_format_does_not_hold(nodes, tmp_path, monkeypatch):
    pytest.importorskip("igl")
    ball = trimesh.creation.icosphere(3)
    inner = trimesh.creation.icosphere(3, 0.9)
    shell = trimesh.util.concatenate([ball, inner])
    mesh = Mesh(
        torch.tensor(shell.vertices).float(),
        torch.tensor(shell.faces),
        torch.ones(len(shell.vertices), 3),
    )
    socket, text = nodes.MakeSolid.execute(nodes.sockets.mesh_socket([mesh]), 64, 4000)[:2]
    assert text.splitlines()[0].startswith("before: 2,560 triangles, 1,284 vertices, 2 part(s)")
    assert "one closed body" in text.splitlines()[1]
    (solid,) = nodes.sockets.meshes_of(socket)
    assert len(solid.faces) <= 4000
    assert solid.volume() == pytest.approx(ball.volume, rel=0.03)
    shown = []
    monkeypatch.setattr(nodes.host, "show_on_node", lambda node, text: shown.append(text))
    nodes.SaveMesh.execute(socket, "solid", "stl", "z", 80.0, "bottom")
    assert shown == ["STL cannot store the colours: save a GLB to keep everything."]
    nodes.SaveMesh.execute(socket, "solid", "3mf", "z", 80.0, "bottom")
    assert len(shown) == 1


def test_cleaning_says_what_it_leaves_out(nodes):
    count = len(_mesh().vertices)
    mesh = replace(
        _mesh(), uvs=torch.rand(count, 2), material=Material(normal_map=torch.rand(4, 4, 3))
    )
    text = nodes.CleanMesh.execute(nodes.sockets.mesh_socket([mesh]), 0.0, 0, 0, 0, False)[1]
    assert text.splitlines()[-1] == "left out: normal_map, which lay on its uvs"


def test_what_core_gets_is_y_up_with_v_from_the_top_and_light_that_is_linear(nodes):
    mesh = Mesh(
        torch.tensor([[1.0, 2, 3], [1, 0, 0], [0, 1, 0]]),
        torch.tensor([[0, 1, 2]]),
        torch.full((3, 3), 0.5),
    )
    core = nodes.sockets.mesh_socket([mesh])
    assert core.vertices[0, 0].tolist() == [2, 3, 1]
    assert float(core.vertex_colors[0, 0, 0]) == pytest.approx(0.21404, abs=1e-4)
    core = nodes.sockets.mesh_socket(
        [
            Mesh(
                mesh.vertices,
                mesh.faces,
                uvs=torch.tensor([[0.25, 0.9]] * 3),
                texture=torch.rand(4, 4, 3),
            )
        ]
    )
    assert core.uvs[0, 0].tolist() == pytest.approx([0.25, 0.1])


def test_a_batch_of_textured_and_plain_meshes_keeps_the_colours_of_both(nodes):
    textured = replace(
        _mesh(False),
        uvs=torch.full((len(_mesh().vertices), 2), 0.5),
        texture=torch.full((4, 4, 3), 0.25),
    )
    first, second = nodes.sockets.meshes_of(nodes.sockets.mesh_socket([textured, _mesh()]))
    torch.testing.assert_close(
        first.vertex_colors, torch.full_like(first.vertices, 0.25), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(second.vertex_colors, _mesh().vertex_colors, atol=1e-4, rtol=0)


def test_textures_of_different_sizes_make_a_batch(nodes):
    textured = [
        replace(
            _mesh(False), uvs=torch.full((162, 2), 0.5), texture=torch.full((side, side, 3), 0.25)
        )
        for side in (4, 9)
    ]
    assert nodes.sockets.mesh_socket(textured).texture.shape == (2, 9, 9, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vertices": torch.full((1, 3, 3), float("nan"))}, "not finite"),
        ({"vertices": torch.full((1, 3, 3), 1e30)}, "absurdly large"),
        ({"faces": torch.zeros(1, 0, 3, dtype=torch.long)}, "no triangles"),
        ({"faces": torch.full((1, 1, 3), 9)}, "must name"),
    ],
)
def test_broken_meshes_are_refused_at_the_socket(nodes, change, said):
    fields = {"vertices": torch.rand(1, 3, 3), "faces": torch.tensor([[[0, 1, 2]]])} | change
    with pytest.raises(InvalidInput, match=said):
        nodes.MeshInfo.execute(latest.BareMESH(**fields))


def test_clean_mesh_reports_before_and_after(nodes):
    socket = nodes.sockets.mesh_socket([_mesh()])
    cleaned, text = nodes.CleanMesh.execute(socket, 0.05, 32, 0, 100, False).args
    assert len(nodes.sockets.meshes_of(cleaned)[0].faces) <= 100
    assert text.splitlines()[0].startswith("before: 320 triangles")
    assert PromptServer.instance.texts[-1] == ("1", text)


def test_texture_mesh_and_bake_vertex_colors(nodes, triplane):
    pytest.importorskip("xatlas")
    mesh = nodes.ExtractMesh.execute(triplane, 32, 131072, 10.0, True, True)[0]
    own = nodes.sockets.meshes_of(mesh)[0]
    for textured in (
        nodes.TextureMesh.execute(mesh, triplane, 512, 500)[0],
        nodes.BakeVertexColors.execute(mesh, 512, 500)[0],
    ):
        (painted,) = nodes.sockets.meshes_of(textured)
        assert painted.texture.shape == (512, 512, 3)
        assert len(painted.faces) <= 500
        found = texture_to_vertex_colors(painted).vertex_colors.mean(dim=0)
        wanted = own.vertex_colors.mean(dim=0)
        torch.testing.assert_close(found, wanted, atol=0.15, rtol=0)
    with pytest.raises(InvalidInput, match="one triplane for each mesh"):
        nodes.TextureMesh.execute(mesh, triplane * 2, 512, 500)


def test_texture_mesh_paints_with_images_and_apply_texture_with_another(nodes):
    pytest.importorskip("xatlas")
    mesh = nodes.sockets.mesh_socket([_mesh()])
    green = torch.tensor([0.2, 0.7, 0.3])
    views = green.expand(6, 64, 64, 3)
    textured, texture = nodes.TextureMesh.execute(mesh, None, 512, 500, views=views).args
    (painted,) = nodes.sockets.meshes_of(textured)
    assert texture.shape == (1, 512, 512, 3)
    torch.testing.assert_close(texture[0], painted.texture)
    torch.testing.assert_close(texture, green.expand_as(texture), atol=1e-3, rtol=0)
    again = nodes.ApplyTexture.execute(textured, torch.zeros(1, 64, 32, 3))[0]
    (black,) = nodes.sockets.meshes_of(again)
    assert black.texture.shape == (64, 32, 3)
    torch.testing.assert_close(black.uvs, painted.uvs)
    torch.testing.assert_close(black.vertices, painted.vertices)


def test_texture_mesh_leaves_out_a_photograph_of_something_else(nodes, triplane):
    pytest.importorskip("xatlas")
    mesh = nodes.sockets.mesh_socket([_mesh()])
    strip = torch.zeros(1, 64, 64)
    strip[:, :, 30:33] = 1
    red = torch.tensor([1.0, 0, 0]).expand(1, 64, 64, 3)
    without = nodes.TextureMesh.execute(mesh, triplane, 512, 500).args[1]
    with_it = nodes.TextureMesh.execute(mesh, triplane, 512, 500, photograph=red, mask=strip)
    torch.testing.assert_close(with_it.args[1], without)
    assert "left out of the texture" in PromptServer.instance.texts[-1][1]
    ball = (torch.linspace(-1, 1, 64)[:, None] ** 2 + torch.linspace(-1, 1, 64) ** 2 < 0.7).float()
    nodes.TextureMesh.execute(mesh, triplane, 512, 500, photograph=red, mask=ball[None])
    assert "degrees above" in PromptServer.instance.texts[-1][1]


def test_texture_mesh_says_what_images_it_wants(nodes):
    mesh = nodes.sockets.mesh_socket([_mesh()])
    one = torch.ones(1, 8, 8, 3)
    for images, says in (
        ({}, "nothing to paint with"),
        ({"views": one}, "6 views for each mesh"),
        ({"photograph": one}, "needs its mask"),
        ({"photograph": one.expand(2, -1, -1, -1), "mask": torch.ones(1, 8, 8)}, "one photograph"),
        ({"photograph": one, "mask": torch.zeros(1, 8, 8)}, "no object"),
    ):
        with pytest.raises(InvalidInput, match=says):
            nodes.TextureMesh.execute(mesh, None, 512, 500, **images)
    with pytest.raises(InvalidInput, match="no uvs"):
        nodes.ApplyTexture.execute(mesh, one)


def test_render_mesh_goes_once_around(nodes):
    images = nodes.RenderMesh.execute(nodes.sockets.mesh_socket([_mesh()]), 3, 10.0, 32)[0]
    assert images.shape == (3, 32, 32, 3)
    assert float(images.amin()) < 0.9


@pytest.mark.parametrize("suffix", FORMATS)
def test_save_mesh_writes_numbered_files_that_load_mesh_reads(nodes, suffix):
    socket = nodes.sockets.mesh_socket([_mesh(), _mesh()])
    path, file = nodes.SaveMesh.execute(socket, "3d/ball", suffix, "z", 80.0, "bottom", 0.0).args
    assert path == f"3d/ball_00001_.{suffix}"
    assert Path(file.source).exists()
    assert (
        nodes.SaveMesh.execute(socket, "3d/ball", suffix, "y").ui["3d"][0]["filename"]
        == f"ball_00003_.{suffix}"
    )
    (back,) = nodes.sockets.meshes_of(nodes.LoadMesh.execute(path)[0])
    assert back.vertices.amin(dim=0)[2] == pytest.approx(0.0, abs=1e-4), (
        "upright again, though it was saved z up"
    )
    assert float(back.vertices[:, 2].max()) == pytest.approx(80.0, abs=1.0)


def test_save_mesh_keeps_the_graph_unless_told_not_to(nodes, monkeypatch):
    socket = nodes.sockets.mesh_socket([_mesh()])
    path = nodes.SaveMesh.execute(socket, "a", "obj", "y")[0]
    text = (Path(folder_paths.get_output_directory()) / path).read_text()
    assert text.startswith('# prompt: {"1": {}}\n# workflow: {"nodes": []}\n')
    monkeypatch.setattr(nodes.host.args, "disable_metadata", True)
    path = nodes.SaveMesh.execute(socket, "a", "obj", "y")[0]
    assert (Path(folder_paths.get_output_directory()) / path).read_text().startswith("v ")


@pytest.mark.parametrize(
    "name", ["../mesh.obj", "none.obj", "a\0b.obj", "x" * 5000 + ".obj", "x/" * 3000 + "a.obj"]
)
def test_odd_names_are_one_sentence(nodes, name):
    with pytest.raises(InvalidInput, match=r"There is no file|leads outside"):
        nodes.LoadMesh.execute(name)
    assert nodes.LoadMesh.fingerprint_inputs(name) == name


@pytest.mark.parametrize("prefix", ["../out", "a\0b", "x/" + "y" * 5000])
def test_odd_prefixes_are_one_sentence(nodes, prefix):
    with pytest.raises(
        (InvalidInput, EnvironmentProblem),
        match=r"leads outside|none that a file can have|cannot be written",
    ):
        nodes.SaveMesh.execute(nodes.sockets.mesh_socket([_mesh()]), prefix, "obj", "y")


def test_load_mesh_sees_changes_of_material_and_image(nodes):
    folder = Path(folder_paths.get_input_directory())
    textured = replace(
        _mesh(False), uvs=torch.full((162, 2), 0.5), texture=torch.full((8, 8, 3), 0.25)
    )
    save_mesh(textured, folder / "ball.obj")
    before = nodes.LoadMesh.fingerprint_inputs("ball.obj")
    assert before == nodes.LoadMesh.fingerprint_inputs("ball.obj")
    for name in ("ball.png", "ball.mtl", "ball.obj"):
        os.utime(folder / name, (0, 0))
        after = nodes.LoadMesh.fingerprint_inputs("ball.obj")
        assert after != before, name
        before = after
    Image.new("RGB", (8, 8), "red").save(folder / "ball.png")
    (back,) = nodes.sockets.meshes_of(nodes.LoadMesh.execute("ball.obj")[0])
    torch.testing.assert_close(back.texture[0, 0], torch.tensor([1.0, 0.0, 0.0]))


def test_the_modelslab_node_gives_mesh_paths_and_meta(nodes, monkeypatch):
    async def made(
        client: Any, images: Any, values: Any, stems: list[Path], **more: Any
    ) -> list[Any]:
        assert client == "client"
        assert values["resolution"] == 256
        assert images[0].size == (128, 96)
        assert more["pay_again"] is False
        path = stems[0].with_name(f"{stems[0].name}-7.obj")
        save_mesh(_mesh(), path)
        return [
            SimpleNamespace(
                path=path,
                mesh=load_mesh(path),
                video=None,
                job_id="7",
                seed=1,
                generation_seconds=2.0,
                links=["a"],
                meta={"prompt": "x", "job_id": "another"},
            )
        ]

    monkeypatch.setattr("pipelines.modelslab.client.images_to_3d", made)
    monkeypatch.setattr(nodes.host, "modelslab_client", lambda server: "client")
    out = asyncio.run(
        nodes.ModelsLabImageTo3D.execute(_image(), "", "3d/modelslab", resolution=256)
    )
    assert out[1] == "3d/modelslab_00001-7.obj"
    assert out[2] == ""
    assert json.loads(out[3])[0]["job_id"] == "7"
    assert out[4].message == "There is no video."
    assert load_mesh(Path(folder_paths.get_output_directory()) / out[1]).volume() > 0


def test_a_missing_package_is_named(nodes):
    @nodes.host.explained
    def execute() -> None:
        import a_package_that_is_not_there  # noqa: F401

    with pytest.raises(EnvironmentProblem, match="'a_package_that_is_not_there' is missing"):
        execute()


def test_the_entry_point_gives_the_extension():
    import sys

    extension = asyncio.run(sys.modules["image_to_3d_pack"].comfy_entrypoint())
    assert type(extension).__name__ == "ImageTo3DExtension"


def test_reconstruct_takes_one_framed_image_of_each_object(nodes, monkeypatch):
    seen = []

    def field(image: torch.Tensor, mask: torch.Tensor) -> Any:
        seen.append((image, mask))
        return SimpleNamespace(to=lambda device: device)

    model = SimpleNamespace(
        model=SimpleNamespace(sees="picture", background=1.0, field=field),
        load=lambda memory: torch.device("cpu"),
    )
    images, masks = torch.rand(2, 32, 32, 3), torch.ones(2, 32, 32)
    assert nodes.Reconstruct.execute(model, images, mask=masks)[0] == ["cpu", "cpu"]
    torch.testing.assert_close(seen[1][0], images[1:].permute(0, 3, 1, 2))
    assert seen[1][1].shape == (1, 1, 32, 32)
    with pytest.raises(InvalidInput, match="connect Frame Foreground's mask"):
        nodes.Reconstruct.execute(model, images)
