"""Compare InstantMesh's models, their surfaces and their renderings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.cameras import Cameras
from pipelines.reconstruction.instant_mesh import ReconstructionConfig, ReconstructionModel
from pipelines.reconstruction.reconstruct import reconstruct
from pipelines.reconstruction.vision_transformer import EncoderConfig
from pipelines.rendering.render_field import render_field
from pipelines.settings import SurfaceSettings
from pipelines.surface.extraction import signed_distance_surface
from pipelines.surface.flexicubes import CubeGrid, flexicubes
from pipelines.weights.reconstruction_models import read_reconstruction_model
from pipelines.weights.sizes import OFFICIAL_SIZES

from .comparison import CHUNK, Row, Ties, compare, compare_meshes, tensor_of
from .marching_cubes import compare_marching_cubes


def report_manifest(folder: Path) -> Iterator[Row]:
    manifest = json.loads((folder / "checkpoint_manifest.json").read_text())
    for name, entry in manifest.items():
        if name not in OFFICIAL_SIZES:
            yield Row(f"manifest {name}", *(float("inf"),) * 3, 0.0, "unknown preset")
            continue
        with torch.device("meta"):
            model = OFFICIAL_SIZES[name].build()
        ours = {f"lrm_generator.{k}": list(v.shape) for k, v in model.state_dict().items()}
        wrong = sum(
            ours.get(k) != entry["state_dict"].get(k)
            for k in ours.keys() | entry["state_dict"].keys()
        )
        wrong += sum(v.numel() for v in model.parameters()) != entry["parameters"]
        yield Row(f"manifest {name}", *(float(wrong),) * 3, 0.0, f"{len(ours)} names and shapes")


def _model(folder: Path, kind: str, surface: Any, view_size: int) -> ReconstructionModel:
    sizes = json.loads((folder / "lrm_tiny.json").read_text())
    e, m = sizes["encoder"], sizes[kind]
    encoder = EncoderConfig(
        hidden_size=e["hidden_size"],
        layers=e["num_hidden_layers"],
        heads=e["num_attention_heads"],
        mlp_size=e["intermediate_size"],
        layer_norm_eps=e["layer_norm_eps"],
        image_size=e["image_size"],
        patch_size=e["patch_size"],
        view_size=view_size,
    )
    config = ReconstructionConfig(
        surface=surface,
        transformer_layers=m["transformer_layers"],
        triplane_dim=m["triplane_dim"],
        samples_per_ray=m["rendering_samples_per_ray"],
        encoder=encoder,
        transformer_dim=m["transformer_dim"],
        transformer_heads=m["transformer_heads"],
        triplane_low_res=m["triplane_low_res"],
        grid_resolution=m.get("grid_res", 128),
        grid_scale=m.get("grid_scale", 2.1),
    )
    return read_reconstruction_model(folder / f"{kind}.safetensors", config)


def _planes(model: ReconstructionModel, golden: Any, label: str) -> Iterator[Row]:
    images, cameras = tensor_of(golden["images"]).float() / 255, tensor_of(golden["cameras"])
    with torch.no_grad():
        if "image_features" in golden.files:
            yield compare(
                f"{label} image_features",
                model.encoder(images, cameras[0]),
                golden["image_features"],
                1e-4,
                relative=True,
            )
        yield compare(
            f"{label} planes", model(images[None], cameras), golden["planes"], 1e-4, relative=True
        )


def _reconstruct(model: ReconstructionModel, golden: Any) -> Any:
    tokens = tensor_of(golden["cameras"])[0]
    c2w = torch.cat(
        [tokens[:, :12].view(-1, 3, 4), torch.tensor([0.0, 0, 0, 1]).expand(len(tokens), 1, 4)],
        dim=1,
    )
    k = torch.eye(3).repeat(len(tokens), 1, 1)
    k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2] = tokens[:, 12:].unbind(dim=1)
    return reconstruct(model, tensor_of(golden["images"]).float() / 255, Cameras(c2w, k))


def report_mesh_model(folder: Path) -> Iterator[Row]:
    golden = np.load(folder / "instant_mesh_tiny.npz")
    model = _model(folder, "instant_mesh_tiny", "mesh", golden["images"].shape[-1])
    yield from _planes(model, golden, "mesh model")
    triplane, resolution = _reconstruct(model, golden), model.config.grid_resolution
    grid = CubeGrid(resolution, model.config.grid_scale)
    signed_distance = triplane.values_on_grid(grid.axis, grid.axis, grid.axis).volume(CHUNK)
    yield compare("mesh model sdf", signed_distance.reshape(1, -1, 1), golden["sdf"], 1e-4)
    number = torch.cartesian_prod(*[torch.arange(resolution + 1)] * 3)
    yield compare("mesh model grid_vertices", grid.vertices(number), golden["grid_vertices"], 1e-5)
    deformation = triplane.deformation(grid.axis, CHUNK)
    weights = triplane.cube_weights(grid.axis, CHUNK)
    yield compare("mesh model deformation", deformation(number)[None], golden["deformation"], 1e-4)
    cubes = number[
        tensor_of(golden["cubes"]).long()[:, 0]
    ]  # each cube is given by its lowest corner
    yield compare("mesh model cube_weights", weights(cubes)[None], golden["cube_weights"], 1e-4)
    vertices, faces = signed_distance_surface(
        triplane,
        # The tiny resolution may be below the setting's bound.
        SurfaceSettings(chunk_size=CHUNK, exact=True).model_copy(update={"resolution": resolution}),
        closed=False,
    )
    ties = Ties.of(golden["sdf"].reshape((resolution + 1,) * 3), 0.0, 1e-4, grid.axis.numpy())
    rows, match = compare_meshes(
        "mesh model",
        vertices,
        faces,
        golden["vertices"],
        golden["faces"],
        1e-4,
        unmatched=0.001,
        ties=ties,
    )
    yield from rows
    sure = ~ties.beside(vertices.numpy())
    colors = (triplane.colors(vertices, CHUNK).clamp(0, 1) * 255).numpy()
    one_level = 1 / 255 + 1e-4  # the golden colours were truncated to bytes
    yield compare(
        "mesh model vertex_colors",
        colors[sure] / 255,
        golden["vertex_colors"][match][sure] / 255,
        one_level,
    )
    if (folder / "instant_mesh_tiny_all_inside.npz").exists():
        inside = np.load(folder / "instant_mesh_tiny_all_inside.npz")
        box = tensor_of(inside["sdf"])[0].view((resolution + 1,) * 3)
        vertices, faces = flexicubes(box, grid, CHUNK, deformation=deformation, weights=weights)
        yield from compare_meshes(
            "mesh model all_inside",
            vertices,
            faces,
            inside["vertices"],
            inside["faces"],
            1e-4,
            unmatched=0.001,
        )[0]


def report_nerf_model(folder: Path) -> Iterator[Row]:
    golden = np.load(folder / "instant_nerf_tiny.npz")
    model = _model(folder, "instant_nerf_tiny", "nerf", golden["images"].shape[-1])
    yield from _planes(model, golden, "nerf model")
    triplane = _reconstruct(model, golden)
    raw, colors = triplane.values_and_colors(tensor_of(golden["points"]), CHUNK)
    yield compare(
        "nerf model point_sigma",
        triplane.density(raw)[:, None],
        golden["point_sigma"],
        1e-4,
        relative=True,
    )
    yield compare("nerf model point_rgb", colors, golden["point_rgb"], 1e-4, relative=True)
    resolution, threshold = golden["sigma_grid"].shape[0] - 1, float(golden["threshold"])
    axis = torch.linspace(-1, 1, resolution + 1)
    raw = triplane.values_on_grid(axis, axis, axis).volume(CHUNK)
    yield compare(
        "nerf model sigma_grid", triplane.density(raw), golden["sigma_grid"], 1e-4, relative=True
    )
    half = 5e-4 if golden["rgb_grid"].dtype == np.float16 else 1e-4
    colors = triplane.colors(torch.cartesian_prod(axis, axis, axis), CHUNK).unflatten(
        0, (resolution + 1,) * 3
    )
    yield compare("nerf model rgb_grid", colors, golden["rgb_grid"], half, relative=True)
    yield from compare_marching_cubes(
        "nerf model", triplane, golden["sigma_grid"], threshold, golden, golden["mc_colors"], 1e-3
    )
    cameras = tensor_of(golden["render_cameras"])[0]
    size = golden["render_rgb"].shape[-1]
    images = render_field(
        triplane, Cameras(cameras[:, :16].view(-1, 4, 4), cameras[:, 16:].view(-1, 3, 3)), size
    )
    for name in ("rgb", "depth", "weight"):
        yield compare(
            f"nerf model render_{name}", getattr(images, name)[None], golden[f"render_{name}"], 1e-3
        )
