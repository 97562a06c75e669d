"""What is measured: each stage prepares its inputs and returns the function whose time counts.

Weights are random: speed does not depend on what is in them. Surfaces are taken from a smooth triplane whose decoder's bias is set so that about
a fifth of the volume is inside.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from pipelines.checkpoints import RECONSTRUCTION_PRESETS
from pipelines.isosurface.extraction import extract_surface
from pipelines.mesh import Mesh
from pipelines.mesh_io import save_mesh
from pipelines.multiview.reference_attention import ReferenceUNet
from pipelines.reconstruction.model import MeshDecoder, NerfDecoder, ReconstructionModel
from pipelines.reconstruction.reconstruct import reconstruct
from pipelines.reconstruction.triplane import Triplane, density_of

Stage = Callable[[torch.device], Callable[[], object]]
INSIDE = 0.2

#: Stable Diffusion 2.1's U-Net, which Zero123++ has.
UNET: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
    "sample_size": 96,
}


def model(preset: str, device: torch.device, dtype: torch.dtype) -> ReconstructionModel:
    torch.manual_seed(0)
    return ReconstructionModel(RECONSTRUCTION_PRESETS[preset].config).requires_grad_(False).eval().to(device, dtype)


def smooth_triplane(preset: str, device: torch.device) -> tuple[Triplane, float]:
    """A triplane of low frequencies, and the density that a fifth of the volume exceeds."""
    config = RECONSTRUCTION_PRESETS[preset].config
    torch.manual_seed(0)
    decoder = (MeshDecoder if config.surface == "mesh" else NerfDecoder)(3 * config.triplane_dim).requires_grad_(False).to(device)
    size = 2 * config.triplane_low_res
    noise = torch.randn(3, config.triplane_dim, 6, 6, generator=torch.Generator().manual_seed(1)).to(device)
    planes = F.interpolate(noise, size=(size, size), mode="bicubic")
    points = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(2)).to(device) * 2 - 1
    level = Triplane(planes, decoder, config).level_field.at(points, 20_000)[:, 0].quantile(1 - INSIDE)
    if config.surface == "mesh":
        decoder.net_sdf[-1].bias -= level
    return Triplane(planes, decoder, config), float(density_of(level))


def views_to_triplane(dtype: torch.dtype) -> Stage:
    def prepare(device: torch.device) -> Callable[[], object]:
        large, views = model("instant-mesh-large", device, dtype), torch.rand(6, 3, 320, 320, device=device)
        return lambda: reconstruct(large, views)

    return prepare


def surface(preset: str, resolution: int, exact: bool = False) -> Stage:
    def prepare(device: torch.device) -> Callable[[], object]:
        triplane, threshold = smooth_triplane(preset, device)
        limits: dict[str, Any] = {"threshold": threshold} if triplane.config.surface == "nerf" else {}
        # A fresh triplane each time: what it keeps between calls is part of the work.
        return lambda: extract_surface(triplane.to(device), resolution=resolution, exact=exact, **limits)

    return prepare


def denoising_step(dtype: torch.dtype) -> Stage:
    """One step at 640 x 960 with guidance: the reference pass over the condition, then the denoising pass."""

    def prepare(device: torch.device) -> Callable[[], object]:
        from diffusers import UNet2DConditionModel

        torch.manual_seed(0)
        with torch.device(device):
            torch.set_default_dtype(dtype)
            unet = ReferenceUNet(UNet2DConditionModel(**UNET).requires_grad_(False).eval())
            torch.set_default_dtype(torch.float32)
            latents, reference = torch.randn(2, 4, 120, 80, dtype=dtype), torch.randn(2, 4, 40, 40, dtype=dtype)
            context, timestep = torch.randn(2, 77, 1024, dtype=dtype), torch.tensor(500)
        return lambda: unet(latents, timestep, context, reference)

    return prepare


def vertex_colors(device: torch.device) -> Callable[[], object]:
    triplane, _ = smooth_triplane("instant-mesh-large", device)
    points = torch.rand(1_000_000, 3, device=device) * 2 - 1
    return lambda: triplane.to(device).colors(points, 131072)


def write_obj(device: torch.device) -> Callable[[], object]:
    side = 708
    index = torch.arange(side * side).view(side, side)
    a, b, c, d = index[:-1, :-1].flatten(), index[1:, :-1].flatten(), index[:-1, 1:].flatten(), index[1:, 1:].flatten()
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([b, d, c], 1)])
    mesh = Mesh(torch.rand(side * side, 3), faces, torch.rand(side * side, 3))
    folder = tempfile.mkdtemp()
    return lambda: save_mesh(mesh, Path(folder) / "million.obj")


def importing(device: torch.device) -> Callable[[], float]:
    """Seconds that the library takes to import on top of torch: the function's result, not its time."""
    code = "import torch, time; t = time.perf_counter(); import pipelines.image_to_3d, pipelines.rendering.triplane; print(time.perf_counter() - t)"
    return lambda: float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


STAGES: dict[str, Stage] = {
    "views to triplane, float32": views_to_triplane(torch.float32),
    "views to triplane, bfloat16": views_to_triplane(torch.bfloat16),
    "FlexiCubes mesh at 128": surface("instant-mesh-large", 128),
    "FlexiCubes mesh at 256": surface("instant-mesh-large", 256),
    "NeRF mesh at 256": surface("instant-nerf-large", 256),
    "NeRF mesh at 512": surface("instant-nerf-large", 512),
    "Zero123++ step, float32": denoising_step(torch.float32),
    "Zero123++ step, bfloat16": denoising_step(torch.bfloat16),
    "colours of a million vertices": vertex_colors,
    "OBJ of a million triangles": write_obj,
    "import, on top of torch": importing,
}
