"""Compare the inputs of Zero123++'s parts, its denoising steps and its views."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from pipelines.images.framing import composite
from pipelines.multiview.image_transform import ImageTransform
from pipelines.multiview.reference_attention import ReferenceUNet
from pipelines.multiview.sampling import condition_latents, contexts, sample_views
from pipelines.multiview.schedulers import make_scheduler
from pipelines.multiview.zero123plus import MultiviewModel
from pipelines.settings import ViewSettings
from pipelines.weights.multiview_models import renamed
from pipelines.weights.tensors import load_strictly

from .comparison import Row, compare, tensor_of


@contextmanager
def _recorded_noise(golden: Any) -> Iterator[None]:
    """Replace the generator's noise by the golden noise, in the order of the draws."""
    names = iter(sorted(n for n in golden.files if n.startswith("noise_")))

    def draw(shape: Any, *_: Any, **__: Any) -> Tensor:
        noise = tensor_of(golden[next(names)])
        if tuple(noise.shape) != tuple(shape):
            raise ValueError(
                f"noise of shape {tuple(shape)} was drawn, but the golden noise has"
                f" {tuple(noise.shape)}"
            )
        return noise

    with (
        patch("pipelines.multiview.sampling.draw_noise", draw),
        patch("diffusers.schedulers.scheduling_euler_ancestral_discrete.randn_tensor", draw),
    ):
        yield


def _multiview_model(folder: Path, config: dict[str, Any], golden: Any) -> MultiviewModel:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    parts: dict[str, Any] = {
        "unet": UNet2DConditionModel.from_config(config["unet"]),
        "vae": AutoencoderKL.from_config(config["vae"]),
        "vision_encoder": CLIPVisionModelWithProjection(
            CLIPVisionConfig(**config["vision_encoder"])
        ),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**config["text_encoder"])),
    }
    for name, part in parts.items():
        path = folder / f"zero123plus_tiny_{name}.safetensors"
        load_strictly(part, renamed(name, load_file(path), part), path)
    with torch.no_grad():
        empty_prompt = parts.pop("text_encoder")(tensor_of(golden["input_ids"]))[0][0]
    vae_transform, clip_transform = (
        ImageTransform(c["size"], c["crop"], tuple(c["mean"]), tuple(c["std"]))
        for c in (config["feature_extractor_vae"], config["feature_extractor_clip"])
    )
    return MultiviewModel(
        **parts,
        vae_transform=vae_transform,
        clip_transform=clip_transform,
        empty_prompt=empty_prompt,
        ramp=torch.tensor(config["ramping_coefficients"]),
        scheduler_config=config["scheduler"],
        view_size=config["width"] // 2,
        device=torch.device("cpu"),
    )


def report_zero123plus(folder: Path) -> Iterator[Row]:
    config = json.loads((folder / "zero123plus_tiny.json").read_text())
    golden = np.load(folder / "zero123plus_tiny.npz")
    model = _multiview_model(folder, config, golden)
    steps, guidance = config["num_inference_steps"], config["guidance_scale"]
    guided = guidance > 1
    rgba = tensor_of(golden["image_rgba"]).permute(2, 0, 1)[None].float() / 255
    image = composite(rgba[:, :3], rgba[:, 3:], (model.background,) * 3)
    yield compare("zero123plus vae_pixels", model.vae_transform(image), golden["vae_pixels"], 1e-4)
    yield compare(
        "zero123plus clip_pixels", model.clip_transform(image), golden["clip_pixels"], 1e-4
    )
    with torch.no_grad():
        embedding = model.vision_encoder(model.clip_transform(image)).image_embeds
        yield compare(
            "zero123plus image_embeds", embedding, golden["image_embeds"], 1e-4, relative=True
        )
        noise = iter([tensor_of(golden[n]) for n in sorted(golden.files) if n.startswith("noise_")])
        condition = condition_latents(model, image, guided, lambda shape: next(noise))
        context = contexts(model, image, guided)
        yield compare(
            "zero123plus condition_latents",
            condition[-1:],
            golden["condition_latents"],
            1e-4,
            relative=True,
        )
        if guided:
            yield compare(
                "zero123plus negative_latents",
                condition[:1],
                golden["negative_latents"],
                1e-4,
                relative=True,
            )
        yield compare(
            "zero123plus encoder_hidden_states",
            context,
            golden["encoder_hidden_states"][-len(context) :],
            1e-4,
            relative=True,
        )
        scheduler = make_scheduler("euler_ancestral", model.scheduler_config)
        scheduler.set_timesteps(steps)
        yield compare("zero123plus timesteps", scheduler.timesteps, golden["timesteps"], 1e-4)
        yield compare("zero123plus sigmas", scheduler.sigmas, golden["sigmas"], 1e-4, relative=True)
        unet = ReferenceUNet(model.unet)
        reference_noise = [
            tensor_of(golden[n]) for n in sorted(golden.files) if n.endswith("_reference")
        ]
        for i, timestep in enumerate(scheduler.timesteps.clone()):
            scheduler.set_timesteps(
                steps
            )  # reset the scheduler, because each step is compared alone
            noised = scheduler.add_noise(
                condition, reference_noise[i], timestep.expand(len(condition))
            )
            output = unet(
                tensor_of(golden["unet_inputs"][i]),
                timestep,
                context,
                scheduler.scale_model_input(noised, timestep),
            )
            yield compare(f"zero123plus unet_outputs[{i}]", output, golden["unet_outputs"][i], 1e-4)
    with _recorded_noise(golden):
        generated = sample_views(model, image, ViewSettings(steps=steps, guidance=guidance, seed=1))
    yield compare("zero123plus views", generated.grid[0].permute(1, 2, 0), golden["views"], 1e-3)
