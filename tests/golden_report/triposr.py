"""Compare TripoSR's image, features, planes, field, surface and rendering."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.cameras import cameras_around
from pipelines.reconstruction.triposr import TripoSR, TripoSRConfig
from pipelines.reconstruction.vision_transformer import EncoderConfig
from pipelines.rendering.render_field import render_field
from pipelines.weights.reconstruction_models import read_reconstruction_model
from pipelines.weights.sizes import OFFICIAL_SIZES

from .comparison import CHUNK, Row, compare, tensor_of
from .marching_cubes import compare_marching_cubes


def report_triposr_manifest(folder: Path) -> Iterator[Row]:
    (entry,) = json.loads((folder / "triposr_manifest.json").read_text()).values()
    with torch.device("meta"):
        model = OFFICIAL_SIZES["triposr"].build()
    ours = {name: list(value.shape) for name, value in model.state_dict().items()}
    unused = {name for name in entry["state_dict"] if ".pooler." in name}
    theirs = {name: s for name, s in entry["state_dict"].items() if name not in unused}
    wrong = float(sum(ours.get(n) != theirs.get(n) for n in ours.keys() | theirs.keys()))
    note = f"{len(ours)} names and shapes, {len(unused)} unused"
    yield Row("triposr manifest", wrong, wrong, wrong, 0.0, note)


def _model(folder: Path) -> tuple[TripoSR, dict[str, Any]]:
    sizes = json.loads((folder / "triposr_tiny.json").read_text())
    c, e = sizes["config"], sizes["image_tokenizer"]
    encoder = EncoderConfig(
        hidden_size=e["hidden_size"],
        layers=e["num_hidden_layers"],
        heads=e["num_attention_heads"],
        mlp_size=e["intermediate_size"],
        layer_norm_eps=e["layer_norm_eps"],
        image_size=e["image_size"],
        patch_size=e["patch_size"],
        view_size=c["cond_image_size"],
    )
    config = TripoSRConfig(
        encoder=encoder,
        transformer_layers=c["backbone"]["num_layers"],
        transformer_dim=c["tokenizer"]["num_channels"],
        transformer_heads=c["backbone"]["num_attention_heads"],
        triplane_low_res=c["tokenizer"]["plane_size"],
        triplane_dim=c["post_processor"]["out_channels"],
        decoder_dim=c["decoder"]["n_neurons"],
        decoder_layers=c["decoder"]["n_hidden_layers"],
        radius=c["renderer"]["radius"],
        samples_per_ray=c["renderer"]["num_samples_per_ray"],
        density_threshold=sizes["threshold"],
    )
    return read_reconstruction_model(folder / "triposr_tiny.safetensors", config), sizes["render"]


@torch.no_grad()
def report_triposr(folder: Path) -> Iterator[Row]:
    golden = np.load(folder / "triposr_tiny.npz")
    model, cameras = _model(folder)
    condition = tensor_of(golden["condition"]).permute(0, 3, 1, 2)
    features = model.features(condition)
    yield compare("triposr image_features", features, golden["image_features"], 1e-4, relative=True)
    planes = model(condition)
    yield compare("triposr planes", planes, golden["planes"], 1e-4, relative=True)
    field = model.decoder.triplane(planes[0])
    level, colors = field.values_and_colors(tensor_of(golden["points"]), CHUNK)
    density = field.density(level)[:, None]
    yield compare("triposr point_density", density, golden["point_density"], 1e-4, relative=True)
    yield compare("triposr point_rgb", colors, golden["point_rgb"], 1e-4)
    grid = golden["density_grid"]
    axis = torch.linspace(-field.half_side, field.half_side, len(grid))
    density = field.density(field.values_on_grid(axis, axis, axis).volume(CHUNK))
    yield compare("triposr density_grid", density, grid, 1e-4, relative=True)
    one_level = 1 / 255 + 1e-4  # the golden colours are bytes
    yield from compare_marching_cubes(
        "triposr", field, grid, field.threshold, golden, golden["mc_colors"] / 255, one_level
    )
    size, count = golden["render_rgb"].shape[1], cameras["n_views"]
    around = cameras_around(
        [360 * i / count for i in range(count)],
        [cameras["elevation_deg"]] * count,
        cameras["camera_distance"],
        cameras["fovy_deg"],
    )
    rgb = render_field(field, around, size).rgb.permute(0, 2, 3, 1)
    yield compare("triposr render_rgb", rgb, golden["render_rgb"], 1e-3)
