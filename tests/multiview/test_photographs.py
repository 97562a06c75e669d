"""Several photographs of one object: their scale, their cameras and the views between them."""

from __future__ import annotations

import pytest
import torch
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from pipelines.cameras import ZERO123PLUS_AZIMUTHS_DEG, cameras_around
from pipelines.errors import InvalidInput
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.projection import PosedImages
from pipelines.multiview import photographs as module
from pipelines.multiview.photographs import (
    Photographs,
    Viewpoints,
    complete,
    frame_photographs,
    missing_views,
    scale_of,
)
from pipelines.multiview.sampling import GeneratedViews
from pipelines.rendering.render_mesh import render_mesh
from pipelines.settings import Settings, ViewSettings

from ..shapes import to_mesh

SIZE = 96


def _object(side: float = 1.4) -> Mesh:
    """Return a sofa of a given longest side, centred at the origin; all its sides differ."""
    bounds = [((-0.3, -0.6, -0.5), (0.4, 0.6, 0.1)), ((-0.4, -0.6, -0.5), (-0.1, 0.3, 0.6))]
    mesh = to_mesh(trimesh.util.concatenate([trimesh.creation.box(bounds=b) for b in bounds]))
    low, high = mesh.vertices.amin(dim=0), mesh.vertices.amax(dim=0)
    vertices = (mesh.vertices - (low + high) / 2) * side / float((high - low).max())
    return Mesh(vertices, mesh.faces, mesh.vertex_colors)


def _photographs(azimuths, elevation=0.0) -> Photographs:
    """Return photographs of the object with different lenses and sizes, framed together."""
    images = [
        render_mesh(
            _object(), cameras_around([azimuth], [elevation], 4.0, 30.0 + 5 * i), SIZE + 12 * i
        )
        for i, azimuth in enumerate(azimuths)
    ]
    viewpoints = Viewpoints(tuple(azimuths), elevation)
    return frame_photographs(images, viewpoints, Settings(remove_bg="plain"))


def _silhouettes(posed: PosedImages) -> torch.Tensor:
    return posed.images.amin(dim=1) < 0.99


def _iou(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    both, any_of = (one & other).flatten(1).sum(1), (one | other).flatten(1).sum(1)
    return both / any_of


def _directions(azimuths) -> list[float]:
    """Return the azimuths of the photographs and of the views that are generated from them."""
    return [*azimuths] + [
        azimuths[own] + ZERO123PLUS_AZIMUTHS_DEG[view]
        for own, views in enumerate(missing_views(azimuths))
        for view in views
    ]


@pytest.mark.parametrize(
    ("azimuths", "missing"),
    [
        ([0], [[0, 1, 2, 3, 4, 5]]),
        ([0, 90], [[4], [1]]),
        ([0, 180], [[1, 4], []]),
        ([0, 90, 180], [[4], [], []]),
        ([0, 90, 180, 270], [[], [], [], []]),
    ],
    ids=str,
)
def test_missing_views_of_named_sides_leave_four_sides(azimuths, missing):
    assert missing_views(azimuths) == missing
    if len(azimuths) > 1:
        assert sorted(a % 360 for a in _directions(azimuths)) == [0, 90, 180, 270]


@given(st.lists(st.floats(0, 359), min_size=2, max_size=5))
def test_missing_views_leave_no_side_unseen(azimuths):
    directions = _directions(azimuths)
    for azimuth in range(0, 360, 5):
        assert min(abs((azimuth - d + 180) % 360 - 180) for d in directions) <= 75


@pytest.mark.parametrize(("elevation", "least"), [(0.0, 0.82), (25.0, 0.75)])
def test_frame_photographs_with_different_lenses_agree_with_their_cameras(elevation, least):
    """Allow for perspective: the centre of a silhouette is not that of the object."""
    framed = _photographs([0, 90, 180, 270], elevation)
    overlaps = [
        _iou(framed.masks[:, 0] > 0.5, rendered.amin(dim=1) < 0.99)
        for rendered in (
            render_mesh(_object(side), framed.viewpoints.cameras, framed.images.shape[-1])
            for side in (1.5, 1.55, 1.6, 1.65, 1.7)
        )
    ]
    assert max(float(overlap.min()) for overlap in overlaps) > least


@pytest.mark.parametrize("side", [1.2, 1.5, 1.8])
def test_scale_of_finds_the_scale_of_the_views(side):
    framed = _photographs([0, 90], 10.0)
    cameras = module._turned(0.0)
    factor = scale_of(framed, PosedImages(render_mesh(_object(side), cameras, SIZE), cameras))
    seen = render_mesh(_object(side), framed.viewpoints.cameras, framed.images.shape[-1])
    heights = [
        float(m.any(dim=1).sum()) for m in (seen[0].amin(dim=0) < 0.99, framed.masks[0, 0] > 0.5)
    ]
    assert factor == pytest.approx(heights[0] / heights[1], rel=0.06)


def test_scale_of_a_flat_object_from_the_side_is_that_of_its_width():
    """Views from above and below give only a loose bound of a tray's thickness."""
    tray = to_mesh(trimesh.creation.box(extents=(1.4, 1.0, 0.05)))
    viewpoints, cameras = Viewpoints((0.0, 90.0)), module._turned(0.0)
    seen = render_mesh(tray, viewpoints.cameras, SIZE)
    photographs = frame_photographs(seen.split(1), viewpoints, Settings(remove_bg="plain"))
    factor = scale_of(photographs, PosedImages(render_mesh(tray, cameras, SIZE), cameras))
    widths = [
        int((m > 0.5).any(dim=0).sum())
        for m in (seen[0].amin(dim=0) < 0.99, photographs.masks[0, 0])
    ]
    assert factor == pytest.approx(widths[0] / widths[1], rel=0.06)


def test_scale_of_views_without_an_object_is_one(caplog):
    views = PosedImages(torch.ones(6, 3, 32, 32), module._turned(0.0))
    assert scale_of(_photographs([0, 90]), views) == 1.0
    assert "keep their scale" in caplog.text


def test_complete_places_photographs_and_generated_views_at_one_scale(monkeypatch):
    """The returned views match renderings of the generated object by their cameras."""
    azimuths, made = [0.0, 90.0], []

    def generate(model, image, mask, settings, *, progress):
        assert image.shape[0] == mask.shape[0] == 1
        made.append(settings.seed)
        cameras = module._turned(azimuths[len(made) - 1])
        return GeneratedViews(render_mesh(_object(1.6), cameras, SIZE), settings.seed)

    monkeypatch.setattr(module, "generate_views", generate)
    views, photographs, seed = complete(None, _photographs(azimuths), ViewSettings(seed=5))
    assert (made, seed, len(views.images)) == ([5, 6], 5, 4)
    rendered = render_mesh(_object(1.6), views.cameras, SIZE)
    overlap = _iou(_silhouettes(views), rendered.amin(dim=1) < 0.99)
    assert overlap[2:].min() == 1
    assert overlap[:2].min() > 0.8
    assert photographs.foreground_ratio != 0.85


def test_complete_of_one_photograph_returns_its_six_views(monkeypatch):
    cameras = module._turned(90.0)
    rendered = render_mesh(_object(), cameras, SIZE)
    monkeypatch.setattr(module, "generate_views", lambda *_, **__: GeneratedViews(rendered, 5))
    views, _, _ = complete(None, _photographs([90.0]), ViewSettings(seed=5))
    torch.testing.assert_close(views.images, rendered)
    torch.testing.assert_close(views.cameras.c2w, cameras.c2w)


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ([0, 360], "from different sides, got azimuths 0 and 360"),
        (["front", "left", "88"], "azimuths 90 and 88"),
        ([0, "nan"], "from different sides"),
        (["top"], "must be front, left, back, right or an azimuth in degrees: .* 'top'"),
    ],
    ids=str,
)
def test_viewpoints_of_invalid_sides_are_refused(sides, message):
    with pytest.raises(InvalidInput, match=message):
        Viewpoints.of(sides, Settings())


def test_viewpoints_of_names_and_degrees_are_azimuths():
    found = Viewpoints.of(["front", "left", -30, "180.5"], Settings(elevation=10))
    assert found == Viewpoints((0.0, 90.0, -30.0, 180.5), 10.0)


def test_frame_photographs_without_a_direction_for_each_is_refused():
    with pytest.raises(InvalidInput, match="got 2 photographs and 1 directions"):
        frame_photographs([torch.ones(1, 3, 8, 8)] * 2, Viewpoints((0.0,)), Settings())
