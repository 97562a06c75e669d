"""Train the pocket VAE on crops of the views and pictures.

python -m training.train_vae CACHE RUN --steps 1500
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.multiview.sampling import LATENT_SCALE, LATENT_SHIFT

from .colors import opponent, permute_colors
from .dataset import Objects
from .optimization import make_optimizers, train
from .pocket import POCKET_VAE

BATCH, CROP = 16, 64
PATCH = 8
KL_WEIGHT, HUE_WEIGHT, GUIDE_WEIGHT = 1e-3, 0.5, 2.0


def to_pixels(images: Tensor) -> Tensor:
    """uint8 to the VAE's range: mean 0.5, deviation 0.8 of [0, 1]."""
    return (images.float() / 255 - 0.5) / 0.8


class Loss:
    def __init__(self, vae: AutoencoderKL, objects: Objects) -> None:
        self.vae = vae
        self.images = torch.cat([objects.views, objects.pictures], dim=1)  # (N, 8, 3, S, S)

    def guide(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Three latent channels are the patches' mean colours.

        The encoder starts with this alone, or short trainings end with grey pictures: brightness
        fills all channels before hue finds one.
        """
        pixels = self._crops(generator)
        with torch.autocast("cpu", torch.bfloat16):
            mean = self.vae.encode(pixels).latent_dist.mean
        return {"guide": self._guide_error(mean, pixels)}

    def __call__(self, generator: torch.Generator) -> dict[str, Tensor]:
        """L1 of pixels, of their gradients and hues, a light KL, and some of the guide."""
        pixels = self._crops(generator)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = self.vae.encode(pixels).latent_dist
            decoded = self.vae.decode(posterior.sample(generator), return_dict=False)[0].float()
        error = decoded - pixels
        return {
            "pixels": error.abs().mean(),
            "gradients": error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean(),
            "hue": HUE_WEIGHT * opponent(error)[:, 1:].abs().mean(),
            "guide": GUIDE_WEIGHT * self._guide_error(posterior.mean, pixels),
            "kl": KL_WEIGHT * posterior.kl().mean() / posterior.mean[0].numel(),
        }

    @staticmethod
    def _guide_error(mean: Tensor, pixels: Tensor) -> Tensor:
        return (mean[:, :3].float() - opponent(F.avg_pool2d(pixels, PATCH))).abs().mean()

    def _crops(self, generator: torch.Generator) -> Tensor:
        count, views, _, size, _ = self.images.shape
        crops = []
        for _ in range(BATCH):
            i = int(torch.randint(count, (), generator=generator))
            view = int(torch.randint(views, (), generator=generator))
            top, left = torch.randint(8, size - CROP - 8, (2,), generator=generator).tolist()
            crops.append(self.images[i, view, :, top : top + CROP, left : left + CROP])
        return to_pixels(permute_colors(generator, torch.stack(crops))[0]).contiguous(
            memory_format=torch.channels_last
        )


@torch.no_grad()
def normalize_latents(vae: AutoencoderKL, pixels: Tensor) -> None:
    """Fold a shift and scale of each latent channel into the 1x1 convolutions beside the latents.

    After it, the latents of `pixels` (B, 3, H, W) have mean 0 and deviation 1 in the space where
    the U-Net works, which is where `sampling` puts Stable Diffusion's; what the VAE decodes stays
    the same.
    """
    channels = vae.config.latent_channels
    latents = (
        torch.cat([vae.encode(chunk).latent_dist.mean for chunk in pixels.split(16)])
        .transpose(0, 1)
        .flatten(1)
    )
    mean, deviation = latents.mean(dim=1), latents.std(dim=1)
    scale = 1 / (LATENT_SCALE * vae.config.scaling_factor) / deviation
    shift = LATENT_SHIFT / vae.config.scaling_factor - mean * scale
    before, after = vae.quant_conv, vae.post_quant_conv
    before.weight[:channels] *= scale[:, None, None, None]
    before.bias[:channels] = before.bias[:channels] * scale + shift
    before.bias[channels:] += 2 * scale.log()
    after.bias += after.weight[..., 0, 0] @ (-shift / scale)
    after.weight /= scale[:, None, None]


def no_matrices(_name: str, _parameter: Tensor) -> bool:
    """Convolutions are no matrices for Muon."""
    return False


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cache", type=Path)
    parser.add_argument("run", type=Path, help="folder of the run's checkpoint and weights")
    parser.add_argument("--guide-steps", type=int, default=250)
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    arguments.run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    vae = AutoencoderKL(**POCKET_VAE).to(memory_format=torch.channels_last)
    print(sum(p.numel() for p in vae.parameters()), "parameters")
    objects = Objects(arguments.cache)
    loss = Loss(vae, objects)
    encoder = nn.ModuleList([vae.encoder, vae.quant_conv])
    encoder_optimizers = make_optimizers(encoder, 5e-4, 5e-4, no_matrices)
    guided = train(
        encoder,
        encoder_optimizers,
        loss.guide,
        arguments.guide_steps,
        arguments.run / "guide.pt",
        average_over=20,
    )
    encoder.load_state_dict(guided.state_dict())
    averaged = train(
        vae,
        make_optimizers(vae, 8e-4, 8e-4, no_matrices),
        loss,
        arguments.steps,
        arguments.run / "vae.pt",
    )
    normalize_latents(averaged, to_pixels(objects.views[:100].flatten(0, 1)))
    torch.save(averaged.state_dict(), arguments.run / "vae-weights.pt")


if __name__ == "__main__":
    main()
