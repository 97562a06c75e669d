"""Turn fields and meshes into the frames of one turn around them."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..pipelines.cameras import ZERO123PLUS_FOV_Y_DEG, ZERO123PLUS_RADIUS, orbit_cameras
from ..pipelines.fields.field import Field
from ..pipelines.rendering.frames import depth_images
from ..pipelines.rendering.render_field import render_field, render_memory
from ..pipelines.rendering.render_mesh import render_mesh
from . import host
from .cleaning import FOLDER
from .errors import explained
from .mesh_sockets import meshes_of
from .schema import schema
from .sockets import FieldSocket, image_socket, mask_socket


class RenderOrbit(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="ImageTo3D_RenderOrbit",
            display_name="Render Orbit",
            aliases=("turntable", "orbit video", "render triplane", "depth"),
            description=(
                "Renders frames of one turn around each object. Connect them to Create Video or"
                " Save Animated WEBP."
            ),
            inputs=[
                FieldSocket.Input("triplane"),
                io.Int.Input(
                    "frames",
                    default=24,
                    min=1,
                    max=360,
                    tooltip="Frames of a full turn, for each object.",
                ),
                io.Float.Input(
                    "elevation",
                    default=20.0,
                    min=-85.0,
                    max=85.0,
                    step=1.0,
                    tooltip="Degrees above the horizon.",
                ),
                io.Float.Input(
                    "radius",
                    default=ZERO123PLUS_RADIUS,
                    min=2.0,
                    max=20.0,
                    step=0.1,
                    tooltip="Distance from the centre of the object.",
                ),
                io.Int.Input(
                    "size",
                    default=256,
                    min=32,
                    max=1024,
                    step=8,
                    tooltip="Side of a frame in pixels.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "frame_images", display_name="frames", tooltip="The object on white."
                ),
                io.Mask.Output("masks", display_name="masks", tooltip="1 = object."),
                io.Image.Output(
                    "depth",
                    display_name="depth",
                    tooltip="White is near, black is far or empty; one scale for each object.",
                ),
            ],
        )

    @classmethod
    @explained
    def execute(
        cls, triplane: list[Field], frames: int, elevation: float, radius: float, size: int
    ) -> io.NodeOutput:
        cameras = orbit_cameras(frames, elevation, radius)
        device = host.reserve(render_memory(size))
        with host.free_cores():
            orbits = [
                render_field(
                    one.to(device),
                    cameras,
                    size,
                    progress=host.node_progress(i, len(triplane)),
                    check=host.check_interruption,
                )
                for i, one in enumerate(triplane)
            ]
        return io.NodeOutput(
            image_socket(torch.cat([o.rgb for o in orbits])),
            mask_socket(torch.cat([o.weight for o in orbits]).clamp(0, 1)),
            image_socket(torch.cat([depth_images(o) for o in orbits])),
        )


class RenderMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="ImageTo3D_RenderMesh",
            display_name="Render Mesh Turntable",
            folder=FOLDER,
            aliases=("render mesh", "mesh to image", "turntable", "preview mesh"),
            description=(
                "Renders frames of one turn around any mesh, without a graphics card: for previews,"
                " and for versions without the 3D viewer."
            ),
            inputs=[
                io.Mesh.Input("mesh"),
                io.Int.Input(
                    "frames",
                    default=12,
                    min=1,
                    max=360,
                    tooltip="Images of a full turn, for each mesh.",
                ),
                io.Float.Input(
                    "elevation",
                    default=20.0,
                    min=-85.0,
                    max=85.0,
                    step=1.0,
                    tooltip="Degrees above the horizon.",
                ),
                io.Int.Input(
                    "size",
                    default=384,
                    min=32,
                    max=1024,
                    step=8,
                    tooltip="Side of an image in pixels. The mesh fills it, whatever its size.",
                ),
            ],
            outputs=[io.Image.Output("images", display_name="images", tooltip="On white.")],
        )

    @classmethod
    @explained
    def execute(cls, mesh: Any, frames: int, elevation: float, size: int) -> io.NodeOutput:
        images = []
        meshes = meshes_of(mesh)
        for i, one in enumerate(meshes):
            progress = host.node_progress(i, len(meshes))
            fitted, radius = one.center_for_camera(ZERO123PLUS_FOV_Y_DEG)
            cameras = orbit_cameras(frames, elevation, radius)
            for frame in range(frames):
                images.append(render_mesh(fitted, cameras[[frame]], size))
                progress(frame + 1, frames, images[-1])
        return io.NodeOutput(image_socket(torch.cat(images)))
