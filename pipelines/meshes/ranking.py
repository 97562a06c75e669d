"""Score how plausible a mesh is as the object of a photograph, to choose the best of several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ..progress import Progress, silent
from .camera_fit import ALL_AROUND, FRONT, fit_camera, is_plain
from .mesh import Mesh
from .report import report
from .topology import keep_large_components, merged_faces

# Only concavity up to a maximum counts, or a mesh with a hidden cut would beat the whole object.
_CONCAVITY_WEIGHT, _MAX_CONCAVITY = 0.1, 0.05
_PART_PENALTY, _OPEN_PENALTY = 0.05, 0.1
_MAX_PARTS = 3  # number of extra components that are penalised


@dataclass(frozen=True)
class MeshScore:
    """Score of a mesh as the object of a photograph.

    Attributes:
        outline: intersection over union of the photograph's mask and the mesh's silhouette, at the
            camera that fits best.
        concavity: share of the convex hull's volume that is outside the largest component. It is 0
            for a convex shape, and higher for a detailed shape than for a melted one.
        components: number of connected components.
        closed: whether the mesh is watertight.
        total: the sum by which meshes are ranked; higher is better.
    """

    outline: float
    concavity: float
    components: int
    closed: bool

    @property
    def total(self) -> float:
        more = min(self.components - 1, _MAX_PARTS)
        return (
            self.outline
            + _CONCAVITY_WEIGHT * min(self.concavity, _MAX_CONCAVITY)
            - _PART_PENALTY * more
            - _OPEN_PENALTY * (not self.closed)
        )

    def summary(self) -> Mapping[str, float | int | bool]:
        """Return the score as values that JSON can hold."""
        return {**asdict(self), "total": self.total}

    def __str__(self) -> str:
        return (
            f"score {self.total:.3f}: outline {self.outline:.3f}, concavity {self.concavity:.3f},"
            f" {self.components} part(s), {'closed' if self.closed else 'open'}"
        )


def score(mesh: Mesh, outline: float) -> MeshScore:
    """Score a mesh as the object of a photograph.

    Args:
        mesh: at least one triangle.
        outline: see `MeshScore`.
    """
    facts = report(mesh)
    largest = keep_large_components(mesh)
    return MeshScore(outline, concavity(largest), facts.components, facts.watertight)


def score_of_photograph(
    mesh: Mesh, image: Tensor, mask: Tensor, progress: Progress = silent
) -> MeshScore:
    """Score a mesh as the object of a photograph, after fitting a camera to the outline.

    Args:
        mesh: at least one triangle. If it has no colours, it may have any pose.
        image: see `camera_fit.fit_camera`.
        mask: see `camera_fit.fit_camera`.
        progress: see `camera_fit.fit_camera`.
    """
    azimuths = ALL_AROUND if is_plain(mesh) else FRONT
    return score(mesh, fit_camera(mesh, image, mask, azimuths, progress=progress).overlap)


def concavity(mesh: Mesh) -> float:
    """Return the share of the convex hull's volume that is outside the mesh, in [0, 1]."""
    from scipy.spatial import ConvexHull, QhullError

    used = mesh.vertices[merged_faces(mesh).unique()].double().cpu().numpy()
    try:
        hull = ConvexHull(used).volume
    except QhullError:  # flat
        return 0.0
    return float(torch.tensor(1 - abs(mesh.volume()) / hull).clamp(0, 1))
