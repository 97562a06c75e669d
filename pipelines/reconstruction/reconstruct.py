"""Views to a triplane: what callers use of this package."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cameras import FOUR_VIEWS, Cameras, zero123plus_cameras
from ..errors import InvalidInput
from .model import ReconstructionModel
from .triplane import Triplane


@torch.no_grad()
def reconstruct(model: ReconstructionModel, views: Tensor, cameras: Cameras | None = None) -> Triplane:
    """The triplane of one object.

    Args:
        model: on one device, in one precision; its decoder is copied in float32.
        views: (N, 3, H, W) in [0, 1], square, on white.
        cameras: N, one for each view. Without them, six views stand where Zero123++ puts them, and four are its views 0, 2, 4 and 5.

    Returns:
        the triplane, in float32.

    Raises:
        InvalidInput: if the views have another shape or number, or are not finite.

    Source: Xu et al., InstantMesh (arXiv 2404.07191), section 3.2.
    """
    if views.ndim != 4 or views.shape[1] != 3 or views.shape[2] != views.shape[3] or not views.shape[2]:
        raise InvalidInput(f"Views must be (N, 3, S, S), got {tuple(views.shape)}.")
    if not bool(torch.isfinite(views).all()):
        raise InvalidInput("The views hold values that are not finite numbers (NaN or infinity).")
    if cameras is None:
        if len(views) not in (4, 6):
            raise InvalidInput(f"Without cameras there must be 6 views, or 4 (views 0, 2, 4 and 5 of the 6), got {len(views)}.")
        cameras = zero123plus_cameras() if len(views) == 6 else zero123plus_cameras()[FOUR_VIEWS]
    if len(cameras) != len(views):
        raise InvalidInput(f"There must be one camera for each view, got {len(cameras)} cameras and {len(views)} views.")
    size = model.config.encoder.view_size
    parameter = model.transformer.pos_embed
    resized = views.float()
    if views.shape[-1] != size:
        # On the CPU: MPS has this since PyTorch 2.8 only.
        resized = F.interpolate(resized.cpu(), size=(size, size), mode="bicubic", antialias=True, align_corners=False)
    resized = resized.clamp(0, 1).to(parameter)
    planes = model(resized[None], cameras.tokens()[None].to(parameter))[0]
    return Triplane(planes.float(), model.new_decoder().to(planes.device), model.config)


def split_objects(views: Tensor, each: int) -> list[Tensor]:
    """Views of several objects, one after the other, as one tensor for each.

    Args:
        views: (N, 3, H, W).
        each: how many belong to one object; their number alone does not tell.

    Raises:
        InvalidInput: if the views do not come out even.
    """
    if not len(views) or len(views) % each:
        raise InvalidInput(f"Each object needs {each} views; {len(views)} views do not come out even.")
    return list(views.split(each))
