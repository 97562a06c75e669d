"""Find the files of jobs and uploads, and convert meshes to other formats on request."""

from __future__ import annotations

import re
import threading
from pathlib import Path

from ..meshes.io import load_mesh, save_mesh
from .jobs import Jobs
from .work import PREVIEW

MESH_FORMATS = ("obj", "glb", "stl", "ply")
MEDIA_TYPES = {
    ".obj": "model/obj",
    ".glb": "model/gltf-binary",
    ".stl": "model/stl",
    ".mp4": "video/mp4",
    ".png": "image/png",
    ".mtl": "text/plain",
}
_TOKEN = re.compile(r"[A-Za-z0-9_-]{8,64}")
#: File names of version 0.2.0, by suffix; old links still work.
_OLD_STEMS = {".mp4": "orbit"}
_SUFFIXES = (*(f".{kind}" for kind in MESH_FORMATS), ".mtl", ".png", ".mp4")
_converting = threading.Lock()


def file_of(jobs: Jobs, token: str, name: str) -> Path | None:
    """Find a file by the token and name in its link; return None if it does not exist.

    Args:
        jobs: the store.
        token: token of a job or an upload.
        name: "upload", "image" (a job's first image), "preview.png", or `<token><suffix>` for a
            result. The names of version 0.2.0, `mesh<suffix>` and `orbit.mp4`, still work.
    """
    if not _TOKEN.fullmatch(token):
        return None
    folder = jobs.folder_of(token)
    suffix = Path(name).suffix
    old = f"{_OLD_STEMS.get(suffix, 'mesh')}{suffix}"
    if name == "image":
        candidates = ["picture-0"]
    elif name in ("upload", PREVIEW):
        candidates = [name]
    elif suffix in _SUFFIXES and name in (f"{token}{suffix}", old):
        candidates = [f"{token}{suffix}", old]
    else:
        candidates = []
    return next((folder / each for each in candidates if (folder / each).is_file()), None)


def converted(jobs: Jobs, token: str, name: str) -> Path | None:
    """Convert a finished job's mesh to the format of a file's name.

    Return None if there is no such job, or no such format.

    Args:
        jobs: the store.
        token: token of a job.
        name: the token, and the suffix of one of `MESH_FORMATS`.
    """
    stem, _, kind = name.partition(".")
    if stem != token or kind not in MESH_FORMATS:
        return None
    try:
        job = jobs.by_token(token)
    except KeyError:
        return None
    if job.state != "done":
        return None
    mesh = jobs.folder_of(token) / job.outputs[0]
    path = mesh.with_suffix(f".{kind}")
    with _converting:  # one conversion at a time, to limit memory
        if not path.is_file():
            save_mesh(load_mesh(mesh), path)
    return path
