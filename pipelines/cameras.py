"""Pinhole cameras: their poses, intrinsics and rays.

World: right-handed, z up. The camera of the input photograph is at azimuth 0 and looks along -x, so
the object's front faces +x. A camera looks along its own -z, with x to the right and y up (OpenGL).

            z up
            |   . camera at (r cos e cos a, r cos e sin a, r sin e)
            |  /
            | /  e = elevation, a = azimuth from +x toward +y
            |/____ y
           /
          x  front
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import InvalidInput

ZERO123PLUS_AZIMUTHS_DEG = (30.0, 90.0, 150.0, 210.0, 270.0, 330.0)
ZERO123PLUS_ELEVATIONS_DEG = (20.0, -10.0, 20.0, -10.0, 20.0, -10.0)
ZERO123PLUS_RADIUS = 4.0
ZERO123PLUS_FOV_Y_DEG = 30.0
FOUR_VIEWS = (0, 2, 4, 5)


@dataclass(frozen=True)
class Cameras:
    """N pinhole cameras.

    Attributes:
        c2w: (N, 4, 4) float32, camera to world.
        intrinsics_normalized: (N, 3, 3) float32, focal length and principal point divided by the
            image's size.
    """

    c2w: Tensor
    intrinsics_normalized: Tensor

    def _comfy_cache_tensors(self) -> list[Tensor]:
        """Return all tensors, from which ComfyUI's cache computes the memory of an output."""
        return [value for value in vars(self).values() if isinstance(value, Tensor)]

    def __len__(self) -> int:
        return self.c2w.shape[0]

    def __getitem__(self, index: Sequence[int]) -> Cameras:
        return Cameras(self.c2w[list(index)], self.intrinsics_normalized[list(index)])

    @classmethod
    def joined(cls, parts: Sequence[Cameras]) -> Cameras:
        """Concatenate several sets of cameras, in order."""
        c2w = torch.cat([one.c2w for one in parts])
        return cls(c2w, torch.cat([one.intrinsics_normalized for one in parts]))

    def tokens(self) -> Tensor:
        """Return each camera in the encoder's input format.

        Returns:
            (N, 16): the first three rows of c2w, row by row, then fx, fy, cx, cy.
        """
        k = self.intrinsics_normalized
        return torch.cat([self.c2w[:, :3].flatten(1), k[:, (0, 1, 0, 1), (0, 1, 2, 2)]], dim=1)

    def rays(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return rays through the pixel centres ((i + 0.5) / size).

        Returns:
            origins and unit directions, each (N, height * width, 3) float32, pixels row by row.
        """
        k = self.intrinsics_normalized
        u = (torch.arange(width, device=k.device) + 0.5) / width
        v = (torch.arange(height, device=k.device) + 0.5) / height
        v, u = torch.meshgrid(v, u, indexing="ij")
        x = (u.flatten() - k[:, 0, 2, None]) / k[:, 0, 0, None]
        y = (v.flatten() - k[:, 1, 2, None]) / k[:, 1, 1, None]
        directions = torch.stack([x, -y, -torch.ones_like(x)], dim=-1)  # (N, H*W, 3)
        directions = directions @ self.c2w[:, :3, :3].transpose(1, 2)
        origins = self.c2w[:, None, :3, 3].expand_as(directions)
        return origins, torch.nn.functional.normalize(directions, dim=-1)


def look_at_origin(
    azimuths_deg: Sequence[float], elevations_deg: Sequence[float], radius: float | Sequence[float]
) -> Tensor:
    """Return camera-to-world matrices of cameras that look at the origin with +z up.

    Args:
        azimuths_deg: N angles in degrees, from +x toward +y.
        elevations_deg: N angles in degrees above the xy plane, inside (-90, 90).
        radius: distance from the origin: one value or N.

    Returns:
        c2w: (N, 4, 4) float32.

    Raises:
        InvalidInput: if the lengths differ, a radius is not positive or an elevation reaches a
            pole.
    """
    radii = (
        [float(radius)] * len(azimuths_deg)
        if isinstance(radius, (int, float))
        else [float(r) for r in radius]
    )
    if not len(azimuths_deg) == len(elevations_deg) == len(radii):
        raise InvalidInput(
            f"Cameras need as many azimuths as elevations and radii, got {len(azimuths_deg)}, "
            f"{len(elevations_deg)} and {len(radii)}."
        )
    if not all(r > 0 and math.isfinite(r) for r in radii):
        raise InvalidInput(f"A camera's radius must be above 0, got {radii}.")
    if not all(abs(e) < 90 for e in elevations_deg) or not all(map(math.isfinite, azimuths_deg)):
        raise InvalidInput(
            "Azimuths must be finite, and elevations between -90 and 90 degrees, both excluded, got"
            f" {list(azimuths_deg)} and {list(elevations_deg)}."
        )
    azimuth = torch.deg2rad(torch.tensor(azimuths_deg, dtype=torch.float64))
    elevation = torch.deg2rad(torch.tensor(elevations_deg, dtype=torch.float64))
    backward = torch.stack(
        [elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin()], dim=1
    )  # (N, 3), unit
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand_as(backward)
    right = torch.nn.functional.normalize(torch.linalg.cross(up, backward), dim=1)
    c2w = torch.eye(4, dtype=torch.float64).repeat(len(backward), 1, 1)
    c2w[:, :3, 0] = right
    c2w[:, :3, 1] = torch.linalg.cross(backward, right)
    c2w[:, :3, 2] = backward
    c2w[:, :3, 3] = backward * torch.tensor(radii, dtype=torch.float64)[:, None]
    return c2w.float()


def intrinsics_from_fov(fov_y_deg: float) -> Tensor:
    """Return the normalised intrinsics of a square image.

    Args:
        fov_y_deg: vertical field of view in degrees, inside (0, 180).

    Returns:
        (3, 3) float32 with f = 0.5 / tan(fov / 2) and the principal point at (0.5, 0.5).

    Raises:
        InvalidInput: if the field of view is outside its range.
    """
    if not 0 < fov_y_deg < 180:
        raise InvalidInput(
            f"The field of view must lie between 0 and 180 degrees, got {fov_y_deg}."
        )
    focal = 0.5 / math.tan(math.radians(fov_y_deg) / 2)
    return torch.tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]], dtype=torch.float32)


def cameras_around(
    azimuths_deg: Sequence[float],
    elevations_deg: Sequence[float],
    radius: float | Sequence[float],
    fov_y_deg: float,
) -> Cameras:
    """Return cameras at the given angles that look at the origin with one field of view.

    Raises:
        InvalidInput: as in `look_at_origin` and `intrinsics_from_fov`.
    """
    c2w = look_at_origin(azimuths_deg, elevations_deg, radius)
    return Cameras(c2w, intrinsics_from_fov(fov_y_deg).repeat(len(c2w), 1, 1))


def parse_cameras(azimuths: str, elevations: str, radius: float, fov_y_deg: float) -> Cameras:
    """Parse lists of angles in degrees, and return cameras as `cameras_around` does.

    Commas, semicolons or spaces separate the numbers. A single elevation applies to all cameras.

    Raises:
        InvalidInput: if a text is empty or contains anything but numbers, or as in
            `cameras_around`.
    """
    around, above = _parse_angles("azimuths", azimuths), _parse_angles("elevations", elevations)
    return cameras_around(
        around, above * len(around) if len(above) == 1 else above, radius, fov_y_deg
    )


def _parse_angles(name: str, text: str) -> list[float]:
    try:
        angles = [float(word) for word in text.replace(",", " ").replace(";", " ").split()]
    except ValueError:
        angles = []
    if not angles:
        raise InvalidInput(
            f"The {name} must be numbers separated by commas, like '0, 90, 180, 270', got '{text}'."
        )
    return angles


def zero123plus_cameras(
    radius: float = ZERO123PLUS_RADIUS, fov_y_deg: float = ZERO123PLUS_FOV_Y_DEG
) -> Cameras:
    """Return the cameras of Zero123++'s six views, in row-major order of its 3x2 grid.

    Source: Shi et al., Zero123++ (arXiv 2310.15110), section 2.1; radius and field of view as in
    InstantMesh.
    """
    return cameras_around(ZERO123PLUS_AZIMUTHS_DEG, ZERO123PLUS_ELEVATIONS_DEG, radius, fov_y_deg)


def orbit_cameras(
    frames: int,
    elevation_deg: float = 20.0,
    radius: float = ZERO123PLUS_RADIUS,
    fov_y_deg: float = ZERO123PLUS_FOV_Y_DEG,
) -> Cameras:
    """Return cameras on a circle, where frame i is at azimuth 360 i / frames.

    Raises:
        InvalidInput: if `frames` is below 1, or as in `cameras_around`.
    """
    if frames < 1:
        raise InvalidInput(f"An orbit needs at least one frame, got {frames}.")
    return cameras_around(
        [360.0 * i / frames for i in range(frames)], [elevation_deg] * frames, radius, fov_y_deg
    )
