"""Load multiview models from repositories in diffusers layout."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..multiview.image_transform import ImageTransform
from ..multiview.zero123plus import MultiviewModel
from ..progress import Progress, silent
from .finding import Repository, find_file, weights_names
from .presets import (
    INDEX,
    MULTIVIEW_PARTS,
    MULTIVIEW_PRESETS,
    SCHEDULER,
    TOKENIZER,
    TRANSFORMS,
    find_preset,
)
from .tensors import load_strictly, read_tensors

log = logging.getLogger(__name__)

#: Names of the VAE's attention layers in files of older diffusers versions, and current names.
_VAE_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def load_multiview_model(
    name: str,
    *,
    models_dirs: Sequence[Path] = (),
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    offload: bool = False,
    progress: Progress = silent,
) -> MultiviewModel:
    """Load a multiview model.

    Args and Raises: as in `load_reconstruction_model`, with `MULTIVIEW_PRESETS`; for `offload` see
    `MultiviewModel`.
    """
    preset = find_preset(MULTIVIEW_PRESETS, name, "multiview model")
    log.info("%s: weights of %s, licence %s", name, preset.repository, preset.license)
    files = Repository(preset.repository, preset.revision, models_dirs, progress)
    device = torch.device(device)
    parts: dict[str, Any] = {}
    for part in MULTIVIEW_PARTS:
        if part == "unet" and preset.unet:
            path = find_file(preset.unet, models_dirs, progress)
        else:
            path = files.file(*weights_names(part))
        loaded = _read_part(part, files, path, dtype)
        parts[part] = loaded.to("cpu" if offload and part != "text_encoder" else device)
    empty_prompt = parts.pop("text_encoder")(empty_prompt_ids(files).to(device))[0][0].float()
    index = files.json(INDEX)
    with files.understood(INDEX):
        ramp = torch.tensor(index["ramping_coefficients"], device=device)
    vae_transform, clip_transform = (_transform(files, name) for name in TRANSFORMS.values())
    return MultiviewModel(
        **parts,
        empty_prompt=empty_prompt,
        ramp=ramp,
        scheduler_config=files.json(SCHEDULER),
        vae_transform=vae_transform,
        clip_transform=clip_transform,
        view_size=vae_transform.crop,
        device=device,
        background=preset.background,
        offload=offload,
    )


def _transform(files: Repository, name: str) -> ImageTransform:
    config = files.json(name)
    with files.understood(name):
        return ImageTransform.from_config(config)


def _read_part(name: str, files: Repository, path: Path, dtype: torch.dtype) -> nn.Module:
    # diffusers and transformers take seconds to import and are only needed here.
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    builders: dict[str, Any] = {
        "unet": UNet2DConditionModel.from_config,
        "vae": AutoencoderKL.from_config,
        "vision_encoder": lambda config: CLIPVisionModelWithProjection(CLIPVisionConfig(**config)),
        "text_encoder": lambda config: CLIPTextModel(CLIPTextConfig(**config)),
    }
    config = files.json(f"{name}/config.json")
    with files.understood(f"{name}/config.json"), torch.device("meta"):
        part: nn.Module = builders[name](config)
    tensors = renamed(name, read_tensors(path), part)
    load_strictly(part, {n: value.to(dtype) for n, value in tensors.items()}, path)
    _fill_position_ids(part)
    return part


def empty_prompt_ids(files: Repository) -> Tensor:
    """Tokenize the empty prompt to (1, 77) ids: begin, end and padding."""
    from transformers import CLIPTokenizer

    with tempfile.TemporaryDirectory(prefix="image-to-3d-") as folder:
        # The files may be in different folders, but transformers requires a single one.
        for name in TOKENIZER:
            shutil.copy(files.file(name), folder)
        with files.understood(*TOKENIZER):
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            ids: Tensor = tokenizer(
                "", padding="max_length", max_length=77, truncation=True, return_tensors="pt"
            ).input_ids
    return ids


def renamed(part: str, tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Rename weights saved by older diffusers and transformers to the installed versions' names."""
    found = {name: value for name, value in tensors.items() if not name.endswith("position_ids")}
    if part in ("text_encoder", "vision_encoder"):
        family = "text_model." if part == "text_encoder" else "vision_model."
        # Transformers 5 dropped this prefix from some classes.
        if not any(name.startswith(family) for name in model.state_dict()):
            found = {name.removeprefix(family): value for name, value in found.items()}
        elif not any(name.startswith(family) for name in found):
            outer = ("visual_projection.", "text_projection.")
            found = {
                name if name.startswith(outer) else family + name: value
                for name, value in found.items()
            }
    if part == "vae":
        for old, new in _VAE_NAMES.items():
            old, new = f".attentions.0.{old}.", f".attentions.0.{new}."
            found = {name.replace(old, new): value for name, value in found.items()}
    return found


def _fill_position_ids(model: nn.Module) -> None:
    """Fill CLIP's position ids.

    No checkpoint has them, and they have no values in a model built on the meta device.
    """
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                assert name == "position_ids", f"{type(module).__name__}.{name} has no values"
                module.register_buffer(
                    name, torch.arange(buffer.shape[-1]).expand(1, -1), persistent=False
                )
