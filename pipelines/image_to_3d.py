"""The whole way from a photograph to a mesh: nothing but the order of the stages."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from .cameras import zero123plus_cameras
from .devices import at_work, choose_device, choose_dtype, wait_for
from .errors import InvalidInput
from .fields.field import Field
from .images.background import remove_background
from .images.framing import DEFAULT_SIZE, frame_foreground, framed_side
from .meshes.camera_fit import fit_camera
from .meshes.mesh import Mesh
from .meshes.projection import PosedImages
from .multiview.generation import generate_views
from .multiview.sampling import GeneratedViews
from .multiview.zero123plus import MultiviewModel
from .progress import Progress
from .reconstruction.instant_mesh import reconstruct
from .reconstruction.one_image import reconstruct_image
from .settings import Settings, ViewSettings
from .surface.extraction import extract_mesh
from .weights.multiview_models import load_multiview_model
from .weights.presets import views_model_for
from .weights.reconstruction_models import AnyReconstructionModel, load_reconstruction_model

log = logging.getLogger(__name__)

CPU = torch.device("cpu")
MAX_PHOTOGRAPH = 2048


class StageProgress(Protocol):
    """Called after each step of each stage; what it raises ends the work."""

    def __call__(self, stage: str, done: int, total: int, preview: Tensor | None = None) -> None:
        """`done` of `total` steps of a stage.

        Those of `ImageTo3D` are background, framing, views, triplane and surface.
        """


def _silent(stage: str, done: int, total: int, preview: Tensor | None = None) -> None:
    pass


@dataclass(frozen=True)
class FramedImage:
    """The object of an image in the middle of a square.

    Attributes:
        framed: (1, 3, S, S) on white, for the models.
        framed_mask: (1, 1, S, S).
        photograph: (1, 3, T, T) the same square, as sharp as the image is, up to
            `MAX_PHOTOGRAPH` pixels.
        mask: (1, 1, T, T) of the photograph.
        seconds: by stage.
    """

    framed: Tensor
    framed_mask: Tensor
    photograph: Tensor
    mask: Tensor
    seconds: dict[str, float]


def frame_image(
    image: Tensor,
    settings: Settings,
    *,
    size: int = DEFAULT_SIZE,
    background_models: Path | None = None,
    device: torch.device = CPU,
    progress: StageProgress = _silent,
) -> FramedImage:
    """Find the object in an image; the first stages of `ImageTo3D`, which need none of its models.

    Args:
        image: (1, 3, H, W), or (1, 4, H, W) with straight alpha, in [0, 1].
        settings: of background and framing.
        size: pixels of a side of `framed`.
        background_models: folder of rembg's models, or None for rembg's own.
        device: where rembg's models work.
        progress: called after each step.

    Raises:
        InvalidInput, NothingInImage, EnvironmentProblem: as the stages do.
    """
    seconds: dict[str, float] = {}
    with timed("background", seconds):
        mask = remove_background(
            image,
            settings.remove_bg,
            models_dir=background_models,
            device=device.type,
            threshold=settings.alpha_threshold,
        )
        progress("background", 1, 1)
    with timed("framing", seconds):
        colors, ratio = image[:, :3].cpu().float(), settings.foreground_ratio
        if ratio is None:  # as large as it is in the image
            ratio = min(max(framed_side(mask, 1.0) / max(colors.shape[-2:]), 0.1), 1.0)
        framed, framed_mask = frame_foreground(colors, mask, foreground_ratio=ratio, size=size)
        sharp = min(framed_side(mask, ratio), MAX_PHOTOGRAPH)
        photograph, sharp_mask = frame_foreground(colors, mask, foreground_ratio=ratio, size=sharp)
        progress("framing", 1, 1, framed)
    return FramedImage(framed, framed_mask, photograph, sharp_mask, seconds)


@dataclass(frozen=True)
class Result:
    """A mesh and all that stood on the way to it.

    Attributes:
        mesh: with vertex colours.
        framed: (1, 3, S, S) what the views or the field were made from, on white.
        photograph: (1, 3, T, T) the same square, as sharp as the image is, up to
            `MAX_PHOTOGRAPH` pixels.
        mask: (1, 1, T, T) of the photograph.
        views: (6, 3, S, S) on white; none of a model that sees the image itself.
        field: for other resolutions, and for orbits.
        seed: what was used for the views; 0 without any.
        seconds: by stage.
    """

    mesh: Mesh
    framed: Tensor
    photograph: Tensor
    mask: Tensor
    views: Tensor | None
    field: Field
    seed: int
    seconds: dict[str, float]

    def layers(self, photograph: bool = True) -> list[PosedImages]:
        """The images that show the mesh, for `meshes.texture.texture_from_images`.

        The views come first, then the photograph. Where its camera is not known it is looked for;
        what meets the mesh badly is left out, with a warning in the log.

        Args:
            photograph: whether it is among them.
        """
        layers = []
        if self.views is not None:
            layers.append(PosedImages(self.views, zero123plus_cameras()))
        if not photograph:
            return layers
        camera = self.field.camera
        if camera is None:
            fit = fit_camera(self.mesh, self.photograph, self.mask)
            if not fit.trusted:
                log.warning("%s", fit.sentence)
                return layers
            camera = fit.camera
        return [*layers, PosedImages(self.photograph, camera, self.mask)]


@dataclass(frozen=True)
class ImageTo3D:
    """The models, ready for many images.

    Attributes:
        multiview: draws the views; None where the reconstruction model sees the image itself.
        reconstruction: makes the field.
        background_models: folder of rembg's models, or None for rembg's own.
        device: where the work is done.
        offload: whether models stay in host memory and come to the device only while they work.

    >>> from pipelines.images import read_image
    >>> from pipelines.settings import SurfaceSettings
    >>> chain = ImageTo3D.load(device="cpu")
    >>> quick = Settings(surface=SurfaceSettings(resolution=32))
    >>> result = chain(read_image(Path("workflows/cup.png")), quick)
    >>> len(result.mesh.faces) > 100, tuple(result.framed.shape)
    (True, (1, 3, 512, 512))
    """

    multiview: MultiviewModel | None
    reconstruction: AnyReconstructionModel
    background_models: Path | None = None
    device: torch.device = CPU
    offload: bool = False

    @classmethod
    def load(
        cls,
        model: str = "photo",
        views_model: str | None = None,
        *,
        models_dirs: Sequence[Path] = (),
        device: str = "auto",
        dtype: str = "auto",
        offload: bool = False,
    ) -> ImageTo3D:
        """Load the models.

        Args:
            model: one of `weights.presets.RECONSTRUCTION_PRESETS`.
            views_model: one of `weights.presets.MULTIVIEW_PRESETS`; the one that fits the model if
                None, and none for a model that sees the image itself.
            models_dirs: see `weights.finding.find_file`; rembg's models are in the folder `rembg`
                of the first.
            device: a name of `devices.DEVICES`.
            dtype: "auto" or a name of `devices.DTYPES`; the embedded model, which is small, stays
                in float32 by itself.
            offload: keep on the device only the part that is at work, the others in host memory.

        Raises:
            InvalidInput, CheckpointError, EnvironmentProblem: as in `weights` and `devices`.
        """
        where = choose_device(device)

        def precision(name: str) -> torch.dtype:
            embedded = dtype == "auto" and name == "photo"
            return choose_dtype("float32" if embedded else dtype, where)

        reconstruction = load_reconstruction_model(
            model,
            models_dirs=models_dirs,
            device="cpu" if offload else where,
            dtype=precision(model),
        )
        background_models = models_dirs[0] / "rembg" if models_dirs else None
        if (fitting := views_model_for(model)) is None:
            if views_model is not None:
                raise InvalidInput(f"The model {model} sees the image itself: it takes no views.")
            return cls(None, reconstruction, background_models, where, offload)
        views_model = views_model or fitting
        multiview = load_multiview_model(
            views_model,
            models_dirs=models_dirs,
            device=where,
            dtype=precision(views_model),
            offload=offload,
        )
        return cls(multiview, reconstruction, background_models, where, offload)

    def __call__(
        self, image: Tensor, settings: Settings | None = None, progress: StageProgress = _silent
    ) -> Result:
        """A mesh of the object in an image.

        Args:
            image: (1, 3, H, W), or (1, 4, H, W) with straight alpha, in [0, 1].
            settings: choices.
            progress: called after each step.

        Raises:
            InvalidInput, NothingInImage, EmptySurface, EnvironmentProblem: as the stages do.
        """
        settings = settings or Settings()
        if self.multiview is None and settings.views != ViewSettings():
            raise InvalidInput(
                "This model sees the image itself: leave out steps, guidance, scheduler and seed,"
                " which say nothing to it."
            )
        framed = frame_image(
            image,
            settings,
            size=max(DEFAULT_SIZE, self.multiview.view_size if self.multiview else 0),
            background_models=self.background_models,
            device=self.device,
            progress=progress,
        )
        return self.of_framed(framed, settings, progress)

    def of_framed(
        self, image: FramedImage, settings: Settings, progress: StageProgress = _silent
    ) -> Result:
        """A mesh of an object that `frame_image` has found.

        Args:
            image: the object.
            settings: choices; those of background and framing say nothing any more.
            progress: called after each step.

        Raises:
            InvalidInput, EmptySurface, EnvironmentProblem: as the stages do.
        """
        framed, framed_mask, seconds = image.framed, image.framed_mask, dict(image.seconds)

        def of_stage(stage: str) -> Progress:
            return lambda done, total, preview=None: progress(stage, done, total, preview)

        generated = None
        if self.multiview is not None:
            with timed("views", seconds, self.device):
                generated = generate_views(
                    self.multiview, framed, framed_mask, settings.views, progress=of_stage("views")
                )
        with (
            timed("triplane", seconds, self.device),
            at_work(self.reconstruction, self.device, self.offload),
        ):
            field = self._field(framed, framed_mask, generated)
            progress("triplane", 1, 1)
        with timed("surface", seconds, self.device):
            mesh = extract_mesh(field, settings.surface, progress=of_stage("surface"))
        views, seed = (generated.views, generated.seed) if generated else (None, 0)
        return Result(mesh, framed, image.photograph, image.mask, views, field, seed, seconds)

    def _field(self, framed: Tensor, mask: Tensor, generated: GeneratedViews | None) -> Field:
        if self.reconstruction.sees == "picture":
            return reconstruct_image(self.reconstruction, framed, mask)
        assert generated is not None
        return reconstruct(self.reconstruction, generated.views.to(self.device))


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
