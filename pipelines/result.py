"""Results: a mesh with the images and the field behind it, and the files of a job."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .errors import ImageTo3DError
from .fields.field import GREY, Field
from .images.framed_image import FramedImage
from .meshes.camera_fit import CameraFit, fit_camera, fit_of
from .meshes.mesh import Mesh
from .meshes.painting import fit_around
from .meshes.projection import PosedImages, color_vertices
from .meshes.ranking import MeshScore
from .meshes.report import MeshReport
from .progress import Progress, silent
from .settings import TextureSource

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Try:
    """One of several tries: its seed, and the score of its mesh."""

    seed: int
    score: MeshScore

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.score}"


@dataclass(frozen=True)
class Result:
    """A mesh, with the images and the field from which it was made.

    Attributes:
        mesh: mesh with vertex colours.
        field: the field, for meshes of other resolutions and for orbits.
        photo: the object of the photograph; None if the input was views.
        views: views on white with their cameras; None if there are none.
        seed: seed of the generated views or of the shape; 0 if neither was sampled.
        seconds: duration of each stage.
        licenses: licences of the weights in use, by the name of the model; set by `job`.
        photographs: several photographs of the object; None if there is only one, or only views.
        fit: estimated camera of the photograph, if the field has no colours.
        tries: seeds and scores of all tries, if there were several.
    """

    mesh: Mesh
    field: Field
    photo: FramedImage | None
    views: PosedImages | None
    seed: int
    seconds: Mapping[str, float]
    licenses: Mapping[str, str] = dataclasses.field(default_factory=dict)
    photographs: PosedImages | None = None
    fit: CameraFit | None = None
    tries: Sequence[Try] = ()

    def outline_overlap(self, progress: Progress = silent) -> float:
        """Return the intersection over union of the mesh's silhouette and the photograph's mask.

        With several photographs, return the mean of all.
        """
        if self.photographs is not None:
            cameras, masks = self.photographs.cameras, self.photographs.masks
            assert masks is not None
            overlaps = [
                fit_of(self.mesh, cameras[[i]], mask).overlap
                for i, mask in enumerate(masks.split(1))
            ]
            return sum(overlaps) / len(overlaps)
        if self.fit is not None:
            return self.fit.overlap
        photo = self.photo
        assert photo is not None
        return fit_camera(self.mesh, photo.photograph, photo.mask, progress=progress).overlap

    def layers(
        self, source: TextureSource = "pictures", progress: Progress = silent
    ) -> list[PosedImages]:
        """Return the images to project onto the mesh with `meshes.texture.texture_from_images`.

        Later layers cover earlier layers. If the photograph's camera is unknown, it is estimated
        by matching outlines. If the outlines differ too much, the photograph is skipped with a
        warning.

        Args:
            source: "pictures" for the views and the photograph, "views" for the views alone, or
                "triplane" for no images.
            progress: called throughout the search for the camera.
        """
        if source == "triplane":
            return []
        layers = [self.views]
        if source == "pictures":
            layers += [self.photographs, self._posed_photo(progress)]
        return [one for one in layers if one is not None]

    def _posed_photo(self, progress: Progress) -> PosedImages | None:
        camera, photo = self.field.camera, self.photo
        if photo is None:
            return None
        if camera is not None:
            return PosedImages(photo.photograph, camera, photo.mask)
        fit = self.fit or fit_camera(self.mesh, photo.photograph, photo.mask, progress=progress)
        if self.fit is None and not fit.trusted:
            log.warning("%s", fit.sentence)
        return fit.posed(photo.photograph, photo.mask)

    def with_cameras(self, views: PosedImages | None, progress: Progress = silent) -> Result:
        """Estimate the cameras of the photograph and of its views.

        For models that choose the object's pose themselves. If the outlines of mesh and photograph
        differ too much, log a warning, and leave out the views.

        Args:
            views: generated views. Their cameras assume that the photograph is at azimuth 0.
            progress: called throughout the search.
        """
        assert self.photo is not None
        image, mask = self.photo.photograph, self.photo.mask
        fit, posed = fit_around(self.mesh, image, mask, views, progress=progress)
        if not fit.trusted:
            log.warning("%s The mesh stays plain grey.", fit.sentence)
        return replace(self, fit=fit, views=posed)

    def painted(self, source: TextureSource, progress: Progress = silent) -> Result:
        """Colour the mesh with the images of a source (see `layers`); grey if there are none."""
        grey = replace(self.mesh, vertex_colors=torch.full_like(self.mesh.vertices, GREY))
        layers = self.layers(source)
        return replace(self, mesh=color_vertices(grey, layers, progress) if layers else grey)


@dataclass(frozen=True)
class JobResult:
    """The files of a job, or the reason why it failed.

    Attributes:
        files: paths of the mesh, then its other files, previews, views, orbit and video.
        report: report about the mesh; None if the job failed.
        seed: seed of the generated views or of the shape; 0 if neither was sampled.
        seconds: duration of each stage.
        licenses: licences of the weights in use, by the name of the model.
        exception: the exception that failed the job; None if it succeeded.
        tries: seeds and scores of all tries, if there were several.
    """

    files: Sequence[Path] = ()
    report: MeshReport | None = None
    seed: int = 0
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    licenses: Mapping[str, str] = dataclasses.field(default_factory=dict)
    exception: Exception | None = None
    tries: Sequence[Try] = ()

    @property
    def error(self) -> str:
        """One sentence that says why the job failed; empty if it succeeded."""
        return "" if self.exception is None else describe(self.exception)

    def summary(self) -> dict[str, Any]:
        """Return the result as values that JSON can hold."""
        return {
            "files": [str(path) for path in self.files],
            "mesh": None if self.report is None else dataclasses.asdict(self.report),
            "licenses": dict(self.licenses),
            "seed": self.seed,
            "seconds": {stage: round(took, 3) for stage, took in self.seconds.items()},
            "error": self.error,
            "tries": [{"seed": one.seed, **one.score.summary()} for one in self.tries],
        }


def describe(error: Exception) -> str:
    """Describe an error in one sentence; add the class if it is not an `ImageTo3DError`."""
    return str(error) if isinstance(error, ImageTo3DError) else f"{type(error).__name__}: {error}"
