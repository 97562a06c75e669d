"""Presets of all models: their files, licences and inputs. This module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from ..errors import InvalidInput
from .finding import WeightsFile, weights_names

#: Licences that allow commercial use.
_PERMISSIVE = frozenset({"Apache-2.0", "MIT"})
EMBEDDED_DIR = Path(__file__).parents[1] / "embedded"
#: Parts of a multiview model, and the files that describe them, in diffusers layout.
MULTIVIEW_PARTS = ("unet", "vae", "vision_encoder", "text_encoder")
INDEX, SCHEDULER = "model_index.json", "scheduler/scheduler_config.json"
TRANSFORMS = {
    which: f"feature_extractor_{which}/preprocessor_config.json" for which in ("vae", "clip")
}
TOKENIZER = tuple(
    f"tokenizer/{name}"
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
)
#: Paths of the weights and of the configs of TripoSG's parts in its repository.
TRIPOSG_WEIGHTS = {
    "encoder": "image_encoder_dinov2/model.safetensors",
    "transformer": "transformer/diffusion_pytorch_model.safetensors",
    "decoder": "vae/diffusion_pytorch_model.safetensors",
}
TRIPOSG_CONFIGS = {
    "encoder": "image_encoder_dinov2/config.json",
    "transformer": "transformer/config.json",
    "decoder": "vae/config.json",
    "scheduler": "scheduler/scheduler_config.json",
    "image": "feature_extractor_dinov2/preprocessor_config.json",
}
DEFAULT_VIEWS_MODEL = "zero123plus-instantmesh"
_VIEW_SAMPLING = frozenset({"steps", "guidance", "scheduler", "seed", "tries"})
_SHAPE_SAMPLING = frozenset({"steps", "guidance", "shift", "tokens", "seed", "tries"})


@dataclass(frozen=True)
class ReconstructionPreset:
    """Preset of a reconstruction model; its sizes are in the module `sizes`.

    Attributes:
        repository: name on the hub; None if the model is embedded.
        revision: commit to use; if None, see `finding.pinned_revision`.
        file: name of the weights file in the repository.
        license: licence of the weights.
        sha256: digest of the file; if None, the one that the hub lists is used.
        input_kind: "views" for six views, "image" for one image.
        gigabytes: approximate size of the files; 0 for the embedded model.
        more_files: names of further files in the repository.
        sampling: names of the `settings.ViewSettings` that affect the model.
        colors: whether the model's fields have colours.
    """

    repository: str | None
    revision: str | None
    file: str
    license: str
    sha256: str | None = None
    input_kind: Literal["views", "image"] = "image"
    gigabytes: float = 0.0
    more_files: tuple[str, ...] = ()
    sampling: frozenset[str] = frozenset()
    colors: bool = True

    @property
    def files(self) -> list[WeightsFile]:
        """The files to download; none for the embedded model."""
        if self.repository is None:
            return []
        more = (WeightsFile(self.repository, (name,), self.revision) for name in self.more_files)
        return [WeightsFile(self.repository, (self.file,), self.revision, self.sha256), *more]


@dataclass(frozen=True)
class MultiviewPreset:
    """Preset of a multiview model: a repository in diffusers layout, optionally with another U-Net.

    Attributes:
        repository, revision: name on the hub, and the commit to use.
        background: grey level in [0, 1] behind the object in the model's images and views.
        license: licence of the weights.
        unet: file of the U-Net's weights, if it is in another repository.
        gigabytes: approximate total size of the files.
    """

    repository: str
    revision: str
    background: float
    license: str
    unet: WeightsFile | None = None
    gigabytes: float = 4.5

    @property
    def files(self) -> list[WeightsFile]:
        """The files to download."""
        names = [
            *((name,) for name in (INDEX, SCHEDULER, *TRANSFORMS.values(), *TOKENIZER)),
            *((f"{part}/config.json",) for part in MULTIVIEW_PARTS),
            *(weights_names(part) for part in MULTIVIEW_PARTS if part != "unet" or not self.unet),
        ]
        own = [WeightsFile(self.repository, several, self.revision) for several in names]
        return [self.unet, *own] if self.unet else own


Preset = ReconstructionPreset | MultiviewPreset
AnyPreset = TypeVar("AnyPreset", bound=Preset)
_INSTANT_MESH = ("TencentARC/InstantMesh", "b785b4ecfb6636ef34a08c748f96f6a5686244d0")
_ZERO123PLUS = ("sudo-ai/zero123plus-v1.2", "2da07e89919e1a130c9b5add1584c70c7aa065fd")


def _instant_mesh(file: str, gigabytes: float) -> ReconstructionPreset:
    return ReconstructionPreset(
        *_INSTANT_MESH, file, "Apache-2.0", None, "views", gigabytes, (), _VIEW_SAMPLING
    )


RECONSTRUCTION_PRESETS: Mapping[str, ReconstructionPreset] = {
    "photo": ReconstructionPreset(None, None, "photo.safetensors", "Apache-2.0"),
    "instant-mesh-large": _instant_mesh("instant_mesh_large.ckpt", 1.5),
    "instant-mesh-base": _instant_mesh("instant_mesh_base.ckpt", 1.3),
    "instant-nerf-large": _instant_mesh("instant_nerf_large.ckpt", 1.5),
    "instant-nerf-base": _instant_mesh("instant_nerf_base.ckpt", 1.3),
    "triposr": ReconstructionPreset(
        "stabilityai/TripoSR",
        "5b521936b01fbe1890f6f9baed0254ab6351c04a",
        "model.ckpt",
        "MIT",
        "429e2c6b22a0923967459de24d67f05962b235f79cde6b032aa7ed2ffcd970ee",
        gigabytes=1.7,
    ),
    "triposg": ReconstructionPreset(
        "VAST-AI/TripoSG",
        None,
        TRIPOSG_WEIGHTS["transformer"],
        "MIT",
        gigabytes=8.0,
        more_files=(
            TRIPOSG_WEIGHTS["encoder"],
            TRIPOSG_WEIGHTS["decoder"],
            *TRIPOSG_CONFIGS.values(),
        ),
        sampling=_SHAPE_SAMPLING,
        colors=False,
    ),
}
MULTIVIEW_PRESETS: Mapping[str, MultiviewPreset] = {
    "zero123plus-instantmesh": MultiviewPreset(
        *_ZERO123PLUS,
        1.0,
        "CC-BY-NC-4.0 (U-Net: Apache-2.0)",
        WeightsFile(_INSTANT_MESH[0], ("diffusion_pytorch_model.bin",), _INSTANT_MESH[1]),
    ),
    "zero123plus": MultiviewPreset(*_ZERO123PLUS, 127 / 255, "CC-BY-NC-4.0"),
}


def find_preset(presets: Mapping[str, AnyPreset], name: str, kind: str = "model") -> AnyPreset:
    """Return a preset by its name.

    Raises:
        InvalidInput: if there is no such preset; the message contains `kind`.
    """
    if name not in presets:
        raise InvalidInput(f"The {kind} must be one of {', '.join(presets)}, got '{name}'.")
    return presets[name]


def views_model_for(model: str) -> str | None:
    """Return a reconstruction model's multiview model, or None if it takes a single image."""
    takes_views = RECONSTRUCTION_PRESETS[model].input_kind == "views"
    return DEFAULT_VIEWS_MODEL if takes_views else None


def choose_views_model(model: str, views_model: str | None, texture_from: str) -> str | None:
    """Return the multiview model that makes a job's views, for the shape or for its colours.

    Args:
        model: a key of `RECONSTRUCTION_PRESETS`.
        views_model: a key of `MULTIVIEW_PRESETS`; None for the default.
        texture_from: see `settings.OutputSettings`.

    Raises:
        InvalidInput: if a multiview model is named but not used, or if the texture would have no
            source.
    """
    preset = RECONSTRUCTION_PRESETS[model]
    if not preset.colors and texture_from == "triplane":
        raise InvalidInput(
            f"{model} has no colours of its own: set texture_from to pictures or views."
        )
    if preset.input_kind == "views" or (not preset.colors and texture_from == "views"):
        return views_model or DEFAULT_VIEWS_MODEL
    if views_model is not None:
        raise InvalidInput(f"{model} uses no views: leave out views_model.")
    return None


def licenses_of(
    model: str, views_model: str | None = None, *, own_views: bool = False
) -> dict[str, str]:
    """Return the licences of the weights of a model and of its multiview model, by their names.

    Args:
        model: a key of `RECONSTRUCTION_PRESETS` or `MULTIVIEW_PRESETS`.
        views_model: the multiview model; None for the default of `model`.
        own_views: whether the views are given, so that no multiview model runs.
    """
    if (preset := RECONSTRUCTION_PRESETS.get(model)) is None:
        return {model: MULTIVIEW_PRESETS[model].license}
    views = None if own_views else views_model or views_model_for(model)
    return {model: preset.license} | ({views: MULTIVIEW_PRESETS[views].license} if views else {})


def is_commercial(model: str, views_model: str | None = None) -> bool:
    """Return whether all weights that a reconstruction model uses allow commercial use."""
    return set(licenses_of(model, views_model).values()) <= _PERMISSIVE


def check_commercial(model: str, views_model: str | None = None) -> None:
    """Raise an error if a reconstruction model uses weights that forbid commercial use.

    Args:
        model: see `licenses_of`.
        views_model: see `licenses_of`.

    Raises:
        InvalidInput: with the licences of the weights, and the models to choose from.
    """
    if not is_commercial(model, views_model):
        licenses = licenses_of(model, views_model).items()
        found = "; ".join(f"{name}: {text}" for name, text in licenses)
        others = ", ".join(filter(is_commercial, RECONSTRUCTION_PRESETS))
        raise InvalidInput(
            f"{model} uses weights that forbid commercial use ({found}): choose one of {others},"
            " or license any."
        )
