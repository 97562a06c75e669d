"""What a caller can choose, handed whole to the stages. None stands for what suits the model."""

from __future__ import annotations

from dataclasses import dataclass, field

from .images.background import DEFAULT_THRESHOLD

DEFAULT_CHUNK_SIZE = 131072


@dataclass(frozen=True)
class ViewSettings:
    """How views are drawn.

    Attributes:
        steps: denoising steps, at least 1.
        guidance: weight of the image; at 1 or below, the unconditional half is not computed.
        scheduler: one of `multiview.schedulers.SCHEDULERS`.
        seed: of all noise; 0 draws one.
    """

    steps: int | None = None
    guidance: float | None = None
    scheduler: str = "euler_ancestral"
    seed: int = 0


@dataclass(frozen=True)
class SurfaceSettings:
    """How a field becomes a mesh.

    Attributes:
        resolution: cells along an edge of the grid, 32 to 512.
        chunk_size: points evaluated at once, at least 1; bounds memory and changes no vertex.
        threshold: density at which the surface lies; says nothing to signed distances.
        exact: evaluate every point of the grid, see `surface.refinement.sample_volume`.
        min_part_share: smallest part that stays, see `meshes.mesh.keep_large_parts`.
        colors: give each vertex its colour.
    """

    resolution: int | None = None
    chunk_size: int = DEFAULT_CHUNK_SIZE
    threshold: float | None = None
    exact: bool = False
    min_part_share: float = 1.0
    colors: bool = True


@dataclass(frozen=True)
class Settings:
    """How an image becomes a mesh.

    Attributes:
        remove_bg, alpha_threshold: see `images.background.remove_background`.
        foreground_ratio: see `images.framing.frame_foreground`.
    """

    remove_bg: str = "auto"
    alpha_threshold: float = DEFAULT_THRESHOLD
    foreground_ratio: float = 0.85
    views: ViewSettings = field(default_factory=ViewSettings)
    surface: SurfaceSettings = field(default_factory=SurfaceSettings)
