"""Zero123++'s sampling loop, from one image to six views."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from einops import rearrange
from torch import Tensor

from ..errors import InvalidInput
from ..images.checks import check_images
from ..progress import Progress, silent
from ..settings import ViewSettings
from .previews import preview
from .reference_attention import ReferenceUNet
from .schedulers import make_scheduler
from .zero123plus import MultiviewModel

# The model shifts and scales latents, and scales pixels, so that white backgrounds are well inside
# the value range.
LATENT_SCALE, LATENT_SHIFT = 0.75, 0.22
PIXEL_SCALE = 0.8 / 0.5
_MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class GeneratedViews:
    """Six views and the seed that reproduces them.

    Attributes:
        views: (6, 3, S, S) float32 in [0, 1], in the order of `cameras.zero123plus_cameras`.
        seed: the seed used; a random one if 0 was requested.
    """

    views: Tensor
    seed: int

    @property
    def grid(self) -> Tensor:
        """The views in three rows of two: (1, 3, 3 S, 2 S)."""
        return rearrange(self.views, "(r c) rgb h w -> 1 rgb (r h) (c w)", r=3)


def choose_seed(seed: int) -> int:
    """Return the seed, or a random one if it is 0."""
    return seed if seed else secrets.randbelow(2**32 - 1) + 1


def choose_seeds(seed: int, count: int) -> list[int]:
    """Return `count` consecutive seeds, starting with the given one, or a random one if it is 0."""
    first = choose_seed(seed)
    return [(first + i - 1) % _MAX_SEED + 1 for i in range(count)]


def draw_noise(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw normal noise on the CPU, so that a seed gives the same noise on every device."""
    return torch.randn(tuple(shape), generator=generator).to(device)


@torch.no_grad()
def sample_views(
    model: MultiviewModel,
    image: Tensor,
    settings: ViewSettings | None = None,
    *,
    progress: Progress = silent,
) -> GeneratedViews:
    """Sample six views around the object in an image, on the model's own background.

    Args:
        model: the multiview model, on one device.
        image: (1, 3, H, W) in [0, 1] on the model's background; framed and square for good
            results.
        settings: sampling settings. A seed gives the same noise on every device.
        progress: called after each step with a preview of the six views in three rows, (1, 3,
            3 S / 8, 2 S / 8), where S is the size of a view in pixels.

    Returns:
        the views and the seed used.

    Raises:
        InvalidInput: if the image has another shape or is not finite.

    Source: Shi et al., Zero123++ (arXiv 2310.15110), sections 2.2 to 2.4.
    """
    settings = settings or ViewSettings()
    steps = model.steps if settings.steps is None else settings.steps
    guidance = model.guidance if settings.guidance is None else settings.guidance
    check_images(image, 3)
    if len(image) != 1:
        raise InvalidInput(f"The image must be (1, 3, H, W), got {tuple(image.shape)}.")
    solver = make_scheduler(settings.scheduler, model.scheduler_config)
    seed = choose_seed(settings.seed)
    generator = torch.Generator().manual_seed(seed)
    draw = partial(draw_noise, generator=generator, device=model.device)
    image = image.to(model.device).float().clamp(0, 1)
    guided = guidance > 1
    condition, context = _conditions(model, image, guided, draw)
    solver.set_timesteps(steps, device=model.device)
    side = model.view_size // (2 ** (len(model.vae.config.block_out_channels) - 1))
    latents = draw((1, model.unet.config.in_channels, 3 * side, 2 * side)) * solver.init_noise_sigma
    unet, dtype = ReferenceUNet(model.unet), model.dtype
    with model.at_work(model.unet):
        for done, timestep in enumerate(solver.timesteps, start=1):
            noise = draw(condition.shape)
            noised = solver.add_noise(condition, noise, timestep.expand(len(condition)))
            reference = solver.scale_model_input(noised, timestep)
            scaled = solver.scale_model_input(latents.expand(len(condition), -1, -1, -1), timestep)
            velocity = unet(scaled.to(dtype), timestep, context, reference.to(dtype)).float()
            if guided:
                negative, positive = velocity.chunk(2)
                velocity = negative + guidance * (positive - negative)
            random = {"generator": generator} if settings.scheduler == "euler_ancestral" else {}
            latents = solver.step(velocity, timestep, latents, return_dict=False, **random)[0]
            progress(done, steps, preview(latents).cpu())
    with model.at_work(model.vae):
        views = _decode(model, latents)
    return GeneratedViews(views, seed)


def _conditions(
    model: MultiviewModel, image: Tensor, guided: bool, draw: Callable[..., Tensor]
) -> tuple[Tensor, Tensor]:
    with model.at_work(model.vae):
        latents = condition_latents(model, image, guided, draw)
    with model.at_work(model.vision_encoder):
        return latents, contexts(model, image, guided)


def condition_latents(
    model: MultiviewModel, image: Tensor, guided: bool, draw: Callable[..., Tensor]
) -> Tensor:
    """Sample unscaled VAE latents of a zero image and of the condition image, in this order.

    The shape is (2, 4, s, s) if guided; otherwise (1, 4, s, s), without the zero image. The noise
    for the condition image is drawn first.
    """
    pixels = model.vae_transform(image).to(model.vae.dtype)
    latents: list[Tensor] = []
    for sample in (pixels, torch.zeros_like(pixels)) if guided else (pixels,):
        posterior = model.vae.encode(sample).latent_dist
        latents.insert(0, (posterior.mean + posterior.std * draw(posterior.mean.shape)).float())
    return torch.cat(latents)


def contexts(model: MultiviewModel, image: Tensor, guided: bool) -> Tensor:
    """Return the empty prompt (2, 77, D) without and with the image embedding.

    Unless guided, only the one with the image embedding: (1, 77, D).
    """
    pixels = model.clip_transform(image).to(model.vision_encoder.dtype)
    embedding = model.vision_encoder(pixels).image_embeds  # (1, D)
    text = model.empty_prompt.to(model.device, torch.float32)
    ramp = model.ramp.to(model.device, torch.float32)
    positive = text + ramp[:, None] * embedding.float()
    return torch.stack([text, positive] if guided else [positive]).to(model.dtype)


def _decode(model: MultiviewModel, latents: Tensor) -> Tensor:
    unscaled = (latents / LATENT_SCALE + LATENT_SHIFT) / model.vae.config.scaling_factor
    pixels = model.vae.decode(unscaled.to(model.vae.dtype), return_dict=False)[0].float()
    grid = (pixels * PIXEL_SCALE / 2 + 0.5).clamp(0, 1)
    return rearrange(grid, "1 rgb (r h) (c w) -> (r c) rgb h w", r=3, c=2).cpu()
