"""Texture a mesh from several sources of colour, and find the cameras of its images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..cameras import Cameras
from ..errors import InvalidInput
from ..fields.field import Field
from ..fields.voxels import VoxelColors
from ..progress import Progress, silent, stage
from .camera_fit import ALL_AROUND, CameraFit, fit_camera, fit_views, is_plain
from .mesh import Mesh
from .projection import PosedImages
from .texture import DEFAULT_LAYOUT, TextureLayout, has_colors, texture_from_images


@dataclass(frozen=True)
class ColorSources:
    """Optional sources of a mesh's colours. Each covers the ones below it.

    Attributes:
        photograph: (1, 4, S, S) framed photograph with its mask as alpha. The field's camera is
            used if the mesh fits the mask there. Otherwise the camera is estimated: near the front,
            or all around if neither the mesh, the voxels nor the field has colours.
        views: images around the mesh with their cameras. If the photograph's camera was estimated
            all around, their azimuths count from it, and their cameras are refined.
        voxels: colours, metalness and roughness of voxels. They replace the field's colours.
        field: the field from which the mesh was extracted.
    """

    photograph: Tensor | None = None
    views: PosedImages | None = None
    voxels: VoxelColors | None = None
    field: Field | None = None

    def to(self, device: torch.device) -> ColorSources:
        """Move the field to a device."""
        return self if self.field is None else replace(self, field=self.field.to(device))


def paint(
    mesh: Mesh,
    sources: ColorSources,
    layout: TextureLayout = DEFAULT_LAYOUT,
    *,
    progress: Progress = silent,
) -> tuple[Mesh, str]:
    """Texture a mesh.

    Args:
        mesh: any with triangles.
        sources: at least one source of colour.
        layout: size and uvs of the texture.
        progress: called throughout.

    Returns:
        mesh: see `texture.texture_from_images`.
        note: a sentence on how well the photograph fits the mesh; empty without a photograph. A
            photograph that does not fit is not used.

    Raises:
        InvalidInput: if there is no source of colour, or as in `texture.texture_from_images`.
        EnvironmentProblem: as in `texture.texture_from_images`.
    """
    field, voxels = sources.field, sources.voxels
    layers, note = _layers(mesh, sources, stage(progress, 0, 2))
    if not layers and field is None and voxels is None:
        raise InvalidInput(
            "There is nothing to paint with: connect a triplane, voxel colours, views, or a"
            f" photograph that fits the mesh. {note}".rstrip()
        )
    painted = texture_from_images(
        mesh,
        layers,
        layout,
        field=field,
        voxels=voxels,
        progress=progress if sources.photograph is None else stage(progress, 1, 2),
    )
    return painted, note


def _layers(mesh: Mesh, sources: ColorSources, progress: Progress) -> tuple[list[PosedImages], str]:
    """Return the views and the photograph with their cameras, and the note of `paint`."""
    views, field = sources.views, sources.field
    if sources.photograph is None:
        return [] if views is None else [views], ""
    image, mask = sources.photograph.split([3, 1], dim=1)
    known = None if field is None else field.camera
    colored = sources.voxels is not None or (field is not None and has_colors(field))
    if colored or not is_plain(mesh):
        fit = fit_camera(mesh, image, mask, known=known, progress=progress)
    else:
        around = None if field is None else views
        fit, fitted = fit_around(mesh, image, mask, around, known=known, progress=progress)
        views = views if field is None else fitted
    layers = [views, fit.posed(image, mask)]
    return [one for one in layers if one is not None], fit.sentence


def fit_around(
    mesh: Mesh,
    image: Tensor,
    mask: Tensor,
    views: PosedImages | None = None,
    *,
    known: Cameras | None = None,
    progress: Progress = silent,
) -> tuple[CameraFit, PosedImages | None]:
    """Find the cameras of a photograph, and of views around it, for a mesh in any pose.

    Args:
        mesh: see `camera_fit.fit_camera`.
        image: see `camera_fit.fit_camera`.
        mask: see `camera_fit.fit_camera`.
        views: see `camera_fit.fit_views`; None if there are none.
        known: see `camera_fit.fit_camera`.
        progress: see `camera_fit.fit_camera`.

    Returns:
        fit: result of `camera_fit.fit_camera`.
        views: result of `camera_fit.fit_views`; None if the photograph does not fit the mesh.

    Raises:
        InvalidInput: as in `camera_fit.fit_camera`.
    """
    search = progress if views is None else stage(progress, 0, 2)
    fit = fit_camera(mesh, image, mask, ALL_AROUND, known=known, progress=search)
    if views is None or not fit.trusted:
        return fit, None
    return fit, fit_views(mesh, views, fit.azimuth_deg, stage(progress, 1, 2))
