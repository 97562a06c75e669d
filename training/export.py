"""Put trained weights into the pack as its pocket models, in half precision and in the official
layouts.

python -m training.export RUN CACHE
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from pipelines.multiview.sampling import LATENT_SCALE, LATENT_SHIFT
from pipelines.weights.presets import POCKET_DIR, RECONSTRUCTION_PRESETS

from .dataset import VIEW_SIZE, Objects
from .pocket import POCKET_SCHEDULER, POCKET_TEXT, POCKET_UNET, POCKET_VAE, POCKET_VISION, RAMP
from .train_multiview import CLIP_MEAN, CLIP_STD
from .train_vae import to_pixels

_TOKENS = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "pad_token": "<|pad|>",
    "unk_token": "<|endoftext|>",
}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_weights(path: Path, weights: dict[str, Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # New tensors, so that nothing is shared and every layout is contiguous.
    save_file({name: value.half().contiguous().clone() for name, value in weights.items()}, path)


@torch.no_grad()
def fit_latent_rgb(vae: AutoencoderKL, images: Tensor) -> list[list[float]]:
    """(5, 3) least-squares map from latents, as the U-Net sees them, to colours."""
    latents = (
        vae.encode(to_pixels(images)).latent_dist.mean * vae.config.scaling_factor - LATENT_SHIFT
    ) * LATENT_SCALE
    colors = F.interpolate(images.float() / 255, size=latents.shape[-2:], mode="area")
    rows = latents.permute(0, 2, 3, 1).flatten(0, 2)
    table = torch.linalg.lstsq(
        torch.cat([rows, torch.ones(len(rows), 1)], dim=1), colors.permute(0, 2, 3, 1).flatten(0, 2)
    ).solution
    return [[round(value, 5) for value in row] for row in table.tolist()]


def export_reconstruction(run: Path) -> None:
    """The pocket InstantMesh of a run."""
    weights = torch.load(run / "reconstruction-weights.pt", weights_only=True)
    _write_weights(POCKET_DIR / RECONSTRUCTION_PRESETS["pocket"].file, weights)


def export_multiview(run: Path, objects: Objects) -> None:
    """The pocket Zero123++ of a run, in diffusers layout."""
    folder = POCKET_DIR / "zero123plus"
    trained = torch.load(run / "multiview-weights.pt", weights_only=True)
    trained["vae"] = torch.load(run / "vae-weights.pt", weights_only=True)
    vae = AutoencoderKL(**POCKET_VAE)
    vae.load_state_dict(trained["vae"])
    for name, config in (
        ("unet", POCKET_UNET),
        ("vae", POCKET_VAE),
        ("vision_encoder", POCKET_VISION),
        ("text_encoder", POCKET_TEXT),
    ):
        stem = "diffusion_pytorch_model" if name in ("unet", "vae") else "model"
        _write_json(folder / name / "config.json", config)
        _write_weights(folder / name / f"{stem}.safetensors", trained[name])
    _write_json(
        folder / "model_index.json",
        {"ramping_coefficients": RAMP, "latent_rgb": fit_latent_rgb(vae, objects.views[:32, 0])},
    )
    _write_json(folder / "scheduler" / "scheduler_config.json", POCKET_SCHEDULER)
    for name, mean, std in (("vae", (0.5,) * 3, (0.8,) * 3), ("clip", CLIP_MEAN, CLIP_STD)):
        crop = {"height": VIEW_SIZE, "width": VIEW_SIZE}
        transform = {
            "size": {"shortest_edge": VIEW_SIZE},
            "crop_size": crop,
            "image_mean": mean,
            "image_std": std,
        }
        _write_json(folder / f"feature_extractor_{name}" / "preprocessor_config.json", transform)
    tokenizer = folder / "tokenizer"
    _write_json(
        tokenizer / "vocab.json",
        {token: i for i, token in enumerate(dict.fromkeys(_TOKENS.values()))},
    )
    _write_json(tokenizer / "special_tokens_map.json", _TOKENS)
    _write_json(
        tokenizer / "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **_TOKENS},
    )
    (tokenizer / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of the three trainings' weights")
    parser.add_argument("cache", type=Path)
    arguments = parser.parse_args()
    export_reconstruction(arguments.run)
    export_multiview(arguments.run, Objects(arguments.cache, "validation"))
    print(
        f"{sum(f.stat().st_size for f in POCKET_DIR.rglob('*') if f.is_file()) / 1e6:.1f} MB in"
        f" {POCKET_DIR}"
    )


if __name__ == "__main__":
    main()
