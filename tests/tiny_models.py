"""Small untrained models in the official file formats.

The reconstruction model returns a ball that differs slightly for other views. The multiview model
returns noise.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from pipelines.fields.plane_networks import PLANE_AXES
from pipelines.reconstruction.instant_mesh import ReconstructionConfig, ReconstructionModel
from pipelines.weights.presets import RECONSTRUCTION_PRESETS
from pipelines.weights.sizes import OFFICIAL_SIZES

GOLDEN = Path(__file__).parent / "golden"
MODEL, VIEWS_MODEL = "instant-mesh-base", "zero123plus-instantmesh"
VIEW_SIZE = 64
RADIUS = 0.65
_SIZES = {
    "transformer_layers": 2,
    "transformer_dim": 64,
    "transformer_heads": 4,
    "triplane_low_res": 16,
    "triplane_dim": 8,
    "samples_per_ray": 32,
    "encoder": {
        "hidden_size": 48,
        "layers": 2,
        "heads": 3,
        "mlp_size": 96,
        "image_size": VIEW_SIZE,
        "view_size": VIEW_SIZE,
    },
}
_CONTEXT = 48
_TOKENS = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "pad_token": "<|pad|>",
    "unk_token": "<|endoftext|>",
}
_CONFIGS: dict[str, dict[str, Any]] = {
    "vae": {
        "block_out_channels": [8, 16, 16, 16],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "sample_size": VIEW_SIZE,
        "scaling_factor": 0.18215,
        "force_upcast": False,
    },
    "unet": {
        "sample_size": VIEW_SIZE // 8,
        "block_out_channels": [16, 32, 32],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "cross_attention_dim": _CONTEXT,
        "attention_head_dim": [1, 2, 4],
        "use_linear_projection": True,
    },
    "vision_encoder": {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "image_size": VIEW_SIZE,
        "patch_size": 16,
        "projection_dim": _CONTEXT,
        "hidden_act": "gelu",
    },
    "text_encoder": {
        "vocab_size": 3,
        "hidden_size": _CONTEXT,
        "intermediate_size": 96,
        "num_hidden_layers": 1,
        "num_attention_heads": 3,
        "max_position_embeddings": 77,
        "hidden_act": "gelu",
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    },
}


def config() -> ReconstructionConfig:
    """Return the sizes of the tiny reconstruction model."""
    official = OFFICIAL_SIZES[MODEL]
    assert isinstance(official, ReconstructionConfig)
    encoder = replace(official.encoder, **_SIZES["encoder"])
    return replace(official, **(_SIZES | {"encoder": encoder}))


def write_models(folder: Path) -> None:
    """Write both models into a folder of weights, at the paths of the official ones."""
    write_reconstruction_model(folder / "InstantMesh")
    write_multiview_model(folder / "zero123plus-v1.2", folder / "InstantMesh")


def write_reconstruction_model(folder: Path) -> None:
    """Write a pickle with prefixed names, as the official one, and a JSON file with the sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / RECONSTRUCTION_PRESETS[MODEL].file
    weights = {f"lrm_generator.{name}": value for name, value in ball_model().state_dict().items()}
    torch.save({"state_dict": weights}, file)
    file.with_suffix(".json").write_text(json.dumps(_SIZES))


@torch.no_grad()
def ball_model() -> ReconstructionModel:
    """Return a model whose signed distance is about RADIUS^2 - x^2 - y^2 - z^2.

    Outside its planes, where features are 0, the distance is negative. Its position embeddings
    encode the distance of a token from the middle of its plane; the layers change them only
    slightly. The first channel of plane (a, b) is 1 / 2 - (a^2 + b^2) / 4.
    """
    sizes = config()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = sizes.build()
    transformer, dim = model.transformer, sizes.transformer_dim
    for layer in transformer.layers:
        layer.cross_attn.out_proj.weight.mul_(0.2)  # large enough that other views change the ball
        for last in (layer.self_attn.out_proj, layer.mlp[3]):
            last.weight.mul_(0.05)
    side = sizes.triplane_low_res
    line = (torch.arange(side) + 0.5) / side * 2 - 1
    square = (line.square() + line[:, None].square()).flatten() / 2  # as sampled: 0 to 1
    place = torch.stack([square / 2, (1 - square.square() / 4).sqrt()], dim=1)
    tokens = torch.zeros(side * side, dim)
    tokens[:, :4] = torch.cat([place, -place], dim=1) * 8
    transformer.pos_embed.copy_(tokens.repeat(len(PLANE_AXES), 1)[None])
    # All these tokens have the same length, so the layer norm keeps their directions.
    transformer.deconv.weight[:, 0] = 0
    factors = torch.tensor([-1.0, 1.0]) * (2 * dim) ** -0.5
    transformer.deconv.weight[[0, 2], 0] = factors[:, None, None]
    transformer.deconv.bias[0] = 0.5
    decoder = model.synthesizer["decoder"]
    assert isinstance(decoder, nn.Module)
    _let_pass(decoder.net_sdf, sizes.triplane_dim)
    for network in (decoder.net_deformation, decoder.net_weight):
        network[-1].weight.zero_()
        network[-1].bias.zero_()
    return model.eval()


def _let_pass(network: nn.Sequential, channels: int) -> None:
    """Make an MLP return the sum of the planes' first channels, minus a constant for the radius."""
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    for layer in layers:
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[0, 0] = 1
    layers[0].weight[0, ::channels] = 1
    layers[-1].bias[0] = -(1.5 - RADIUS**2 / 2)


def write_multiview_model(folder: Path, unet_folder: Path | None = None) -> None:
    """Write the model in diffusers layout; the U-Net as a pickle into `unet_folder`, if given."""
    for name, part in multiview_parts().items():
        _write_json(folder / name / "config.json", _CONFIGS[name])
        weights = {key: value.contiguous() for key, value in part.state_dict().items()}
        if name == "unet" and unet_folder is not None:
            unet_folder.mkdir(parents=True, exist_ok=True)
            torch.save(weights, unet_folder / "diffusion_pytorch_model.bin")
        else:
            stem = "diffusion_pytorch_model" if name in ("unet", "vae") else "model"
            save_file(weights, folder / name / f"{stem}.safetensors")
    official = json.loads((GOLDEN / "zero123plus_tiny.json").read_text())
    ramp = {"ramping_coefficients": official["ramping_coefficients"]}
    _write_json(folder / "model_index.json", ramp)
    _write_json(folder / "scheduler" / "scheduler_config.json", official["scheduler"])
    for which in ("vae", "clip"):
        transform = {
            "size": {"shortest_edge": VIEW_SIZE},
            "crop_size": {"height": VIEW_SIZE, "width": VIEW_SIZE},
            "image_mean": [0.5] * 3,
            "image_std": [0.8 if which == "vae" else 0.27] * 3,
        }
        _write_json(folder / f"feature_extractor_{which}" / "preprocessor_config.json", transform)
    tokenizer = folder / "tokenizer"
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(_TOKENS.values()))}
    _write_json(tokenizer / "vocab.json", vocabulary)
    _write_json(tokenizer / "special_tokens_map.json", _TOKENS)
    about = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **_TOKENS}
    _write_json(tokenizer / "tokenizer_config.json", about)
    (tokenizer / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")


def multiview_parts() -> dict[str, nn.Module]:
    """Return the networks of the tiny Zero123++, with the same random weights every time."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    with torch.random.fork_rng():
        torch.manual_seed(1)
        return {
            "unet": UNet2DConditionModel(**_CONFIGS["unet"]),
            "vae": AutoencoderKL(**_CONFIGS["vae"]),
            "vision_encoder": CLIPVisionModelWithProjection(
                CLIPVisionConfig(**_CONFIGS["vision_encoder"])
            ),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**_CONFIGS["text_encoder"])),
        }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
