from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import background
from pipelines.background import METHODS, MODELS, remove_background
from pipelines.errors import EnvironmentProblem, InvalidInput


def _disc(size: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    """A red disc on white with a white hole in it, and the disc with its hole."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    radius = ((x - size / 2) ** 2 + (y - size / 2) ** 2).sqrt()
    disc = (radius < size / 3).float()
    image = torch.ones(3, size, size)
    image[1:] -= disc * 0.9
    image[:, radius < size / 10] = 1.0
    return image[None], disc


def test_alpha_is_the_pictures_own():
    image, disc = _disc()
    rgba = torch.cat([image, disc[None, None] * 0.7], dim=1)
    torch.testing.assert_close(remove_background(rgba, "alpha")[0, 0], disc * 0.7)
    torch.testing.assert_close(remove_background(rgba, "auto"), remove_background(rgba, "alpha"))
    with pytest.raises(InvalidInput, match="no alpha"):
        remove_background(image, "alpha")


def test_plain_takes_the_border_and_keeps_holes():
    image, disc = _disc()
    mask = remove_background(image + torch.randn(image.shape, generator=torch.Generator().manual_seed(0)) * 0.01, "plain")[0, 0]
    assert float((mask - disc).abs().mean()) < 0.02
    assert float(mask[48, 48]) == 1.0  # white, but not connected to the border
    assert float(mask[0, 0]) == 0.0


def test_auto_is_plain_where_the_border_has_one_colour():
    image, _ = _disc()
    opaque = torch.cat([image, torch.ones_like(image[:, :1])], dim=1)
    torch.testing.assert_close(remove_background(opaque, "auto"), remove_background(opaque, "plain"))


def test_none_keeps_everything():
    image, _ = _disc()
    torch.testing.assert_close(remove_background(image, "none"), torch.ones(1, 1, 96, 96))


def test_every_model_is_one_of_rembgs():
    from rembg.sessions import sessions_class

    assert set(MODELS) <= {session.name() for session in sessions_class}
    assert set(MODELS) < set(METHODS)


@pytest.fixture
def small_u2netp(tmp_path: Path) -> Path:
    """A network in place of u2netp: one minus the first channel of its normalised input, so that what is red stands behind."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Split", ["input"], ["r", "g", "b"], axis=1, num_outputs=3),
        helper.make_node("Neg", ["g"], ["mask"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 320, 320])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 1, 320, 320])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "u2netp.onnx")
    background._session.cache_clear()
    return tmp_path


def test_rembgs_own_path_with_a_small_network(small_u2netp, monkeypatch):
    monkeypatch.setenv("MODEL_CHECKSUM_DISABLED", "1")  # the small network is not the one that rembg knows
    image, disc = _disc()
    mask = remove_background(image, "u2netp", models_dir=small_u2netp)
    assert mask.shape == (1, 1, 96, 96)
    outside_hole = torch.ones_like(disc, dtype=torch.bool)
    outside_hole[30:66, 30:66] = False
    assert float((mask[0, 0] - disc)[outside_hole].abs().mean()) < 0.03
    first = background._session("u2netp", small_u2netp, "cpu")
    assert background._session("u2netp", small_u2netp, "cpu") is first


def test_missing_model_names_its_file_and_place(tmp_path, monkeypatch):
    import pooch

    def refuse(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(pooch, "retrieve", refuse)
    background._session.cache_clear()
    with pytest.raises(EnvironmentProblem, match=r"silueta\.onnx is missing.*put it at") as caught:
        remove_background(_disc()[0], "silueta", models_dir=tmp_path)
    assert str(tmp_path / "silueta.onnx") in str(caught.value)


def test_damaged_model_is_named(tmp_path):
    (tmp_path / "u2netp.onnx").write_bytes(b"not a network")
    background._session.cache_clear()
    with pytest.raises(EnvironmentProblem, match="cannot be loaded"):
        remove_background(_disc()[0], "u2netp", models_dir=tmp_path)


@pytest.mark.parametrize("images", [torch.zeros(1, 2, 8, 8), torch.zeros(3, 8, 8), torch.zeros(1, 3, 0, 8), torch.full((1, 3, 8, 8), np.nan)])
def test_arrays_that_are_no_pictures(images):
    with pytest.raises(InvalidInput):
        remove_background(images, "plain")


def test_unknown_method():
    with pytest.raises(InvalidInput, match="must be one of auto, alpha"):
        remove_background(_disc()[0], "magic")
