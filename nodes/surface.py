"""Turn fields into meshes."""

from __future__ import annotations

from comfy_api.latest import io

from ..pipelines.fields.field import Field
from ..pipelines.settings import SurfaceSettings, declared
from ..pipelines.surface.extraction import extract_mesh, surface_memory
from . import host
from .errors import explained
from .mesh_sockets import mesh_socket
from .schema import RARE, schema
from .sockets import FieldSocket

_SETTINGS = declared(SurfaceSettings)


class ExtractMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="ImageTo3D_ExtractMesh",
            display_name="Extract Mesh",
            aliases=("marching cubes", "flexicubes", "triplane to mesh", "voxel to mesh"),
            description=(
                "Extracts the surface of each triplane as a mesh: with FlexiCubes for photo and the"
                " mesh models, with marching cubes for the nerf models and TripoSR."
            ),
            inputs=[
                FieldSocket.Input("triplane"),
                io.Int.Input(
                    "resolution",
                    default=128,
                    min=_SETTINGS["resolution"].low,
                    max=_SETTINGS["resolution"].high,
                    step=16,
                    tooltip=(
                        "Cells along an edge of the grid: 128 suits the mesh models, 256 the nerf"
                        " models and TripoSR."
                    ),
                ),
                io.Int.Input(
                    "chunk_size",
                    default=_SETTINGS["chunk_size"].default,
                    min=1024,
                    max=4194304,
                    step=1024,
                    tooltip=(
                        "Points evaluated at once. Fewer need less memory; the mesh stays the same."
                    ),
                    **RARE,
                ),
                io.Float.Input(
                    "threshold",
                    default=0.0,
                    min=0.0,
                    max=1000.0,
                    step=0.1,
                    tooltip=(
                        "Density at the surface, for the nerf models (10) and TripoSR (25). 0 uses"
                        " the model's own."
                    ),
                    **RARE,
                ),
                io.Boolean.Input(
                    "keep_largest_part",
                    default=True,
                    tooltip="Drop everything that is not connected to the largest component.",
                ),
                io.Boolean.Input("colors", default=True, tooltip="Give each vertex its colour."),
            ],
            outputs=[
                io.Mesh.Output(
                    "mesh", display_name="mesh", tooltip="One mesh for each triplane, y up."
                )
            ],
        )

    @classmethod
    @explained
    def execute(
        cls,
        triplane: list[Field],
        resolution: int,
        chunk_size: int,
        threshold: float,
        keep_largest_part: bool,
        colors: bool,
    ) -> io.NodeOutput:
        settings = SurfaceSettings(
            resolution=resolution,
            chunk_size=chunk_size,
            threshold=threshold or None,
            min_part_share=1.0 if keep_largest_part else 0.0,
            colors=colors,
        )
        device = host.reserve(surface_memory(resolution, chunk_size))
        with host.free_cores():
            meshes = [
                extract_mesh(
                    one.to(device), settings, progress=host.node_progress(i, len(triplane))
                )
                for i, one in enumerate(triplane)
            ]
        return io.NodeOutput(mesh_socket(meshes))
