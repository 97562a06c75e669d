"""Save animations: an orbit around a field, and a video around a mesh."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PIL import ExifTags, Image

from .cameras import ZERO123PLUS_FOV_Y_DEG, orbit_cameras
from .errors import EnvironmentProblem
from .fields.field import Field
from .files import SIGNATURE, atomic_path
from .images.reading import save_image, to_pillow
from .meshes.mesh import Mesh
from .meshes.texture import has_colors
from .progress import Progress
from .rendering.render_field import render_field
from .rendering.render_mesh import render_mesh

ORBIT_SIZE = 256
ORBIT_SECONDS = 4.0
VIDEO_FRAMES, VIDEO_SIZE, VIDEO_RATE = 48, 320, 12


def save_orbit(
    field: Field, mesh: Mesh, folder: Path, name: str, count: int, progress: Progress
) -> list[Path]:
    """Render an orbit around the field, or around the mesh if the field has no colours.

    Save the frames and an animated WebP; return their paths, the animation first.
    """
    cameras, progress = orbit_cameras(count), partial(progress, stage="orbit")
    if has_colors(field):
        frames = render_field(field, cameras, ORBIT_SIZE, progress=progress).rgb.split(1)
    else:
        frames = render_mesh(mesh, cameras, ORBIT_SIZE, shaded=False).split(1)
        progress(count, count)
    paths = [folder / f"{name}-orbit" / f"{i:03d}.png" for i in range(count)]
    for frame, path in zip(frames, paths, strict=True):
        save_image(frame, path)
    animation = folder / f"{name}-orbit.webp"
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = SIGNATURE
    first, *others = map(to_pillow, frames)
    with atomic_path(animation) as partial_path:
        first.save(
            partial_path,
            save_all=True,
            append_images=others,
            duration=round(1000 * ORBIT_SECONDS / count),
            loop=0,
            quality=85,
            exif=exif,
        )
    return [animation, *paths]


def save_video(mesh: Mesh, path: Path, progress: Progress) -> None:
    """Write an MP4 video of an orbit around the mesh."""
    try:
        import av
    except ImportError as error:
        raise EnvironmentProblem(f"A video needs PyAV: run 'pip install av' ({error}).") from error
    mesh, distance = mesh.center_for_camera(ZERO123PLUS_FOV_Y_DEG)
    cameras = orbit_cameras(VIDEO_FRAMES, radius=distance)
    with atomic_path(path) as partial_path, av.open(str(partial_path), "w", format="mp4") as video:
        stream = video.add_stream("h264", rate=VIDEO_RATE)
        stream.width = stream.height = VIDEO_SIZE
        stream.pix_fmt = "yuv420p"
        for i in range(VIDEO_FRAMES):
            image = (render_mesh(mesh, cameras[[i]], VIDEO_SIZE)[0] * 255).round().byte()
            frame = av.VideoFrame.from_ndarray(image.permute(1, 2, 0).numpy(), format="rgb24")
            video.mux(stream.encode(frame))
            progress(i + 1, VIDEO_FRAMES, stage="video")
        video.mux(stream.encode())
