"""What a worker does with one job: images in, files out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cameras import Cameras, cameras_around, orbit_cameras, zero123plus_cameras
from ..devices import at_work, memory_explained
from ..errors import InvalidInput
from ..fields.field import Field
from ..files import atomic_path
from ..image_to_3d import ImageTo3D, StageProgress
from ..images.background import remove_background
from ..images.framing import DEFAULT_SIZE, composite, frame_foreground, framed_side
from ..images.reading import read_image, save_image
from ..meshes.decimation import decimate
from ..meshes.io import save_mesh
from ..meshes.mesh import Mesh
from ..meshes.projection import PosedImages
from ..meshes.texture import DEFAULT_TEXTURED_FACES, texture_from_images
from ..reconstruction.instant_mesh import reconstruct
from ..rendering.render_mesh import render_mesh
from ..settings import Settings, SurfaceSettings, ViewSettings
from ..surface.extraction import extract_mesh
from .protocol import JobSettings

PREVIEW = "preview.png"
_ORBIT_FRAMES, _ORBIT_SIZE, _ORBIT_RATE = 48, 320, 12
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Loading:
    """How models are loaded: arguments of `ImageTo3D.load`."""

    device: str = "auto"
    dtype: str = "auto"
    models_dirs: tuple[Path, ...] = ()
    offload: bool = False


class Maker:
    """Makes one job after the other; keeps the model of the last one.

    Args:
        loading: how models are loaded.
    """

    def __init__(self, loading: Loading) -> None:
        self._loading, self._name = loading, ""
        self._chain: ImageTo3D | None = None

    def __call__(
        self, settings: JobSettings, seed: int, images: list[Path], folder: Path, report: Report
    ) -> list[str]:
        """Make a job's files.

        Args:
            settings: what is asked for.
            seed: of the views; not 0.
            images: of one object.
            folder: where the files go.
            report: is told the stage, and how much of it is done.

        Returns:
            their names, the mesh first.

        Raises:
            ImageTo3DError: in a sentence that the client may see.
        """
        with memory_explained("ask for a smaller resolution or chunk_size."):
            return self._make(settings, seed, images, folder, report)

    def _make(
        self, settings: JobSettings, seed: int, images: list[Path], folder: Path, report: Report
    ) -> list[str]:
        chain = self._of_model(settings.model, report)

        def progress(stage: str, done: int, total: int, preview: Tensor | None = None) -> None:
            if preview is not None:
                save_image(preview[:1].clamp(0, 1), folder / PREVIEW)
            report(stage, done, total)

        if settings.cameras or len(images) > 1:
            field, mesh, layers = _of_views(chain, settings, images, progress)
        else:
            image = read_image(images[0])
            result = chain(
                image,
                Settings(
                    **_found(settings, image),
                    views=ViewSettings(seed=seed) if chain.multiview else ViewSettings(),
                    surface=_surface(settings),
                ),
                progress,
            )
            field, mesh = result.field, result.mesh
            layers = result.layers() if settings.texture else []
        mesh = _finished(settings, mesh, field, layers)
        names = [f"{folder.name}.{settings.output_format}"]
        save_mesh(mesh, folder / names[0], metadata={"seed": str(seed)})
        if settings.output_format == "obj" and mesh.texture is not None:
            names += [f"{folder.name}.mtl", f"{folder.name}.png"]
        if settings.render:
            names.append(f"{folder.name}.mp4")
            _save_video(mesh, folder / names[-1], progress)
        return names

    def _of_model(self, name: str, report: Report) -> ImageTo3D:
        if self._chain is None or self._name != name:
            report("model", 0, 1)
            self._chain = None  # first, so that two never stand in memory
            loading = self._loading
            self._chain = ImageTo3D.load(
                name,
                models_dirs=loading.models_dirs,
                device=loading.device,
                dtype=loading.dtype,
                offload=loading.offload,
            )
            self._name = name
        return self._chain


def _surface(settings: JobSettings) -> SurfaceSettings:
    return SurfaceSettings(resolution=settings.resolution, chunk_size=settings.chunk_size)


def _found(settings: JobSettings, image: Tensor) -> dict[str, Any]:
    """How the object is found and framed: as it stands in the image without `remove_bg`."""
    if settings.remove_bg:
        return {"remove_bg": "auto", "foreground_ratio": settings.foreground_ratio}
    method = "alpha" if bool((image[:, 3] < 1).any()) else "plain"
    side = framed_side(remove_background(image, method), 1.0) / max(image.shape[-2:])
    return {"remove_bg": method, "foreground_ratio": min(max(side, 0.1), 1.0)}


def _of_views(
    chain: ImageTo3D, settings: JobSettings, images: list[Path], progress: StageProgress
) -> tuple[Field, Mesh, list[PosedImages]]:
    """From images of one object instead of one image."""
    if chain.reconstruction.sees == "picture":
        raise InvalidInput(
            f"The model {settings.model} sees one image: choose another for multi_image, such as"
            " instantmesh."
        )
    views = []
    for path in images:
        image = read_image(path)
        mask = remove_background(image, "auto" if settings.remove_bg else "alpha")
        if settings.remove_bg:
            views.append(frame_foreground(image[:, :3], mask)[0])
        elif image.shape[-1] != image.shape[-2]:
            raise InvalidInput("Images of multi_image must be square, or need remove_bg.")
        else:
            onto_white = composite(image[:, :3], mask)
            views.append(F.interpolate(onto_white, (DEFAULT_SIZE, DEFAULT_SIZE), mode="area"))
    together = torch.cat(views)
    progress("views", 1, 1, together)
    if settings.cameras is None:
        cameras = zero123plus_cameras()
    else:
        several = [
            cameras_around([c.azimuth], [c.elevation], c.distance, c.fov) for c in settings.cameras
        ]
        cameras = Cameras(
            torch.cat([c.c2w for c in several]),
            torch.cat([c.intrinsics_normalized for c in several]),
        )
    with at_work(chain.reconstruction, chain.device, chain.offload):
        field = reconstruct(chain.reconstruction, together.to(chain.device), cameras)

    def of_surface(done: int, total: int, preview: Tensor | None = None) -> None:
        progress("surface", done, total)

    mesh = extract_mesh(field, _surface(settings), progress=of_surface)
    return field, mesh, [PosedImages(together, cameras)]


def _finished(settings: JobSettings, mesh: Mesh, field: Field, layers: list[PosedImages]) -> Mesh:
    mesh = decimate(mesh, settings.max_faces) if settings.max_faces else mesh
    if not settings.texture:
        return mesh
    max_faces = settings.max_faces or DEFAULT_TEXTURED_FACES
    return texture_from_images(mesh, layers, settings.texture, field=field, max_faces=max_faces)


def _save_video(mesh: Mesh, path: Path, progress: StageProgress) -> None:
    """A turn around the mesh, as MP4."""
    import av

    cameras = orbit_cameras(_ORBIT_FRAMES)
    with atomic_path(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=_ORBIT_RATE)
        stream.width = stream.height = _ORBIT_SIZE
        stream.pix_fmt = "yuv420p"
        for i in range(_ORBIT_FRAMES):
            image = (render_mesh(mesh, cameras[[i]], _ORBIT_SIZE)[0] * 255).round().byte()
            frame = av.VideoFrame.from_ndarray(image.permute(1, 2, 0).numpy(), format="rgb24")
            container.mux(stream.encode(frame))
            progress("video", i + 1, _ORBIT_FRAMES)
        container.mux(stream.encode())
