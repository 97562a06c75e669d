"""The files that a run leaves: mesh, previews, views, orbit; and what it says of them."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import ExifTags, Image
from torch import Tensor

from .cameras import orbit_cameras
from .files import SIGNATURE, atomic_path
from .image_to_3d import Result, StageProgress
from .images.reading import save_image, to_pillow
from .meshes.decimation import decimate
from .meshes.io import mesh_path, save_mesh
from .meshes.mesh import Mesh
from .meshes.placement import place
from .meshes.solid import make_solid
from .meshes.texture import DEFAULT_TEXTURED_FACES, size_for, texture_from_images
from .rendering.render_field import render_field
from .rendering.render_mesh import preview_sheet

log = logging.getLogger(__name__)

ORBIT_SIZE = 256
ORBIT_SECONDS = 4.0


def finished_mesh(result: Result, options: argparse.Namespace, progress: StageProgress) -> Mesh:
    """The mesh with the triangles, the texture, the size and the place that the options ask for."""
    mesh, most = result.mesh, options.max_faces or 0
    if options.solid:
        mesh = make_solid(mesh, max_faces=most)
    elif most:
        mesh = decimate(mesh, most)
    if options.texture:
        mesh = _textured(result, mesh, options, progress)
    return place(mesh, size=options.size, pivot=options.pivot)


def _textured(
    result: Result, mesh: Mesh, options: argparse.Namespace, progress: StageProgress
) -> Mesh:
    max_faces = options.max_faces or DEFAULT_TEXTURED_FACES

    def of_texture(done: int, total: int, preview: Tensor | None = None) -> None:
        progress("texture", done, total)

    layers = (
        []
        if options.texture_from == "triplane"
        else result.layers(photograph=options.texture_from == "pictures")
    )
    size = size_for(mesh, layers, options.texture) if layers else options.texture
    return texture_from_images(
        mesh, layers, size, field=result.field, max_faces=max_faces, progress=of_texture
    )


def save_result(
    result: Result,
    mesh: Mesh,
    folder: Path,
    name: str,
    options: argparse.Namespace,
    progress: StageProgress,
) -> list[Path]:
    """Write all files that the options ask for.

    Returns:
        their paths, the mesh first.

    Raises:
        EnvironmentProblem: if a file cannot be written.
    """
    path = mesh_path(folder, name, options.format, mesh)
    save_mesh(
        mesh,
        path,
        up_axis=options.up_axis,
        metadata={"picture": name, "seed": str(result.seed)},
        texture_format=options.texture_format,
    )
    images = {folder / f"{name}-preview.png": preview_sheet(mesh)} if options.previews else {}
    if options.save_views:
        images[folder / f"{name}-framed.png"] = result.framed
        for i, view in enumerate(() if result.views is None else result.views.split(1)):
            images[folder / f"{name}-view-{i}.png"] = view
    written = [path]
    for path, image in images.items():
        save_image(image, path)
        written.append(path)
    if options.orbit:
        written += _save_orbit(result, folder, name, options.orbit, progress)
    return written


def _save_orbit(
    result: Result, folder: Path, name: str, count: int, progress: StageProgress
) -> list[Path]:
    frames = render_field(
        result.field,
        orbit_cameras(count),
        ORBIT_SIZE,
        progress=lambda done, total, preview=None: progress("orbit", done, total),
    )
    written = []
    for i, frame in enumerate(frames.rgb.split(1)):
        written.append(folder / f"{name}-orbit" / f"{i:03d}.png")
        save_image(frame, written[-1])
    stills = [to_pillow(frame) for frame in frames.rgb.split(1)]
    animation = folder / f"{name}-orbit.webp"
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = SIGNATURE
    duration = round(1000 * ORBIT_SECONDS / count)
    with atomic_path(animation) as partial:
        stills[0].save(
            partial,
            save_all=True,
            append_images=stills[1:],
            duration=duration,
            loop=0,
            quality=85,
            exif=exif,
        )
    return [animation, *written]


def summary(
    mesh: Mesh,
    seed: int,
    seconds: Mapping[str, float],
    written: Sequence[Path],
    device: torch.device,
) -> str:
    """A table of what was done."""
    rows = [(stage, f"{took:.1f} s") for stage, took in seconds.items()]
    rows.append(("in all", f"{sum(seconds.values()):.1f} s"))
    rows.append(("memory", f"{peak_memory() / 2**30:.2f} GiB at most"))
    if device.type == "cuda":
        rows.append(("device", f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB at most"))
    rows.append(("seed", str(seed)))
    rows.append(("triangles", f"{len(mesh.faces):,}"))
    rows += [("file", str(path)) for path in written[:8]]
    if len(written) > 8:
        rows.append(("", f"and {len(written) - 8} more"))
    return "\n".join(f"{name:>10}  {value}" for name, value in rows)


def peak_memory() -> int:
    """Bytes that this process held at most; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
