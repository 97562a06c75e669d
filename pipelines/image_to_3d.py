"""Make a mesh from an image: call the stages in order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .cameras import Cameras, zero123plus_cameras
from .devices import CPU, at_work, choose_device, choose_dtype, timed
from .errors import EmptySurface, InvalidInput
from .fields.field import Field
from .images.framed_image import FramedImage, frame_image
from .meshes.mesh import Mesh
from .meshes.projection import PosedImages
from .meshes.ranking import score
from .meshes.texture import has_colors
from .multiview.generation import generate_views
from .multiview.photographs import Photographs, complete
from .multiview.sampling import GeneratedViews, choose_seed, choose_seeds
from .multiview.zero123plus import MultiviewModel
from .progress import Progress, silent, stage
from .reconstruction.reconstruct import FieldModel, reconstruct
from .reconstruction.triposg import GUIDANCE, STEPS, TOKENS, Sampler, TripoSG
from .result import Result, Try
from .settings import Settings, SurfaceSettings, TextureSource, ViewSettings
from .surface.extraction import extract_mesh
from .weights.multiview_models import load_multiview_model
from .weights.presets import RECONSTRUCTION_PRESETS, views_model_for
from .weights.reconstruction_models import AnyReconstructionModel, load_reconstruction_model

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageTo3D:
    """The loaded models, which can process many images.

    Attributes:
        multiview: generates the views that the reconstruction model takes, or the views that
            colour its mesh if its fields have no colours; None if no views are needed.
        reconstruction: model that makes the field.
        background_models: folder of rembg's models; None for rembg's default folder.
        device: device of the models.
        offload: whether models stay in host memory and move to the device only while they run.

    >>> from pipelines.images import read_image
    >>> from pipelines.settings import SurfaceSettings
    >>> chain = ImageTo3D.load(device="cpu")
    >>> quick = Settings(surface=SurfaceSettings(resolution=32))
    >>> result = chain(read_image(Path("workflows/cup.png")), quick)
    >>> len(result.mesh.faces) > 100, tuple(result.photo.framed.shape)
    (True, (1, 3, 512, 512))
    """

    multiview: MultiviewModel | None
    reconstruction: AnyReconstructionModel
    background_models: Path | None = None
    device: torch.device = CPU
    offload: bool = False

    @classmethod
    def load(
        cls,
        model: str = "photo",
        views_model: str | None = None,
        *,
        models_dirs: Sequence[Path] = (),
        device: str = "auto",
        dtype: str = "auto",
        offload: bool = False,
        generates: bool = True,
    ) -> ImageTo3D:
        """Load the models.

        Args:
            model: one of `weights.presets.RECONSTRUCTION_PRESETS`.
            views_model: one of `weights.presets.MULTIVIEW_PRESETS`. None chooses the default for
                `model`, or no views model if `model` uses no views. If `model` has no
                colours, the mesh is coloured with the views of this model, or with the
                photograph if it is None.
            models_dirs: see `weights.finding.find_file`; rembg's models are in the subfolder
                `rembg` of the first folder.
            device: see `devices.choose_device`.
            dtype: "auto" or one of `devices.DTYPES`. With "auto", the small embedded model uses
                float32.
            offload: keep only the running model on the device, and the others in host memory.
            generates: whether to load a views model; it is not needed if the photographs of
                `from_photographs` show all sides.

        Raises:
            InvalidInput, CheckpointError, EnvironmentProblem: as in `weights` and `devices`.
        """
        where = choose_device(device)

        def precision(name: str) -> torch.dtype:
            embedded = dtype == "auto" and name == "photo"
            return choose_dtype("float32" if embedded else dtype, where)

        reconstruction = load_reconstruction_model(
            model,
            models_dirs=models_dirs,
            device="cpu" if offload else where,
            dtype=precision(model),
        )
        background_models = models_dirs[0] / "rembg" if models_dirs else None
        fitting = views_model_for(model)
        if views_model and not fitting and RECONSTRUCTION_PRESETS[model].colors:
            raise InvalidInput(f"{model} uses no views: leave out the views model.")
        views_model = views_model or fitting
        if views_model is None or not generates:
            return cls(None, reconstruction, background_models, where, offload)
        multiview = load_multiview_model(
            views_model,
            models_dirs=models_dirs,
            device=where,
            dtype=precision(views_model),
            offload=offload,
        )
        return cls(multiview, reconstruction, background_models, where, offload)

    def __call__(
        self, image: Tensor, settings: Settings | None = None, progress: Progress = silent
    ) -> Result:
        """Make a mesh from the object in an image.

        Args:
            image: (1, 3, H, W), or (1, 4, H, W) with straight alpha, in [0, 1].
            settings: None for the defaults.
            progress: called after each step of the stages background, framing, views, triplane and
                surface. An exception that it raises aborts the call.

        Raises:
            InvalidInput, NothingInImage, EmptySurface, EnvironmentProblem: as the stages do.
        """
        settings = settings or Settings()
        if not self._reconstructs_views:
            check_sampling("This model", self._sampling_settings, settings)
        framed = frame_image(
            image,
            settings,
            background_models=self.background_models,
            device=self.device,
            progress=progress,
        )
        return self.from_framed(framed, settings, progress)

    def from_framed(
        self, photo: FramedImage, settings: Settings, progress: Progress = silent
    ) -> Result:
        """Make a mesh from the result of `frame_image`.

        If `settings.views.tries` is above 1, make that many meshes with different seeds, and keep
        the best.

        Args:
            photo: the framed object.
            settings: the settings of background and framing have no effect.
            progress: see `__call__`.

        Raises:
            InvalidInput, EmptySurface, EnvironmentProblem: as the stages do. EmptySurface is raised
                only if all tries are empty.
        """
        result = _best_of_tries(
            lambda own: self._from_framed(photo, own, progress), settings, progress
        )
        return replace(result, seconds={**photo.seconds, **result.seconds})

    def _from_framed(self, photo: FramedImage, settings: Settings, progress: Progress) -> Result:
        seconds: dict[str, float] = {}
        if not self._reconstructs_views:
            seed = choose_seed(settings.views.seed) if self._sampling_settings else 0
            settings = settings.model_copy(
                update={"views": settings.views.model_copy(update={"seed": seed})}
            )
            field, mesh = self._reconstruct(
                photo.framed, photo.framed_mask, None, settings, progress, seconds
            )
            found = Result(mesh, field, photo, None, seed, seconds)
            return found if has_colors(field) else self._colored(found, settings.surface, progress)
        generated = self._generate(photo, settings.views, progress, seconds)
        views = PosedImages(generated.views, zero123plus_cameras())
        field, mesh = self._reconstruct(
            views.images, None, views.cameras, settings, progress, seconds
        )
        return Result(mesh, field, photo, views, generated.seed, seconds)

    def from_views(
        self, views: PosedImages, settings: Settings, progress: Progress = silent
    ) -> Result:
        """Make a mesh from images whose cameras are known.

        Args:
            views: images of the object on white.
            settings: only the settings of the surface have an effect.
            progress: see `__call__`.

        Raises:
            InvalidInput: as the stages do, or if the model takes one image without cameras.
            EmptySurface, EnvironmentProblem: as the stages do.
        """
        seconds: dict[str, float] = {}
        field, mesh = self._reconstruct(
            views.images, views.masks, views.cameras, settings, progress, seconds
        )
        return Result(mesh, field, None, views, 0, seconds)

    def from_photographs(
        self, photographs: Photographs, settings: Settings, progress: Progress = silent
    ) -> Result:
        """Make a mesh from several photographs; generate the views that are missing.

        Several tries work as in `from_framed`.

        Args:
            photographs: the result of `multiview.photographs.frame_photographs`.
            settings: only the settings of views and surface have an effect.
            progress: see `__call__`.

        Raises:
            InvalidInput: as the stages do, or if views are missing and no multiview model is
                loaded.
            EmptySurface, EnvironmentProblem: as the stages do.
        """
        return _best_of_tries(
            lambda own: self._from_photographs(photographs, own, progress), settings, progress
        )

    def _from_photographs(
        self, photographs: Photographs, settings: Settings, progress: Progress
    ) -> Result:
        seconds: dict[str, float] = {}
        views, seed = photographs.posed, 0
        if not photographs.viewpoints.complete:
            if self.multiview is None:
                raise InvalidInput(
                    "Some sides are missing: load the models with a multiview model."
                )
            with timed("views", seconds, self.device):
                views, photographs, seed = complete(
                    self.multiview,
                    photographs,
                    settings.views,
                    progress=partial(progress, stage="views"),
                )
        result = self.from_views(views, settings, progress)
        return replace(
            result, photographs=photographs.posed, seed=seed, seconds={**seconds, **result.seconds}
        )

    @property
    def _reconstructs_views(self) -> bool:
        return self.multiview is not None and not isinstance(self.reconstruction, TripoSG)

    @property
    def _sampling_settings(self) -> frozenset[str]:
        """Names of the `ViewSettings` that the reconstruction model uses itself."""
        shape = isinstance(self.reconstruction, TripoSG)
        return RECONSTRUCTION_PRESETS["triposg"].sampling if shape else frozenset()

    def _field_model(self, settings: ViewSettings, progress: Progress) -> FieldModel:
        if not isinstance(self.reconstruction, TripoSG):
            return self.reconstruction
        return Sampler(
            self.reconstruction,
            settings.seed,
            steps=settings.steps or STEPS,
            guidance=GUIDANCE if settings.guidance is None else settings.guidance,
            shift=settings.shift,
            tokens=settings.tokens or TOKENS,
            device=self.device,
            offload=self.offload,
            progress=progress,
        )

    def _reconstruct(
        self,
        images: Tensor,
        masks: Tensor | None,
        cameras: Cameras | None,
        settings: Settings,
        progress: Progress,
        seconds: dict[str, float],
    ) -> tuple[Field, Mesh]:
        # TripoSG moves its parts between devices itself.
        offload = self.offload and not isinstance(self.reconstruction, TripoSG)
        with (
            timed("triplane", seconds, self.device),
            at_work(self.reconstruction, self.device, offload),
        ):
            model = self._field_model(settings.views, partial(progress, stage="triplane"))
            field = reconstruct(model, images, cameras, masks=masks)
            progress(1, 1, stage="triplane")
        with timed("surface", seconds, self.device):
            colors = settings.surface.colors and has_colors(field)
            mesh = extract_mesh(
                field,
                settings.surface.model_copy(update={"colors": colors}),
                progress=partial(progress, stage="surface"),
            )
        return field, mesh

    def _generate(
        self,
        photo: FramedImage,
        settings: ViewSettings,
        progress: Progress,
        seconds: dict[str, float],
    ) -> GeneratedViews:
        assert self.multiview is not None
        with timed("views", seconds, self.device):
            return generate_views(
                self.multiview,
                photo.framed,
                photo.framed_mask,
                settings,
                progress=partial(progress, stage="views"),
            )

    def _colored(self, found: Result, settings: SurfaceSettings, progress: Progress) -> Result:
        """Colour a mesh whose field has no colours, by projecting the photograph or the views."""
        seconds, colors = dict(found.seconds), partial(progress, stage="colors")
        views = None
        if self.multiview is not None:
            assert found.photo is not None
            made = self._generate(found.photo, ViewSettings(seed=found.seed), progress, seconds)
            views = PosedImages(made.views, zero123plus_cameras())
        with timed("colors", seconds):
            found = found.with_cameras(views, stage(colors, 0, 2))
            if settings.colors:
                source: TextureSource = "pictures" if views is None else "views"
                found = found.painted(source, stage(colors, 1, 2))
        colors(2, 2)
        return replace(found, seconds=seconds)


def _best_of_tries(
    make: Callable[[Settings], Result], settings: Settings, progress: Progress
) -> Result:
    """Make a mesh with each of several seeds; return the best, with the scores of all.

    Raises:
        EmptySurface: if all meshes are empty.
    """
    count = settings.views.tries
    if count == 1:
        return make(settings)
    best, tries, seconds = None, list[Try](), dict[str, float]()
    for number, seed in enumerate(choose_seeds(settings.views.seed, count), 1):
        views = settings.views.model_copy(update={"seed": seed, "tries": 1})
        try:
            result = make(settings.model_copy(update={"views": views}))
        except EmptySurface as error:
            if best is None and number == count:
                raise
            log.warning("seed %d: %s", seed, error)
            continue
        took = dict(result.seconds)
        with timed("ranking", took):
            ranking = stage(partial(progress, stage="ranking"), number - 1, count)
            tries.append(Try(seed, score(result.mesh, result.outline_overlap(ranking))))
        progress(number, count, stage="ranking")
        seconds |= {name: seconds.get(name, 0.0) + more for name, more in took.items()}
        if tries[-1] is max(tries, key=lambda one: one.score.total):
            best = result
    assert best is not None
    return replace(best, seconds=seconds, tries=tries)


def check_sampling(model: str, known: Set[str], settings: Settings) -> None:
    """Check that the sampling settings that a model does not use have their default values.

    Args:
        model: name of the model, for the message.
        known: names of the sampling settings that the model uses.
        settings: the job's settings.

    Raises:
        InvalidInput: if any other sampling setting differs from its default.
    """
    default = ViewSettings().flat()
    others = default.keys() - known
    if any(settings.views.flat()[name] != default[name] for name in others):
        *first, last = (name for name in default if name in others)
        listed = f"{', '.join(first)} and {last}" if first else last
        reason = "does not use all sampling settings" if known else "has no random sampling"
        raise InvalidInput(f"{model} {reason}: leave out {listed}.")
