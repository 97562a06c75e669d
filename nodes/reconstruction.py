"""Views, or one image, to triplanes."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..pipelines.cameras import ZERO123PLUS_FOV_Y_DEG, ZERO123PLUS_RADIUS, Cameras, parse_cameras
from ..pipelines.devices import DTYPES
from ..pipelines.errors import InvalidInput
from ..pipelines.fields.field import Field
from ..pipelines.reconstruction.instant_mesh import reconstruct, split_objects
from ..pipelines.reconstruction.one_image import reconstruct_image
from ..pipelines.weights.presets import RECONSTRUCTION_PRESETS
from ..pipelines.weights.reconstruction_models import (
    AnyReconstructionModel,
    load_reconstruction_model,
)
from . import host
from .sockets import CamerasSocket, FieldSocket, ReconstructionModelSocket, images_of, masks_of

_WORKING_MEMORY = 2**30  # bytes, of the large models


class LoadReconstructionModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageTo3D_LoadReconstructionModel",
            display_name="Load Reconstruction Model",
            category="3d/Image to 3D",
            description=(
                "Loads a model that turns views, or one image, into a shape: from"
                " models/image_to_3d, the Hugging Face cache, or the hub."
            ),
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(RECONSTRUCTION_PRESETS),
                    default="photo",
                    tooltip=(
                        "photo: embedded, sees one framed image of any object, in seconds."
                        " triposr: one framed image too, finer (1.7 GB, MIT)."
                        " instant-mesh-large: the best surface, of six views. The nerf models"
                        " render better orbits."
                    ),
                ),
                io.Combo.Input(
                    "dtype",
                    options=["auto", *DTYPES],
                    default="auto",
                    tooltip="auto follows ComfyUI's options and the device.",
                ),
            ],
            outputs=[
                ReconstructionModelSocket.Output("reconstruction_model", display_name="model")
            ],
        )

    @classmethod
    @host.explained
    def execute(cls, model: str, dtype: str) -> io.NodeOutput:
        loaded = load_reconstruction_model(
            model,
            models_dirs=host.models_dirs(),
            device=host.offload_device(),
            # The embedded models are too small to gain from half precision.
            dtype=host.chosen_dtype("float32" if dtype == "auto" and model == "photo" else dtype),
            progress=host.node_progress(),
        )
        return io.NodeOutput(host.manage(loaded, loaded))


class ViewCameras(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageTo3D_ViewCameras",
            display_name="View Cameras",
            category="3d/Image to 3D",
            description=(
                "Says from where views of your own were taken. All cameras look at the middle of"
                " the object, with z up."
            ),
            inputs=[
                io.String.Input(
                    "azimuths",
                    default="0, 90, 180, 270",
                    tooltip=(
                        "Degrees around the object, one for each view: 0 is the front, 90 its left."
                    ),
                ),
                io.String.Input(
                    "elevations",
                    default="0",
                    tooltip="Degrees above the horizon: one for all views, or one for each.",
                ),
                io.Float.Input(
                    "radius",
                    default=ZERO123PLUS_RADIUS,
                    min=0.1,
                    max=100.0,
                    step=0.05,
                    tooltip="Distance from the middle of the object.",
                ),
                io.Float.Input(
                    "fov",
                    default=ZERO123PLUS_FOV_Y_DEG,
                    min=1.0,
                    max=170.0,
                    step=0.5,
                    tooltip="Field of view in degrees, from top to bottom.",
                ),
            ],
            outputs=[CamerasSocket.Output("cameras", display_name="cameras")],
        )

    @classmethod
    @host.explained
    def execute(cls, azimuths: str, elevations: str, radius: float, fov: float) -> io.NodeOutput:
        return io.NodeOutput(parse_cameras(azimuths, elevations, radius, fov))


class Reconstruct(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageTo3D_Reconstruct",
            display_name="Reconstruct",
            category="3d/Image to 3D",
            description=(
                "Turns the views of each object, or one framed image of it, into a triplane, from"
                " which meshes of any resolution and orbits are made in seconds."
            ),
            inputs=[
                ReconstructionModelSocket.Input("model"),
                io.Image.Input(
                    "views",
                    tooltip=(
                        "Six views for each object as Generate Views makes them, or four of these"
                        " (say so below); with cameras, one for each. For photo and triposr: one"
                        " framed image of each object, from Frame Foreground."
                    ),
                ),
                CamerasSocket.Input(
                    "cameras", optional=True, tooltip="Where views of your own were taken from."
                ),
                io.Combo.Input(
                    "views_per_object",
                    options=["6", "4"],
                    default="6",
                    optional=True,
                    tooltip=(
                        "Without cameras: how many views belong to one object. 4 are views 1, 3, 5"
                        " and 6 of Generate Views' six. photo and triposr do not ask."
                    ),
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "For photo and triposr: the masks of the framed images, 1 = object."
                        " Whatever colour is behind the object, the model's own takes its place."
                    ),
                ),
            ],
            outputs=[FieldSocket.Output("triplane", display_name="triplane")],
        )

    @classmethod
    @host.explained
    def execute(
        cls,
        model: host.Managed[AnyReconstructionModel],
        views: Tensor,
        cameras: Cameras | None = None,
        views_per_object: str = "6",
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        images = images_of(views)[:, :3]
        inner = model.model
        if inner.sees == "picture":
            if mask is None:
                raise InvalidInput(
                    "This model sees one image and its mask: connect Frame Foreground's mask."
                )
            pairs = list(zip(images.split(1), masks_of(mask, images).split(1), strict=True))
            device = model.load(_WORKING_MEMORY)
            return io.NodeOutput(
                [
                    _reported(
                        reconstruct_image(inner, one.to(device), its.to(device)), i, len(pairs)
                    )
                    for i, (one, its) in enumerate(pairs)
                ]
            )
        each = int(views_per_object) if cameras is None else len(cameras)
        objects = split_objects(images, each)
        device = model.load(_WORKING_MEMORY)
        return io.NodeOutput(
            [
                _reported(reconstruct(inner, own.to(device), cameras), i, len(objects))
                for i, own in enumerate(objects)
            ]
        )


def _reported(field: Field, number: int, count: int) -> Field:
    """The field in host memory; the node's bar has moved on."""
    host.node_progress()(number + 1, count)
    return field.to("cpu")
