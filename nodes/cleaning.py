"""Turn meshes into better meshes, and describe them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from comfy_api.latest import io, ui

from ..pipelines.meshes.cleaning import clean
from ..pipelines.meshes.mesh import Mesh
from ..pipelines.meshes.placement import place
from ..pipelines.meshes.report import report
from ..pipelines.meshes.solid import (
    DEFAULT_SOLID_RESOLUTION,
    MAX_SOLID_RESOLUTION,
    MIN_SOLID_RESOLUTION,
    make_solid,
)
from ..pipelines.progress import Progress
from . import host
from .errors import explained
from .mesh_sockets import mesh_socket, meshes_of
from .schema import schema

FOLDER = "mesh"


def _faces_input(default: int, most: int) -> io.Int.Input:
    return io.Int.Input(
        "max_faces",
        default=default,
        min=0,
        max=most,
        step=1000,
        tooltip="Decimate to at most this many triangles. 0 keeps all.",
    )


def _report_output() -> io.String.Output:
    return io.String.Output(
        "report", display_name="report", tooltip="Each mesh after the node and before it."
    )


class CleanMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="ImageTo3D_CleanMesh",
            display_name="Clean Mesh",
            folder=FOLDER,
            aliases=("repair mesh", "decimate", "smooth", "fill holes", "watertight", "3d print"),
            description=(
                "Merges duplicate vertices, drops empty triangles and applies the options below, in"
                " their order. A texture becomes vertex colours: clean first, texture afterwards."
            ),
            inputs=[
                io.Mesh.Input("mesh"),
                io.Float.Input(
                    "min_part_share",
                    default=0.05,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "Drop components whose surface is smaller than this share of the largest"
                        " one's. 1 keeps only the largest, 0 keeps all."
                    ),
                ),
                io.Int.Input(
                    "fill_holes",
                    default=32,
                    min=0,
                    max=10_000,
                    tooltip=(
                        "Fill holes with at most this many edges. 0 fills none. The outer edge of a"
                        " sheet or a bowl is not a hole."
                    ),
                ),
                io.Int.Input(
                    "smooth",
                    default=0,
                    min=0,
                    max=100,
                    tooltip="Rounds of Taubin smoothing: removes noise and keeps the volume.",
                ),
                _faces_input(default=0, most=2_000_000),
                io.Boolean.Input(
                    "watertight",
                    default=False,
                    tooltip="Close the mesh for printing, as Make Solid does with 256 cells.",
                ),
                io.Boolean.Input(
                    "unit_cube",
                    default=False,
                    optional=True,
                    tooltip=(
                        "Fit the mesh into the cube from -0.5 to 0.5. Core's Remesh, voxel bakes"
                        " and Paint Mesh cut off what is outside it."
                    ),
                ),
            ],
            outputs=[io.Mesh.Output("cleaned_mesh", display_name="mesh"), _report_output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @explained
    def execute(
        cls,
        mesh: Any,
        min_part_share: float,
        fill_holes: int,
        smooth: int,
        max_faces: int,
        watertight: bool,
        unit_cube: bool = False,
    ) -> io.NodeOutput:
        def cleaned(one: Mesh, progress: Progress) -> Mesh:
            better = clean(
                one,
                min_part_share=min_part_share,
                hole_edges=fill_holes,
                smoothing=smooth,
                max_faces=max_faces,
                watertight=watertight,
                progress=progress,
            )
            return place(better, size=1.0, pivot="center") if unit_cube else better

        return _each(meshes_of(mesh), cleaned, cls.hidden.unique_id)


class MakeSolid(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="ImageTo3D_MakeSolid",
            display_name="Make Solid",
            folder=FOLDER,
            aliases=("watertight", "remesh", "voxel remesh", "3d print", "stl", "manifold"),
            description=(
                "Makes one closed body to print from double shells, open scans, overlapping parts"
                " and loose triangles. Inner walls and voids are removed; separate parts stay"
                " separate. A texture becomes vertex colours."
            ),
            inputs=[
                io.Mesh.Input("mesh", tooltip="From any node, core's TRELLIS and Hunyuan3D too."),
                io.Int.Input(
                    "resolution",
                    default=DEFAULT_SOLID_RESOLUTION,
                    min=MIN_SOLID_RESOLUTION,
                    max=MAX_SOLID_RESOLUTION,
                    step=16,
                    tooltip=(
                        "Cells along the longest side: details smaller than a cell are lost. Twice"
                        " as many take four times as long. A mesh that is a closed body already"
                        " keeps its triangles."
                    ),
                ),
                _faces_input(default=200_000, most=5_000_000),
            ],
            outputs=[io.Mesh.Output("solid_mesh", display_name="mesh"), _report_output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @explained
    def execute(cls, mesh: Any, resolution: int, max_faces: int) -> io.NodeOutput:
        def solid(one: Mesh, progress: Progress) -> Mesh:
            return make_solid(one, resolution, max_faces, progress=progress)

        return _each(meshes_of(mesh), solid, cls.hidden.unique_id)


def _each(
    meshes: Sequence[Mesh], work: Callable[[Mesh, Progress], Mesh], node_id: str
) -> io.NodeOutput:
    """Apply work to each mesh and report what it changed, the result first."""
    results, lines = [], []
    for i, one in enumerate(meshes):
        results.append(work(one, host.node_progress(i, len(meshes))))
        lines += [f"after: {report(results[-1])}", f"before: {report(one)}"]
        if one.material is not None and one.material.images:
            lines.append(f"dropped, since they need the old uvs: {', '.join(one.material.images)}")
    text = "\n".join(lines)
    host.show_on_node(node_id, text)
    return io.NodeOutput(mesh_socket(results), text, ui=ui.PreviewText(text))


class MeshInfo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="ImageTo3D_MeshInfo",
            display_name="Mesh Report",
            folder=FOLDER,
            aliases=("mesh info", "triangle count", "volume", "watertight", "statistics"),
            description=(
                "Reports the triangles, vertices and components of each mesh, whether it is"
                " watertight, its volume and its size."
            ),
            is_output_node=True,
            inputs=[io.Mesh.Input("mesh")],
            outputs=[io.String.Output("info", display_name="info")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @explained
    def execute(cls, mesh: Any) -> io.NodeOutput:
        text = "\n".join(str(report(one)) for one in meshes_of(mesh))
        host.show_on_node(cls.hidden.unique_id, text)
        return io.NodeOutput(text, ui=ui.PreviewText(text))
