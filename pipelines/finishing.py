"""Finish a job: post-process its mesh, and write its files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from torch import Tensor

from .animations import save_orbit, save_video
from .devices import timed
from .images.reading import save_image
from .meshes.decimation import decimate
from .meshes.io import mesh_path, save_mesh
from .meshes.mesh import Mesh
from .meshes.placement import place
from .meshes.printing import orient, parse_volume
from .meshes.quads import remesh_quads
from .meshes.report import MeshReport, report
from .meshes.solid import make_solid
from .meshes.texture import (
    DEFAULT_TEXTURED_FACES,
    TextureLayout,
    has_colors,
    size_for,
    texture_from_images,
)
from .progress import Progress, silent
from .rendering.render_mesh import preview_sheet
from .result import JobResult, Result
from .settings import OutputSettings

PREVIEW_SIZE = 384


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
        size = size_for(mesh, layers, settings.texture) if layers else settings.texture
        layout = TextureLayout(size, 0 if settings.quads else max_faces or DEFAULT_TEXTURED_FACES)
        painting = partial(progress, stage="texture")
        mesh = texture_from_images(mesh, layers, layout, field=result.field, progress=painting)
    if settings.orient:
        mesh = orient(mesh, partial(progress, stage="orient"))
    return place(mesh, size=settings.size, pivot=settings.pivot)


def _report(mesh: Mesh, settings: OutputSettings) -> MeshReport:
    """Measure a mesh; measure it for 3D printing too if the settings suggest that it is printed."""
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
