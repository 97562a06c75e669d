"""Load TripoSG part by part from a repository in diffusers layout.

Source of the layout: the repository VAST-AI/TripoSG on the Hugging Face hub.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from pydantic import ValidationError
from torch import Tensor

from ..errors import CheckpointError
from ..fields.set_transformer import plain_heads
from ..reconstruction.triposg import TripoSG, TripoSGConfig
from ..reconstruction.vision_transformer import IMAGE_MEAN, IMAGE_STD
from .finding import Repository
from .presets import TRIPOSG_CONFIGS as _CONFIGS
from .presets import TRIPOSG_WEIGHTS
from .sizes import OFFICIAL_SIZES, other_model, with_changes
from .tensors import load_strictly, read_tensors

#: The configuration file of each part, and its fields by our names.
_FIELDS = {
    "encoder": (
        "encoder",
        {"layers": "num_hidden_layers", "heads": "num_attention_heads"}
        | {name: name for name in ("hidden_size", "layer_norm_eps", "image_size", "patch_size")},
    ),
    "flow": (
        "transformer",
        {"channels": "in_channels", "dim": "width", "heads": "num_attention_heads"}
        | {"layers": "num_layers", "context_dim": "cross_attention_dim"},
    ),
    "decoder": (
        "decoder",
        {"channels": "latent_channels", "dim": "width_decoder", "heads": "num_attention_heads"}
        | {"layers": "num_layers_decoder", "frequencies": "embed_frequency"}
        | {"include_pi": "embed_include_pi"},
    ),
}
#: Fields of the configuration files for which only one value is supported.
_FIXED: Mapping[str, Mapping[str, Any]] = {
    "encoder": {"use_swiglu_ffn": False, "hidden_act": "gelu"},
    "decoder": {"in_channels": 3, "embedding_type": "frequency"},
    "scheduler": {"num_train_timesteps": 1000, "use_dynamic_shifting": False},
    "image": {"image_mean": list(IMAGE_MEAN), "image_std": list(IMAGE_STD)},
}
#: Names in the encoder's file, and our names, which are those of the first version of DINO.
_ENCODER_NAMES = (
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
    (".layer_scale1.lambda1", ".attention_scale"),
    (".layer_scale2.lambda1", ".mlp_scale"),
)
_POINT_PARTS = ("proj_query.", "norm_out.", "proj_out.")


def load_triposg(files: Repository, dtype: torch.dtype) -> TripoSG:
    """Load the model from a repository, on the CPU.

    Args:
        files: the model's repository.
        dtype: precision of all weights except norms and the first and last layers for points,
            which stay in float32.

    Raises:
        CheckpointError: if a file is damaged, belongs to another model, or contradicts another
            file.
        EnvironmentProblem: if a file is missing and cannot be downloaded.
    """
    config = read_config(files)
    try:
        with torch.device("meta"):
            model = config.build()
    except ValueError as error:
        raise CheckpointError(
            f"The configuration files of {files.repository} belong to another model: {error}."
        ) from error
    parts: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
        "encoder": _encoder_tensors,
        "transformer": lambda tensors: plain_heads(tensors, config.flow.heads),
        "decoder": lambda tensors: _decoder_tensors(
            plain_heads(tensors, config.decoder.heads), config.decoder.layers
        ),
    }
    for name, prepare in parts.items():
        path = files.file(TRIPOSG_WEIGHTS[name])
        tensors = prepare(read_tensors(path))
        for tensor, value in tensors.items():
            precise = name != "encoder" and ("norm" in tensor or tensor.startswith("points.proj_"))
            tensors[tensor] = value.to(torch.float32 if precise else dtype)
        try:
            load_strictly(getattr(model, name), tensors, path)
        except CheckpointError as error:
            raise other_model(error, tensors) from error
    return model.eval().requires_grad_(False)


def _encoder_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    tensors.pop("embeddings.mask_token", None)
    for theirs, ours in _ENCODER_NAMES:
        tensors = {name.replace(theirs, ours): value for name, value in tensors.items()}
    return tensors


def _decoder_tensors(tensors: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    found = {}
    for name, value in tensors.items():
        if name.startswith(("encoder.", "quant.")):
            continue
        short = name.removeprefix("decoder.")
        if short.startswith(_POINT_PARTS):
            short = f"points.{short}"
        found[short.replace(f"blocks.{layers}.", "points.block.", 1)] = value
    return found


def read_config(files: Repository) -> TripoSGConfig:
    """Read the sizes of the model from its configuration files.

    Raises:
        CheckpointError: if a file is damaged, belongs to another model, or contradicts another
            file.
    """
    found = {name: files.json(path) for name, path in _CONFIGS.items()}
    if found["transformer"].get("use_cross_attention_2"):
        raise CheckpointError(
            f"{files.file(_CONFIGS['transformer'])} belongs to TripoSG-scribble, which takes"
            " sketches and text: use the files of VAST-AI/TripoSG."
        )
    for name, fixed in _FIXED.items():
        for field, value in fixed.items():
            _check_equal(files, name, field, found[name].get(field, value), value)
    config = _config(files, found)
    _check_equal(files, "transformer", "in_channels", config.flow.channels, config.decoder.channels)
    width = config.encoder.hidden_size
    _check_equal(files, "transformer", "cross_attention_dim", config.flow.context_dim, width)
    return config


def _config(files: Repository, found: Mapping[str, dict[str, Any]]) -> TripoSGConfig:
    official = cast("TripoSGConfig", OFFICIAL_SIZES["triposg"])
    sizes: dict[str, Any] = {
        part: {
            ours: found[name][theirs] for ours, theirs in fields.items() if theirs in found[name]
        }
        for part, (name, fields) in _FIELDS.items()
    }
    with files.understood(_CONFIGS["image"]):
        crop = found["image"].get("crop_size", {"height": 224, "width": 224})
        _check_equal(files, "image", "crop_size.width", crop["width"], crop["height"])
        sizes["resized"] = found["image"].get("size", {"shortest_edge": 256})["shortest_edge"]
    sizes["encoder"]["view_size"] = crop["height"]
    sizes["shift"] = found["scheduler"].get("shift", 1)
    with files.understood(_CONFIGS["encoder"]):
        width = sizes["encoder"].get("hidden_size", official.encoder.hidden_size)
        sizes["encoder"]["mlp_size"] = int(width * float(found["encoder"].get("mlp_ratio", 4)))
    try:
        return with_changes(official, sizes)
    except ValidationError as error:
        first = error.errors()[0]
        part, *ours = map(str, first["loc"])
        name, fields = _FIELDS.get(part, ("image", {}))
        field = ".".join(fields.get(each, each) for each in ours or [part])
        raise CheckpointError(
            f"{files.file(_CONFIGS[name])} belongs to another model: {field}: {first['msg']}, got"
            f" {first['input']!r}."
        ) from error


def _check_equal(files: Repository, name: str, field: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise CheckpointError(
            f"{files.file(_CONFIGS[name])} does not fit the other files of TripoSG: {field} must be"
            f" {wanted}, got {found}."
        )
