"""Train the pocket InstantMesh on labelled points, without a differentiable renderer.

python -m training.train_reconstruction CACHE RUN --steps 8000
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.cameras import zero123plus_cameras
from pipelines.fields.plane_networks import project_planes, sample_planes
from pipelines.reconstruction.instant_mesh import ReconstructionModel
from pipelines.weights.presets import RECONSTRUCTION_PRESETS

from .attention_guide import AttentionGuide
from .colors import opponent, permute_colors
from .dataset import NEAR_SURFACE, Objects
from .objects import THIN_LEGGED, kind_of
from .optimization import make_optimizers, train

BATCH = 8
POINTS_PER_STEP = 2048
DISTANCE_SCALE = 10.0
# Thin-legged kinds are the hardest to learn: they are drawn so many times as often as the others.
THIN_LEGGED_WEIGHT = 2.0


def decode(planes: Tensor, mlp: nn.Sequential, points: Tensor) -> Tensor:
    """(B, N, out) raw outputs of one decoder for a batch of triplanes."""
    first = mlp[0]
    assert isinstance(first, nn.Linear)
    hidden: Tensor = mlp[1:](
        sample_planes(project_planes(planes, first.weight), points) + first.bias
    )
    return hidden


class Loss:
    def __init__(self, model: ReconstructionModel, objects: Objects) -> None:
        self.model = model
        self.objects = objects
        self.weights = torch.tensor(
            [
                THIN_LEGGED_WEIGHT if kind_of(seed) in THIN_LEGGED else 1.0
                for seed in objects.seeds.tolist()
            ]
        )
        self.cameras = zero123plus_cameras().tokens()
        encoder = model.config.encoder
        self.attention_guide = AttentionGuide(
            model.transformer, zero123plus_cameras(), encoder.view_size // encoder.patch_size
        )

    def __call__(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of one random batch: signed distance, its sign and the colour near the surface."""
        objects = self.objects
        chosen = torch.multinomial(self.weights, BATCH, replacement=True, generator=generator)
        subset = torch.randint(objects.points.shape[1], (POINTS_PER_STEP,), generator=generator)
        points = objects.points[chosen][:, subset].float()
        distance = objects.signed_distance[chosen][:, subset].float()
        colors = objects.colors[chosen][:, subset].float() / 255
        views, colors = permute_colors(
            generator, objects.views[chosen].float() / 255, colors[..., None, None]
        )
        with torch.autocast("cpu", torch.bfloat16):
            features = self.model.encoder(
                views.flatten(0, 1), self.cameras.repeat(BATCH, 1)
            )  # (B * 6, 1 + patches, D)
            planes = self.model.transformer(features.reshape(BATCH, -1, features.shape[-1])).float()
            predicted = decode(planes, self.model.decoder.net_sdf, points).float()[..., 0]
            raw_color = decode(planes, self.model.decoder.net_rgb, points).float()
        near = distance.abs() < NEAR_SURFACE / 2
        color_error = raw_color.sigmoid()[near] - colors[..., 0, 0][near]
        return {
            "distance": F.smooth_l1_loss(
                (predicted * DISTANCE_SCALE).clamp(-2, 2),
                (distance * DISTANCE_SCALE).clamp(-2, 2),
                beta=0.1,
            ),
            "sign": (
                0.3
                * F.binary_cross_entropy_with_logits(
                    predicted * 3 * DISTANCE_SCALE, (distance > 0).float()
                )
            ),
            "color": 0.5 * color_error.abs().mean(),
            # Three channels of a patch's feature are its mean colour, and differences of colour
            # channels count more than their mean, or short trainings end with grey objects:
            # brightness is learnt first.
            "attention": 0.1 * self.attention_guide.loss(),
            "guide": 0.1 * (features[:, 1:, :3].float() - self._patch_colors(views)).abs().mean(),
            "hue": 1.5 * (color_error - color_error.roll(1, dims=1)).abs().mean(),
        }

    def _patch_colors(self, views: Tensor) -> Tensor:
        """(B * 6, patches, 3) mean colour of each patch, as brightness and two hues."""
        patches = F.avg_pool2d(views.flatten(0, 1) - 0.5, self.model.config.encoder.patch_size)
        return opponent(patches).flatten(2).transpose(1, 2)


def new_model() -> ReconstructionModel:
    """A pocket model with fresh weights; its deformation and cube weights are zero and stay so."""
    torch.manual_seed(0)
    model = ReconstructionModel(RECONSTRUCTION_PRESETS["pocket"].config)
    for name, parameter in model.named_parameters():
        if name.endswith("position_embeddings") or name.endswith("cls_token"):
            nn.init.trunc_normal_(parameter, std=0.02)
    for mlp in (model.decoder.net_deformation, model.decoder.net_weight):
        mlp.requires_grad_(False)
        for parameter in mlp[-1].parameters():
            nn.init.zeros_(parameter)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cache", type=Path)
    parser.add_argument("run", type=Path, help="folder of the run's checkpoint and weights")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    arguments.run.mkdir(parents=True, exist_ok=True)
    model = new_model()
    print(sum(p.numel() for p in model.parameters()), "parameters")
    optimizers = make_optimizers(model, 1e-3, 5e-4, lambda name, _: ".layer" in name)
    averaged = train(
        model,
        optimizers,
        Loss(model, Objects(arguments.cache)),
        arguments.steps,
        arguments.run / "reconstruction.pt",
    )
    torch.save(averaged.state_dict(), arguments.run / "reconstruction-weights.pt")


if __name__ == "__main__":
    main()
