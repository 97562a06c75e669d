"""The whole way from a photograph to a mesh."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from .checkpoints import MULTIVIEW_PRESETS, load_multiview_model, load_reconstruction_model
from .devices import at_work, choose_device, choose_dtype, wait_for
from .isosurface.extraction import DEFAULT_CHUNK_SIZE, extract_surface
from .meshes.mesh import Mesh, keep_large_parts
from .multiview.model import WHITE, MultiviewModel
from .multiview.sampling import GeneratedViews, generate_views
from .pictures.background import DEFAULT_THRESHOLD, remove_background
from .pictures.framing import DEFAULT_SIZE, composite, frame_foreground
from .progress import Progress, silent
from .reconstruction.model import ReconstructionModel
from .reconstruction.reconstruct import reconstruct
from .reconstruction.triplane import Triplane


class StageProgress(Protocol):
    """Called after each step of each stage; what it raises ends the work."""

    def __call__(self, stage: str, done: int, total: int, preview: Tensor | None = None) -> None:
        """`done` of `total` steps of a stage: of `ImageTo3D` these are background, framing, views, triplane and surface."""


def _silent(stage: str, done: int, total: int, preview: Tensor | None = None) -> None:
    pass


@dataclass(frozen=True)
class Settings:
    """What a caller can choose. None stands for what suits the models.

    Attributes:
        remove_bg, alpha_threshold: see `pictures.background.remove_background`.
        foreground_ratio: see `pictures.framing.frame_foreground`.
        steps, guidance, scheduler, seed: see `multiview.sampling.generate_views`.
        resolution, chunk_size, threshold, exact: see `isosurface.extraction.extract_surface`.
        min_part_share: see `meshes.mesh.keep_large_parts`.
    """

    remove_bg: str = "auto"
    alpha_threshold: float = DEFAULT_THRESHOLD
    foreground_ratio: float = 0.85
    steps: int | None = None
    guidance: float | None = None
    scheduler: str = "euler_ancestral"
    seed: int = 0
    resolution: int | None = None
    chunk_size: int = DEFAULT_CHUNK_SIZE
    threshold: float | None = None
    exact: bool = False
    min_part_share: float = 1.0


@dataclass(frozen=True)
class Result:
    """A mesh and all that stood on the way to it.

    Attributes:
        mesh: with vertex colours.
        framed: (3, S, S) what the views were made from.
        views: (6, 3, S, S) on white.
        triplane: for other resolutions, and for orbits.
        seed: what was used.
        seconds: by stage.
    """

    mesh: Mesh
    framed: Tensor
    views: Tensor
    triplane: Triplane
    seed: int
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageTo3D:
    """Both models, ready for many pictures.

    Attributes:
        multiview, reconstruction: on one device.
        steps, guidance: used where the settings do not say.
        background_models: folder of rembg's models, or None for rembg's own.
    """

    multiview: MultiviewModel
    reconstruction: ReconstructionModel
    steps: int = 75
    guidance: float = 4.0
    background_models: Path | None = None

    @classmethod
    def load(
        cls,
        model: str = "pocket",
        views_model: str | None = None,
        *,
        models_dirs: Sequence[Path] = (),
        device: str = "auto",
        dtype: str = "auto",
        keep_half_copy: bool = True,
        offload: bool = False,
    ) -> ImageTo3D:
        """Load both models.

        Args:
            model: one of `checkpoints.RECONSTRUCTION_PRESETS`.
            views_model: one of `checkpoints.MULTIVIEW_PRESETS`; the one that fits the model if None.
            models_dirs: see `checkpoint_files.find_file`; rembg's models are in the folder `rembg` of the first.
            device, dtype: names, see `devices`; the pocket models, which are small, stay in float32 by themselves.
            keep_half_copy: see `checkpoints.read_tensors`.
            offload: keep on the device only the part that is at work, the others in host memory.

        Raises:
            InvalidInput, CheckpointError, EnvironmentProblem: as in `checkpoints` and `devices`.
        """
        views_model = views_model or ("pocket" if model == "pocket" else "zero123plus-instantmesh")
        where = choose_device(device)
        precision = {
            name: choose_dtype("float32" if dtype == "auto" and name == "pocket" else dtype, where) for name in (model, views_model)
        }
        reconstruction = load_reconstruction_model(
            model, models_dirs=models_dirs, device="cpu" if offload else where, dtype=precision[model], keep_half_copy=keep_half_copy
        )
        multiview = load_multiview_model(
            views_model, models_dirs=models_dirs, device=where, dtype=precision[views_model], keep_half_copy=keep_half_copy, offload=offload
        )
        preset = MULTIVIEW_PRESETS[views_model]
        return cls(multiview, reconstruction, preset.steps, preset.guidance, models_dirs[0] / "rembg" if models_dirs else None)

    def __call__(self, picture: Tensor, settings: Settings | None = None, progress: StageProgress = _silent) -> Result:
        """A mesh of the object in a picture.

        Args:
            picture: (3, H, W), or (4, H, W) with straight alpha, in [0, 1].
            settings: choices.
            progress: called after each step.

        Raises:
            InvalidInput, NothingInPicture, EmptySurface, EnvironmentProblem: as the stages do.
        """
        settings = settings or Settings()
        seconds: dict[str, float] = {}
        device = self.multiview.device

        def of_stage(stage: str) -> Progress:
            return lambda done, total, preview=None: progress(stage, done, total, preview)

        with timed("background", seconds):
            mask = remove_background(
                picture[None],
                settings.remove_bg,
                models_dir=self.background_models,
                device=device.type,
                threshold=settings.alpha_threshold,
            )
            progress("background", 1, 1)
        with timed("framing", seconds):
            framed, framed_mask = frame_foreground(
                picture[None, :3].cpu().float(), mask, foreground_ratio=settings.foreground_ratio, size=max(DEFAULT_SIZE, self.multiview.view_size)
            )
            progress("framing", 1, 1, framed[0])
        with timed("views", seconds, device):
            generated = object_views(
                self.multiview,
                framed[0],
                framed_mask[0],
                steps=self.steps if settings.steps is None else settings.steps,
                guidance=self.guidance if settings.guidance is None else settings.guidance,
                scheduler=settings.scheduler,
                seed=settings.seed,
                progress=of_stage("views"),
            )
        with timed("triplane", seconds, device), at_work(self.reconstruction, device, self.multiview.offload):
            triplane = reconstruct(self.reconstruction, generated.views.to(device))
            progress("triplane", 1, 1)
        with timed("surface", seconds, device):
            mesh = surface_mesh(
                triplane,
                resolution=settings.resolution,
                chunk_size=settings.chunk_size,
                threshold=settings.threshold,
                exact=settings.exact,
                min_part_share=settings.min_part_share,
                progress=of_stage("surface"),
            )
        return Result(mesh, framed[0], generated.views, triplane, generated.seed, seconds)


def object_views(
    model: MultiviewModel,
    image: Tensor,
    mask: Tensor | None = None,
    *,
    steps: int,
    guidance: float,
    scheduler: str = "euler_ancestral",
    seed: int = 0,
    progress: Progress = silent,
) -> GeneratedViews:
    """Six views on white, whatever grey the model was trained on.

    Args:
        image: (3, H, W) in [0, 1], framed, on white.
        mask: (1, H, W) in [0, 1], 1 is the object; for models that do not draw on white.
        others: see `multiview.sampling.generate_views`.

    Raises:
        InvalidInput: as in `generate_views`.
    """
    if model.background == WHITE:
        return generate_views(model, image, steps=steps, guidance=guidance, scheduler=scheduler, seed=seed, progress=progress)
    picture = image if mask is None else image - (1 - model.background) * (1 - mask)  # from white to the model's grey
    generated = generate_views(model, picture, steps=steps, guidance=guidance, scheduler=scheduler, seed=seed, progress=progress)
    return replace(generated, views=on_white(generated.views))


def surface_mesh(
    triplane: Triplane,
    *,
    resolution: int | None = None,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
    threshold: float | None = None,
    exact: bool = False,
    min_part_share: float = 1.0,
    colors: bool = True,
    progress: Progress = silent,
) -> Mesh:
    """The surface of a triplane, without floaters, on the CPU.

    Args:
        resolution, chunk_size, threshold, exact: see `isosurface.extraction.extract_surface`.
        min_part_share: see `meshes.mesh.keep_large_parts`.
        colors: ask the triplane for the colour of each vertex.

    Raises:
        InvalidInput, EmptySurface: as in `extract_surface` and `keep_large_parts`.
    """
    vertices, faces = extract_surface(
        triplane, resolution=resolution, chunk_size=chunk_size, threshold=threshold, exact=exact, progress=progress
    )
    mesh = keep_large_parts(Mesh(vertices.cpu(), faces.cpu()), min_part_share)
    if not colors:
        return mesh
    found = triplane.colors(mesh.vertices.to(triplane.planes.device), chunk_size)
    return replace(mesh, vertex_colors=found.clamp(0, 1).cpu())


def on_white(views: Tensor) -> Tensor:
    """Views (N, 3, S, S) that a model drew on plain grey, on white instead."""
    return composite(views, remove_background(views, "plain"))


@contextmanager
def timed(stage: str, seconds: dict[str, float], device: torch.device | None = None) -> Iterator[None]:
    """Notes under its name how long a stage takes, to the end of what it started on a device."""
    began = time.perf_counter()
    yield
    if device is not None:
        wait_for(device)
    seconds[stage] = time.perf_counter() - began
