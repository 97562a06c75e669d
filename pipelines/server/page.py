"""The page: an image in, a mesh out, over the same queue as every client."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from ..errors import ImageTo3DError
from ..images.background import remove_background
from ..images.formats import disable_ghostscript, open_image
from ..images.framing import cut_out
from ..images.reading import read_image, to_pillow
from ..meshes.io import load_mesh, save_mesh
from ..settings import SurfaceSettings, declared
from ..weights.presets import RECONSTRUCTION_PRESETS
from .jobs import ENDED, Job, Jobs, QueueFull
from .protocol import JobSettings
from .work import PREVIEW
from .workers import Workers

_LOOK = 0.3
_RESOLUTION = declared(SurfaceSettings)["resolution"]
_EXAMPLE = Path(__file__).parents[2] / "workflows" / "cup.png"
_FORMATS = ("glb", "obj", "stl", "ply")
_TEXTURES = {"none": 0, "512": 512, "1024": 1024, "2048": 2048}


def make_page(jobs: Jobs, workers: Workers, *, model: str) -> gr.Blocks:
    """The page, to be mounted on the application.

    Args:
        jobs: the store.
        workers: of whom it shows how far they are.
        model: what is chosen at first.
    """

    def cut(path: str | None) -> Image.Image | None:
        """What will be reconstructed, on white."""
        if path is None:
            return None
        try:
            image = read_image(Path(path))
            return to_pillow(cut_out(image[:, :3], _mask(image)))
        except ImageTo3DError as error:
            raise gr.Error(str(error)) from error

    def start(
        path: str | None,
        name: str,
        ratio: float,
        remove: bool,
        resolution: int,
        seed: int,
        texture: str,
        kind: str,
        render: bool,
    ) -> int:
        if path is None:
            raise gr.Error("Choose an image first.")
        settings = JobSettings(
            model_id=name, foreground_ratio=ratio, remove_bg=remove, resolution=int(resolution),
            seed=int(seed), texture=_TEXTURES[texture] if kind in ("glb", "obj") else 0,
            output_format=kind, render=render,
        )  # fmt: skip
        try:
            return jobs.submit(settings, [Path(path).read_bytes()]).id
        except QueueFull:
            raise gr.Error("The queue is full: try again later.") from None

    def follow(id: int | None) -> Iterator[dict[Any, Any]]:
        """Show how a job comes on, until it has ended."""
        if id is None:
            return
        seen = 0.0
        while True:
            job = jobs.get(id)
            shown: dict[Any, Any] = {status: _words(job, jobs, workers)}
            place = jobs.folder_of(job.token)
            if (place / PREVIEW).exists() and (place / PREVIEW).stat().st_mtime > seen:
                seen = (place / PREVIEW).stat().st_mtime
                shown[preview] = open_image(io.BytesIO((place / PREVIEW).read_bytes()))
            if job.state in ENDED:
                yield shown
                return
            yield shown
            time.sleep(_LOOK)

    def show(id: int | None) -> tuple[str | None, list[str] | None, str | None]:
        """What the viewer, the list of files and the video hold."""
        job = jobs.get(id) if id is not None else None
        if job is None or job.state != "done":
            return None, None, None
        files = [jobs.folder_of(job.token) / name for name in job.outputs]
        video = str(files[-1]) if job.settings.render else None
        return _viewable(files[0]), [str(file) for file in _in_all_formats(files)], video

    def stop(id: int | None) -> None:
        if id is not None:
            workers.cancel(jobs.get(id))

    disable_ghostscript()  # Gradio opens what is uploaded by itself
    with gr.Blocks(title="Image to 3D", analytics_enabled=False) as page:
        gr.Markdown("# Image to 3D\nOne image to a mesh, on this machine.")
        number = gr.State(None)
        with gr.Row():
            with gr.Column():
                image = gr.Image(type="filepath", label="Picture", image_mode="RGBA", height=300)
                if _EXAMPLE.exists():
                    gr.Examples([[str(_EXAMPLE)]], [image], label="Example")
                with gr.Row():
                    go = gr.Button("Make the mesh", variant="primary")
                    halt = gr.Button("Stop")
                with gr.Accordion("Options", open=False):
                    choice = gr.Dropdown(list(RECONSTRUCTION_PRESETS), value=model, label="Model")
                    kind = gr.Dropdown(list(_FORMATS), value="glb", label="Format")
                    texture = gr.Dropdown(list(_TEXTURES), value="none", label="Texture")
                    remove = gr.Checkbox(True, label="Remove the background")
                    ratio = gr.Slider(0.5, 1.0, 0.85, step=0.01, label="Foreground ratio")
                    resolution = gr.Slider(
                        _RESOLUTION.low, _RESOLUTION.high, 128, step=16, label="Resolution"
                    )
                    seed = gr.Number(
                        0, precision=0, label="Seed (0 draws one)", minimum=0, maximum=2**32 - 1
                    )
                    render = gr.Checkbox(False, label="Video around the object")
            with gr.Column():
                object_alone = gr.Image(
                    label="The object", height=300, interactive=False, elem_id="object"
                )
                preview = gr.Image(label="At work", height=200, interactive=False)
            with gr.Column():
                status = gr.Markdown("Choose an image.")
                viewer = gr.Model3D(label="Mesh", height=400, elem_id="mesh", display_mode="solid")
                downloads = gr.Files(label="Files")
                video = gr.Video(label="Video", height=200)
        image.change(cut, image, object_alone)
        options = [image, choice, ratio, remove, resolution, seed, texture, kind, render]
        started = go.click(start, options, number)
        followed = started.success(follow, number, [status, preview])
        followed.then(show, number, [viewer, downloads, video])
        halt.click(stop, number)
    return page


def _mask(image: Tensor) -> Tensor:
    with torch.no_grad():
        return remove_background(image, "auto")


def _viewable(path: Path) -> str | None:
    """What the viewer can show: it reads no PLY."""
    return None if path.suffix == ".ply" else str(path)


def _in_all_formats(files: list[Path]) -> list[Path]:
    """A job's files, the mesh first, and the mesh in the formats that it was not asked for in.

    A textured mesh stays out of OBJ, which would be three files.
    """
    mesh = load_mesh(files[0])
    for kind in _FORMATS:
        path = files[0].with_suffix(f".{kind}")
        if path not in files and not (kind == "obj" and mesh.texture is not None):
            save_mesh(mesh, path)
            files = [*files, path]
    return files


def _words(job: Job, jobs: Jobs, workers: Workers) -> str:
    if job.state == "queued":
        return f"Job {job.id} waits: {jobs.ahead_of(job)} before it."
    if job.state == "running":
        stage = workers.stages.get(job.id)
        return f"Job {job.id}: {stage.name}, {stage.done} of {stage.total}." if stage else "Begins."
    if job.state == "done":
        assert job.ended is not None
        assert job.started is not None
        return f"Job {job.id} is done, in {job.ended - job.started:.1f} s. Seed {job.seed}."
    return f"Job {job.id}: {job.message}"
