"""Presets of all models: sizes, files and licences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..errors import CheckpointError, InvalidInput
from ..multiview.zero123plus import GREY, WHITE
from ..reconstruction.frustum import FrustumConfig
from ..reconstruction.instant_mesh import ReconstructionConfig
from ..reconstruction.triposg import TripoSGConfig
from ..reconstruction.triposr import TripoSRConfig

#: Prefix of names in the official files, and prefixes of unused parts.
CHECKPOINT_PREFIX = "lrm_generator."
UNUSED = "image_tokenizer.model.pooler."
#: Licences that allow commercial use.
_PERMISSIVE = frozenset({"Apache-2.0", "MIT"})
EMBEDDED_DIR = Path(__file__).parents[1] / "embedded"
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


@dataclass(frozen=True)
class ReconstructionPreset:
    """Preset of a reconstruction model: its sizes and its files.

    Attributes:
        config: sizes of the model.
        repository: name on the hub; None if the model is embedded.
        revision: commit to use; if None, see `finding.pinned_revision`.
        file: name of the weights file in the repository.
        more_files: names of further files in the repository.
        input_kind: "views" for six views, "image" for one image.
        sha256: digest of the file; if None, the one that the hub lists is used.
        license: licence of the weights.
        gigabytes: approximate size of the file; 0 for the embedded model.
    """

    config: ReconstructionConfig | TripoSRConfig | TripoSGConfig | FrustumConfig
    repository: str | None
    revision: str | None
    file: str
    license: str
    sha256: str | None = None
    input_kind: Literal["views", "image"] = "views"
    gigabytes: float = 0.0
    more_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class MultiviewPreset:
    """Preset of a multiview model: a repository in diffusers layout, optionally with another U-Net.

    Attributes:
        repository, revision: name on the hub, and the commit to use.
        unet_repository, unet_revision, unet_file: source of the U-Net's weights, if separate.
        background: grey level in [0, 1] behind the object in the model's images and views.
        license: licence of the weights.
        gigabytes: approximate total size of the files.
    """

    repository: str
    revision: str
    background: float
    license: str
    unet_repository: str | None = None
    unet_revision: str | None = None
    unet_file: str | None = None
    gigabytes: float = 0.0


_INSTANT_MESH = ("TencentARC/InstantMesh", "b785b4ecfb6636ef34a08c748f96f6a5686244d0")
_ZERO123PLUS = ("sudo-ai/zero123plus-v1.2", "2da07e89919e1a130c9b5add1584c70c7aa065fd")


def _instant_mesh(config: ReconstructionConfig, file: str) -> ReconstructionPreset:
    gigabytes = 1.5 if "large" in file else 1.3
    return ReconstructionPreset(config, *_INSTANT_MESH, file, "Apache-2.0", gigabytes=gigabytes)


RECONSTRUCTION_PRESETS: Mapping[str, ReconstructionPreset] = {
    "photo": ReconstructionPreset(
        FrustumConfig(), None, None, "photo.safetensors", "Apache-2.0", input_kind="image"
    ),
    "instant-mesh-large": _instant_mesh(
        ReconstructionConfig("mesh", 16, 80, 128), "instant_mesh_large.ckpt"
    ),
    "instant-mesh-base": _instant_mesh(
        ReconstructionConfig("mesh", 12, 40, 96), "instant_mesh_base.ckpt"
    ),
    "instant-nerf-large": _instant_mesh(
        ReconstructionConfig("nerf", 16, 80, 128, grid_resolution=255), "instant_nerf_large.ckpt"
    ),
    "instant-nerf-base": _instant_mesh(
        ReconstructionConfig("nerf", 12, 40, 96, grid_resolution=255), "instant_nerf_base.ckpt"
    ),
    "triposr": ReconstructionPreset(
        TripoSRConfig(),
        "stabilityai/TripoSR",
        "5b521936b01fbe1890f6f9baed0254ab6351c04a",
        "model.ckpt",
        "MIT",
        "429e2c6b22a0923967459de24d67f05962b235f79cde6b032aa7ed2ffcd970ee",
        "image",
        1.7,
    ),
    "triposg": ReconstructionPreset(
        TripoSGConfig(),
        "VAST-AI/TripoSG",
        None,
        TRIPOSG_WEIGHTS["transformer"],
        "MIT",
        input_kind="image",
        gigabytes=8.0,
        more_files=(
            TRIPOSG_WEIGHTS["encoder"],
            TRIPOSG_WEIGHTS["decoder"],
            *TRIPOSG_CONFIGS.values(),
        ),
    ),
}
MULTIVIEW_PRESETS: Mapping[str, MultiviewPreset] = {
    "zero123plus-instantmesh": MultiviewPreset(
        *_ZERO123PLUS,
        WHITE,
        "CC-BY-NC-4.0 (U-Net: Apache-2.0)",
        *_INSTANT_MESH,
        "diffusion_pytorch_model.bin",
        gigabytes=4.5,
    ),
    "zero123plus": MultiviewPreset(*_ZERO123PLUS, GREY, "CC-BY-NC-4.0", gigabytes=4.5),
}


def views_model_for(model: str) -> str | None:
    """Return a reconstruction model's multiview model, or None if it takes a single image."""
    if RECONSTRUCTION_PRESETS[model].input_kind == "image":
        return None
    return "zero123plus-instantmesh"


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


def is_commercial(model: str) -> bool:
    """Return whether all weights that a reconstruction model uses allow commercial use."""
    return set(licenses_of(model).values()) <= _PERMISSIVE


def check_commercial(model: str) -> None:
    """Raise an error if a reconstruction model uses weights that forbid commercial use.

    Raises:
        InvalidInput: with the licences of the weights, and the models to choose from.
    """
    if not is_commercial(model):
        found = "; ".join(f"{name}: {text}" for name, text in licenses_of(model).items())
        others = ", ".join(filter(is_commercial, RECONSTRUCTION_PRESETS))
        raise InvalidInput(
            f"{model} uses weights that forbid commercial use ({found}): choose one of {others},"
            " or license any."
        )


def sampling_settings(model: str) -> frozenset[str]:
    """Return the names of those `settings.ViewSettings` that affect a reconstruction model."""
    preset = RECONSTRUCTION_PRESETS[model]
    if preset.input_kind == "views":
        return frozenset({"steps", "guidance", "scheduler", "seed"})
    if isinstance(preset.config, TripoSGConfig):
        return frozenset({"steps", "guidance", "shift", "tokens", "seed"})
    return frozenset()


def other_model(error: CheckpointError, tensors: Mapping[str, Tensor]) -> CheckpointError:
    """Name the preset that the weights belong to in an error; keep the error if none matches."""
    shapes = {
        name.removeprefix(CHECKPOINT_PREFIX): value.shape
        for name, value in tensors.items()
        if not name.removeprefix(CHECKPOINT_PREFIX).startswith(UNUSED)
    }
    for name, preset in RECONSTRUCTION_PRESETS.items():
        with torch.device("meta"):
            model = preset.config.build()
        if {n: v.shape for n, v in model.state_dict().items()} == shapes:
            return CheckpointError(f"{error} They are those of {name}: choose that model.")
    return error
