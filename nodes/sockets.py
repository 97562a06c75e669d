"""Socket types, and conversions from and to ComfyUI's IMAGE, MASK, VIDEO and FILE_3D."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import InputImpl, io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor
from torch.nn import functional as F

from ..pipelines.errors import InvalidInput, NothingInImage
from ..pipelines.meshes.io import load_mesh
from ..pipelines.meshes.mesh import Mesh
from . import host

# Unique names, so that sockets of other packs cannot be connected.
MultiviewModelSocket = io.Custom("IMAGE_TO_3D_MULTIVIEW_MODEL")
ReconstructionModelSocket = io.Custom("IMAGE_TO_3D_RECONSTRUCTION_MODEL")
FieldSocket = io.Custom("IMAGE_TO_3D_FIELD")
CamerasSocket = io.Custom("IMAGE_TO_3D_CAMERAS")
_ASPECT_TOLERANCE = 0.05  # natural logarithm of the ratio of two aspect ratios
_COVERED = 0.95  # share of the border that an inverted mask covers
_PLAIN = 0.01  # standard deviation of one colour, which transparent pixels have
_INVERTED = (
    "it covers the border and leaves the middle out. Masks of this pack are 1 on the object, and"
    " Load Image's is 1 where the image is transparent: put Invert Mask in between."
)
#: ComfyUI's socket for 3D files of any format; None in versions without it.
FILE_3D = getattr(io, "File3DAny", None)
_FILE_TYPES = ("File3DGLB", "File3DGLTF", "File3DOBJ", "File3DSTL", "File3DPLY")


def file_3d_input() -> Any:
    """Return an optional input for ComfyUI's 3D files in every readable format."""
    types = [FILE_3D, *(getattr(io, name) for name in _FILE_TYPES if hasattr(io, name))]
    return io.MultiType.Input(
        "file_3d",
        types=types,
        optional=True,
        tooltip="A file of core's 3D nodes. If it is connected, the path is not used.",
    )


def video_socket(path: Path | None) -> Any:
    """Convert a video file to VIDEO; without a file, block the nodes that need it."""
    return InputImpl.VideoFromFile(str(path)) if path else ExecutionBlocker("There is no video.")


def images_of(image: Tensor) -> Tensor:
    """Convert IMAGE (B, H, W, 1, 3 or 4) to images (B, 3 or 4, H, W).

    Raises:
        InvalidInput: if it has another shape.
    """
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4) or not len(image):
        raise InvalidInput(
            "An image must be (batch, height, width, 1, 3 or 4 channels), got"
            f" {tuple(image.shape)}."
        )
    images = image.permute(0, 3, 1, 2).float()
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def image_socket(images: Tensor) -> Tensor:
    """Convert images (B, C, H, W) to IMAGE."""
    return images.permute(0, 2, 3, 1).clamp(0, 1).contiguous().cpu()


def masks_of(mask: Tensor, images: Tensor) -> Tensor:
    """Convert MASK (B, H, W) or (H, W) to (B, 1, H, W), resized to images (B, C, H, W).

    A single mask is used for all images.

    Raises:
        InvalidInput: if the number of masks is neither 1 nor the number of images, or a mask is
            empty, inverted or has another aspect ratio than its image.
    """
    masks = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    if len(masks) not in (1, len(images)):
        raise InvalidInput(
            f"There must be one mask, or one for each image, got {len(masks)} masks and"
            f" {len(images)} images."
        )
    for own, image in zip(masks, images, strict=False):
        _check_mask(own[0], image)
    if masks.shape[-2:] != images.shape[-2:]:
        masks = F.interpolate(masks, size=images.shape[-2:], mode="bilinear", antialias=True)
    return masks.expand(len(images), -1, -1, -1).clamp(0, 1)


def _check_mask(mask: Tensor, image: Tensor) -> None:
    """Raise an error if a mask (H, W) is empty, inverted or not as large as its image."""
    if not bool((mask > 0).any()):
        raise NothingInImage(
            "There is no object: the mask is 0 everywhere. Load Image gives such a mask for an"
            " image without transparency: disconnect it from Remove Background for 3D, and the node"
            " finds the object."
        )
    if bool((mask > 0.5).all()):
        return  # such as Load Image's 64 x 64 mask of an opaque image, inverted
    (height, width), (image_height, image_width) = mask.shape, image.shape[-2:]
    if abs(math.log(width * image_height / (height * image_width))) > _ASPECT_TOLERANCE:
        raise InvalidInput(
            f"The mask is {width} x {height} and the image {image_width} x {image_height}: their"
            " aspect ratios differ. Connect the mask of this image, cropped and resized with it."
        )
    middle = mask[height // 4 : height - height // 4, width // 4 : width - width // 4]
    if _border(mask).mean() <= _COVERED or middle.mean() >= 1 - _COVERED:
        return
    if bool((_border(image[:3]).std(dim=-1) < _PLAIN).all()):
        raise InvalidInput(f"The mask looks inverted: {_INVERTED}")
    host.show_on_node(None, f"Unless the object is a frame, the mask is inverted: {_INVERTED}")


def _border(values: Tensor) -> Tensor:
    """Return the values (..., N) at the border of a mask or an image (..., H, W)."""
    height, width = values.shape[-2:]
    ring = max(1, min(height, width) // 50)
    at_border = torch.ones(height, width, dtype=torch.bool, device=values.device)
    at_border[ring : height - ring, ring : width - ring] = False
    return values[..., at_border]


def mask_socket(masks: Tensor) -> Tensor:
    """Convert masks (B, 1, H, W) to MASK."""
    return masks[:, 0].contiguous().cpu()


def path_output() -> Any:
    """Return the output of a saved file's path."""
    return io.String.Output(
        "path", tooltip="The first file, relative to the output folder: for Preview 3D."
    )


def file_3d_output() -> Any:
    """Return the output of a saved file.

    Versions without FILE_3D get this output too, so that all outputs keep their numbers.
    """
    socket = FILE_3D or io.Custom("FILE_3D")
    return socket.Output("file_3d", tooltip="The first file, for core's 3D nodes.")


def file_3d(path: Path) -> Any:
    """Convert the path of a saved file to FILE_3D; None in versions without it."""
    if FILE_3D is None:
        return None
    from comfy_api.latest import Types

    return Types.File3D(str(path))


def mesh_of_file_3d(file: Any) -> Mesh:
    """Load the mesh of a FILE_3D, which may be on disk or in memory.

    Raises:
        InvalidInput: as `load_mesh` does.
    """
    if file.is_disk_backed and Path(file.get_source()).suffix.lower() == f".{file.format}":
        return load_mesh(Path(file.get_source()))
    with tempfile.TemporaryDirectory() as folder:
        return load_mesh(Path(file.save_to(str(Path(folder) / f"file.{file.format or 'none'}"))))
