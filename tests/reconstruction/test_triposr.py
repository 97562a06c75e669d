"""TripoSR with a small random model; the golden report compares its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines.cameras import orbit_cameras
from pipelines.errors import CheckpointError, InvalidInput
from pipelines.image_to_3d import ImageTo3D
from pipelines.reconstruction.reconstruct import reconstruct
from pipelines.reconstruction.triposr import TripoSR, TripoSRConfig
from pipelines.reconstruction.vision_transformer import EncoderConfig
from pipelines.rendering.render_field import render_field
from pipelines.settings import Settings, SurfaceSettings, ViewSettings
from pipelines.surface.extraction import extract_mesh
from pipelines.weights.presets import RECONSTRUCTION_PRESETS
from pipelines.weights.reconstruction_models import load_reconstruction_model
from pipelines.weights.sizes import OFFICIAL_SIZES

SMALL = TripoSRConfig(
    encoder=EncoderConfig(
        hidden_size=16, layers=1, heads=2, mlp_size=32, image_size=32, view_size=64
    ),
    transformer_layers=1,
    transformer_dim=32,
    transformer_heads=2,
    triplane_low_res=4,
    triplane_dim=8,
    samples_per_ray=16,
    grid_resolution=40,
)


def _reconstruct(model, image, mask):
    return reconstruct(model, image, masks=mask)


@pytest.fixture
def model() -> TripoSR:
    torch.manual_seed(0)
    made = SMALL.build().eval().requires_grad_(False)
    made.decoder.layers[-1].bias[0] = 4.5  # half of the box is above the threshold
    made.decoder.layers[-1].weight[0] *= 30
    return made


@pytest.fixture
def image() -> tuple[torch.Tensor, torch.Tensor]:
    """Return a red disc with a soft edge on white, and its mask."""
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    mask = ((30 - ((x - 48) ** 2 + (y - 48) ** 2).sqrt()) / 4 + 0.5).clamp(0, 1)[None, None]
    color = torch.tensor([0.8, 0.1, 0.2]).view(1, 3, 1, 1)
    return color * mask + 1 - mask, mask


def test_triposr_puts_the_object_on_grey(model, image, monkeypatch):
    on_white, mask = image
    seen = []
    monkeypatch.setattr(model, "forward", lambda p: seen.append(p) or torch.rand(1, 3, 8, 8, 8))
    for background in (1.0, 0.0, torch.tensor([0.1, 0.9, 0.3]).view(1, 3, 1, 1)):
        reconstruct(model, on_white + (1 - mask) * (background - 1), masks=mask)
    for other in seen[1:]:
        torch.testing.assert_close(other, seen[0], atol=1e-5, rtol=0)
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx([0.5] * 3, abs=1e-5)
    assert seen[0][0, :, 32, 32].tolist() == pytest.approx([0.8, 0.1, 0.2], abs=1e-4)


def test_triposr_field_has_values_colours_and_grid(model, image):
    field = _reconstruct(model, *image)
    points = torch.rand(50, 3) * 1.6 - 0.8
    level, colors = field.values_and_colors(points, 7)
    torch.testing.assert_close(level, field.values(points, 100), atol=1e-5, rtol=0)
    torch.testing.assert_close(colors, field.colors(points, 100), atol=1e-5, rtol=0)
    assert field.raw_density(float(field.density(torch.tensor(2.5)))) == pytest.approx(
        2.5, abs=1e-5
    )
    mesh = extract_mesh(field, SurfaceSettings(min_part_share=0.0))
    assert float(mesh.vertices.abs().amax()) <= 0.87 + 1e-5
    assert mesh.volume() > 0
    frames = render_field(field, orbit_cameras(2, 0.0, 1.9, 40.0), 16)
    assert float(frames.weight.amax()) > 0.5
    torch.testing.assert_close(field.to("cpu").values(points, 9), level, atol=1e-5, rtol=0)


def test_half_precision_is_near_single(model, image):
    single = _reconstruct(model, *image).planes
    half = _reconstruct(model.bfloat16(), *image)
    assert half.planes.dtype == torch.float32
    assert float((half.planes - single).norm() / single.norm()) < 3e-2


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (torch.rand(1, 3, 32, 40), torch.ones(1, 1, 32, 40), "frame them first"),
        (torch.rand(1, 4, 32, 32), torch.ones(1, 1, 32, 32), "images must be"),
        (torch.rand(1, 3, 32, 32), torch.ones(1, 1, 31, 32), "masks must be"),
        (torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32), "no object"),
        (torch.full((1, 3, 32, 32), float("nan")), torch.ones(1, 1, 32, 32), "not finite"),
    ],
)
def test_triposr_refuses_invalid_images(model, image, mask, message):
    with pytest.raises(InvalidInput, match=message):
        reconstruct(model, image, masks=mask)


def test_triposr_takes_an_image_of_two_by_two_pixels(model):
    field = reconstruct(model, torch.rand(1, 3, 2, 2), masks=torch.ones(1, 1, 2, 2))
    assert bool(torch.isfinite(field.planes).all())


@pytest.fixture
def checkpoint(tmp_path: Path, model: TripoSR, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a small model.ckpt in the official layout, with pooler, where the loader looks."""
    monkeypatch.setitem(OFFICIAL_SIZES, "triposr", SMALL)
    tensors = dict(model.state_dict())
    tensors["image_tokenizer.model.pooler.dense.weight"] = torch.rand(16, 16)
    path = tmp_path / "TripoSR" / "model.ckpt"
    path.parent.mkdir()
    torch.save(tensors, path)
    return path


def test_load_triposr_reads_the_official_layout(tmp_path, checkpoint, model, image):
    loaded = load_reconstruction_model("triposr", models_dirs=[tmp_path])
    wanted = _reconstruct(model, *image).planes
    torch.testing.assert_close(_reconstruct(loaded, *image).planes, wanted)
    half = load_reconstruction_model("triposr", models_dirs=[tmp_path], dtype=torch.bfloat16)
    assert half.decoder.layers[0].weight.dtype == torch.float32


def test_image_to_3d_with_triposr_needs_no_views(tmp_path, checkpoint, image):
    chain = ImageTo3D.load("triposr", models_dirs=[tmp_path], device="cpu", dtype="float32")
    calls = []
    rgba = torch.cat(image, dim=1)
    settings = Settings(surface=SurfaceSettings(min_part_share=0.0))
    result = chain(rgba, settings, lambda *_, stage: calls.append(stage))
    assert result.views is None
    assert len(result.mesh.faces) > 10
    assert list(dict.fromkeys(calls)) == ["background", "framing", "triplane", "surface"]
    with pytest.raises(InvalidInput, match="leave out steps"):
        chain(rgba, Settings(views=ViewSettings(seed=3)))
    with pytest.raises(InvalidInput, match="uses no views"):
        ImageTo3D.load("triposr", "zero123plus", models_dirs=[tmp_path], device="cpu")


@pytest.mark.parametrize(
    ("given", "asked"), [("triposr", "instant-nerf-base"), ("instant-mesh-base", "triposr")]
)
def test_load_triposr_names_a_checkpoint_of_another_model(tmp_path, given, asked):
    preset = RECONSTRUCTION_PRESETS[asked]
    with torch.device("meta"):
        shapes = OFFICIAL_SIZES[given].build().state_dict()
    tensors = {name: torch.zeros(1).expand(v.shape) for name, v in shapes.items()}
    path = tmp_path / preset.repository.split("/")[1] / preset.file
    path.parent.mkdir()
    torch.save(tensors, path)  # expanded zeros take no room
    with pytest.raises(CheckpointError, match=f"those of {given}: choose that model"):
        load_reconstruction_model(asked, models_dirs=[tmp_path], dtype=torch.float32)


def test_load_triposr_refuses_a_truncated_checkpoint(tmp_path, checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_reconstruction_model("triposr", models_dirs=[tmp_path])
