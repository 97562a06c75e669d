"""Train the pocket Zero123++: first its picture encoder alone, then the U-Net together with it.

    python -m training.train_multiview CACHE RUN --encoder-steps 800 --steps 2000

The picture encoder learns to predict the six views' latents at a quarter of their size, which is a
much stronger signal than what comes back through the U-Net; the U-Net then starts with an embedding
that already says what stands in the picture.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from pipelines.multiview.reference_attention import ReferenceUNet
from pipelines.multiview.sampling import LATENT_SCALE, LATENT_SHIFT

from .dataset import Objects
from .optimization import make_optimizers, train
from .pocket import POCKET_SCHEDULER, POCKET_TEXT, POCKET_UNET, POCKET_VAE, POCKET_VISION, RAMP
from .train_vae import to_pixels

BATCH, ENCODER_BATCH = 16, 64
DROPPED = 0.1  # share of conditions replaced by none, for guidance
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Latents:
    """What the VAE makes of a data set.

    Attributes:
        grids (N, 4, 3 s, 2 s): the six views as the U-Net sees them, bfloat16.
        conditions (N, P, 4, s, s): the pictures, not scaled, bfloat16.
        nothing (4, s, s): the condition of the unconditional half.
    """

    def __init__(self, vae: AutoencoderKL, objects: Objects, kept: Path) -> None:
        if kept.exists():
            saved = torch.load(kept, weights_only=True)
        else:
            saved = {
                "grids": _encode(vae, objects.views),
                "conditions": _encode(vae, objects.pictures),
            }
            torch.save(saved, kept)
        scaled = (saved["grids"].float() * vae.config.scaling_factor - LATENT_SHIFT) * LATENT_SCALE
        self.grids = rearrange(scaled, "n (r c) d h w -> n d (r h) (c w)", r=3).bfloat16()
        self.conditions = saved["conditions"]
        with torch.no_grad():
            size = objects.pictures.shape[-1]
            self.nothing = vae.encode(torch.zeros(1, 3, size, size)).latent_dist.mean[0]


@torch.no_grad()
def _encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    flat = images.flatten(0, 1)
    encoded = []
    for start in range(0, len(flat), 64):
        pixels = to_pixels(flat[start : start + 64]).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            encoded.append(vae.encode(pixels).latent_dist.mean.bfloat16())
    return torch.cat(encoded).unflatten(0, images.shape[:2])


def clip_pixels(images: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) as CLIP wants it."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
    return (images.float() / 255 - mean) / std


class EncoderTrainer(nn.Module):
    """The picture encoder and the head that it is trained with, which is thrown away."""

    def __init__(self, vision: CLIPVisionModelWithProjection, latents: Tensor) -> None:
        super().__init__()
        self.vision = vision
        self.head = nn.Sequential(
            nn.Linear(vision.config.projection_dim, 768),
            nn.SiLU(),
            nn.Linear(768, latents[0].numel() // 4),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        embedding = self.vision(clip_pixels(pixels)).image_embeds
        predicted: Tensor = self.head(embedding)
        return predicted


class EncoderLoss:
    def __init__(self, trainer: EncoderTrainer, objects: Objects, latents: Latents) -> None:
        self.trainer, self.objects, self.latents = trainer, objects, latents

    def __call__(self, generator: torch.Generator) -> dict[str, Tensor]:
        chosen = torch.randint(len(self.objects), (ENCODER_BATCH,), generator=generator)
        picture = torch.randint(
            self.objects.pictures.shape[1], (ENCODER_BATCH,), generator=generator
        )
        target = F.avg_pool2d(self.latents.grids[chosen].float(), 2).flatten(1)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = self.trainer(self.objects.pictures[chosen, picture]).float()
        return {"latents": F.mse_loss(predicted, target)}


class MultiviewTrainer(nn.Module):
    def __init__(self, unet: UNet2DConditionModel, vision: CLIPVisionModelWithProjection) -> None:
        super().__init__()
        self.unet, self.vision = unet, vision


class MultiviewLoss:
    def __init__(
        self, trainer: MultiviewTrainer, empty_prompt: Tensor, objects: Objects, latents: Latents
    ) -> None:
        self.vision, self.objects, self.latents = trainer.vision, objects, latents
        self.unet = ReferenceUNet(trainer.unet)
        self.empty_prompt, self.ramp = empty_prompt, torch.tensor(RAMP)
        betas = torch.linspace(
            POCKET_SCHEDULER["beta_start"],
            POCKET_SCHEDULER["beta_end"],
            POCKET_SCHEDULER["num_train_timesteps"],
        )
        self.alphas_cumprod = (1 - betas).cumprod(dim=0)

    def __call__(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean squared error of the velocity (Salimans and Ho, arXiv 2202.00512)."""
        objects, latents = self.objects, self.latents
        chosen = torch.randint(len(objects), (BATCH,), generator=generator)
        picture = torch.randint(objects.pictures.shape[1], (BATCH,), generator=generator)
        kept = torch.rand(BATCH, generator=generator) >= DROPPED
        clean = latents.grids[chosen].float()
        condition = torch.where(
            kept[:, None, None, None], latents.conditions[chosen, picture].float(), latents.nothing
        )
        # One timestep from each of BATCH equal parts: less noise in the gradient than independent
        # draws.
        timestep = (
            (torch.arange(BATCH) + torch.rand(BATCH, generator=generator))
            / BATCH
            * len(self.alphas_cumprod)
        ).long()
        signal, noise_level = (
            x[:, None, None, None]
            for x in (
                self.alphas_cumprod[timestep].sqrt(),
                (1 - self.alphas_cumprod[timestep]).sqrt(),
            )
        )
        noise = torch.randn(clean.shape, generator=generator)
        reference = signal * condition + noise_level * torch.randn(
            condition.shape, generator=generator
        )
        with torch.autocast("cpu", torch.bfloat16):
            embedding = (
                self.vision(clip_pixels(objects.pictures[chosen, picture])).image_embeds
                * kept[:, None]
            )
            context = self.empty_prompt + self.ramp[:, None] * embedding[:, None]
            noised = (signal * clean + noise_level * noise).contiguous(
                memory_format=torch.channels_last
            )
            velocity = self.unet(
                noised, timestep, context, reference.contiguous(memory_format=torch.channels_last)
            ).float()
        return {"velocity": F.mse_loss(velocity, signal * noise - noise_level * clean)}


def empty_prompt_of(text_encoder: CLIPTextModel) -> Tensor:
    """(77, D): begin, end, then padding, as the pocket tokenizer answers the empty prompt."""
    with torch.no_grad():
        return text_encoder(torch.tensor([[0, 1] + [2] * 75]))[0][0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cache", type=Path)
    parser.add_argument(
        "run", type=Path, help="folder with the VAE's weights, of the runs' checkpoints and weights"
    )
    parser.add_argument("--encoder-steps", type=int, default=800)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--objects", type=int, help="use only so many")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    run: Path = arguments.run
    vae = AutoencoderKL(**POCKET_VAE)
    vae.load_state_dict(torch.load(run / "vae-weights.pt", weights_only=True))
    objects = Objects(arguments.cache, limit=arguments.objects)
    latents = Latents(
        vae.to(memory_format=torch.channels_last), objects, run / f"latents-{len(objects)}.pt"
    )
    print(
        "latents: mean",
        float(latents.grids.float().mean()),
        "deviation",
        float(latents.grids.float().std()),
    )

    torch.manual_seed(0)
    vision = CLIPVisionModelWithProjection(
        CLIPVisionConfig(**POCKET_VISION, attn_implementation="sdpa")
    )
    encoder = EncoderTrainer(vision, latents.grids)
    encoder_optimizers = make_optimizers(encoder, 1e-3, 1e-3, lambda name, _: ".layers." in name)
    encoder_loss = EncoderLoss(encoder, objects, latents)
    trained_encoder = train(
        encoder,
        encoder_optimizers,
        encoder_loss,
        arguments.encoder_steps,
        run / "vision.pt",
        average_over=50,
    )
    vision.load_state_dict(trained_encoder.vision.state_dict())

    text_encoder = CLIPTextModel(CLIPTextConfig(**POCKET_TEXT))
    unet = UNet2DConditionModel(**POCKET_UNET).to(memory_format=torch.channels_last)
    trainer = MultiviewTrainer(unet, vision)
    loss = MultiviewLoss(trainer, empty_prompt_of(text_encoder), objects, latents)
    optimizers = make_optimizers(
        trainer, 6e-4, 6e-4, lambda name, _: "transformer_blocks" in name or ".layers." in name
    )
    averaged = train(trainer, optimizers, loss, arguments.steps, run / "multiview.pt")
    torch.save(
        {
            "unet": averaged.unet.state_dict(),
            "vision_encoder": averaged.vision.state_dict(),
            "text_encoder": text_encoder.state_dict(),
        },
        run / "multiview-weights.pt",
    )


if __name__ == "__main__":
    main()
