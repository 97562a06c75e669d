"""From framed images to fields: Generate Views, Reconstruct, View Cameras, Render Orbit."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from comfy import model_management, utils
from comfy_api import latest
from server import PromptServer

from pipelines.cameras import cameras_around, zero123plus_cameras
from pipelines.errors import InvalidInput
from pipelines.image_to_3d import ImageTo3D
from pipelines.multiview.generation import generate_views
from pipelines.multiview.sampling import GeneratedViews
from pipelines.settings import Settings, SurfaceSettings, ViewSettings
from pipelines.weights.presets import MULTIVIEW_PRESETS

from ..tiny_models import VIEW_SIZE
from .inputs import SAMPLING, extracted, red_box


def test_graph_makes_the_mesh_that_the_library_makes(nodes, managed):
    size = 64
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    alpha = ((20 - ((x - 32) ** 2 + (y - 32) ** 2).sqrt()) / 8 + 0.5).clamp(0, 1)
    image = torch.cat([torch.zeros(3, size, size), alpha[None]])  # black, with a soft edge
    chain = ImageTo3D(managed[0].model, managed[1].model)
    expected = chain(
        image[None],
        Settings(views=ViewSettings(seed=3, **SAMPLING), surface=SurfaceSettings(resolution=32)),
    )
    cut = nodes.RemoveBackground.execute(image.permute(1, 2, 0)[None], "auto", 0.05)
    framed = nodes.FrameForeground.execute(*cut.args, 0.85, 512, "#ffffff")
    torch.testing.assert_close(
        framed[0].permute(0, 3, 1, 2), expected.photo.framed, atol=1e-5, rtol=0
    )
    views = nodes.GenerateViews.execute(managed[0], framed[0], 3, framed[1], **SAMPLING)
    torch.testing.assert_close(
        views[0].permute(0, 3, 1, 2), expected.views.images, atol=1e-3, rtol=0
    )
    triplanes = nodes.Reconstruct.execute(managed[1], views[0])
    (mesh,) = nodes.mesh_sockets.meshes_of(extracted(nodes, triplanes[0]))
    assert len(mesh.faces) == pytest.approx(len(expected.mesh.faces), rel=0.01)
    assert mesh.volume() == pytest.approx(expected.mesh.volume(), rel=1e-2)
    torch.testing.assert_close(
        mesh.vertices.amax(dim=0), expected.mesh.vertices.amax(dim=0), atol=5e-3, rtol=0
    )


def test_generate_views_on_grey_blends_the_soft_edge_once(managed, monkeypatch):
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
    image = torch.cat([red_box(64, 64), red_box(64, 64)])
    views, grid = nodes.GenerateViews.execute(managed[0], image, 2**64 - 1, **SAMPLING).args
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


def test_reconstruct_splits_views_by_the_number_per_object(nodes, managed):
    twelve = torch.rand(12, 32, 32, 3)
    assert len(nodes.Reconstruct.execute(managed[1], twelve)[0]) == 2
    assert len(nodes.Reconstruct.execute(managed[1], twelve, views_per_object="4")[0]) == 3
    assert (
        len(nodes.Reconstruct.execute(managed[1], twelve, zero123plus_cameras()[[0, 1, 2]])[0]) == 4
    )
    with pytest.raises(InvalidInput, match="6 views; 8 is not a multiple of that"):
        nodes.Reconstruct.execute(managed[1], twelve[:8])


def test_view_cameras_gives_one_camera_per_azimuth(nodes):
    cameras = nodes.ViewCameras.execute("0, 90", "10", 3.0, 40.0)[0]
    assert len(cameras) == 2
    assert float(cameras.c2w[0, 2, 3]) == pytest.approx(3 * np.sin(np.radians(10)))


def test_reconstruct_gives_an_image_model_one_image_at_a_time(nodes, monkeypatch):
    seen = []

    def field(images: torch.Tensor, cameras: None, masks: torch.Tensor) -> Any:
        seen.append((images, masks))
        return SimpleNamespace(to=lambda device: device)

    model = SimpleNamespace(
        model=SimpleNamespace(input_kind="image", field=field),
        load=lambda memory: torch.device("cpu"),
    )
    images, masks = torch.rand(2, 32, 32, 3), torch.ones(2, 32, 32)
    assert nodes.Reconstruct.execute(model, images, mask=masks)[0] == ["cpu", "cpu"]
    torch.testing.assert_close(seen[1][0], images[1:].permute(0, 3, 1, 2))
    assert seen[1][1].shape == (1, 1, 32, 32)
    with pytest.raises(InvalidInput, match="connect Frame Foreground's mask"):
        nodes.Reconstruct.execute(model, images)


def test_render_orbit_gives_frames_masks_and_depth(nodes, triplane):
    frames, masks, depth = nodes.RenderOrbit.execute(triplane, 2, 20.0, 4.0, 32).args
    assert frames.shape == depth.shape == (2, 32, 32, 3)
    assert masks.shape == (2, 32, 32)
    assert 0 < float(masks.mean()) < 1
    assert model_management.freed[-1] > 0


def test_render_orbit_stops_when_interrupted(nodes, triplane):
    model_management.interrupted = True
    with pytest.raises(model_management.InterruptProcessingException):
        nodes.RenderOrbit.execute(triplane, 2, 20.0, 4.0, 32)


@pytest.mark.parametrize("bare", [False, True])
def test_extract_mesh_reserves_memory_and_gives_linear_colours(nodes, triplane, monkeypatch, bare):
    if bare:
        monkeypatch.setattr(
            latest, "Types", SimpleNamespace(MESH=latest.BareMESH, File3D=latest.File3D)
        )
    mesh = extracted(nodes, triplane * 2)
    assert mesh.vertices.shape[0] == 2
    assert model_management.freed[-1] > 0
    colors = triplane[0].colors(nodes.mesh_sockets.meshes_of(mesh)[0].vertices, 65536).clamp(0, 1)
    torch.testing.assert_close(
        nodes.mesh_sockets.meshes_of(mesh)[0].vertex_colors, colors, atol=1e-4, rtol=0
    )
    assert float((mesh.vertex_colors[0, : len(colors)] - colors).abs().max()) > 0.05, (
        "what core gets is linear light"
    )
    assert extracted(nodes, triplane, keep_largest_part=False, colors=False).vertices.shape[0] == 1


def test_extract_mesh_reserves_more_memory_at_a_higher_resolution(nodes, triplane):
    for resolution in (32, 48):
        extracted(nodes, triplane, resolution, colors=False)
    assert model_management.freed[-1] > model_management.freed[-2]


def test_render_orbit_stops_within_a_frame(nodes, triplane, monkeypatch):
    calls = []

    def stop_at_the_third_call() -> None:
        calls.append(None)
        if len(calls) == 3:
            raise model_management.InterruptProcessingException

    monkeypatch.setattr(
        model_management, "throw_exception_if_processing_interrupted", stop_at_the_third_call
    )
    with pytest.raises(model_management.InterruptProcessingException):
        nodes.RenderOrbit.execute(triplane, 1, 20.0, 4.0, 128)
    assert not utils.bars[-1].steps, "stopped only after the first frame"


def test_fields_and_cameras_list_their_tensors_for_comfyuis_cache(triplane):
    assert sum(t.numel() for t in triplane[0]._comfy_cache_tensors()) > 1000
    assert len(zero123plus_cameras()._comfy_cache_tensors()) == 2


def test_reconstruct_of_an_image_model_notes_inputs_without_effect(nodes):
    model = SimpleNamespace(
        model=SimpleNamespace(input_kind="image", background=1.0, field=lambda *_: None),
        load=lambda memory: torch.device("cpu"),
    )
    with pytest.raises(InvalidInput, match="its mask"):
        nodes.Reconstruct.execute(model, torch.rand(1, 32, 32, 3), zero123plus_cameras())
    assert "no effect" in PromptServer.instance.texts[-1][1]
    PromptServer.instance.texts.clear()
    with pytest.raises(InvalidInput, match="its mask"):
        nodes.Reconstruct.execute(model, torch.rand(1, 32, 32, 3))
    assert not PromptServer.instance.texts


def test_free_cores_leaves_busy_cores_to_others(nodes, monkeypatch):
    monkeypatch.setattr(nodes.host, "busy_cores", lambda: 1.1)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with nodes.host.free_cores():
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def _side() -> torch.Tensor:
    """Return a photograph of a red box as IMAGE."""
    image = torch.ones(1, 40, 60, 3)
    image[:, 10:30, 20:40] = torch.tensor([0.8, 0.1, 0.1])
    return image


def _photographs(nodes, **sides):
    widgets = {"elevation": 0.0, "remove_bg": "plain", "foreground_ratio": 0.85}
    sampling = {"seed": 3, "steps": 1, "guidance": 4.0, "scheduler": "euler_ancestral"}
    return nodes.PhotographsOfOneObject.execute(**widgets, **sampling, **sides)


def test_photographs_of_all_sides_need_no_model(nodes):
    sides = dict.fromkeys(("front", "left", "back", "right"), _side())
    views, cameras = _photographs(nodes, **sides)
    assert views.shape == (4, 60, 60, 3)
    torch.testing.assert_close(
        cameras.c2w, cameras_around([0, 90, 180, 270], [0] * 4, 4.0, 30.0).c2w
    )


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ({}, "connect at least one side"),
        ({"front": _side(), "back": _side()}, "Some sides are missing"),
        ({"front": _side().repeat(2, 1, 1, 1)}, "front must be one image, got a batch of 2"),
    ],
    ids=["none", "missing", "batch"],
)
def test_photographs_that_are_not_enough_are_refused(nodes, sides, message):
    with pytest.raises(Exception, match=message):
        _photographs(nodes, **sides)
