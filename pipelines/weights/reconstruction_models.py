"""Load reconstruction models from their checkpoints."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from ..errors import CheckpointError, InvalidInput
from ..progress import Progress, silent
from ..reconstruction.frustum import FrustumModel
from ..reconstruction.instant_mesh import ReconstructionModel
from ..reconstruction.triposg import TripoSG, TripoSGConfig
from ..reconstruction.triposr import TripoSR
from .finding import Repository, find_file
from .presets import CHECKPOINT_PREFIX, EMBEDDED_DIR, RECONSTRUCTION_PRESETS, UNUSED, other_model
from .tensors import load_strictly, read_tensors
from .triposg_model import load_triposg

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

log = logging.getLogger(__name__)

#: Prefixes of the names of decoder weights.
_DECODERS = ("synthesizer.", "decoder.")


AnyReconstructionModel = ReconstructionModel | TripoSR | TripoSG | FrustumModel
Model = TypeVar("Model", bound=nn.Module, covariant=True)
Sizes = TypeVar("Sizes", bound="DataclassInstance")


class ModelConfig(Protocol[Model]):
    """A configuration that can build its model."""

    def build(self) -> Model:
        """Build a model of these sizes, without weights."""


def load_reconstruction_model(
    name: str,
    *,
    models_dirs: Sequence[Path] = (),
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: Progress = silent,
) -> AnyReconstructionModel:
    """Load a reconstruction model.

    If the sizes differ from the official ones, they are read from a file next to the weights; see
    `read_sizes`.

    Args:
        name: one of `RECONSTRUCTION_PRESETS`.
        models_dirs: see `weights.finding.find_file`.
        device: device of the loaded model.
        dtype: precision of all weights but the decoder's, which stay in float32: surfaces need the
            precision.
        progress: see `weights.finding.find_file`.

    Raises:
        InvalidInput: if there is no such preset.
        CheckpointError: if the file is damaged, unsafe, or belongs to another model.
        EnvironmentProblem: if the file is missing and cannot be downloaded.
    """
    preset = RECONSTRUCTION_PRESETS.get(name)
    if preset is None:
        raise InvalidInput(
            f"The reconstruction model must be one of {', '.join(RECONSTRUCTION_PRESETS)}, got"
            f" '{name}'."
        )
    if preset.repository is None:
        path = EMBEDDED_DIR / preset.file
    else:
        log.info("%s: weights of %s, licence %s", name, preset.repository, preset.license)
        if isinstance(preset.config, TripoSGConfig):
            files = Repository(preset.repository, preset.revision, models_dirs, progress)
            return load_triposg(files, dtype).to(device)
        path = find_file(
            preset.repository,
            preset.file,
            models_dirs,
            progress,
            revision=preset.revision,
            digest=preset.sha256,
        )
    beside = path.with_name(preset.file).with_suffix(".json")
    sizes = read_sizes(beside, preset.config) if beside.exists() else preset.config
    # mypy infers only the common base class Module.
    config = cast("ModelConfig[AnyReconstructionModel]", sizes)
    return read_reconstruction_model(path, config, dtype=dtype).to(device)


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
        given = json.loads(path.read_text(encoding="utf-8"))
        merged = json.dumps(_merge(asdict(official), given))
        sizes = TypeAdapter(type(official)).validate_json(merged)
        with torch.device("meta"):
            cast("ModelConfig[nn.Module]", sizes).build()
    except ValidationError as error:
        (first, *_) = error.errors()
        name = ".".join(map(str, first["loc"])) or "sizes"
        raise CheckpointError(f"{path}: {name}: {first['msg']}, got {first['input']!r}.") from error
    except (RuntimeError, ValueError, ArithmeticError, OSError) as error:
        raise CheckpointError(f"{path}: no model has these sizes: {error}.") from error
    return sizes


def _merge(official: dict[str, Any], given: Any) -> Any:
    """Merge `given` into `official` recursively; `given` has priority."""
    if not isinstance(given, dict):
        return given
    return official | {
        name: _merge(usual, value) if isinstance(usual := official.get(name), dict) else value
        for name, value in given.items()
    }


def read_reconstruction_model(
    path: Path, config: ModelConfig[Model], *, dtype: torch.dtype = torch.float32
) -> Model:
    """Read a model of the given sizes from one file, on the CPU.

    The names of the weights are those of the official checkpoints; their prefix is optional.

    Args:
        path: file of the weights.
        config: sizes of the model.
        dtype: precision of all weights but the decoder's, which are float32.

    Raises:
        CheckpointError: if the file is damaged, unsafe, or does not fit the sizes.
    """
    tensors = {
        name: value.to(torch.float32 if name.startswith(_DECODERS) else dtype)
        if value.is_floating_point()
        else value
        for name, value in read_tensors(path, prefix=CHECKPOINT_PREFIX).items()
        if not name.startswith(UNUSED)
    }
    with torch.device("meta"):
        model = config.build()
    try:
        load_strictly(model, tensors, path)
    except CheckpointError as error:
        raise other_model(error, tensors) from error
    return model
