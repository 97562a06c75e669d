from __future__ import annotations

import itertools

import numpy as np
import pytest
import trimesh

from training.objects import Counts, Objects, deformed, is_held_out, joined, write_object_file
from training.procedural import KINDS, make_procedural_object

from .conftest import soup_of


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """45 and 25 boxes, as two files of collected objects."""
    folder = tmp_path_factory.mktemp("objects")
    for prefix, count in (("old", 45), ("new", 25)):
        boxes = [
            (f"box {i}", soup_of(trimesh.creation.box([1, 0.9, 0.01 * (i + 2)])))
            for i in range(count)
        ]
        write_object_file(folder / f"objects_{prefix}.npz", boxes)
    return Objects([folder / "objects_old.npz", folder / "objects_new.npz"])


def test_objects_are_read_from_their_packed_form(objects):
    soup = objects.make("new-00007")
    assert np.ptp(soup.vertices, axis=0) == pytest.approx([1, 0.9, 0.09], abs=2e-4)
    assert trimesh.Trimesh(soup.vertices, soup.faces).is_watertight
    assert (soup.colors == 200).all()


def test_held_out_objects_are_counted_within_each_file(objects):
    held_out = [name for name in objects.names(Counts(1, 3, 2, 1)) if is_held_out(name)]
    assert held_out == ["old-00000", "old-00020", "old-00040", "new-00000", "new-00020"]


def test_training_uses_no_held_out_objects(objects):
    names = objects.names(Counts(2, 50, 0, 0))
    sources = {tuple(name.split("-")[:2]) for name in names if "deformed" in name}
    assert not any(is_held_out("-".join(source)) for source in sources)
    assert len(sources) == 70 - 5
    assert all(index % 20 for _, index in objects.training)
    heights = {round(0.01 * (i + 2), 2) for i in (0, 20, 40)}
    for seed in range(30):
        assert not {round(float(np.ptp(s.vertices[:, 2])), 2) for s in objects._two(seed)} & heights


@pytest.mark.parametrize(
    "name", ["joined-00001", "smooth-00001", "old-00003-deformed-1", "tool-00002"]
)
def test_made_objects_fit_their_box_and_repeat(objects, name):
    soup, again = objects.make(name), objects.make(name)
    assert np.array_equal(soup.vertices, again.vertices)
    assert np.abs(soup.vertices).max() <= 0.5 + 1e-6
    assert len(soup.faces) == len(soup.colors)
    assert soup.faces.max() < len(soup.vertices)


def test_sheets_are_left_out_of_training(tmp_path):
    boxes = [
        (str(height), soup_of(trimesh.creation.box([1, 1, height]))) for height in (0.5, 0.001)
    ]
    write_object_file(tmp_path / "objects_some.npz", boxes)
    objects = Objects([tmp_path / "objects_some.npz"])
    assert objects.make("some-00000") is not None
    assert objects.make("some-00001") is None


def test_deformed_objects_fit_their_box_and_differ():
    corners = trimesh.creation.box([1, 0.6, 0.8]).vertices
    made = [deformed(corners, np.random.default_rng(seed)) for seed in range(6)]
    for vertices in made:
        assert np.ptp(vertices, axis=0).max() == pytest.approx(1)
        assert np.abs(vertices).max() == pytest.approx(0.5)
    assert all(np.abs(a - b).max() > 0.05 for a, b in itertools.pairwise(made))
    flat = deformed(corners * (1, 1, 0), np.random.default_rng(0))
    assert np.isfinite(flat).all()


def test_joined_objects_touch():
    a, b = soup_of(trimesh.creation.box([1, 1, 1])), soup_of(trimesh.creation.icosphere(1))
    for seed in range(8):
        soup = joined(a, b, np.random.default_rng(seed))
        count = len(np.unique(soup.colors, axis=0))
        assert count == 1
        assert np.ptp(soup.vertices, axis=0).max() == pytest.approx(1)


@pytest.mark.parametrize("kind", KINDS)
def test_procedural_objects_differ_and_are_made_of_closed_parts(kind):
    made = [make_procedural_object(kind, seed) for seed in range(8)]
    for vertices, faces, colors in made:
        assert np.isfinite(vertices).all()
        assert np.ptp(vertices, axis=0).max() == pytest.approx(1)
        assert ((colors >= 0) & (colors <= 255)).all()
        assert trimesh.Trimesh(vertices, faces, process=False).is_watertight
    assert len({tuple(vertices[:20].ravel()) for vertices, _, _ in made}) == len(made)
