"""TripoSG with the small golden model; the golden report compares its numbers."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from pipelines import image_to_3d, job
from pipelines.cameras import cameras_around
from pipelines.errors import CheckpointError, InvalidInput
from pipelines.fields import set_transformer
from pipelines.fields.latent_set import LatentSet
from pipelines.fields.set_transformer import FloatLayerNorm
from pipelines.image_to_3d import ImageTo3D
from pipelines.meshes import camera_fit, painting
from pipelines.meshes.camera_fit import CameraFit
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.projection import PosedImages
from pipelines.meshes.texture import TextureLayout, texture_from_images
from pipelines.multiview.sampling import GeneratedViews
from pipelines.reconstruction.flow_transformer import FlowBlock, FlowConfig
from pipelines.reconstruction.reconstruct import reconstruct
from pipelines.reconstruction.triposg import Sampler, TripoSG
from pipelines.settings import JobSettings, Settings, SurfaceSettings, ViewSettings
from pipelines.surface.extraction import extract_mesh
from pipelines.weights.finding import Repository
from pipelines.weights.presets import TRIPOSG_CONFIGS, TRIPOSG_WEIGHTS
from pipelines.weights.triposg_model import load_triposg

from ..conftest import GOLDEN
from ..golden_report.triposg import lay_out


@pytest.fixture
def files(tmp_path: Path) -> Repository:
    return lay_out(GOLDEN, tmp_path)


@pytest.fixture
def model(files: Repository) -> TripoSG:
    return load_triposg(files, torch.float32)


@pytest.fixture
def image() -> tuple[torch.Tensor, torch.Tensor]:
    """Return a red disc on white, and its mask."""
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    mask = (((x - 48) ** 2 + (y - 48) ** 2).sqrt() < 30).float()[None, None]
    return torch.tensor([0.8, 0.1, 0.2]).view(1, 3, 1, 1) * mask + 1 - mask, mask


def _sampled(model: TripoSG, image: tuple[torch.Tensor, torch.Tensor], **options) -> LatentSet:
    sampler = Sampler(model, **({"seed": 3, "steps": 2, "tokens": 16} | options))
    return reconstruct(sampler, image[0], masks=image[1])


def test_sampler_repeats_with_its_seed(model, image):
    points = torch.rand(20, 3)
    first, again, other = (
        _sampled(model, image, seed=seed).values(points, 100) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_sampler_reports_each_step_and_stops_between_them(model, image):
    seen = []
    _sampled(model, image, steps=3, progress=lambda done, total, preview=None: seen.append(done))
    assert seen == [1, 2, 3]

    def stop(done: int, total: int, preview: object = None) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        _sampled(model, image, progress=stop)


def test_sampler_flips_the_sign_of_a_field_that_is_positive_outside(model, image, caplog):
    field = _sampled(model, image)
    model.decoder.points.proj_out.weight.neg_()
    model.decoder.points.proj_out.bias.neg_()
    with caplog.at_level(logging.WARNING):
        other = _sampled(model, image)
    assert field.sign == -other.sign
    assert "sign is flipped" in caplog.text
    points = torch.rand(20, 3)
    torch.testing.assert_close(field.values(points, 100), other.values(points, 100))


def test_sampler_checks_the_mask(model, image):
    with pytest.raises(InvalidInput, match="no object"):
        _sampled(model, (image[0], torch.zeros_like(image[1])))


def test_offload_keeps_the_result(model, image):
    points = torch.rand(20, 3)
    kept, moved = (
        _sampled(model, image, device=torch.device("cpu"), offload=offload).values(points, 100)
        for offload in (False, True)
    )
    assert torch.equal(kept, moved)


def test_half_precision_is_near_single_and_keeps_norms(files, model, image):
    half = load_triposg(files, torch.bfloat16)
    assert half.transformer.blocks[0].norm1.weight.dtype == torch.float32
    assert half.transformer.blocks[0].attn1.norm_q.weight.dtype == torch.float32
    assert half.transformer.proj_in.weight.dtype == torch.bfloat16
    points = torch.rand(200, 3) * 2 - 1
    single, other = (
        _sampled(one, image, guidance=1.0).values(points, 100) for one in (model, half)
    )
    assert float((single - other).norm() / single.norm()) < 0.1


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tokens_in_pieces_keep_the_result(monkeypatch, dtype):
    block = FlowBlock(FlowConfig(dim=8, heads=2, context_dim=8), skips=True).to(dtype)
    tokens, earlier, image = (torch.randn(2, 11, 8).to(dtype) for _ in range(3))
    image = block.attn2.keys_values(image[:1])
    whole = block(tokens, image, earlier)
    monkeypatch.setattr(set_transformer, "_TOKENS", 5)
    torch.testing.assert_close(block(tokens, image, earlier), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_layer_norm_computes_in_float32(dtype):
    norm, tokens = FloatLayerNorm(8), torch.randn(2, 11, 8).to(dtype)
    norm.weight.data.uniform_()
    exact = F.layer_norm(tokens.float(), (8,), norm.weight, norm.bias)
    torch.testing.assert_close(norm(tokens), exact.to(dtype))


def test_field_is_evaluated_in_chunks_and_has_no_colours(model, image):
    field = _sampled(model, image)
    points = torch.rand(50, 3)
    torch.testing.assert_close(field.values(points, 7), field.values(points, 100))
    torch.testing.assert_close(field.to("cpu").values(points, 100), field.values(points, 100))
    assert field.colors(points, 100) is None


def test_mesh_without_colours_is_grey_with_a_warning(model, image, caplog):
    field = _sampled(model, image)
    centre = field.values(torch.rand(500, 3) * 2 - 1, 500).median()
    field.decoder.proj_out.bias.sub_(centre * field.sign)  # half of the box is inside
    mesh = extract_mesh(field, SurfaceSettings(resolution=32))
    assert bool((mesh.vertex_colors == 0.5).all())
    assert "has no colours" in caplog.text
    with pytest.raises(InvalidInput, match="has no colours"):
        texture_from_images(mesh, [], TextureLayout(512), field=field)


def _edit(files: Repository, part: str, **changes: object) -> None:
    path = files.file(TRIPOSG_CONFIGS[part])
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("transformer", {"use_cross_attention_2": True}, "scribble"),
        ("transformer", {"in_channels": 16}, "in_channels must be 8, got 16"),
        ("transformer", {"cross_attention_dim": 64}, "cross_attention_dim must be 48"),
        ("transformer", {"width": "64"}, "width: .* got '64'"),
        ("transformer", {"num_attention_heads": 5}, "64 channels cannot be shared by 5"),
        ("transformer", {"num_layers": 7}, "weights of another model"),
        ("decoder", {"embedding_type": "learned"}, "embedding_type"),
        ("scheduler", {"use_dynamic_shifting": True}, "use_dynamic_shifting"),
        ("encoder", {"use_swiglu_ffn": True}, "use_swiglu_ffn"),
        ("image", {"image_mean": [0.5, 0.5, 0.5]}, "image_mean"),
    ],
)
def test_configuration_of_another_model_is_refused(files, part, changes, message):
    _edit(files, part, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_triposg(files, torch.float32)


def test_truncated_configuration_is_named(files):
    path = files.file(TRIPOSG_CONFIGS["decoder"])
    path.write_text(path.read_text()[:20])
    with pytest.raises(CheckpointError, match=r"vae/config\.json is damaged or belongs to another"):
        load_triposg(files, torch.float32)


def test_damaged_and_foreign_weights_are_refused(files):
    path = files.file(TRIPOSG_WEIGHTS["transformer"])
    tensors = load_file(path)
    save_file(load_file(GOLDEN / "triposr_tiny.safetensors"), path)
    with pytest.raises(CheckpointError, match="weights of another model"):
        load_triposg(files, torch.float32)
    tensors["blocks.0.attn2_2.to_q.weight"] = torch.zeros(2, 2)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="unexpected"):
        load_triposg(files, torch.float32)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_triposg(files, torch.float32)


@pytest.fixture
def ball_chain(tmp_path, files) -> ImageTo3D:
    """Return a chain whose model returns balls."""
    made = ImageTo3D.load("triposg", models_dirs=[tmp_path], device="cpu", dtype="float32")
    points = made.reconstruction.decoder.points
    points.register_forward_hook(lambda _, inputs, __: 0.8 - inputs[0].norm(dim=1))
    return made


@pytest.fixture
def chain(ball_chain, monkeypatch) -> ImageTo3D:
    """Return a chain whose model returns balls, for a photograph from 50 degrees to the left."""
    fit = CameraFit(cameras_around([50.0], [0.0], 4.0, 36.0), 0.9, 50.0, 0.0, 0.0)
    monkeypatch.setattr(painting, "fit_camera", lambda *_, **__: fit)
    return ball_chain


def test_image_to_3d_colours_the_mesh_with_the_photograph_or_the_views(chain, image, monkeypatch):
    green = torch.tensor([0.1, 0.7, 0.1]).view(1, 3, 1, 1).expand(6, -1, 96, 96)
    generated = GeneratedViews(green, 5)
    monkeypatch.setattr(image_to_3d, "generate_views", lambda *_, **__: generated)

    def fit_views(mesh: Mesh, views: PosedImages, azimuth: float, *_: object) -> PosedImages:
        assert azimuth == 50
        return views

    monkeypatch.setattr(painting, "fit_views", fit_views)
    settings = Settings(surface=SurfaceSettings(resolution=32), views=ViewSettings(steps=1, seed=5))
    rgba = torch.cat(image, dim=1)
    red = chain(rgba, settings)
    assert red.views is None
    torch.testing.assert_close(
        red.mesh.vertex_colors.mean(dim=0), torch.tensor([0.8, 0.1, 0.2]), atol=0.02, rtol=0
    )
    from_views = replace(chain, multiview=object())(rgba, settings)
    assert len(from_views.views.images) == 6
    torch.testing.assert_close(
        from_views.mesh.vertex_colors.mean(dim=0), green[0, :, 0, 0], atol=0.02, rtol=0
    )


def test_image_to_3d_samples_with_the_settings(chain, image):
    surface = SurfaceSettings(resolution=32, min_part_share=0.0, colors=False)
    views = ViewSettings(steps=3, tokens=512, seed=5)
    seen = []

    def progress(done: int, total: int, preview: object = None, *, stage: str = "") -> None:
        seen.append((stage, done, total))

    rgba = torch.cat(image, dim=1)
    found = chain(rgba, Settings(surface=surface, views=views), progress)
    assert found.seed == 5
    assert len(found.mesh.faces) > 10
    assert found.mesh.vertex_colors is None
    assert ("triplane", 2, 3) in seen
    with pytest.raises(InvalidInput, match="sampling settings: leave out scheduler"):
        chain(rgba, Settings(views=ViewSettings(scheduler="unipc")))


def test_tries_keep_the_shape_whose_outline_fits_at_the_camera_that_is_found(
    ball_chain, image, tmp_path, monkeypatch
):
    seeds: list[int] = []

    def sampler(model: TripoSG, seed: int, **options: object) -> Sampler:
        seeds.append(seed)
        return Sampler(model, seed, **options)

    def flatten(_: object, inputs: tuple[torch.Tensor], __: object) -> torch.Tensor:
        squeezed = inputs[0] if seeds[-1] == 6 else inputs[0] * torch.tensor([1.0, 2.0, 4.0])
        return 0.8 - squeezed.norm(dim=1)

    monkeypatch.setattr(image_to_3d, "Sampler", sampler)
    monkeypatch.setattr(painting, "ALL_AROUND", (0, 90))
    for name, less in {"_ITERATIONS": 2, "_REFINED": 1, "_SIZE": 32}.items():
        monkeypatch.setattr(camera_fit, name, less)
    ball_chain.reconstruction.decoder.points.register_forward_hook(flatten)
    settings = JobSettings(
        model="triposg",
        surface=SurfaceSettings(resolution=32),
        views=ViewSettings(steps=1, tokens=512, seed=5, tries=2),
    )
    found = job.run(ball_chain, [torch.cat(image, dim=1)], settings, tmp_path, "ball")
    assert (found.error, found.seed, seeds) == ("", 6, [5, 6])
    outlines = {one.seed: one.score.outline for one in found.tries}
    assert outlines[6] > 0.95 > 0.8 > outlines[5]


@pytest.mark.parametrize(
    ("model", "views", "message"),
    [
        ("photo", {"tokens": 512}, "has no random sampling"),
        ("instant-mesh-large", {"shift": 2.0}, "leave out shift and tokens"),
        ("triposg", {"scheduler": "unipc"}, "leave out scheduler"),
    ],
)
def test_check_refuses_settings_that_the_model_does_not_use(model, views, message):
    with pytest.raises(InvalidInput, match=message):
        job.check(JobSettings(model=model, views=ViewSettings(**views)))
    job.check(JobSettings(model="triposg", views=ViewSettings(seed=3, steps=4, shift=2.0)))


def test_shift_of_the_checkpoint_is_the_default(files):
    _edit(files, "scheduler", shift=3)
    assert replace(load_triposg(files, torch.float32).config).shift == 3
