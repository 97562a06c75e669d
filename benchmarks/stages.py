"""Stages to measure: each prepares its inputs and returns the function to time.

Weights are random, because speed does not depend on their values. Surfaces are extracted from a
smooth triplane with a decoder bias that puts about a fifth of the volume inside.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from pipelines.devices import at_work, choose_dtype
from pipelines.fields.triplane import Triplane
from pipelines.image_to_3d import ImageTo3D
from pipelines.images import read_image
from pipelines.meshes.io import save_mesh
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.texture import TextureLayout, texture_from_images
from pipelines.multiview.generation import generate_views
from pipelines.multiview.image_transform import ImageTransform
from pipelines.multiview.reference_attention import ReferenceUNet
from pipelines.multiview.zero123plus import MultiviewModel
from pipelines.reconstruction.reconstruct import reconstruct
from pipelines.settings import Settings, SurfaceSettings, ViewSettings
from pipelines.surface.extraction import extract_mesh, extract_surface
from pipelines.weights.sizes import OFFICIAL_SIZES

from . import triposg

Stage = Callable[[torch.device], Callable[[], object]]
INSIDE = 0.2

#: Config of the U-Net of Stable Diffusion 2.1, which Zero123++ uses.
UNET: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
    "sample_size": 96,
}
#: Config of the autoencoder of Stable Diffusion 2.1.
VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
}
#: Config of CLIP ViT-H/14.
VISION_ENCODER: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
    "hidden_act": "gelu",
    "projection_dim": 1024,
}
#: Scheduler config of Zero123++.
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "steps_offset": 1,
}


def model(preset: str, device: torch.device, dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    made = OFFICIAL_SIZES[preset].build()
    return made.requires_grad_(False).eval().to(device, dtype)


def smooth_triplane(preset: str, device: torch.device) -> tuple[Triplane, float | None]:
    """Make a triplane of low frequencies, and the density that 1/5 of the volume exceeds."""
    config = replace(OFFICIAL_SIZES[preset], transformer_layers=1)
    torch.manual_seed(0)
    decoder = config.build().requires_grad_(False).decoder
    size = 2 * config.triplane_low_res
    noise = torch.randn(
        3, config.triplane_dim, 6, 6, generator=torch.Generator().manual_seed(1)
    ).to(device)
    planes = F.interpolate(noise, size=(size, size), mode="bicubic")
    triplane = decoder.triplane(planes)
    points = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(2)).to(device) * 2 - 1
    level = triplane.values(points * triplane.half_side, 20_000).quantile(1 - INSIDE)
    if triplane.kind == "density":
        return triplane, float(triplane.density(level))
    last = triplane.decoder.net_sdf[-1]
    assert isinstance(last, nn.Linear)
    last.bias -= level
    return triplane, None


def compiled_parts(network: nn.Module) -> None:
    """Compile each part of a network on its first call, for inputs of that size."""
    for part in network.children():
        part.compile()


def views_to_triplane(dtype: torch.dtype, compiled: bool = False) -> Stage:
    def prepare(device: torch.device) -> Callable[[], object]:
        large = model("instant-mesh-large", device, dtype)
        if compiled:
            compiled_parts(large)
        views = torch.rand(6, 3, 320, 320, device=device)
        return lambda: reconstruct(large, views)

    return prepare


def image_to_planes(dtype: torch.dtype, compiled: bool = False) -> Stage:
    def prepare(device: torch.device) -> Callable[[], object]:
        triposr = model("triposr", device, dtype)
        if compiled:
            compiled_parts(triposr)
        image = torch.rand(1, 3, 512, 512, device=device)
        mask = torch.ones(1, 1, 512, 512, device=device)
        return lambda: reconstruct(triposr, image, masks=mask)

    return prepare


def image_to_obj(device: torch.device) -> Callable[[], object]:
    """Prepare TripoSR's job after background removal, with the surface of the smooth triplane."""
    planes = image_to_planes(choose_dtype("auto", device))(device)
    triplane, threshold = smooth_triplane("triposr", device)
    path = Path(tempfile.mkdtemp()) / "job.obj"

    def run() -> None:
        planes()
        save_mesh(extract_mesh(triplane.to(device), SurfaceSettings(threshold=threshold)), path)

    return run


def photograph(device: torch.device) -> Callable[[], object]:
    """Prepare the embedded model's full job, from background removal to file.

    The mesh has about 100 000 triangles.
    """
    chain = ImageTo3D.load(device=device.type)
    image = read_image(Path(__file__).parents[1] / "workflows" / "cup.png")
    settings = Settings(surface=SurfaceSettings(resolution=160))
    path = Path(tempfile.mkdtemp()) / "cup.obj"
    return lambda: save_mesh(chain(image, settings).mesh, path)


def surface(preset: str, resolution: int, exact: bool = False) -> Stage:
    def prepare(device: torch.device) -> Callable[[], object]:
        triplane, threshold = smooth_triplane(preset, device)
        settings = SurfaceSettings(resolution=resolution, threshold=threshold, exact=exact)
        # Use a new triplane each time, because filling its cache is part of the work.
        return lambda: extract_surface(triplane.to(device), settings)

    return prepare


@contextmanager
def made_on(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Create modules and tensors on a device, in a precision, with seeded random numbers."""
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def denoising_step(dtype: torch.dtype) -> Stage:
    """Return a stage that runs one guided denoising step at 640 x 960.

    The step has a reference pass over the condition image and a denoising pass.
    """

    def prepare(device: torch.device) -> Callable[[], object]:
        from diffusers import UNet2DConditionModel

        with made_on(device, dtype):
            unet = ReferenceUNet(UNet2DConditionModel(**UNET).requires_grad_(False).eval())
            latents, reference = torch.randn(2, 4, 120, 80), torch.randn(2, 4, 40, 40)
            context, timestep = torch.randn(2, 77, 1024), torch.tensor(500)
        return lambda: unet(latents, timestep, context, reference)

    return prepare


def photograph_to_obj(steps: int, offload: bool = False) -> Stage:
    """Return a stage that runs the full job after background removal, with guidance.

    It uses the surface of the smooth triplane, because random weights reconstruct no object.
    """

    def prepare(device: torch.device) -> Callable[[], object]:
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        dtype = choose_dtype("auto", device)
        with made_on(device, dtype):
            parts: dict[str, Any] = {
                "unet": UNet2DConditionModel(**UNET).requires_grad_(False).eval(),
                "vae": AutoencoderKL(**VAE).requires_grad_(False).eval(),
                "vision_encoder": (
                    CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION_ENCODER))
                    .requires_grad_(False)
                    .eval()
                ),
            }
        zero123plus = MultiviewModel(
            **parts,
            empty_prompt=torch.randn(77, 1024),
            ramp=torch.linspace(0, 1, 77, device=device),
            scheduler_config=SCHEDULER,
            vae_transform=ImageTransform(320, 320, (0.5,) * 3, (0.8,) * 3),
            clip_transform=ImageTransform(224, 224, (0.5,) * 3, (0.27,) * 3),
            view_size=320,
            device=device,
            offload=offload,
        )
        large = model("instant-mesh-large", device, dtype)
        (triplane, _) = smooth_triplane("instant-mesh-large", device)
        image = torch.rand(1, 3, 512, 512)
        views = torch.rand(6, 3, 320, 320, device=device)
        path = Path(tempfile.mkdtemp()) / "job.obj"

        if offload:
            for part in (*parts.values(), large):
                part.to("cpu")

        def run() -> None:
            generate_views(
                zero123plus, image, settings=ViewSettings(steps=steps, guidance=4.0, seed=1)
            )
            with at_work(large, device, offload):
                reconstruct(large, views)
            save_mesh(extract_mesh(triplane.to(device)), path)

        return run

    return prepare


def vertex_colors(device: torch.device) -> Callable[[], object]:
    triplane, _ = smooth_triplane("instant-mesh-large", device)
    points = torch.rand(1_000_000, 3, device=device) * 2 - 1
    return lambda: triplane.to(device).colors(points, 131072)


def texture(device: torch.device) -> Callable[[], object]:
    """Prepare a texture of 1024 pixels for 100 000 triangles, which are decimated first."""
    triplane, _ = smooth_triplane("instant-mesh-large", device)
    mesh = extract_mesh(triplane, SurfaceSettings(resolution=192, colors=False))
    return lambda: texture_from_images(mesh, [], TextureLayout(max_faces=100_000), field=triplane)


def write_obj(device: torch.device) -> Callable[[], object]:
    side = 708
    index = torch.arange(side * side).view(side, side)
    a = index[:-1, :-1].flatten()
    b = index[1:, :-1].flatten()
    c = index[:-1, 1:].flatten()
    d = index[1:, 1:].flatten()
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([b, d, c], 1)])
    mesh = Mesh(torch.rand(side * side, 3), faces, torch.rand(side * side, 3))
    folder = tempfile.mkdtemp()
    return lambda: save_mesh(mesh, Path(folder) / "million.obj")


def importing(device: torch.device) -> Callable[[], float]:
    """Prepare a measurement of the library's import time beyond torch's.

    The function returns the seconds itself; its own run time does not count.
    """
    code = (
        "import torch, time; t = time.perf_counter(); import pipelines.image_to_3d,"
        " pipelines.rendering.render_field; print(time.perf_counter() - t)"
    )
    return lambda: float(
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout
    )


JOBS: dict[str, Stage] = {
    "TripoSR: image to OBJ": image_to_obj,
    "photograph to OBJ, 75 steps": photograph_to_obj(75),
    "photograph to OBJ, 28 steps": photograph_to_obj(28),
    "photograph to OBJ, 28 steps, offloading": photograph_to_obj(28, offload=True),
}
STAGES: dict[str, Stage] = {
    "views to triplane, float32": views_to_triplane(torch.float32),
    "views to triplane, bfloat16": views_to_triplane(torch.bfloat16),
    "FlexiCubes mesh at 128": surface("instant-mesh-large", 128),
    "FlexiCubes mesh at 256": surface("instant-mesh-large", 256),
    "NeRF mesh at 256": surface("instant-nerf-large", 256),
    "NeRF mesh at 512": surface("instant-nerf-large", 512),
    "photograph to OBJ, embedded": photograph,
    "TripoSR planes, float32": image_to_planes(torch.float32),
    "TripoSR planes, bfloat16": image_to_planes(torch.bfloat16),
    "TripoSR mesh at 256": surface("triposr", 256),
    "TripoSR mesh at 512": surface("triposr", 512),
    "TripoSG guided step, float32": triposg.guided_step(torch.float32),
    "TripoSG guided step, bfloat16": triposg.guided_step(torch.bfloat16),
    "TripoSG context, float32": triposg.context(torch.float32),
    "TripoSG context, bfloat16": triposg.context(torch.bfloat16),
    "TripoSG 100,000 points, float32": triposg.points(torch.float32),
    "TripoSG 100,000 points, bfloat16": triposg.points(torch.bfloat16),
    "Zero123++ step, float32": denoising_step(torch.float32),
    "Zero123++ step, bfloat16": denoising_step(torch.bfloat16),
    "colours of a million vertices": vertex_colors,
    "texture of 100,000 triangles": texture,
    "OBJ of a million triangles": write_obj,
    "import, on top of torch": importing,
}
