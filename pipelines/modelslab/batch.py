"""Several pictures, one job after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import ModelsLabError
from ..progress import Progress
from .client import CloudResult, ModelsLab, Request


async def images_to_3d(
    client: ModelsLab,
    pictures: Sequence[Image.Image],
    values: Mapping[str, Any],
    mesh_paths: Sequence[Path],
    *,
    job_ids: Sequence[str] = (),
    progress_of: Callable[[int], Progress],
    notice: Callable[[str], None],
) -> list[CloudResult]:
    """The meshes of pictures, in order.

    Args:
        client: is closed at the end.
        pictures: N.
        values: of `client.Request`, for all; the i-th picture has the seed plus i, unless it is 0.
        mesh_paths: N, without endings.
        job_ids: jobs to take up, for the first pictures; empty texts start new ones.
        progress_of: the progress of the i-th picture.
        notice: see `ModelsLab.image_to_3d`.

    Raises:
        InvalidInput: if a value is out of bounds, before anything is sent.
        ModelsLabError: as in `ModelsLab.image_to_3d`; the message names the jobs that have ended
            before, so that nothing is paid for twice.
    """
    request = Request(**values)
    results: list[CloudResult] = []
    async with client:
        for i, (picture, path) in enumerate(zip(pictures, mesh_paths, strict=True)):
            own = replace(request, seed=(request.seed + i) % 2**32 if request.seed else 0)
            job = job_ids[i] if i < len(job_ids) else ""
            try:
                results.append(
                    await client.image_to_3d(
                        picture, own, path, job_id=job, progress=progress_of(i), notice=notice
                    )
                )
            except ModelsLabError as error:
                if results:
                    done = ", ".join(result.job_id for result in results)
                    error.args = (
                        (
                            f"{error} {len(results)} of {len(pictures)} are done: job_id '{done}'"
                            " takes them up without paying again."
                        ),
                    )
                raise
    return results
