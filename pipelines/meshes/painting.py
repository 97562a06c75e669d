"""Texture a mesh from several sources of colour."""

from __future__ import annotations

from torch import Tensor

from ..errors import InvalidInput
from ..fields.field import Field
from ..progress import Progress, silent
from .camera_fit import fit_camera
from .mesh import Mesh
from .projection import PosedImages
from .texture import DEFAULT_TEXTURED_FACES, texture_from_images


def paint(
    mesh: Mesh,
    size: int = 1024,
    *,
    field: Field | None = None,
    views: PosedImages | None = None,
    photograph: Tensor | None = None,
    max_faces: int = DEFAULT_TEXTURED_FACES,
    progress: Progress = silent,
) -> tuple[Mesh, str]:
    """Texture a mesh from a photograph, which covers views, which cover a field's colours.

    Args:
        mesh: any with triangles.
        size: see `texture.bake_texture`.
        field: source of the colours that no image shows.
        views: images around the mesh with their cameras.
        photograph: (1, 4, S, S) framed photograph with its mask as alpha. Its camera is that of
            the field if it fits, otherwise it is estimated.
        max_faces: see `texture.bake_texture`.
        progress: see `texture.bake_texture`.

    Returns:
        mesh: see `texture.bake_texture`.
        note: a sentence on how the photograph fits the mesh, empty without one. A photograph that
            does not fit is not used.

    Raises:
        InvalidInput: if there is no source of colour, or as in `texture.texture_from_images`.
        EnvironmentProblem: as in `texture.bake_texture`.
    """
    layers, note = [] if views is None else [views], ""
    if photograph is not None:
        image, mask = photograph.split([3, 1], dim=1)
        fit = fit_camera(mesh, image, mask, known=None if field is None else field.camera)
        layers += [PosedImages(image, fit.camera, mask)] if fit.trusted else []
        note = fit.sentence
    if not layers and field is None:
        raise InvalidInput(
            "There is nothing to paint with: connect a triplane, views, or a photograph that fits"
            f" the mesh. {note}".rstrip()
        )
    painted = texture_from_images(
        mesh, layers, size, field=field, max_faces=max_faces, progress=progress
    )
    return painted, note
