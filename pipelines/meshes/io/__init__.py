"""Load and save mesh files, with separate modules for each format."""

from .dispatch import (
    FORMATS,
    READABLE_FORMATS,
    UpAxis,
    from_y_up,
    load_mesh,
    lost,
    mesh_files,
    mesh_path,
    save_mesh,
    to_y_up,
)

__all__ = [
    "FORMATS",
    "READABLE_FORMATS",
    "UpAxis",
    "from_y_up",
    "load_mesh",
    "lost",
    "mesh_files",
    "mesh_path",
    "save_mesh",
    "to_y_up",
]
