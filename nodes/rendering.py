"""Triplanes to the frames of an orbit."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..pipelines.cameras import ZERO123PLUS_RADIUS, orbit_cameras
from ..pipelines.fields.field import Field
from ..pipelines.rendering.frames import depth_images
from ..pipelines.rendering.render_field import render_field, render_memory
from . import host
from .sockets import FieldSocket, image_socket, mask_socket


class RenderOrbit(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageTo3D_RenderOrbit",
            display_name="Render Orbit",
            category="3d/Image to 3D",
            description=(
                "Goes once around each object. The frames go straight into Create Video or Save"
                " Animated WEBP."
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
                    tooltip="Distance from the middle of the object.",
                ),
                io.Int.Input(
                    "size", default=256, min=32, max=1024, step=8, tooltip="Pixels of a side."
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
    @host.explained
    def execute(
        cls, triplane: list[Field], frames: int, elevation: float, radius: float, size: int
    ) -> io.NodeOutput:
        cameras = orbit_cameras(frames, elevation, radius)
        device = host.reserve(render_memory(size))
        orbits = [
            render_field(
                one.to(device), cameras, size, progress=host.node_progress(i, len(triplane))
            )
            for i, one in enumerate(triplane)
        ]
        return io.NodeOutput(
            image_socket(torch.cat([o.rgb for o in orbits])),
            mask_socket(torch.cat([o.weight for o in orbits]).clamp(0, 1)),
            image_socket(torch.cat([depth_images(o) for o in orbits])),
        )
