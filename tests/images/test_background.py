from __future__ import annotations

import sys
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
    """Return a red disc with a white hole on white, and the mask of the disc without the hole."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    radius = ((x - size / 2) ** 2 + (y - size / 2) ** 2).sqrt()
    disc = (radius < size / 3).float()
    image = torch.ones(3, size, size)
    image[1:] -= disc * 0.9
    image[:, radius < size / 10] = 1.0
    return image[None], disc


def test_remove_background_alpha_returns_the_images_own():
    image, disc = _disc()
    rgba = torch.cat([image, disc[None, None] * 0.7], dim=1)
    torch.testing.assert_close(remove_background(rgba, "alpha")[0, 0], disc * 0.7)
    torch.testing.assert_close(remove_background(rgba, "auto"), remove_background(rgba, "alpha"))
    with pytest.raises(InvalidInput, match="no alpha"):
        remove_background(image, "alpha")


def test_remove_background_plain_keeps_holes():
    image, disc = _disc()
    mask = remove_background(
        image + torch.randn(image.shape, generator=torch.Generator().manual_seed(0)) * 0.01, "plain"
    )[0, 0]
    assert float((mask - disc).abs().mean()) < 0.02
    assert float(mask[48, 48]) == 1.0  # white, but not connected to the border
    assert float(mask[0, 0]) == 0.0


def test_remove_background_auto_chooses_plain_for_a_border_of_one_colour():
    image, _ = _disc()
    opaque = torch.cat([image, torch.ones_like(image[:, :1])], dim=1)
    torch.testing.assert_close(
        remove_background(opaque, "auto"), remove_background(opaque, "plain")
    )


@pytest.mark.parametrize("name", ["rounded", "one-pixel", "translucent"])
def test_remove_background_auto_ignores_alpha_without_an_object(name):
    read = read_image(CASES / "alpha-that-says-nothing" / f"{name}.png")
    assert float(remove_background(read, "auto").mean()) == pytest.approx(0.19, abs=0.01)


@pytest.mark.parametrize("alpha_frame", [True, False])
@pytest.mark.parametrize("width", [1, 2])
def test_remove_background_auto_ignores_thin_borders(alpha_frame, width):
    image, _ = _disc()
    framed = torch.nn.functional.pad(image, (width,) * 4, value=0.3)
    expected = torch.nn.functional.pad(remove_background(image, "plain"), (width,) * 4)
    if alpha_frame:
        alpha = torch.nn.functional.pad(torch.ones_like(image[:, :1]), (width,) * 4)
        framed = torch.cat([framed, alpha], dim=1)
    torch.testing.assert_close(remove_background(framed, "auto"), expected)


def test_remove_background_ignores_an_alpha_of_zero():
    image, _ = _disc()
    clear = torch.cat([image, torch.zeros_like(image[:, :1])], dim=1)
    torch.testing.assert_close(remove_background(clear, "auto"), remove_background(image, "plain"))


@pytest.mark.parametrize(
    "box", [(10, 86, 20, 76), (0, 96, 30, 60), (40, 44, 40, 44), (3, 93, 3, 93)]
)
def test_remove_background_auto_keeps_alpha_of_a_box(box):
    top, bottom, left, right = box
    image, alpha = torch.rand(1, 3, 96, 96), torch.zeros(1, 1, 96, 96)
    alpha[..., top:bottom, left:right] = 1
    torch.testing.assert_close(remove_background(torch.cat([image, alpha], dim=1), "auto"), alpha)


def test_remove_background_threshold_removes_faint_remains():
    image, _ = _disc()
    alpha = torch.linspace(0, 1, 96).expand(1, 1, 96, 96)
    rgba = torch.cat([image, alpha], dim=1)
    for threshold in (0.0, 0.05, 0.5):
        mask = remove_background(rgba, "alpha", threshold=threshold)
        torch.testing.assert_close(mask, alpha * (alpha >= threshold))
    with pytest.raises(InvalidInput, match="threshold"):
        remove_background(rgba, "alpha", threshold=1.5)


def test_remove_background_none_keeps_everything():
    image, _ = _disc()
    torch.testing.assert_close(remove_background(image, "none"), torch.ones(1, 1, 96, 96))


def test_models_are_those_of_rembg():
    from rembg.sessions import sessions_class

    assert set(MODELS) <= {session.name() for session in sessions_class}


@pytest.fixture
def small_u2netp(tmp_path: Path) -> Path:
    """Replace u2netp by a network that returns 1 minus its first input channel.

    Red pixels then count as background.
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


def test_remove_background_runs_a_small_network(small_u2netp, monkeypatch):
    # The small network does not have the checksum that rembg expects.
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


def test_remove_background_missing_model_names_file_and_place(tmp_path, monkeypatch):
    import pooch

    def refuse(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(pooch, "retrieve", refuse)
    background._session.cache_clear()
    with pytest.raises(EnvironmentProblem, match=r"silueta\.onnx is missing.*put it at") as caught:
        remove_background(_disc()[0], "silueta", models_dir=tmp_path)
    assert str(tmp_path / "silueta.onnx") in str(caught.value)


def test_remove_background_falls_back_to_the_cpu(small_u2netp, monkeypatch, caplog):
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
    assert "using the CPU" in caplog.text


def test_remove_background_damaged_file_of_two_is_named(tmp_path):
    nested = tmp_path / "models" / "u2netp" / "u2netp.onnx"
    nested.parent.mkdir(parents=True)
    nested.write_bytes(b"not a network")
    forget_models()
    with pytest.raises(EnvironmentProblem, match="could not load") as caught:
        remove_background(_disc()[0], "u2netp", models_dir=tmp_path)
    assert str(nested) in str(caught.value)


@pytest.mark.parametrize(
    "error", [ImportError("Numba needs NumPy 2.2 or less"), SystemExit(1), RuntimeError("odd")]
)
def test_remove_background_failing_import_names_the_reason(monkeypatch, error):
    import builtins

    real = builtins.__import__

    def refuse(name: str, *rest, **more):
        if name == "rembg":
            raise error
        return real(name, *rest, **more)

    forget_models()
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(EnvironmentProblem, match="could not import the package rembg") as caught:
        remove_background(_disc()[0], "u2netp")
    assert str(error) in str(caught.value)


def test_remove_background_turns_off_telemetry_before_onnxruntime_is_imported(
    uncacheable_rembg, monkeypatch
):
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    (uncacheable_rembg / "rembg.py").write_text(
        "import os\nraise RuntimeError(os.environ['ORT_DISABLE_TELEMETRY'])\n"
    )
    with pytest.raises(EnvironmentProblem, match=r"\(1\)"):
        remove_background(_disc()[0], "u2netp", models_dir=uncacheable_rembg)


@pytest.fixture
def uncacheable_rembg(tmp_path, monkeypatch):
    """Replace rembg and numba by modules that behave as without a writable folder."""
    (tmp_path / "numba.py").write_text("class config:\n    DISABLE_JIT = False\n")
    (tmp_path / "rembg.py").write_text(
        "import numba\n"
        "if not numba.config.DISABLE_JIT:\n"
        "    raise RuntimeError(\"cannot cache function 'f': no locator available for file 'x'\")\n"
        "def new_session(model, providers):\n"
        "    raise OSError('imported without compiling')\n"
    )
    for name in [n for n in sys.modules if n.partition(".")[0] in ("rembg", "numba")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(background, "is_reachable", lambda url: True)
    monkeypatch.syspath_prepend(tmp_path)
    forget_models()
    yield tmp_path
    for name in ("rembg", "numba"):
        sys.modules.pop(name, None)


def test_remove_background_without_a_writable_cache_imports_rembg_uncompiled(
    uncacheable_rembg, tmp_path
):
    with pytest.raises(EnvironmentProblem) as caught:
        remove_background(_disc()[0], "u2netp", models_dir=tmp_path)
    assert str(caught.value.__cause__) == "imported without compiling"
    assert not sys.modules["numba"].config.DISABLE_JIT, "other packages compile"


def test_remove_background_without_a_home_names_the_remedy(monkeypatch):
    def no_home(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    forget_models()
    monkeypatch.setattr(Path, "expanduser", no_home)
    monkeypatch.delenv("U2NET_HOME", raising=False)
    monkeypatch.delenv("REMBG_HOME", raising=False)
    with pytest.raises(EnvironmentProblem, match="no home directory: set U2NET_HOME"):
        remove_background(_disc()[0], "u2netp")


def test_remove_background_damaged_model_is_named(tmp_path):
    (tmp_path / "u2netp.onnx").write_bytes(b"not a network")
    background._session.cache_clear()
    with pytest.raises(EnvironmentProblem, match="could not load"):
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
def test_remove_background_refuses_arrays_of_other_shapes(images):
    with pytest.raises(InvalidInput):
        remove_background(images, "plain")


def test_remove_background_refuses_an_unknown_method():
    with pytest.raises(InvalidInput, match="must be one of auto, alpha"):
        remove_background(_disc()[0], "magic")
