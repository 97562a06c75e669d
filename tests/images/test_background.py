from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.errors import EnvironmentProblem, InvalidInput
from pipelines.images import background
from pipelines.images.background import MODELS, forget_models, remove_background
from pipelines.images.reading import read_image

CASES = Path(__file__).parents[1] / "data" / "cases"


def _disc(size: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    """A red disc on white with a white hole in it, and the disc with its hole."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    radius = ((x - size / 2) ** 2 + (y - size / 2) ** 2).sqrt()
    disc = (radius < size / 3).float()
    image = torch.ones(3, size, size)
    image[1:] -= disc * 0.9
    image[:, radius < size / 10] = 1.0
    return image[None], disc


def test_alpha_is_the_images_own():
    image, disc = _disc()
    rgba = torch.cat([image, disc[None, None] * 0.7], dim=1)
    torch.testing.assert_close(remove_background(rgba, "alpha")[0, 0], disc * 0.7)
    torch.testing.assert_close(remove_background(rgba, "auto"), remove_background(rgba, "alpha"))
    with pytest.raises(InvalidInput, match="no alpha"):
        remove_background(image, "alpha")


def test_plain_takes_the_border_and_keeps_holes():
    image, disc = _disc()
    mask = remove_background(
        image + torch.randn(image.shape, generator=torch.Generator().manual_seed(0)) * 0.01, "plain"
    )[0, 0]
    assert float((mask - disc).abs().mean()) < 0.02
    assert float(mask[48, 48]) == 1.0  # white, but not connected to the border
    assert float(mask[0, 0]) == 0.0


def test_auto_is_plain_where_the_border_has_one_colour():
    image, _ = _disc()
    opaque = torch.cat([image, torch.ones_like(image[:, :1])], dim=1)
    torch.testing.assert_close(
        remove_background(opaque, "auto"), remove_background(opaque, "plain")
    )


@pytest.mark.parametrize("name", ["rounded", "one-pixel", "translucent"])
def test_alpha_that_describes_no_object_is_not_taken_for_one(name):
    read = read_image(CASES / "alpha-that-says-nothing" / f"{name}.png")
    assert float(remove_background(read, "auto").mean()) == pytest.approx(0.19, abs=0.01)


@pytest.mark.parametrize("alpha_frame", [True, False])
@pytest.mark.parametrize("width", [1, 2])
def test_a_thin_frame_does_not_make_the_sheet_the_object(alpha_frame, width):
    image, _ = _disc()
    framed = torch.nn.functional.pad(image, (width,) * 4, value=0.3)
    expected = torch.nn.functional.pad(remove_background(image, "plain"), (width,) * 4)
    if alpha_frame:
        alpha = torch.nn.functional.pad(torch.ones_like(image[:, :1]), (width,) * 4)
        framed = torch.cat([framed, alpha], dim=1)
    torch.testing.assert_close(remove_background(framed, "auto"), expected)


def test_an_alpha_of_zero_everywhere_says_nothing():
    image, _ = _disc()
    clear = torch.cat([image, torch.zeros_like(image[:, :1])], dim=1)
    torch.testing.assert_close(remove_background(clear, "auto"), remove_background(image, "plain"))


@pytest.mark.parametrize(
    "box", [(10, 86, 20, 76), (0, 96, 30, 60), (40, 44, 40, 44), (3, 93, 3, 93)]
)
def test_alpha_of_boxes_that_leave_something_free_is_an_object(box):
    top, bottom, left, right = box
    image, alpha = torch.rand(1, 3, 96, 96), torch.zeros(1, 1, 96, 96)
    alpha[..., top:bottom, left:right] = 1
    torch.testing.assert_close(remove_background(torch.cat([image, alpha], dim=1), "auto"), alpha)


def test_faint_remains_go():
    image, _ = _disc()
    alpha = torch.linspace(0, 1, 96).expand(1, 1, 96, 96)
    rgba = torch.cat([image, alpha], dim=1)
    for threshold in (0.0, 0.05, 0.5):
        mask = remove_background(rgba, "alpha", threshold=threshold)
        torch.testing.assert_close(mask, alpha * (alpha >= threshold))
    with pytest.raises(InvalidInput, match="threshold"):
        remove_background(rgba, "alpha", threshold=1.5)


def test_none_keeps_everything():
    image, _ = _disc()
    torch.testing.assert_close(remove_background(image, "none"), torch.ones(1, 1, 96, 96))


def test_every_model_is_one_of_rembgs():
    from rembg.sessions import sessions_class

    assert set(MODELS) <= {session.name() for session in sessions_class}


@pytest.fixture
def small_u2netp(tmp_path: Path) -> Path:
    """A network in place of u2netp: one minus the first channel of its normalised input, so that
    what is red stands behind.
    """
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
    # The small network is not the one that rembg knows.
    monkeypatch.setenv("MODEL_CHECKSUM_DISABLED", "1")
    image, disc = _disc()
    mask = remove_background(image, "u2netp", models_dir=small_u2netp)
    assert mask.shape == (1, 1, 96, 96)
    outside_hole = torch.ones_like(disc, dtype=torch.bool)
    outside_hole[30:66, 30:66] = False
    assert float((mask[0, 0] - disc)[outside_hole].abs().mean()) < 0.03
    first = background._session("u2netp", small_u2netp, "cpu")
    assert background._session("u2netp", small_u2netp, "cpu") is first
    forget_models()
    assert background._session("u2netp", small_u2netp, "cpu") is not first


def test_missing_model_names_its_file_and_place(tmp_path, monkeypatch):
    import pooch

    def refuse(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(pooch, "retrieve", refuse)
    background._session.cache_clear()
    with pytest.raises(EnvironmentProblem, match=r"silueta\.onnx is missing.*put it at") as caught:
        remove_background(_disc()[0], "silueta", models_dir=tmp_path)
    assert str(tmp_path / "silueta.onnx") in str(caught.value)


def test_a_device_that_does_not_run_a_model_is_not_the_files_fault(
    small_u2netp, monkeypatch, caplog
):
    import rembg

    real, tried = rembg.new_session, []

    def new_session(model: str, providers: list[str]):
        tried.append(providers)
        if "CUDAExecutionProvider" in providers:
            raise RuntimeError("CUDA failure 100")
        return real(model, providers=providers)

    monkeypatch.setenv("MODEL_CHECKSUM_DISABLED", "1")
    monkeypatch.setattr(rembg, "new_session", new_session)
    monkeypatch.setattr(
        background, "_providers", lambda _: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    assert remove_background(
        _disc()[0], "u2netp", models_dir=small_u2netp, device="cuda"
    ).shape == (1, 1, 96, 96)
    assert tried == [["CUDAExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]]
    assert "runs on the CPU" in caplog.text


def test_the_damaged_one_of_two_files_is_named(tmp_path):
    nested = tmp_path / "models" / "u2netp" / "u2netp.onnx"
    nested.parent.mkdir(parents=True)
    nested.write_bytes(b"not a network")
    forget_models()
    with pytest.raises(EnvironmentProblem, match="cannot be loaded") as caught:
        remove_background(_disc()[0], "u2netp", models_dir=tmp_path)
    assert str(nested) in str(caught.value)


@pytest.mark.parametrize(
    "error", [ImportError("Numba needs NumPy 2.2 or less"), SystemExit(1), RuntimeError("odd")]
)
def test_an_import_that_fails_says_what_failed(monkeypatch, error):
    import builtins

    real = builtins.__import__

    def refuse(name: str, *rest, **more):
        if name == "rembg":
            raise error
        return real(name, *rest, **more)

    forget_models()
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(EnvironmentProblem, match="rembg cannot be imported") as caught:
        remove_background(_disc()[0], "u2netp")
    assert str(error) in str(caught.value)


def test_damaged_model_is_named(tmp_path):
    (tmp_path / "u2netp.onnx").write_bytes(b"not a network")
    background._session.cache_clear()
    with pytest.raises(EnvironmentProblem, match="cannot be loaded"):
        remove_background(_disc()[0], "u2netp", models_dir=tmp_path)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 2, 8, 8),
        torch.zeros(3, 8, 8),
        torch.zeros(1, 3, 0, 8),
        torch.full((1, 3, 8, 8), np.nan),
    ],
)
def test_arrays_that_are_no_images(images):
    with pytest.raises(InvalidInput):
        remove_background(images, "plain")


def test_unknown_method():
    with pytest.raises(InvalidInput, match="must be one of auto, alpha"):
        remove_background(_disc()[0], "magic")
