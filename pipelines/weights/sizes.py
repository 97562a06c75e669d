"""Sizes of the models: the official ones, and those of models that you trained yourself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from ..errors import CheckpointError
from ..reconstruction.frustum import FrustumConfig
from ..reconstruction.instant_mesh import ReconstructionConfig
from ..reconstruction.triposg import TripoSGConfig
from ..reconstruction.triposr import TripoSRConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

#: Prefix of weight names in the official files, and prefix of parts that are not used.
CHECKPOINT_PREFIX = "lrm_generator."
UNUSED = "image_tokenizer.model.pooler."
Model = TypeVar("Model", bound=nn.Module, covariant=True)
Sizes = TypeVar("Sizes", bound="DataclassInstance")

OFFICIAL_SIZES: Mapping[
    str, ReconstructionConfig | TripoSRConfig | TripoSGConfig | FrustumConfig
] = {
    "photo": FrustumConfig(),
    "instant-mesh-large": ReconstructionConfig("mesh", 16, 80, 128),
    "instant-mesh-base": ReconstructionConfig("mesh", 12, 40, 96),
    "instant-nerf-large": ReconstructionConfig("nerf", 16, 80, 128, grid_resolution=255),
    "instant-nerf-base": ReconstructionConfig("nerf", 12, 40, 96, grid_resolution=255),
    "triposr": TripoSRConfig(),
    "triposg": TripoSGConfig(),
}


class ModelConfig(Protocol[Model]):
    """A configuration that can build its model."""

    def build(self) -> Model:
        """Build a model of these sizes, without weights."""


def read_sizes(path: Path, official: Sizes) -> Sizes:
    """Read the sizes of a model that differ from the official ones.

    Args:
        path: a JSON file with an object of the sizes that differ, with the names of the config's
            attributes: `{"transformer_layers": 4, "encoder": {"layers": 6}}`.
        official: supplies all other sizes.

    Raises:
        CheckpointError: if the file is not JSON, or has an unknown name or an invalid size.
    """
    try:
        sizes = with_changes(official, json.loads(path.read_text(encoding="utf-8")))
        with torch.device("meta"):
            cast("ModelConfig[nn.Module]", sizes).build()
    except ValidationError as error:
        (first, *_) = error.errors()
        name = ".".join(map(str, first["loc"])) or "sizes"
        raise CheckpointError(f"{path}: {name}: {first['msg']}, got {first['input']!r}.") from error
    except (RuntimeError, ValueError, ArithmeticError, OSError) as error:
        raise CheckpointError(f"{path}: no model has these sizes: {error}.") from error
    return sizes


def with_changes(official: Sizes, changes: Any) -> Sizes:
    """Return sizes with those in `changes`, as read from JSON, in place of the official ones.

    Raises:
        ValidationError: if a name is unknown or a size is invalid.
    """
    merged = json.dumps(_merge(asdict(official), changes))
    return TypeAdapter(type(official)).validate_json(merged, strict=True)


def _merge(official: dict[str, Any], given: Any) -> Any:
    """Merge `given` into `official` recursively; `given` has priority."""
    if not isinstance(given, dict):
        return given
    return official | {
        name: _merge(usual, value) if isinstance(usual := official.get(name), dict) else value
        for name, value in given.items()
    }


def other_model(error: CheckpointError, tensors: Mapping[str, Tensor]) -> CheckpointError:
    """Add the name of the preset that fits the weights to an error, if there is one."""
    shapes = {
        name.removeprefix(CHECKPOINT_PREFIX): value.shape
        for name, value in tensors.items()
        if not name.removeprefix(CHECKPOINT_PREFIX).startswith(UNUSED)
    }
    for name, sizes in OFFICIAL_SIZES.items():
        with torch.device("meta"):
            model = sizes.build()
        if {n: v.shape for n, v in model.state_dict().items()} == shapes:
            return CheckpointError(f"{error} They are those of {name}: choose that model.")
    return error
