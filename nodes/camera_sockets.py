"""Convert between core's LOAD3D_CAMERA and the library's cameras.

Core's world is y up with the front at +z, and its cameras look along their -z, as ours do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional as F

from ..pipelines.cameras import Cameras, intrinsics_from_fov
from ..pipelines.errors import InvalidInput

_Z_UP = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])  # from core's world to ours
_DEFAULT_FOV_DEG = 40.0  # as in core's Render Mesh


def cameras_of(infos: Any) -> Cameras:
    """Convert LOAD3D_CAMERA, one or a list, to the cameras of square images.

    Raises:
        InvalidInput: if a camera is orthographic, or its numbers are missing or invalid.
    """
    found = [_camera_of(info) for info in (infos if isinstance(infos, Sequence) else [infos])]
    if not found:
        raise InvalidInput("The list of cameras is empty: connect at least one camera.")
    c2w, intrinsics = zip(*found, strict=True)
    return Cameras(torch.stack(c2w), torch.stack(intrinsics))


def _camera_of(info: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return c2w (4, 4) and normalized intrinsics (3, 3)."""
    if info.get("cameraType") == "orthographic":
        raise InvalidInput("The camera is orthographic: switch it to perspective.")
    try:
        position = _vector(info["position"])
        rotation = _rotation(info, position)
        zoom, fov = float(info.get("zoom") or 1), float(info.get("fov") or _DEFAULT_FOV_DEG)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"This is not a camera of core's 3D nodes: {error!r}.") from error
    intrinsics = intrinsics_from_fov(fov)
    intrinsics[:2, :2] *= zoom
    c2w = torch.eye(4)
    c2w[:3, :3], c2w[:3, 3] = _Z_UP @ rotation, _Z_UP @ position
    if not bool(torch.isfinite(c2w).all()) or zoom <= 0:
        raise InvalidInput(f"The camera's numbers must be finite and its zoom above 0, got {info}.")
    return c2w, intrinsics


def _rotation(info: Mapping[str, Any], position: Tensor) -> Tensor:
    """Return core's camera axes as columns: from the quaternion, or else toward the target."""
    if info.get("quaternion"):
        quaternion = [float(info["quaternion"][name]) for name in "xyzw"]
        return torch.from_numpy(Rotation.from_quat(quaternion).as_matrix()).float()
    back = F.normalize(position - _vector(info["target"]), dim=0)
    right = torch.stack([back[2], torch.tensor(0.0), -back[0]])  # up x back
    right = F.normalize(right, dim=0) if float(right.norm()) > 1e-6 else torch.eye(3)[0]
    return torch.stack([right, torch.linalg.cross(back, right), back], dim=1)


def camera_infos(cameras: Cameras) -> list[dict[str, Any]]:
    """Convert cameras to LOAD3D_CAMERA; targets are on the viewing axis, nearest to the origin."""
    infos = []
    for c2w, intrinsics in zip(cameras.c2w, cameras.intrinsics_normalized, strict=True):
        rotation, position = _Z_UP.T @ c2w[:3, :3], _Z_UP.T @ c2w[:3, 3]
        distance = float(position @ rotation[:, 2])
        target = position - rotation[:, 2] * (distance if distance > 0 else 1.0)
        quaternion = Rotation.from_matrix(rotation.numpy()).as_quat()
        infos.append(
            {
                "position": _named(position.tolist()),
                "target": _named(target.tolist()),
                "quaternion": _named(quaternion.tolist()),
                "zoom": 1,
                "cameraType": "perspective",
                "fov": 2 * math.degrees(math.atan(0.5 / float(intrinsics[1, 1]))),
                "aspect": float(intrinsics[1, 1] / intrinsics[0, 0]),
            }
        )
    return infos


def _vector(point: Mapping[str, Any]) -> Tensor:
    return torch.tensor([float(point[name]) for name in "xyz"])


def _named(values: Sequence[float]) -> dict[str, float]:
    return dict(zip("xyzw", values, strict=False))
