"""Run a job: turn one image, or several images with their cameras, into files.

`run` calls `prepare`, `reconstruct` and `finish`. A cluster runs these on different machines, so
their arguments and results can be pickled. The command line, the catalogue and the server are
adapters of this module.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .cameras import Cameras, zero123plus_cameras
from .devices import CPU, memory_explained, timed
from .errors import InvalidInput
from .finishing import finish as finish
from .image_to_3d import ImageTo3D, check_sampling
from .images.framed_image import FramedImage, frame_image, object_mask
from .images.framing import DEFAULT_SIZE, composite, frame_foreground
from .images.reading import read_image, save_image
from .meshes.printing import parse_volume
from .meshes.projection import PosedImages
from .multiview.photographs import Photographs, Viewpoints, frame_photographs
from .progress import Progress, silent
from .result import JobResult, Result
from .settings import JobSettings, LoadSettings
from .weights.presets import (
    RECONSTRUCTION_PRESETS,
    check_commercial,
    choose_views_model,
    licenses_of,
)

#: Called with the name of a stage, and its finished and total steps.
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Prepared:
    """Input of the models.

    Attributes:
        content: one framed photograph, several photographs, or views with their cameras.
        seconds: duration of each stage.
    """

    content: FramedImage | Photographs | PosedImages
    seconds: Mapping[str, float]


def takes_views(model: str) -> bool:
    """Return whether a reconstruction model needs six views from a multiview model."""
    return RECONSTRUCTION_PRESETS[model].input_kind == "views"


def views_model_of(settings: JobSettings) -> str | None:
    """Return the multiview model of a job; None if it needs no views."""
    return choose_views_model(settings.model, settings.views_model, settings.output.texture_from)


def takes_seed(model: str) -> bool:
    """Return whether the seed changes the result of a reconstruction model."""
    return "seed" in RECONSTRUCTION_PRESETS[model].sampling


def check(settings: JobSettings) -> None:
    """Check that the model supports the settings, without loading it.

    Raises:
        InvalidInput: if a setting that the model does not use differs from its default, the
            model's licence is not allowed, or the printer's volume is malformed.
    """
    if settings.output.printer:
        parse_volume(settings.output.printer)
    views_model = views_model_of(settings)
    if settings.license == "commercial":
        check_commercial(settings.model, views_model)
    check_sampling(settings.model, RECONSTRUCTION_PRESETS[settings.model].sampling, settings)


def check_images(
    settings: JobSettings, count: int, cameras: Cameras | Viewpoints | None = None
) -> None:
    """Check that the model and the settings support the number of images, without reading images.

    Args:
        settings: the job's settings.
        count: number of images.
        cameras: see `prepare`.

    Raises:
        InvalidInput: if the model takes only one image, or `tries` has no effect.
    """
    if cameras is None and count == 1:
        return
    if not takes_views(settings.model):
        got = f"{count}{'' if cameras is None else ' with cameras'}"
        raise InvalidInput(
            f"{settings.model} takes one image without cameras, got {got}: choose a model"
            " that takes views, such as instant-mesh-large."
        )
    generates = isinstance(cameras, Viewpoints) and not cameras.complete
    if settings.views.tries > 1 and not generates:
        raise InvalidInput("The images show all sides, so no views are generated: leave out tries.")


def load(
    settings: JobSettings, loading: LoadSettings, cameras: Cameras | Viewpoints | None = None
) -> ImageTo3D:
    """Load a job's models.

    Args:
        settings: only the names of the models are used.
        loading: device, precision and folder.
        cameras: see `prepare`. The multiview model is loaded only if views have to be generated.

    Raises:
        InvalidInput, CheckpointError, EnvironmentProblem: as `ImageTo3D.load`.
    """
    return ImageTo3D.load(
        settings.model,
        views_model_of(settings),
        models_dirs=loading.models_dirs,
        device=loading.device,
        dtype=loading.dtype,
        offload=loading.offload,
        generates=not (isinstance(cameras, Viewpoints) and cameras.complete),
    )


def run(
    chain: ImageTo3D,
    images: Sequence[Path | Tensor],
    settings: JobSettings,
    folder: Path,
    name: str,
    *,
    cameras: Cameras | Viewpoints | None = None,
    title: str = "",
    own_folder: bool = True,
    progress: Progress = silent,
    memory_advice: str = "use a smaller resolution or chunk_size.",
) -> JobResult:
    """Run a job from its images to its files.

    Args:
        chain: the models, from `load`.
        images: see `prepare`.
        settings: the job's settings.
        folder: folder of the files.
        name: stem of the files' names.
        cameras: see `prepare`.
        title: see `finish`.
        own_folder: see `finish`.
        progress: called after each step of each stage. An exception that it raises fails the job.
        memory_advice: advice for the user if there is not enough memory.

    Returns:
        the files, or the `Exception` that failed the job. KeyboardInterrupt and other exceptions
        that do not derive from `Exception` are raised.
    """
    try:
        with memory_explained(memory_advice):
            prepared = prepare(
                images,
                settings,
                cameras=cameras,
                background_models=chain.background_models,
                device=chain.device,
                progress=progress,
            )
            result = reconstruct(chain, prepared, settings, progress=progress)
            return finish(
                result,
                settings.output,
                folder,
                name,
                title=title,
                own_folder=own_folder,
                progress=progress,
            )
    except Exception as error:
        return JobResult(exception=error)


class Runner:
    """Runs one job after another in a worker's process, and keeps the last models loaded.

    Args:
        loading: settings of model loading.
        memory_advice: see `run`.
    """

    def __init__(
        self, loading: LoadSettings, memory_advice: str = "use a smaller resolution or chunk_size."
    ) -> None:
        self._loading, self._advice = loading, memory_advice
        self._chain: ImageTo3D | None = None
        self._names: tuple[str | None, ...] = ()

    def __call__(
        self,
        images: Sequence[Path | Tensor],
        cameras: Cameras | Viewpoints | None,
        settings: JobSettings,
        folder: Path,
        name: str,
        title: str,
        report: Report,
        preview_path: Path | None = None,
    ) -> JobResult:
        """Run a job as `run` does, and raise the exception that fails it.

        `report` is called after each step. Images of intermediate results go to `preview_path`.
        """

        def progress(
            done: int, total: int, preview: Tensor | None = None, *, stage: str = ""
        ) -> None:
            if preview is not None and preview_path is not None:
                save_image(preview[:1].clamp(0, 1), preview_path)
            report(stage, done, total)

        names = (settings.model, views_model_of(settings))
        if self._chain is None or self._names != names:
            report("model", 0, 1)
            self._chain = None  # free its memory before loading another
            with memory_explained(self._advice):
                self._chain, self._names = load(settings, self._loading), names
        result = run(
            self._chain,
            images,
            settings,
            folder,
            name,
            cameras=cameras,
            title=title,
            own_folder=False,
            progress=progress,
            memory_advice=self._advice,
        )
        if result.exception is not None:
            raise result.exception
        return result


def prepare(
    images: Sequence[Path | Tensor],
    settings: JobSettings,
    *,
    cameras: Cameras | Viewpoints | None = None,
    background_models: Path | None = None,
    device: torch.device = CPU,
    progress: Progress = silent,
) -> Prepared:
    """Read images and segment the object, without the job's models.

    Args:
        images: one image, or N images of one object for models that take views. Each is a file or
            a tensor (1, 3 or 4, H, W) in [0, 1].
        settings: only background and framing are used. If the foreground ratio is None, the
            object keeps its position in the image.
        cameras: the cameras of N views, or the directions of N photographs. Photographs are
            framed at one scale; `reconstruct` generates the views that are missing. None means one
            image, or six views with the cameras of Zero123++.
        background_models: folder of rembg's models; None for rembg's default folder.
        device: device of rembg's models.
        progress: called after each step.

    Raises:
        InvalidInput, NothingInImage, EnvironmentProblem: as the stages do.
    """
    check_images(settings, len(images), cameras)
    seconds: dict[str, float] = {}
    with timed("reading", seconds):
        tensors = [read_image(one) if isinstance(one, Path) else one for one in images]
    tools: dict[str, Any] = {"background_models": background_models, "device": device}
    if cameras is None and len(images) == 1:
        framed = frame_image(tensors[0], settings, **tools, progress=progress)
        return Prepared(framed, seconds | framed.seconds)
    with timed("framing", seconds):
        if isinstance(cameras, Viewpoints):
            photographs = frame_photographs(tensors, cameras, settings, **tools, progress=progress)
            return Prepared(photographs, seconds)
        views = [_square_view(tensor, settings, tools) for tensor in tensors]
        posed = PosedImages(torch.cat(views), cameras or zero123plus_cameras())
    progress(1, 1, posed.images, stage="views")
    return Prepared(posed, seconds)


def _square_view(image: Tensor, settings: JobSettings, tools: Mapping[str, Any]) -> Tensor:
    """Composite a view on white; frame the object, or keep its position if the ratio is None."""
    mask, image = object_mask(image, settings, **tools), image[:, :3]
    if settings.foreground_ratio is not None:
        return frame_foreground(image, mask, foreground_ratio=settings.foreground_ratio)[0]
    height, width = image.shape[-2:]
    if height != width:
        raise InvalidInput(
            f"Views must be square unless their background is removed, got {width} x {height}."
        )
    return F.interpolate(composite(image, mask), (DEFAULT_SIZE, DEFAULT_SIZE), mode="area")


def reconstruct(
    chain: ImageTo3D, prepared: Prepared, settings: JobSettings, *, progress: Progress = silent
) -> Result:
    """Make a mesh from the result of `prepare`.

    Raises:
        InvalidInput, EmptySurface, EnvironmentProblem: as the stages do.
    """
    content, views_model = prepared.content, views_model_of(settings)
    if views_model is None:
        chain = dataclasses.replace(chain, multiview=None)
    elif chain.multiview is None and not takes_views(settings.model):
        raise InvalidInput(
            "The multiview model for texture_from views is not loaded: set texture_from for the"
            " whole run, not for single images."
        )
    if isinstance(content, FramedImage):
        result = chain.from_framed(content, settings, progress)
    elif isinstance(content, Photographs):
        result = chain.from_photographs(content, settings, progress)
    else:
        result = chain.from_views(content, settings, progress)
    own_views = isinstance(content, PosedImages) or (
        isinstance(content, Photographs) and content.viewpoints.complete
    )
    return dataclasses.replace(
        result,
        seconds={**prepared.seconds, **result.seconds},
        licenses=licenses_of(settings.model, views_model, own_views=own_views),
    )
