from __future__ import annotations

import math
import random

import pytest
import torch
from torch import nn

from pipelines.cameras import cameras_around, zero123plus_cameras
from pipelines.multiview.sampling import LATENT_SCALE, LATENT_SHIFT
from pipelines.reconstruction.triplane_transformer import Attention, TriplaneTransformer
from training.attention_guide import AttentionGuide, neglect, seen_along_lines, sharing_a_coordinate
from training.colors import opponent, permute_colors
from training.dataset import NEAR_SURFACE, labelled_points, photograph
from training.objects import make_object
from training.optimization import learning_rate_factor, make_optimizers, train
from training.pocket import POCKET_VAE
from training.raytracing import render
from training.train_vae import normalize_latents


@pytest.mark.parametrize("seed", range(12))
def test_objects_repeat_fit_the_box_and_are_closed(seed):
    shape, again = make_object(seed), make_object(seed)
    points = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    distance = shape.signed_distance(points)
    assert torch.equal(distance, again.signed_distance(points))
    assert 0.005 < float((distance > 0).float().mean()) < 0.8, "positive inside"
    shell = torch.nn.functional.normalize(points, dim=1) * 1.2
    assert float(shape.signed_distance(shell).max()) < 0
    assert float(shape.color(points).amin()) >= 0
    assert float(shape.color(points).amax()) <= 1


def test_rendered_silhouettes_are_those_of_the_signed_distance():
    shape, cameras = make_object(3), zero123plus_cameras()
    pictures, masks = render(shape, cameras, 48)
    origins, directions = cameras.rays(48, 48)
    steps = torch.linspace(2.6, 5.4, 300)
    for view in range(6):
        points = origins[view, :, None] + steps[:, None] * directions[view, :, None]
        inside = (
            (shape.signed_distance(points.flatten(0, 1)) > 0).view(48 * 48, -1).any(dim=1).float()
        )
        assert float((masks[view].flatten() - inside).abs().mean()) < 0.02
        assert (pictures[view].flatten(1)[:, masks[view].flatten() == 0] == 1).all()


def test_labels_are_near_the_surface_and_right():
    shape = make_object(5)
    points, distance, colors = labelled_points(shape, torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        distance.float(), shape.signed_distance(points.float()), atol=2e-3, rtol=0
    )
    assert float((distance.abs() < NEAR_SURFACE).float().mean()) > 0.5
    assert colors.shape == points.shape


def test_photographs_show_an_object_on_white():
    picture = photograph(make_object(8), random.Random(8), size=64)
    assert (picture[:, 0, 0] == 1).all()
    assert 0.03 < float((picture < 0.98).any(dim=0).float().mean()) < 0.9


def test_colours_are_permuted_alike_and_opponents_of_grey_are_nothing():
    first = torch.rand(4, 3, 5, 5)
    permuted, same = permute_colors(torch.Generator().manual_seed(1), first, first.clone())
    assert torch.equal(permuted, same)
    assert torch.equal(permuted.sort(dim=1).values, first.sort(dim=1).values)
    assert float(opponent(torch.full((1, 3, 2, 2), 0.4))[:, 1:].abs().max()) < 1e-6


class _Stop(Exception):
    pass


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="training wants PyTorch 2.9")
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    def run(checkpoint, stop_at=None):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
        calls = 0

        def loss(generator):
            nonlocal calls
            calls += 1
            if calls == stop_at:
                raise _Stop
            return {"loss": (model(torch.randn(16, 4, generator=generator)) - 1).square().mean()}

        return train(
            model,
            make_optimizers(model, 1e-2, 1e-2, lambda name, _: name.startswith("0")),
            loss,
            70,
            checkpoint,
            average_over=10,
        )

    whole = run(tmp_path / "whole.pt")
    with pytest.raises(_Stop):
        run(tmp_path / "parts.pt", stop_at=60)
    resumed = run(tmp_path / "parts.pt")
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_learning_rate_warms_up_stays_and_falls():
    factors = [learning_rate_factor(step, 1000) for step in range(1000)]
    assert factors[0] < 0.05
    assert factors[100] == factors[600] == 1
    assert 0 < factors[999] < 0.01


def test_normalised_latents_decode_to_the_same():
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL(**POCKET_VAE).eval()
    pixels = torch.rand(8, 3, 64, 64)
    with torch.no_grad():
        before = vae.decode(vae.encode(pixels).latent_dist.mean).sample
        normalize_latents(vae, pixels)
        latents = vae.encode(pixels).latent_dist.mean
        torch.testing.assert_close(vae.decode(latents).sample, before, atol=2e-4, rtol=1e-3)
    scaled = (latents * vae.config.scaling_factor - LATENT_SHIFT) * LATENT_SCALE
    torch.testing.assert_close(scaled.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)


def test_a_camera_from_above_sees_the_top():
    shape = make_object(2)
    _, masks = render(shape, cameras_around([0.0], [80.0], 4.0, 30.0), 32)
    assert float(masks.mean()) > 0.01


def test_each_line_is_seen_where_its_points_are():
    low_res, patches = 8, 4
    cameras = zero123plus_cameras()
    seen = seen_along_lines(low_res, cameras, patches)
    assert not seen.unflatten(2, (6, -1))[..., 0].any()  # class tokens see nothing
    generator = torch.Generator().manual_seed(0)
    # Of the middle, which all views see.
    for cell in torch.randint(2, 6, (50, 3), generator=generator):
        (x, y, z), point = cell.tolist(), (cell + 0.5) / low_res * 2 - 1
        tokens = [y * low_res + x, low_res**2 + z * low_res + x, 2 * low_res**2 + y * low_res + z]
        for view in range(6):
            in_camera = cameras.c2w[view, :3, :3].T @ (point - cameras.c2w[view, :3, 3])
            k = cameras.intrinsics_normalized[view]
            column, row = (
                int((s * in_camera[a] / -in_camera[2] * k[a, a] + k[a, 2]) * patches)
                for a, s in ((0, 1), (1, -1))
            )
            patch = view * (1 + patches**2) + 1 + row * patches + column
            assert seen[view, tokens, patch].all()


def test_tokens_share_a_coordinate_with_a_row_of_each_other_plane():
    shared = sharing_a_coordinate(4)
    assert (shared.sum(dim=2) == 4).all()
    assert torch.equal(shared[0], shared[1].T)
    assert not (shared[0] & shared[1]).any()


def test_neglect_is_the_logarithm_of_what_falls_on_the_place():
    attention = Attention(8, 2)
    torch.nn.init.zeros_(attention.in_proj_weight)  # attends to all alike
    places = torch.zeros(1, 6, 6, dtype=torch.bool)
    places[0, :4, :2] = True  # two of six tokens have no place and do not count
    found = neglect(attention, torch.randn(3, 6, 8), None, places)
    assert float(found.detach()) == pytest.approx(math.log(6 / 2), rel=1e-5)


def test_the_guide_watches_every_attention_of_a_transformer():
    torch.manual_seed(0)
    transformer = TriplaneTransformer(
        dim=32, layers=2, heads=4, feature_dim=16, low_res=4, triplane_dim=4
    )
    guide = AttentionGuide(transformer, zero123plus_cameras(), patches=4)
    transformer(torch.randn(3, 6 * 17, 16))
    first = guide.loss()
    first.backward()
    for layer in transformer.layers:
        assert layer.cross_attn.q_proj_weight.grad.abs().sum() > 0
        assert layer.self_attn.in_proj_weight.grad.abs().sum() > 0
    assert 1 < float(first.detach()) < 10
