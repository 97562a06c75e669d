"""Texture a mesh from several sources of colour."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..fields.field import Field
from ..fields.voxels import VoxelColors
from ..progress import Progress, silent, stage
from .camera_fit import ALL_AROUND, FRONT, fit_camera, fit_views, is_plain
from .mesh import Mesh
from .projection import PosedImages
from .texture import DEFAULT_TEXTURED_FACES, has_colors, texture_from_images


@dataclass(frozen=True)
class ColorSources:
    """Sources of a mesh's colours, all optional: each covers the following ones.

    Attributes:
        photograph: (1, 4, S, S) framed photograph with its mask as alpha. Its camera is that of the
            field if it fits, otherwise it is estimated: all around the mesh if neither the mesh nor
            the field has colours, else near the front.
        views: images around the mesh with their cameras. For a field without colours, the cameras
            are relative to the photograph, and estimated too.
        voxels: colours, metalness and roughness of voxels.
        field: a field with colours, in place of voxels.
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
    size: int = 1024,
    *,
    keep_uvs: bool = False,
    max_faces: int = DEFAULT_TEXTURED_FACES,
    progress: Progress = silent,
) -> tuple[Mesh, str]:
    """Texture a mesh.

    Args:
        mesh: any with triangles.
        sources: at least one source of colour.
        size: see `texture.texture_from_images`.
        keep_uvs: see `texture.texture_from_images`.
        max_faces: see `texture.texture_from_images`.
        progress: called throughout.

    Returns:
        mesh: see `texture.texture_from_images`.
        note: a sentence on how the photograph fits the mesh, empty without one. A photograph that
            does not fit is not used.

    Raises:
        InvalidInput: if there is no source of colour, or as in `texture.texture_from_images`.
        EnvironmentProblem: as in `texture.texture_from_images`.
    """
    field, layers, note = sources.field, [] if sources.views is None else [sources.views], ""
    if sources.photograph is not None:
        image, mask = sources.photograph.split([3, 1], dim=1)
        colored = sources.voxels is not None or (field is not None and has_colors(field))
        any_pose = is_plain(mesh) and not colored
        known = None if field is None else field.camera
        azimuths, search = ALL_AROUND if any_pose else FRONT, stage(progress, 0, 2)
        progress = stage(progress, 1, 2)
        fit = fit_camera(mesh, image, mask, azimuths, known=known, progress=stage(search, 0, 2))
        if sources.views is not None and any_pose and field is not None and fit.trusted:
            views, later = sources.views, stage(search, 1, 2)
            posed = fit_views(mesh, views.images, views.cameras, fit.azimuth_deg, later)
            layers = [] if posed is None else [posed]
        if fit.trusted:
            layers.append(PosedImages(image, fit.camera, mask))
        note = fit.sentence
    if not layers and field is None and sources.voxels is None:
        raise InvalidInput(
            "There is nothing to paint with: connect a triplane, voxel colours, views, or a"
            f" photograph that fits the mesh. {note}".rstrip()
        )
    painted = texture_from_images(
        mesh,
        layers,
        size,
        field=field,
        voxels=sources.voxels,
        keep_uvs=keep_uvs,
        max_faces=max_faces,
        progress=progress,
    )
    return painted, note
