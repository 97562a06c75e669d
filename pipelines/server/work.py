"""Run a job of the server in a worker; an adapter of the module `job`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from .. import job
from ..cameras import Cameras, cameras_around
from ..devices import memory_explained
from ..images.reading import read_image
from ..multiview.photographs import Viewpoints
from ..settings import JobSettings, LoadSettings
from .protocol import JobRequest

PREVIEW, REPORT = "preview.png", "report.json"
_REPORTED = ("mesh", "tries", "seconds")
_MEMORY_ADVICE = "ask for a smaller resolution or chunk_size."


class Maker:
    """Run jobs one after another; keep the last model loaded.

    Args:
        loading: settings of model loading.
    """

    def __init__(self, loading: LoadSettings) -> None:
        self._run = job.Runner(loading, _MEMORY_ADVICE)

    def __call__(
        self, options: JobRequest, seed: int, images: list[Path], folder: Path, report: job.Report
    ) -> list[str]:
        """Make a job's files.

        A report about the result goes to the file `REPORT`.

        Args:
            options: the settings of the client's request.
            seed: seed of the views; not 0.
            images: image files that show one object.
            folder: folder for the files; its name is also the stem of their names.
            report: called with the name of the stage, and its finished and total steps.

        Returns:
            the names of the files, the mesh first.

        Raises:
            ImageTo3DError: if the job fails; the message is safe to show to the client.
        """
        with memory_explained(_MEMORY_ADVICE):
            tensors = [read_image(image) for image in images]
        result = self._run(
            tensors,
            _cameras(options),
            job_settings(options, seed, tensors),
            folder,
            folder.name,
            "",
            report,
            preview_path=folder / PREVIEW,
        )
        about = {name: value for name, value in result.summary().items() if name in _REPORTED}
        (folder / REPORT).write_text(json.dumps(about))
        return [path.name for path in result.files]


def check(options: JobRequest, count: int) -> None:
    """Check a client's request for a number of images, without reading the images.

    Raises:
        InvalidInput: if the model does not support the settings or the images.
    """
    settings = job_settings(options, options.seed, [])
    job.check(settings)
    job.check_images(settings, count, _cameras(options))


def job_settings(options: JobRequest, seed: int, images: Sequence[Tensor]) -> JobSettings:
    """Convert a client's request to the settings of a job.

    Without `remove_bg`, the object keeps its position in the image, and its mask is the image's
    alpha. For opaque photographs (one image, or one per side), the mask is the area whose colour
    differs from the border.
    """
    opaque = not any(bool((image[:, 3] < 1).any()) for image in images)
    views = bool(options.cameras) or (len(images) > 1 and not options.sides)
    kept = "plain" if opaque and not views else "alpha"
    named = {
        "model": options.model,
        "remove_bg": "auto" if options.remove_bg else kept,
        "foreground_ratio": options.foreground_ratio if options.remove_bg else None,
        "seed": seed if job.takes_seed(options.model) else 0,
        "resolution": options.resolution,
        "chunk_size": options.chunk_size,
        "format": options.output_format,
        "max_faces": options.max_faces or None,
        "texture": options.texture or None,
        "video": options.render,
    }
    return JobSettings.from_flat(options.more_settings | named)


def _cameras(options: JobRequest) -> Cameras | Viewpoints | None:
    if options.sides is not None:
        return Viewpoints.of(options.sides, job_settings(options, options.seed, []))
    if (angles := options.cameras) is None:
        return None
    return Cameras.joined(
        [cameras_around([a.azimuth], [a.elevation], a.distance, a.fov) for a in angles]
    )
