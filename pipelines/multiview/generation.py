"""Entry point of this package: generate six views on white from a framed image."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ..images.background import remove_background
from ..images.framing import composite
from ..progress import Progress, silent
from ..settings import ViewSettings
from .sampling import GeneratedViews, sample_views
from .zero123plus import WHITE, MultiviewModel


def generate_views(
    model: MultiviewModel,
    image: Tensor,
    mask: Tensor | None = None,
    settings: ViewSettings | None = None,
    *,
    progress: Progress = silent,
) -> GeneratedViews:
    """Generate six views on white, whatever background the model was trained on.

    Args:
        model: the multiview model, on one device.
        image: (1, 3, H, W) in [0, 1], framed, on white.
        mask: (1, 1, H, W) in [0, 1], 1 on the object; for models whose background is not white.
        settings: see `sampling.sample_views`.
        progress: see `sampling.sample_views`.

    Raises:
        InvalidInput: as in `sample_views`.
    """
    if model.background == WHITE:
        return sample_views(model, image, settings, progress=progress)
    # Change the background from white to the model's grey.
    on_grey = image if mask is None else image - (1 - model.background) * (1 - mask)
    generated = sample_views(model, on_grey, settings, progress=progress)
    return replace(generated, views=on_white(generated.views))


def on_white(views: Tensor) -> Tensor:
    """Replace the plain grey background of views (N, 3, S, S) with white."""
    return composite(views, remove_background(views, "plain"))
