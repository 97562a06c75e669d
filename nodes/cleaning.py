"""Repair, remesh and measure meshes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io, ui

from ..pipelines.meshes.cleaning import clean
from ..pipelines.meshes.mesh import Mesh
from ..pipelines.meshes.placement import place
from ..pipelines.meshes.printing import orient as orient_for_print
from ..pipelines.meshes.printing import parse_volume
from ..pipelines.meshes.quads import remesh_quads
from ..pipelines.meshes.report import comparison, report
from ..pipelines.meshes.solid import SOLID_RESOLUTIONS, make_solid
from . import host
from .errors import explained
from .graph import licenses_before
from .mesh_sockets import mesh_socket, meshes_of
from .schema import (
    complaint,
    from_setting,
    longest_side_input,
    max_faces_input,
    node_schema,
    number,
)

FOLDER = "mesh"


def _outputs(name: str) -> list[Any]:
    return [
        io.Mesh.Output(name, display_name="mesh"),
        io.String.Output("report", tooltip="Measurements of each mesh, after and before."),
    ]


class CleanMesh(io.ComfyNode):
    """Merges duplicate vertices, drops empty triangles and applies the options below in order.

    A texture becomes vertex colours: clean first, texture afterwards.
    """

    define_schema = node_schema(
        "ImageTo3D_CleanMesh",
        "Clean Mesh",
        "repair mesh, decimate, smooth, fill holes, watertight, 3d print",
        folder=FOLDER,
        inputs=[
            io.Mesh.Input("mesh"),
            from_setting(
                "min_part_share",
                default=0.05,
                step=0.01,
                note="1 keeps only the largest, 0 keeps all.",
            ),
            number(
                "fill_holes",
                (32, 0, 10_000),
                "Fill holes with at most this many edges. 0 fills none. The outer edge of a"
                " sheet or a bowl is not a hole.",
            ),
            number(
                "smooth",
                (0, 0, 100),
                "Rounds of Taubin smoothing, which removes noise and keeps the volume.",
            ),
            max_faces_input(0, 2_000_000),
            io.Boolean.Input(
                "watertight",
                default=False,
                tooltip="Close the mesh for printing, as Make Solid does with 256 cells.",
            ),
            io.Boolean.Input(
                "unit_cube",
                default=False,
                optional=True,
                tooltip="Fit the mesh into the cube from -0.5 to 0.5. Core's Remesh, voxel"
                " bakes and Paint Mesh cut off what is outside it.",
            ),
        ],
        outputs=_outputs("cleaned_mesh"),
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
        meshes = meshes_of(mesh)
        cleaned = [
            clean(
                one,
                min_part_share=min_part_share,
                hole_edges=fill_holes,
                smoothing=smooth,
                max_faces=max_faces,
                watertight=watertight,
                progress=progress,
            )
            for one, progress in host.each(meshes)
        ]
        if unit_cube:
            cleaned = [place(one, size=1.0, pivot="center") for one in cleaned]
        return _reported(meshes, cleaned, cls.hidden.unique_id)


class MakeSolid(io.ComfyNode):
    """Makes one closed body to print.

    Takes double shells, open scans, overlapping parts and loose triangles. Inner walls and voids
    are removed; separate parts stay separate. A texture becomes vertex colours.
    """

    define_schema = node_schema(
        "ImageTo3D_MakeSolid",
        "Make Solid",
        "watertight, remesh, voxel remesh, 3d print, stl, manifold",
        folder=FOLDER,
        inputs=[
            io.Mesh.Input("mesh", tooltip="From any node, including core's TRELLIS and Hunyuan3D."),
            number(
                "resolution",
                SOLID_RESOLUTIONS,
                "Cells along the longest side. Details smaller than a cell are lost. Twice as"
                " many cells take four times as long. A mesh that is already a closed body keeps"
                " its triangles.",
                step=16,
            ),
            max_faces_input(200_000, 5_000_000),
            from_setting("orient", optional=True),
        ],
        outputs=_outputs("solid_mesh"),
        hidden=[io.Hidden.unique_id],
    )

    @classmethod
    @explained
    def execute(
        cls, mesh: Any, resolution: int, max_faces: int, orient: bool = False
    ) -> io.NodeOutput:
        meshes, solid = meshes_of(mesh), []
        for one, progress in host.each(meshes):
            body = make_solid(one, resolution, max_faces, progress=progress)
            solid.append(orient_for_print(body, progress) if orient else body)
        return _reported(meshes, solid, cls.hidden.unique_id)


class QuadRemesh(io.ComfyNode):
    """Remeshes to quads whose edges follow the shape, for sculpting, rigging and subdivision.

    Save Mesh File keeps the quads in obj and ply. A texture is baked again; vertex colours are
    transferred.
    """

    define_schema = node_schema(
        "ImageTo3D_QuadRemesh",
        "Quad Remesh",
        "quads, retopology, instant meshes, low poly, remesh",
        folder=FOLDER,
        inputs=[io.Mesh.Input("mesh"), from_setting("quads", default=4000, step=100)],
        outputs=_outputs("quad_mesh"),
        hidden=[io.Hidden.unique_id],
    )

    @classmethod
    @explained
    def execute(cls, mesh: Any, quads: int) -> io.NodeOutput:
        meshes = meshes_of(mesh)
        remeshed = [remesh_quads(one, quads, progress) for one, progress in host.each(meshes)]
        return _reported(meshes, remeshed, cls.hidden.unique_id)


def _reported(before: Sequence[Mesh], after: Sequence[Mesh], node_id: str) -> io.NodeOutput:
    """Return meshes with a report of the changes, and show the report on the node."""
    text = "\n".join(map(comparison, before, after))
    host.show_on_node(node_id, text)
    return io.NodeOutput(mesh_socket(after), text, ui=ui.PreviewText(text))


class MeshInfo(io.ComfyNode):
    """Reports the triangles, vertices, components, watertightness, volume and size of meshes.

    It also lists the licences of the models that made them.
    """

    define_schema = node_schema(
        "ImageTo3D_MeshInfo",
        "Mesh Report",
        "mesh info, triangle count, volume, watertight, statistics",
        folder=FOLDER,
        is_output_node=True,
        inputs=[
            io.Mesh.Input("mesh"),
            io.String.Input(
                "printer",
                default="",
                optional=True,
                tooltip="The printer's volume in millimetres, such as 220x220x250. Adds the"
                " thinnest wall, overhangs, bed contact and whether the mesh fits. Leave it empty"
                " to skip these.",
            ),
            longest_side_input("Measure at the size that Save Mesh File gives it.", optional=True),
        ],
        outputs=[io.String.Output("info")],
        hidden=[io.Hidden.unique_id, io.Hidden.prompt],
    )

    @classmethod
    def validate_inputs(cls, printer: str | None = None) -> bool | str:
        return complaint(lambda: printer and parse_volume(printer))

    @classmethod
    @explained
    def execute(cls, mesh: Any, printer: str = "", longest_side: float = 0.0) -> io.NodeOutput:
        volume = parse_volume(printer) if printer else None
        meshes = [place(one, size=longest_side) for one in meshes_of(mesh)]
        found = [report(one, for_print=bool(printer), printer=volume) for one in meshes]
        lines = [f"{one}\n{one.print}" if one.print else str(one) for one in found]
        licenses = licenses_before(cls.hidden.prompt, cls.hidden.unique_id)
        lines += [f"licence of {model}: {found}" for model, found in licenses.items()]
        text = "\n".join(lines)
        host.show_on_node(cls.hidden.unique_id, text)
        return io.NodeOutput(text, ui=ui.PreviewText(text))
