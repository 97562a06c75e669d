"""Turn fields into meshes."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..pipelines.fields.field import Field
from ..pipelines.settings import SurfaceSettings
from ..pipelines.surface.extraction import extract_mesh, surface_memory
from . import host
from .errors import explained
from .mesh_sockets import mesh_socket
from .schema import RARE, from_setting, node_schema
from .sockets import FieldSocket


class ExtractMesh(io.ComfyNode):
    """Extracts the surface of each triplane as a mesh.

    Uses FlexiCubes for photo, triposg and the mesh models, and marching cubes for triposr and the
    nerf models.
    """

    define_schema = node_schema(
        "ImageTo3D_ExtractMesh",
        "Extract Mesh",
        "marching cubes, flexicubes, triplane to mesh, voxel to mesh",
        inputs=[
            FieldSocket.Input("triplane"),
            from_setting(
                "resolution",
                default=128,
                step=16,
                note="128 suits the mesh models, 256 the nerf models and TripoSR.",
            ),
            from_setting("chunk_size", min=1024, max=4194304, step=1024, **RARE),
            from_setting(
                "threshold",
                default=0.0,
                min=0.0,
                max=1000.0,
                step=0.1,
                note="0 uses the model's own: 10 for the nerf models, 25 for TripoSR.",
                **RARE,
            ),
            io.Boolean.Input(
                "keep_largest_part",
                default=True,
                tooltip="Drop everything that is not connected to the largest component.",
            ),
            from_setting("colors"),
        ],
        outputs=[io.Mesh.Output("mesh", tooltip="One mesh for each triplane, y up.")],
    )

    @classmethod
    @explained
    def execute(
        cls, triplane: list[Field], threshold: float, keep_largest_part: bool, **values: Any
    ) -> io.NodeOutput:
        settings = SurfaceSettings(
            threshold=threshold or None, min_part_share=float(keep_largest_part), **values
        )
        device = host.reserve(surface_memory(values["resolution"], values["chunk_size"]))
        with host.free_cores():
            meshes = [
                extract_mesh(one.to(device), settings, progress=progress)
                for one, progress in host.each(triplane)
            ]
        return io.NodeOutput(mesh_socket(meshes))
