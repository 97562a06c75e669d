"""Turn views, or one image, into a field."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..pipelines.cameras import ZERO123PLUS_FOV_Y_DEG, ZERO123PLUS_RADIUS, Cameras, parse_cameras
from ..pipelines.errors import InvalidInput
from ..pipelines.reconstruction.instant_mesh import split_objects
from ..pipelines.reconstruction.reconstruct import reconstruct
from ..pipelines.reconstruction.triposg import TripoSG
from ..pipelines.weights.reconstruction_models import (
    AnyReconstructionModel,
    load_reconstruction_model,
)
from . import host
from .camera_sockets import camera_infos, cameras_of
from .errors import explained
from .graph import check_loaders
from .schema import RARE, complaint, dtype_input, from_setting, node_schema, number
from .sockets import CamerasSocket, FieldSocket, ReconstructionModelSocket, images_of, masks_of

_WORKING_MEMORY = 2**30  # bytes, of the large models
_NO_EFFECT = "cameras and views_per_object have no effect: this model takes one image."


class LoadReconstructionModel(io.ComfyNode):
    """Loads a model that turns six views, or one image, into a shape.

    Looks in models/image_to_3d, then in the Hugging Face cache, then downloads.
    """

    define_schema = node_schema(
        "ImageTo3D_LoadReconstructionModel",
        "Load Reconstruction Model",
        "triposr, triposg, instantmesh, instant nerf, photo, lrm, image to 3d model",
        inputs=[
            from_setting(
                "model",
                note="photo comes with the pack and turns one framed image into a shape within"
                " seconds. triposr also takes one framed image and is more detailed (1.7 GB, MIT)."
                " triposg gives the most detailed shape from one image, without colours (8 GB,"
                " MIT). instant-mesh-large gives the best surface, from six views. The nerf models"
                " render better orbits.",
            ),
            dtype_input(),
        ],
        outputs=[ReconstructionModelSocket.Output("reconstruction_model", display_name="model")],
        hidden=[io.Hidden.prompt],
    )

    @classmethod
    @explained
    def execute(cls, model: str, dtype: str) -> io.NodeOutput:
        check_loaders(cls.hidden.prompt, model, host.models_dirs())
        # The embedded models are too small to gain from half precision.
        chosen = "float32" if dtype == "auto" and model == "photo" else dtype
        loaded = load_reconstruction_model(model, **host.loading(chosen))
        return io.NodeOutput(host.manage(loaded, loaded))


class ViewCameras(io.ComfyNode):
    """Sets the cameras of your own views.

    Cameras given by angles are upright and look at the centre of the object.
    """

    define_schema = node_schema(
        "ImageTo3D_ViewCameras",
        "View Cameras",
        "camera positions, multiview cameras, azimuth, elevation",
        inputs=[
            io.String.Input(
                "azimuths",
                default="0, 90, 180, 270",
                tooltip="Degrees around the object, one for each view: 0 is its front, 90 its"
                " left side.",
            ),
            io.String.Input(
                "elevations",
                default="0",
                tooltip="Degrees above the horizon, one for all views or one for each.",
            ),
            number(
                "radius", (ZERO123PLUS_RADIUS, 0.1, 100.0), "Distance from the centre.", step=0.05
            ),
            number(
                "fov",
                (ZERO123PLUS_FOV_Y_DEG, 1.0, 170.0),
                "Vertical view angle in degrees.",
                step=0.5,
            ),
            io.Load3DCamera.Input(
                "camera_info",
                optional=True,
                tooltip="One camera of core's 3D nodes, or a list, instead of the angles.",
            ),
        ],
        outputs=[
            CamerasSocket.Output("cameras"),
            io.Load3DCamera.Output(
                "camera_infos",
                display_name="camera_info",
                is_output_list=True,
                tooltip="A list of the cameras, for core's 3D nodes.",
            ),
        ],
    )

    @classmethod
    def validate_inputs(
        cls, azimuths: str | None = None, elevations: str | None = None
    ) -> bool | str:
        if azimuths is None or elevations is None:
            return True  # linked, not known yet
        return complaint(lambda: parse_cameras(azimuths, elevations, 1.0, 30.0))

    @classmethod
    @explained
    def execute(
        cls, azimuths: str, elevations: str, radius: float, fov: float, camera_info: Any = None
    ) -> io.NodeOutput:
        if camera_info is None:
            cameras = parse_cameras(azimuths, elevations, radius, fov)
        else:
            cameras = cameras_of(camera_info)
        return io.NodeOutput(cameras, camera_infos(cameras))


class Reconstruct(io.ComfyNode):
    """Turns six views of each object, or one framed image of it, into a triplane.

    Extract Mesh and Render Orbit turn it into a mesh or images within seconds, at any resolution.
    """

    define_schema = node_schema(
        "ImageTo3D_Reconstruct",
        "Reconstruct",
        "image to 3d, views to 3d, triplane, triposr, instantmesh",
        inputs=[
            ReconstructionModelSocket.Input("model"),
            io.Image.Input(
                "views",
                tooltip="For the instant models: six views of each object from Generate Views,"
                " or your own with cameras. For photo and triposr: one framed image of each"
                " object, from Frame Foreground.",
            ),
            CamerasSocket.Input(
                "cameras",
                optional=True,
                tooltip="The cameras of your own views. No effect on photo and triposr.",
            ),
            io.Combo.Input(
                "views_per_object",
                options=["6", "4"],
                default="6",
                optional=True,
                tooltip="Without cameras: how many views belong to one object. 4 means views 1,"
                " 3, 5 and 6 of Generate Views. No effect on photo and triposr.",
                **RARE,
            ),
            io.Mask.Input(
                "mask",
                optional=True,
                tooltip="For photo and triposr: the masks of the framed images, 1 = object.",
            ),
        ],
        outputs=[FieldSocket.Output("triplane")],
        hidden=[io.Hidden.unique_id],
    )

    @classmethod
    @explained
    def execute(
        cls,
        model: host.Managed[AnyReconstructionModel],
        views: Tensor,
        cameras: Cameras | None = None,
        views_per_object: str = "6",
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        if isinstance(model.model, TripoSG):
            raise InvalidInput("Use the node Reconstruct with TripoSG for the model triposg.")
        images = images_of(views)[:, :3]
        if model.model.input_kind == "image":
            if cameras is not None or views_per_object != "6":
                host.show_on_node(cls.hidden.unique_id, _NO_EFFECT)
            objects, masks, cameras = images.split(1), _masks_of(mask, images).split(1), None
        else:
            each = int(views_per_object) if cameras is None else len(cameras)
            objects = split_objects(images, each)
            masks = [None] * len(objects)
        device = model.load(_WORKING_MEMORY)
        fields = []
        with host.free_cores():
            for own, own_mask, progress in host.each(objects, masks):
                field = reconstruct(model.model, own.to(device), cameras, own_mask)
                fields.append(field.to("cpu"))
                progress(1, 1)
        return io.NodeOutput(fields)


def _masks_of(mask: Tensor | None, images: Tensor) -> Tensor:
    if mask is None:
        raise InvalidInput(
            "This model takes one framed image and its mask: connect Frame Foreground's mask."
        )
    return masks_of(mask, images)
