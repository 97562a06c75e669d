"""Load reconstruction models from their checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch

from ..errors import CheckpointError
from ..progress import Progress, silent
from ..reconstruction.frustum import FrustumModel
from ..reconstruction.instant_mesh import ReconstructionModel
from ..reconstruction.triposg import TripoSG, TripoSGConfig
from ..reconstruction.triposr import TripoSR
from .finding import Repository, find_file
from .presets import EMBEDDED_DIR, RECONSTRUCTION_PRESETS, find_preset
from .sizes import (
    CHECKPOINT_PREFIX,
    OFFICIAL_SIZES,
    UNUSED,
    Model,
    ModelConfig,
    other_model,
    read_sizes,
)
from .tensors import load_strictly, read_tensors
from .triposg_model import load_triposg

log = logging.getLogger(__name__)

#: Prefixes of the names of decoder weights.
_DECODERS = ("synthesizer.", "decoder.")
AnyReconstructionModel = ReconstructionModel | TripoSR | TripoSG | FrustumModel


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
    `sizes.read_sizes`.

    Args:
        name: one of `RECONSTRUCTION_PRESETS`.
        models_dirs: see `weights.finding.find_file`.
        device: device of the loaded model.
        dtype: precision of all weights but the decoder's, which stay in float32, because coarser
            values would move the surface.
        progress: see `weights.finding.find_file`.

    Raises:
        InvalidInput: if there is no such preset.
        CheckpointError: if the file is damaged, unsafe, or belongs to another model.
        EnvironmentProblem: if the file is missing and cannot be downloaded.
    """
    preset = find_preset(RECONSTRUCTION_PRESETS, name, "reconstruction model")
    sizes = OFFICIAL_SIZES[name]
    if preset.repository is None:
        path = EMBEDDED_DIR / preset.file
    else:
        log.info("%s: weights of %s, licence %s", name, preset.repository, preset.license)
        if isinstance(sizes, TripoSGConfig):
            files = Repository(preset.repository, preset.revision, models_dirs, progress)
            return load_triposg(files, dtype).to(device)
        path = find_file(preset.files[0], models_dirs, progress)
    beside = path.with_name(preset.file).with_suffix(".json")
    sizes = read_sizes(beside, sizes) if beside.exists() else sizes
    # mypy infers only the common base class Module.
    config = cast("ModelConfig[AnyReconstructionModel]", sizes)
    return read_reconstruction_model(path, config, dtype=dtype).to(device)


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
