"""Weights to models: which models there are, and how files become them."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoint_files import find_file, read_tensors
from .errors import CheckpointError, EnvironmentProblem, InvalidInput
from .multiview.image_transform import ImageTransform
from .multiview.previews import STABLE_DIFFUSION_RGB
from .multiview.zero123plus import GREY, WHITE, MultiviewModel
from .progress import Progress, silent
from .reconstruction.instant_mesh import ReconstructionConfig, ReconstructionModel
from .reconstruction.vision_transformer import EncoderConfig

log = logging.getLogger(__name__)

POCKET_DIR = Path(__file__).parent / "pocket"
_PREFIX = "lrm_generator."
_DECODER = "synthesizer."
_PARTS = ("unet", "vae", "vision_encoder", "text_encoder")


@dataclass(frozen=True)
class ReconstructionPreset:
    """A reconstruction model: its sizes and its file.

    Attributes:
        config: sizes.
        repository, revision: on the hub, and the commit that is used; None for the embedded model.
        file: name in the repository.
        license: of the weights.
    """

    config: ReconstructionConfig
    repository: str | None
    revision: str | None
    file: str
    license: str


@dataclass(frozen=True)
class MultiviewPreset:
    """A multiview model: a repository in diffusers layout, perhaps with another U-Net.

    Attributes:
        repository, revision: on the hub, and the commit that is used; None for the embedded model.
        unet_repository, unet_revision, unet_file: of the U-Net's weights, if they are elsewhere.
        background: grey level in [0, 1] of its pictures and views.
        steps, guidance: what suits it.
        license: of the weights.
    """

    repository: str | None
    revision: str | None
    background: float
    license: str
    unet_repository: str | None = None
    unet_revision: str | None = None
    unet_file: str | None = None
    steps: int = 75
    guidance: float = 4.0


_POCKET_CONFIG = ReconstructionConfig(
    surface="mesh",
    transformer_layers=4,
    triplane_dim=32,
    samples_per_ray=96,
    encoder=EncoderConfig(hidden_size=192, layers=4, heads=3, mlp_size=768, image_size=128, patch_size=16, view_size=128),
    transformer_dim=256,
    transformer_heads=4,
    triplane_low_res=16,
    grid_resolution=96,
)
_INSTANT_MESH = ("TencentARC/InstantMesh", "b785b4ecfb6636ef34a08c748f96f6a5686244d0")
_ZERO123PLUS = ("sudo-ai/zero123plus-v1.2", "2da07e89919e1a130c9b5add1584c70c7aa065fd")


def _instant_mesh(config: ReconstructionConfig, file: str) -> ReconstructionPreset:
    return ReconstructionPreset(config, *_INSTANT_MESH, file, "Apache-2.0")


RECONSTRUCTION_PRESETS: Mapping[str, ReconstructionPreset] = {
    "pocket": ReconstructionPreset(_POCKET_CONFIG, None, None, "instant_mesh_pocket.safetensors", "Apache-2.0"),
    "instant-mesh-large": _instant_mesh(ReconstructionConfig("mesh", 16, 80, 128), "instant_mesh_large.ckpt"),
    "instant-mesh-base": _instant_mesh(ReconstructionConfig("mesh", 12, 40, 96), "instant_mesh_base.ckpt"),
    "instant-nerf-large": _instant_mesh(ReconstructionConfig("nerf", 16, 80, 128, grid_resolution=255), "instant_nerf_large.ckpt"),
    "instant-nerf-base": _instant_mesh(ReconstructionConfig("nerf", 12, 40, 96, grid_resolution=255), "instant_nerf_base.ckpt"),
}
MULTIVIEW_PRESETS: Mapping[str, MultiviewPreset] = {
    "pocket": MultiviewPreset(None, None, WHITE, "Apache-2.0", steps=28, guidance=2.0),
    "zero123plus-instantmesh": MultiviewPreset(
        *_ZERO123PLUS, WHITE, "CC-BY-NC-4.0 (U-Net: Apache-2.0)", *_INSTANT_MESH, "diffusion_pytorch_model.bin"
    ),
    "zero123plus": MultiviewPreset(*_ZERO123PLUS, GREY, "CC-BY-NC-4.0"),
}


def load_reconstruction_model(
    name: str,
    *,
    models_dirs: Sequence[Path] = (),
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    keep_half_copy: bool = True,
    progress: Progress = silent,
) -> ReconstructionModel:
    """A reconstruction model, ready to be used.

    Args:
        name: one of `RECONSTRUCTION_PRESETS`.
        models_dirs, progress: see `checkpoint_files.find_file`.
        device, dtype: where the model goes. Its decoder stays in float32 whatever the dtype: it is small, and surfaces need the digits.
        keep_half_copy: after a pickle is read for another dtype than float32, keep a half-precision .safetensors beside it and use that.

    Raises:
        InvalidInput: if there is no such preset.
        CheckpointError: if the file is damaged, unsafe, or of another model.
        EnvironmentProblem: if the file is nowhere and cannot be downloaded.
    """
    preset = RECONSTRUCTION_PRESETS.get(name)
    if preset is None:
        raise InvalidInput(f"The reconstruction model must be one of {', '.join(RECONSTRUCTION_PRESETS)}, got '{name}'.")
    if preset.repository is None:
        path = POCKET_DIR / preset.file
    else:
        log.info("%s: weights of %s, licence %s", name, preset.repository, preset.license)
        path = find_file(preset.repository, preset.file, models_dirs, progress, revision=preset.revision)
    return read_reconstruction_model(path, preset.config, dtype=dtype, keep_half_copy=keep_half_copy).to(device)


def read_reconstruction_model(
    path: Path, config: ReconstructionConfig, *, dtype: torch.dtype = torch.float32, keep_half_copy: bool = True
) -> ReconstructionModel:
    """A model of the given sizes from one file, on the CPU; names as in the official checkpoints, their prefix optional.

    Args:
        path: the file.
        config: sizes.
        dtype: of all but the decoder, which is in float32.
        keep_half_copy: see `checkpoint_files.read_tensors`.

    Raises:
        CheckpointError: if the file is damaged, unsafe, or does not fit the sizes.
    """
    tensors = read_tensors(path, dtype=dtype, keep_half_copy=keep_half_copy, prefix=_PREFIX, precise=_DECODER)
    tensors = {name: value.to(torch.float32 if name.startswith(_DECODER) else dtype) for name, value in tensors.items()}
    with torch.device("meta"):
        model = ReconstructionModel(config)
    try:
        load_strictly(model, tensors, path)
    except CheckpointError as error:
        fitting = _fitting_preset(tensors)
        if fitting is None:
            raise
        raise CheckpointError(f"{error} They are those of {fitting}: choose that model.") from error
    return model


def load_multiview_model(
    name: str,
    *,
    models_dirs: Sequence[Path] = (),
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    keep_half_copy: bool = True,
    offload: bool = False,
    progress: Progress = silent,
) -> MultiviewModel:
    """A multiview model, ready to be used.

    Args and Raises: as in `load_reconstruction_model`, with `MULTIVIEW_PRESETS`; for `offload` see `MultiviewModel`.
    """
    preset = MULTIVIEW_PRESETS.get(name)
    if preset is None:
        raise InvalidInput(f"The views' model must be one of {', '.join(MULTIVIEW_PRESETS)}, got '{name}'.")
    if preset.repository is not None:
        log.info("%s: weights of %s, licence %s", name, preset.repository, preset.license)
    folders = models_dirs if preset.repository else [POCKET_DIR / "zero123plus"]
    files = _Repository(preset.repository, preset.revision, folders, progress)
    unet_weights = None
    if preset.unet_repository and preset.unet_file:
        unet_weights = find_file(preset.unet_repository, preset.unet_file, models_dirs, progress, revision=preset.unet_revision)
    model = read_multiview_model(files, unet_weights, preset.background, torch.device(device), dtype, keep_half_copy, offload)
    return replace(model, steps=preset.steps, guidance=preset.guidance)


class _Repository:
    """The files of one model repository, wherever each is; without a repository, those of the one folder."""

    def __init__(self, repository: str | None, revision: str | None, folders: Sequence[Path], progress: Progress = silent) -> None:
        self.repository, self.revision, self.folders, self.progress = repository, revision, folders, progress

    def file(self, *names: str) -> Path:
        """The first of these files that there is."""
        if self.repository is not None:
            return find_file(self.repository, names, self.folders, self.progress, revision=self.revision)
        path = self.folders[0] / names[0]
        if not path.exists():
            raise CheckpointError(f"{path} is missing: install the pack anew.")
        return path

    def json(self, name: str) -> dict[str, Any]:
        path = self.file(name)
        with self.understood(name):
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise TypeError(f"a {type(content).__name__} in place of an object")
        return content

    @contextmanager
    def understood(self, *names: str) -> Iterator[None]:
        """Names these text files in one sentence where what is in them cannot be used.

        Raises:
            CheckpointError: in place of whatever the libraries that read them raise.
        """
        try:
            yield
        except (CheckpointError, EnvironmentProblem, MemoryError):
            raise
        except Exception as error:  # json, diffusers, transformers and tokenizers each have their own
            places = " or ".join(str(self.file(name)) for name in names)
            raise CheckpointError(f"{places} is damaged or of another model: delete it, and it is downloaded again.") from error

    def weights(self, part: str) -> Path:
        """The weights of a part, in whichever format the repository has them."""
        diffusion = part in ("unet", "vae")
        stem, pickled = ("diffusion_pytorch_model",) * 2 if diffusion else ("model", "pytorch_model")
        return self.file(f"{part}/{stem}.safetensors", f"{part}/{pickled}.bin")


def read_multiview_model(
    files: _Repository,
    unet_weights: Path | None,
    background: float,
    device: torch.device,
    dtype: torch.dtype,
    keep_half_copy: bool,
    offload: bool = False,
) -> MultiviewModel:
    """The parts of a repository in diffusers layout, put together; the U-Net's weights may come from another file."""
    # diffusers and transformers take seconds to import and are needed here alone.
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

    builders: dict[str, Any] = {
        "unet": UNet2DConditionModel.from_config,
        "vae": AutoencoderKL.from_config,
        "vision_encoder": lambda config: CLIPVisionModelWithProjection(CLIPVisionConfig(**config)),
        "text_encoder": lambda config: CLIPTextModel(CLIPTextConfig(**config)),
    }
    parts: dict[str, Any] = {}
    for name in _PARTS:
        path = unet_weights if name == "unet" and unet_weights else files.weights(name)
        config = files.json(f"{name}/config.json")
        with files.understood(f"{name}/config.json"), torch.device("meta"):
            part = builders[name](config)
        tensors = renamed(name, read_tensors(path, dtype=dtype, keep_half_copy=keep_half_copy), part)
        load_strictly(part, {n: value.to(dtype) for n, value in tensors.items()}, path)
        _fill_position_ids(part)
        parts[name] = part.eval().requires_grad_(False).to("cpu" if offload and name != "text_encoder" else device)
    empty_prompt = parts.pop("text_encoder")(empty_prompt_ids(files).to(device))[0][0].float()
    index = files.json("model_index.json")
    with files.understood("model_index.json"):
        ramp = torch.tensor(index["ramping_coefficients"], device=device)
        latent_rgb = torch.tensor(index["latent_rgb"]) if "latent_rgb" in index else STABLE_DIFFUSION_RGB
    transforms = {}
    for which in ("vae", "clip"):
        name = f"feature_extractor_{which}/preprocessor_config.json"
        config = files.json(name)
        with files.understood(name):
            transforms[which] = ImageTransform.from_config(config)
    return MultiviewModel(
        **parts,
        empty_prompt=empty_prompt,
        ramp=ramp,
        latent_rgb=latent_rgb,
        scheduler_config=files.json("scheduler/scheduler_config.json"),
        vae_transform=transforms["vae"],
        clip_transform=transforms["clip"],
        view_size=transforms["vae"].crop,
        device=device,
        background=background,
        offload=offload,
    )


def empty_prompt_ids(files: _Repository) -> Tensor:
    """(1, 77) tokens of the empty prompt: begin, end, and padding to the model's length."""
    from transformers import CLIPTokenizer

    names = [f"tokenizer/{name}" for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")]
    with tempfile.TemporaryDirectory(prefix="image-to-3d-") as folder:
        # Each file may have been found somewhere else, and transformers wants them in one folder.
        for name in names:
            shutil.copy(files.file(name), folder)
        with files.understood(*names):
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            ids: Tensor = tokenizer("", padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    return ids


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Give a model its weights, frozen.

    Raises:
        CheckpointError: if a name is missing or left over, or a shape is another.
    """
    wanted = model.state_dict()
    missing, unexpected = wanted.keys() - tensors.keys(), tensors.keys() - wanted.keys()
    misshapen = {n for n in wanted.keys() & tensors.keys() if wanted[n].shape != tensors[n].shape}
    problems = [
        f"{len(names)} {what} ({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if names
    ]
    if problems:
        raise CheckpointError(f"{path} holds the weights of another model: {'; '.join(problems)}.")
    model.load_state_dict(tensors, strict=True, assign=True)
    model.eval().requires_grad_(False)


def _fitting_preset(tensors: Mapping[str, Tensor]) -> str | None:
    shapes = {name: value.shape for name, value in tensors.items()}
    for name, preset in RECONSTRUCTION_PRESETS.items():
        with torch.device("meta"):
            model = ReconstructionModel(preset.config)
        if {n: v.shape for n, v in model.state_dict().items()} == shapes:
            return name
    return None


def renamed(part: str, tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Names of older releases of diffusers and transformers as the installed ones have them."""
    found = {name: value for name, value in tensors.items() if not name.endswith("position_ids")}
    if part in ("text_encoder", "vision_encoder"):
        family = "text_model." if part == "text_encoder" else "vision_model."
        if not any(name.startswith(family) for name in model.state_dict()):  # transformers 5 dropped it from some classes
            found = {name.removeprefix(family): value for name, value in found.items()}
        elif not any(name.startswith(family) for name in found):
            outer = ("visual_projection.", "text_projection.")
            found = {name if name.startswith(outer) else family + name: value for name, value in found.items()}
    if part == "vae":
        for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
            found = {name.replace(f".attentions.0.{old}.", f".attentions.0.{new}."): value for name, value in found.items()}
    return found


def _fill_position_ids(model: nn.Module) -> None:
    """CLIP's position numbers are in no file and stay without values when a model is built without memory."""
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                assert name == "position_ids", f"{type(module).__name__}.{name} has no values"
                module.register_buffer(name, torch.arange(buffer.shape[-1]).expand(1, -1), persistent=False)
