"""Deprecated name of `meshes.io`, kept for one release."""

from warnings import warn

from .meshes.io import FORMATS, load_mesh, mesh_files, mesh_path, save_mesh

__all__ = ["FORMATS", "load_mesh", "mesh_files", "mesh_path", "save_mesh"]

warn("image_to_3d.mesh_io is now image_to_3d.meshes.io", DeprecationWarning, stacklevel=2)
