"""Load TripoSG part by part from a repository in diffusers layout.

Source of the layout: the repository VAST-AI/TripoSG on the Hugging Face hub.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)
from torch import Tensor, nn

from ..errors import CheckpointError
from ..fields.latent_set import LatentSetConfig
from ..fields.set_transformer import plain_heads
from ..reconstruction.flow_transformer import FlowConfig
from ..reconstruction.triposg import TripoSG, TripoSGConfig
from ..reconstruction.vision_transformer import IMAGE_MEAN, IMAGE_STD, EncoderConfig
from .finding import Repository
from .presets import TRIPOSG_CONFIGS as _CONFIGS
from .presets import TRIPOSG_WEIGHTS, other_model
from .tensors import load_strictly, read_tensors

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


class _File(BaseModel):
    """Fields of a configuration file; unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class _Encoder(_File):
    hidden_size: PositiveInt = 1024
    num_hidden_layers: PositiveInt = 24
    num_attention_heads: PositiveInt = 16
    mlp_ratio: PositiveFloat = 4
    image_size: PositiveInt = 518
    patch_size: PositiveInt = 14
    layer_norm_eps: PositiveFloat = 1e-6
    use_swiglu_ffn: Literal[False] = False
    hidden_act: Literal["gelu"] = "gelu"


class _Transformer(_File):
    width: PositiveInt = 2048
    num_attention_heads: PositiveInt = 16
    num_layers: PositiveInt = 21
    in_channels: PositiveInt = 64
    cross_attention_dim: PositiveInt = 1024
    use_cross_attention_2: Literal[False] = False


class _Decoder(_File):
    latent_channels: PositiveInt = 64
    width_decoder: PositiveInt = 1024
    num_attention_heads: PositiveInt = 8
    num_layers_decoder: PositiveInt = 16
    in_channels: Literal[3] = 3
    embedding_type: Literal["frequency"] = "frequency"
    embed_frequency: PositiveInt = 8
    embed_include_pi: bool = False


class _Scheduler(_File):
    num_train_timesteps: Literal[1000] = 1000
    shift: PositiveFloat = 1
    use_dynamic_shifting: Literal[False] = False


class _ShortestEdge(_File):
    shortest_edge: PositiveInt = 256


class _Crop(_File):
    height: PositiveInt = 224
    width: PositiveInt = 224


class _Image(_File):
    size: _ShortestEdge = Field(default_factory=_ShortestEdge)
    crop_size: _Crop = Field(default_factory=_Crop)
    image_mean: list[float] = list(IMAGE_MEAN)
    image_std: list[float] = list(IMAGE_STD)
    resample: NonNegativeInt = 3


_F = TypeVar("_F", bound=_File)


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
    with torch.device("meta"):
        model = config.build()
    heads = {"transformer": config.flow.heads, "decoder": config.decoder.heads}
    prepare: dict[str, Callable[[dict[str, Tensor]], Mapping[str, Tensor]]] = {
        "encoder": _encoder_tensors,
        "transformer": dict,
        "decoder": lambda tensors: _decoder_tensors(tensors, config.decoder.layers),
    }
    for name, file in TRIPOSG_WEIGHTS.items():
        path = files.file(file)
        tensors = read_tensors(path)
        if name in heads:
            tensors = plain_heads(tensors, heads[name])
        _load_part(getattr(model, name), prepare[name](tensors), path, name, dtype)
    return model.eval().requires_grad_(False)


def _load_part(
    part: nn.Module, tensors: Mapping[str, Tensor], path: Path, name: str, dtype: torch.dtype
) -> None:
    converted = {
        tensor: value.to(torch.float32 if name != "encoder" and _is_precise(tensor) else dtype)
        for tensor, value in tensors.items()
    }
    try:
        load_strictly(part, converted, path)
    except CheckpointError as error:
        raise other_model(error, tensors) from error


def _is_precise(name: str) -> bool:
    return "norm" in name or name.startswith("points.proj_")


def _encoder_tensors(tensors: dict[str, Tensor]) -> Mapping[str, Tensor]:
    found = {}
    for name, value in tensors.items():
        for theirs, ours in _ENCODER_NAMES:
            name = name.replace(theirs, ours)
        found[name] = value
    found.pop("embeddings.mask_token", None)
    return found


def _decoder_tensors(tensors: dict[str, Tensor], layers: int) -> Mapping[str, Tensor]:
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
    encoder = _read(files, "encoder", _Encoder)
    flow = _read(files, "transformer", _Transformer)
    decoder = _read(files, "decoder", _Decoder)
    scheduler = _read(files, "scheduler", _Scheduler)
    image = _read(files, "image", _Image)
    _agree(files, "transformer", "in_channels", flow.in_channels, decoder.latent_channels)
    _agree(
        files, "transformer", "cross_attention_dim", flow.cross_attention_dim, encoder.hidden_size
    )
    _agree(files, "image", "crop_size.width", image.crop_size.width, image.crop_size.height)
    _agree(files, "image", "image_mean", image.image_mean, list(IMAGE_MEAN))
    _agree(files, "image", "image_std", image.image_std, list(IMAGE_STD))
    for name, dim, heads in (
        ("encoder", encoder.hidden_size, encoder.num_attention_heads),
        ("transformer", flow.width, flow.num_attention_heads),
        ("decoder", decoder.width_decoder, decoder.num_attention_heads),
    ):
        _agree(files, name, "width modulo num_attention_heads", dim % heads, 0)
    return TripoSGConfig(
        encoder=EncoderConfig(
            hidden_size=encoder.hidden_size,
            layers=encoder.num_hidden_layers,
            heads=encoder.num_attention_heads,
            mlp_size=int(encoder.hidden_size * encoder.mlp_ratio),
            layer_norm_eps=encoder.layer_norm_eps,
            image_size=encoder.image_size,
            patch_size=encoder.patch_size,
            view_size=image.crop_size.height,
        ),
        flow=FlowConfig(
            channels=flow.in_channels,
            dim=flow.width,
            heads=flow.num_attention_heads,
            layers=flow.num_layers,
            context_dim=flow.cross_attention_dim,
        ),
        decoder=LatentSetConfig(
            channels=decoder.latent_channels,
            dim=decoder.width_decoder,
            heads=decoder.num_attention_heads,
            layers=decoder.num_layers_decoder,
            frequencies=decoder.embed_frequency,
            include_pi=decoder.embed_include_pi,
        ),
        resized=image.size.shortest_edge,
        shift=scheduler.shift,
    )


def _read(files: Repository, name: str, kind: type[_F]) -> _F:
    content = files.json(_CONFIGS[name])
    if content.get("use_cross_attention_2"):
        raise CheckpointError(
            f"{files.file(_CONFIGS[name])} is of TripoSG-scribble, which draws from sketches and"
            " text: use the files of VAST-AI/TripoSG."
        )
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise CheckpointError(
            f"{files.file(_CONFIGS[name])} is of another model: {field}: {first['msg']}, got"
            f" {first['input']!r}."
        ) from error


def _agree(files: Repository, name: str, field: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise CheckpointError(
            f"{files.file(_CONFIGS[name])} does not fit the other files of TripoSG: {field} must be"
            f" {wanted}, got {found}."
        )
