"""Turn mesh files into meshes."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..pipelines.errors import InvalidInput
from ..pipelines.meshes.io import READABLE_FORMATS, load_mesh, mesh_files
from . import host
from .cleaning import FOLDER
from .errors import explained
from .mesh_sockets import mesh_socket
from .schema import complaint, node_schema
from .sockets import FILE_3D, file_3d_input, mesh_of_file_3d

_NONE = "none"
#: Options that add an upload button to a list; older versions do not accept them.
_UPLOAD: dict[str, Any] = (
    {"extra_dict": {"mesh_upload": True, "upload_subfolder": "3d"}}
    if "extra_dict" in signature(io.Combo.Input.__init__).parameters
    else {}
)


class LoadMesh(io.ComfyNode):
    """Reads a mesh file from ComfyUI's input or output folder.

    Reads OBJ with its MTL and textures, GLB, glTF, PLY, STL and 3MF.
    """

    define_schema = node_schema(
        "ImageTo3D_LoadMesh",
        "Load Mesh File",
        "load mesh, import mesh, load " + ", load ".join(READABLE_FORMATS),
        folder=FOLDER,
        inputs=lambda: [
            io.String.Input(
                "file",
                default="3d/mesh.obj",
                tooltip="Path below ComfyUI's input folder, or else its output folder"
                f" ({', '.join(READABLE_FORMATS)}), such as the path that Save Mesh File returns.",
            ),
            *([file_3d_input()] if FILE_3D else []),
            io.Combo.Input(
                "input_file",
                options=[_NONE, *host.input_files(READABLE_FORMATS)],
                default=_NONE,
                optional=True,
                tooltip="A file of the input folder. If one is chosen, the path is not used.",
                **_UPLOAD,
            ),
        ],
        outputs=[io.Mesh.Output("mesh", tooltip="With its texture or vertex colours.")],
    )

    @classmethod
    def validate_inputs(cls, file: str | None = None, input_file: str | None = None) -> bool | str:
        """Check a chosen file or a typed path; the path's file may be written later by a node."""
        if input_file not in (None, _NONE):
            return complaint(lambda: host.file_below_comfyui(str(input_file)))
        return file is None or complaint(lambda: host.check_file_name(file))

    @classmethod
    @explained
    def execute(cls, file: str, file_3d: Any = None, input_file: str = _NONE) -> io.NodeOutput:
        if file_3d is not None:
            return io.NodeOutput(mesh_socket([mesh_of_file_3d(file_3d)]))
        return io.NodeOutput(mesh_socket([load_mesh(_path(file, input_file))]))

    @classmethod
    def fingerprint_inputs(cls, file: str, file_3d: Any = None, input_file: str = _NONE) -> Any:
        """Return a value that changes if the file, its materials or its textures change."""
        try:
            files: list[Path] = mesh_files(_path(file, input_file))
        except InvalidInput:
            return file if input_file == _NONE else input_file
        return [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files]


def _path(file: str, input_file: str) -> Path:
    return host.file_below_comfyui(file if input_file == _NONE else input_file)
