"""Run a job: turn one image, or several images with their cameras, into files.

`run` calls `prepare`, `reconstruct` and `finish`. A cluster runs these on different machines, so
their arguments and results can be pickled. The command line, the catalogue and the server are
adapters of this module.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .animations import save_orbit, save_video
from .cameras import Cameras, zero123plus_cameras
from .devices import CPU, memory_explained, timed
from .errors import InvalidInput
from .image_to_3d import ImageTo3D, check_sampling
from .images.framed_image import FramedImage, frame_image, object_mask
from .images.framing import DEFAULT_SIZE, composite, frame_foreground
from .images.reading import read_image, save_image
from .meshes.decimation import decimate
from .meshes.io import mesh_path, save_mesh
from .meshes.mesh import Mesh
from .meshes.placement import place
from .meshes.printing import orient, parse_volume
from .meshes.projection import PosedImages
from .meshes.quads import remesh_quads
from .meshes.report import MeshReport, report
from .meshes.solid import make_solid
from .meshes.texture import DEFAULT_TEXTURED_FACES, has_colors, size_for, texture_from_images
from .multiview.photographs import Photographs, Viewpoints, frame_photographs
from .progress import Progress, silent
from .rendering.render_mesh import preview_sheet
from .result import JobResult, Result
from .settings import JobSettings, LoadSettings, OutputSettings
from .weights.presets import (
    RECONSTRUCTION_PRESETS,
    check_commercial,
    choose_views_model,
    licenses_of,
)

PREVIEW_SIZE = 384


@dataclass(frozen=True)
class Prepared:
    """Input of the models.

    Attributes:
        content: the object of one photograph or of several, or views with their cameras.
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
            model's licence is not allowed, or the printer's volume is none.
    """
    if settings.output.printer:
        parse_volume(settings.output.printer)
    views_model = views_model_of(settings)
    if settings.license == "commercial":
        check_commercial(settings.model, views_model)
    check_sampling(settings.model, RECONSTRUCTION_PRESETS[settings.model].sampling, settings)


def load(
    settings: JobSettings, loading: LoadSettings, viewpoints: Viewpoints | None = None
) -> ImageTo3D:
    """Load a job's models.

    Args:
        settings: only the names of the models are used.
        loading: device, precision and folder.
        viewpoints: see `prepare`; if no side is missing, no multiview model is loaded.

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
        generates=viewpoints is None or not viewpoints.complete,
    )


def run(
    chain: ImageTo3D,
    images: Sequence[Path | Tensor],
    settings: JobSettings,
    folder: Path,
    name: str,
    *,
    cameras: Cameras | None = None,
    viewpoints: Viewpoints | None = None,
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
        viewpoints: see `prepare`.
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
                viewpoints=viewpoints,
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


def prepare(
    images: Sequence[Path | Tensor],
    settings: JobSettings,
    *,
    cameras: Cameras | None = None,
    viewpoints: Viewpoints | None = None,
    background_models: Path | None = None,
    device: torch.device = CPU,
    progress: Progress = silent,
) -> Prepared:
    """Read images and segment the object, without the job's models.

    Args:
        images: one image, or N images of one object for models that take views. Each is a file or
            a tensor (1, 3 or 4, H, W) in [0, 1].
        settings: only background and framing are used. Without a foreground ratio, the object
            keeps its position in the image.
        cameras: N cameras; None for one image, or for six views with the cameras of Zero123++.
        viewpoints: directions of N photographs, instead of cameras. The photographs are framed at
            one scale, and views of missing sides are generated.
        background_models: folder of rembg's models; None for rembg's default folder.
        device: device of rembg's models.
        progress: called after each step.

    Raises:
        InvalidInput, NothingInImage, EnvironmentProblem: as the stages do.
    """
    alone = cameras is None and viewpoints is None and len(images) == 1
    if not alone and not takes_views(settings.model):
        raise InvalidInput(
            f"{settings.model} takes one image without cameras, got {len(images)}: choose a model"
            " that takes views, such as instant-mesh-large."
        )
    seconds: dict[str, float] = {}
    with timed("reading", seconds):
        tensors = [read_image(one) if isinstance(one, Path) else one for one in images]
    tools: dict[str, Any] = {"background_models": background_models, "device": device}
    if alone:
        framed = frame_image(tensors[0], settings, **tools, progress=progress)
        return Prepared(framed, seconds | framed.seconds)
    with timed("framing", seconds):
        if viewpoints is not None:
            photographs = frame_photographs(
                tensors, viewpoints, settings, **tools, progress=progress
            )
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
        raise InvalidInput("texture_from views needs a views model: set it for the whole run.")
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


def finish(
    result: Result,
    settings: OutputSettings,
    folder: Path,
    name: str,
    *,
    title: str = "",
    own_folder: bool = True,
    progress: Progress = silent,
) -> JobResult:
    """Post-process a mesh, and write the files that the settings select.

    Args:
        result: result of `reconstruct`.
        settings: settings of post-processing and files.
        folder: folder of the files.
        name: stem of the files' names.
        title: the image's name, which is recorded in the mesh file.
        own_folder: whether an OBJ with a texture, which is several files, gets its own subfolder.
        progress: called after each step.

    Raises:
        InvalidInput, EnvironmentProblem: as the stages do, or if a file cannot be written.
    """
    seconds = dict(result.seconds)
    with timed("finishing", seconds):
        mesh = _finished_mesh(result, settings, progress)
        facts = _report(mesh, settings)
    with timed("files", seconds):
        path = mesh_path(folder, name, settings.format, mesh)
        path = path if own_folder else folder / path.name
        files = save_mesh(
            mesh,
            path,
            up_axis=settings.up_axis,
            metadata=({"picture": _printable(title)} if title else {}) | {"seed": str(result.seed)},
            texture_format=settings.texture_format,
        )
        for image_path, image in _images(result, mesh, settings, folder, name):
            save_image(image, image_path)
            files.append(image_path)
        if settings.orbit:
            files += save_orbit(result.field, result.mesh, folder, name, settings.orbit, progress)
        if settings.video:
            files.append(folder / f"{name}.mp4")
            save_video(mesh, files[-1], progress)
    return JobResult(files, facts, result.seed, seconds, result.licenses, tries=result.tries)


def _printable(name: str) -> str:
    """Escape the bytes of a file name that are not valid UTF-8, so that text files can hold it."""
    return name.encode("utf-8", "backslashreplace").decode()


def _finished_mesh(result: Result, settings: OutputSettings, progress: Progress) -> Mesh:
    mesh, max_faces = result.mesh, settings.max_faces or 0
    if settings.solid:
        mesh = make_solid(mesh, max_faces=max_faces, progress=partial(progress, stage="solid"))
    elif max_faces:
        mesh = decimate(mesh, max_faces, partial(progress, stage="decimation"))
    if settings.quads:
        mesh = remesh_quads(mesh, settings.quads, partial(progress, stage="quads"))
    layers = []
    if settings.texture:
        layers = result.layers(settings.texture_from, partial(progress, stage="camera"))
    if settings.texture and (layers or has_colors(result.field)):
        mesh = texture_from_images(
            mesh,
            layers,
            size_for(mesh, layers, settings.texture) if layers else settings.texture,
            field=result.field,
            max_faces=0 if settings.quads else max_faces or DEFAULT_TEXTURED_FACES,
            progress=partial(progress, stage="texture"),
        )
    if settings.orient:
        mesh = orient(mesh, partial(progress, stage="orient"))
    return place(mesh, size=settings.size, pivot=settings.pivot)


def _report(mesh: Mesh, settings: OutputSettings) -> MeshReport:
    """Measure a mesh; for 3D printing too, if the settings are those of a print."""
    printer = settings.printer and parse_volume(settings.printer)
    for_print = settings.solid or settings.format == "3mf" or settings.orient or bool(printer)
    return report(mesh, for_print=for_print, printer=printer or None)


def _images(
    result: Result, mesh: Mesh, settings: OutputSettings, folder: Path, name: str
) -> Iterator[tuple[Path, Tensor]]:
    """Yield the preview, the framed image and the views, each with its path."""
    if settings.previews:
        yield folder / f"{name}-preview.png", preview_sheet(mesh, PREVIEW_SIZE)
    if settings.save_views:
        if result.photo is not None:
            yield folder / f"{name}-framed.png", result.photo.framed
        if result.views is not None:
            for i, view in enumerate(result.views.images.split(1)):
                yield folder / f"{name}-view-{i}.png", view
