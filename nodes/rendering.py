"""Turn fields and meshes into the frames of one turn around them."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..pipelines.cameras import ZERO123PLUS_RADIUS, orbit_cameras
from ..pipelines.fields.field import Field
from ..pipelines.meshes.texture import has_colors
from ..pipelines.rendering.frames import depth_images
from ..pipelines.rendering.render_field import render_field, render_memory
from ..pipelines.rendering.render_mesh import render_turntable
from . import host
from .cleaning import FOLDER
from .errors import explained
from .mesh_sockets import meshes_of
from .schema import from_setting, node_schema, number
from .sockets import FieldSocket, image_socket, mask_socket

_GREY_NOTE = (
    "The model has no colours, so the frames are grey. For colours, connect the mesh of Texture"
    " Mesh to Render Mesh Turntable."
)


def _frames_input(default: int) -> Any:
    tooltip = "Frames of a full turn, for each object."
    return from_setting("frames", setting="orbit", default=default, min=1, tooltip=tooltip)


def _elevation_input() -> Any:
    return number("elevation", (20.0, -85.0, 85.0), "Degrees above the horizon.", step=1.0)


def _size_input(default: int) -> Any:
    return number("size", (default, 32, 1024), "Side of a frame in pixels.", step=8)


class RenderOrbit(io.ComfyNode):
    """Renders frames of one turn around each object.

    Connect them to Create Video or Save Animated WEBP.
    """

    define_schema = node_schema(
        "ImageTo3D_RenderOrbit",
        "Render Orbit",
        "turntable, orbit video, render triplane, depth",
        inputs=[
            FieldSocket.Input("triplane"),
            _frames_input(24),
            _elevation_input(),
            number(
                "radius", (ZERO123PLUS_RADIUS, 2.0, 20.0), "Distance from the centre.", step=0.1
            ),
            _size_input(256),
        ],
        outputs=[
            io.Image.Output("frame_images", display_name="frames", tooltip="The object on white."),
            io.Mask.Output("masks", tooltip="1 = object."),
            io.Image.Output(
                "depth", tooltip="White is near, black is far or empty; one scale for each object."
            ),
        ],
    )

    @classmethod
    @explained
    def execute(
        cls, triplane: list[Field], frames: int, elevation: float, radius: float, size: int
    ) -> io.NodeOutput:
        cameras = orbit_cameras(frames, elevation, radius)
        if not all(map(has_colors, triplane)):
            host.show_on_node(None, _GREY_NOTE)
        device = host.reserve(render_memory(size))
        check = host.check_interruption
        with host.free_cores():
            orbits = [
                render_field(one.to(device), cameras, size, progress=progress, check=check)
                for one, progress in host.each(triplane)
            ]
        return io.NodeOutput(
            image_socket(torch.cat([o.rgb for o in orbits])),
            mask_socket(torch.cat([o.weight for o in orbits]).clamp(0, 1)),
            image_socket(torch.cat([depth_images(o) for o in orbits])),
        )


class RenderMesh(io.ComfyNode):
    """Renders frames of one turn around any mesh, without a graphics card.

    For previews, and for versions of ComfyUI without the 3D viewer. The mesh fills the frame,
    whatever its size.
    """

    define_schema = node_schema(
        "ImageTo3D_RenderMesh",
        "Render Mesh Turntable",
        "render mesh, mesh to image, turntable, preview mesh",
        folder=FOLDER,
        inputs=[io.Mesh.Input("mesh"), _frames_input(12), _elevation_input(), _size_input(384)],
        outputs=[io.Image.Output("images", tooltip="On white.")],
    )

    @classmethod
    @explained
    def execute(cls, mesh: Any, frames: int, elevation: float, size: int) -> io.NodeOutput:
        turns = [
            render_turntable(one, frames, elevation, size, progress)
            for one, progress in host.each(meshes_of(mesh))
        ]
        return io.NodeOutput(image_socket(torch.cat(turns)))
