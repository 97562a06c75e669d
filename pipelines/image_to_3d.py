"""The whole way from a photograph to a mesh: nothing but the order of the stages."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from .devices import at_work, choose_device, choose_dtype, wait_for
from .fields.field import Field
from .meshes.mesh import Mesh
from .multiview.generation import generate_views
from .multiview.zero123plus import MultiviewModel
from .pictures.background import remove_background
from .pictures.framing import DEFAULT_SIZE, frame_foreground
from .progress import Progress
from .reconstruction.instant_mesh import ReconstructionModel, reconstruct
from .settings import Settings
from .surface.extraction import extract_mesh
from .weights.multiview_models import load_multiview_model
from .weights.reconstruction_models import load_reconstruction_model


class StageProgress(Protocol):
    """Called after each step of each stage; what it raises ends the work."""

    def __call__(self, stage: str, done: int, total: int, preview: Tensor | None = None) -> None:
        """`done` of `total` steps of a stage.

        Those of `ImageTo3D` are background, framing, views, triplane and surface.
        """


def _silent(stage: str, done: int, total: int, preview: Tensor | None = None) -> None:
    pass


@dataclass(frozen=True)
class Result:
    """A mesh and all that stood on the way to it.

    Attributes:
        mesh: with vertex colours.
        framed: (1, 3, S, S) what the views were made from.
        views: (6, 3, S, S) on white.
        field: for other resolutions, and for orbits.
        seed: what was used.
        seconds: by stage.
    """

    mesh: Mesh
    framed: Tensor
    views: Tensor
    field: Field
    seed: int
    seconds: dict[str, float]


@dataclass(frozen=True)
class ImageTo3D:
    """Both models, ready for many pictures.

    Attributes:
        multiview, reconstruction: on one device.
        background_models: folder of rembg's models, or None for rembg's own.

    >>> from pipelines.pictures import read_picture
    >>> from pipelines.settings import SurfaceSettings, ViewSettings
    >>> chain = ImageTo3D.load("pocket", device="cpu")
    >>> quick = Settings(views=ViewSettings(steps=1, seed=1), surface=SurfaceSettings(32))
    >>> result = chain(read_picture(Path("workflows/demo.png")), quick)
    >>> len(result.mesh.faces) > 100, tuple(result.views.shape)
    (True, (6, 3, 128, 128))
    """

    multiview: MultiviewModel
    reconstruction: ReconstructionModel
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
            model: one of `weights.presets.RECONSTRUCTION_PRESETS`.
            views_model: one of `weights.presets.MULTIVIEW_PRESETS`; the one that fits the model if
                None.
            models_dirs: see `weights.finding.find_file`; rembg's models are in the folder `rembg`
                of the first.
            device: a name of `devices.DEVICES`.
            dtype: "auto" or a name of `devices.DTYPES`; the pocket models, which are small, stay in
                float32 by themselves.
            keep_half_copy: see `weights.tensors.read_tensors`.
            offload: keep on the device only the part that is at work, the others in host memory.

        Raises:
            InvalidInput, CheckpointError, EnvironmentProblem: as in `weights` and `devices`.
        """
        views_model = views_model or ("pocket" if model == "pocket" else "zero123plus-instantmesh")
        where = choose_device(device)

        def precision(name: str) -> torch.dtype:
            return choose_dtype("float32" if dtype == "auto" and name == "pocket" else dtype, where)

        reconstruction = load_reconstruction_model(
            model,
            models_dirs=models_dirs,
            device="cpu" if offload else where,
            dtype=precision(model),
            keep_half_copy=keep_half_copy,
        )
        multiview = load_multiview_model(
            views_model,
            models_dirs=models_dirs,
            device=where,
            dtype=precision(views_model),
            keep_half_copy=keep_half_copy,
            offload=offload,
        )
        return cls(multiview, reconstruction, models_dirs[0] / "rembg" if models_dirs else None)

    def __call__(
        self, picture: Tensor, settings: Settings | None = None, progress: StageProgress = _silent
    ) -> Result:
        """A mesh of the object in a picture.

        Args:
            picture: (1, 3, H, W), or (1, 4, H, W) with straight alpha, in [0, 1].
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
                picture,
                settings.remove_bg,
                models_dir=self.background_models,
                device=device.type,
                threshold=settings.alpha_threshold,
            )
            progress("background", 1, 1)
        with timed("framing", seconds):
            framed, framed_mask = frame_foreground(
                picture[:, :3].cpu().float(),
                mask,
                foreground_ratio=settings.foreground_ratio,
                size=max(DEFAULT_SIZE, self.multiview.view_size),
            )
            progress("framing", 1, 1, framed)
        with timed("views", seconds, device):
            generated = generate_views(
                self.multiview, framed, framed_mask, settings.views, progress=of_stage("views")
            )
        with (
            timed("triplane", seconds, device),
            at_work(self.reconstruction, device, self.multiview.offload),
        ):
            triplane = reconstruct(self.reconstruction, generated.views.to(device))
            progress("triplane", 1, 1)
        with timed("surface", seconds, device):
            mesh = extract_mesh(triplane, settings.surface, progress=of_stage("surface"))
        return Result(mesh, framed, generated.views, triplane, generated.seed, seconds)


@contextmanager
def timed(
    stage: str, seconds: dict[str, float], device: torch.device | None = None
) -> Iterator[None]:
    """Notes under its name how long a stage takes, to the end of what it started on a device."""
    began = time.perf_counter()
    yield
    if device is not None:
        wait_for(device)
    seconds[stage] = time.perf_counter() - began
