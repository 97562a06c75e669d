"""Compare TripoSG's image, features, transformer, sampling, decoder and field."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.fields.latent_set import LatentSet
from pipelines.images.resizing import resize_and_crop
from pipelines.reconstruction.flow_transformer import FlowBlock
from pipelines.reconstruction.triposg import (
    TripoSG,
    TripoSGConfig,
    flow_sigmas,
    frame_as_in_training,
    sample_latents,
)
from pipelines.reconstruction.vision_transformer import IMAGE_MEAN, IMAGE_STD
from pipelines.weights.finding import Repository
from pipelines.weights.presets import TRIPOSG_CONFIGS, TRIPOSG_WEIGHTS
from pipelines.weights.triposg_model import load_triposg

from .comparison import CHUNK, Row, Ties, compare, compare_meshes, tensor_of

_GOLDEN_NAMES = {
    "encoder": "image_encoder",
    "transformer": "transformer",
    "decoder": "vae",
    "scheduler": "scheduler",
    "image": "feature_extractor",
}
TOLERANCE = 1e-4


def lay_out(golden: Path, models_dir: Path) -> Repository:
    """Copy the small model to the paths of a download."""
    sizes = json.loads((golden / "triposg_tiny.json").read_text())
    home = models_dir / "TripoSG"
    for part, name in TRIPOSG_CONFIGS.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(json.dumps(sizes[_GOLDEN_NAMES[part]]))
    for part, name in TRIPOSG_WEIGHTS.items():
        source = golden / f"triposg_tiny_{_GOLDEN_NAMES[part]}.safetensors"
        shutil.copy(source, home / name)
    return Repository("VAST-AI/TripoSG", None, [models_dir])


def report_triposg_manifest(folder: Path) -> Iterator[Row]:
    manifest = json.loads((folder / "triposg_manifest.json").read_text())
    with torch.device("meta"):
        model = TripoSGConfig().build()
    parts = {"image_encoder": "encoder", "transformer": "transformer", "vae": "decoder"}
    for theirs, ours in parts.items():
        shapes = sorted(list(v.shape) for v in getattr(model, ours).state_dict().values())
        unused = ("encoder.blocks", "encoder.proj_in", "encoder.norm_out", "quant.")
        wanted = sorted(
            shape
            for name, shape in manifest[theirs]["state_dict"].items()
            if name != "embeddings.mask_token" and not (theirs == "vae" and name.startswith(unused))
        )
        wrong = float(shapes != wanted)
        note = f"{len(shapes)} shapes"
        yield Row(f"triposg manifest {theirs}", wrong, wrong, wrong, 0.0, note)


@torch.no_grad()
def report_triposg(folder: Path) -> Iterator[Row]:
    golden = np.load(folder / "triposg_tiny.npz")
    sizes = json.loads((folder / "triposg_tiny.json").read_text())
    with tempfile.TemporaryDirectory() as place:
        model = load_triposg(lay_out(folder, Path(place)), torch.float32)

    def row(name: str, found: Tensor) -> Row:
        return compare(f"triposg {name}", found, golden[name], TOLERANCE, relative=True)

    for rows in (
        _image_rows(model, golden, row),
        _transformer_rows(model, golden, sizes["sampling"], row),
        _sampling_rows(model, golden, sizes["sampling"], row),
        _field_rows(model, golden, row),
    ):
        yield from rows


def _image_rows(model: TripoSG, golden: Any, row: Any) -> Iterator[Row]:
    rgba = tensor_of(golden["picture_rgba"]).permute(2, 0, 1)[None].float() / 255
    mask = rgba[:, 3:]
    image = rgba[:, :3] * mask + 1 - mask
    yield compare("triposg framed", frame_as_in_training(image, mask), golden["framed"], 1)
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGE_MEAN, IMAGE_STD))
    size = model.config.encoder.view_size
    pixels = resize_and_crop(golden["framed"], model.config.resized, size)
    yield compare("triposg pixel_values", (pixels - mean) / std, golden["pixel_values"], 1e-6)
    exact = tensor_of(golden["pixel_values"]) * std + mean
    grid = size // model.config.encoder.patch_size
    yield row("image_position", model.encoder.embeddings.positions(grid, grid))
    layers = cast(nn.ModuleList, model.encoder.encoder["layer"])
    seen = _Recorder({str(i): layer for i, layer in enumerate(layers)})
    features = model.encoder(exact)
    outputs = [seen.inputs["0"][0], *(seen.outputs[str(i)] for i in range(len(layers)))]
    yield row("image_hidden", torch.cat(outputs))
    yield row("image_features", features)


class _Recorder:
    """Records the inputs and outputs of modules."""

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self.inputs: dict[str, tuple[Any, ...]] = {}
        self.outputs: dict[str, Tensor] = {}
        for name, module in modules.items():
            module.register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def keep(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            self.inputs[name], self.outputs[name] = inputs, output

        return keep


def _transformer_rows(model: TripoSG, golden: Any, sampling: Any, row: Any) -> Iterator[Row]:
    flow = model.transformer
    times = tensor_of(golden["times"])
    yield row("time_sinusoids", flow.time_proj.sinusoids(times))
    yield row("time_tokens", flow.time_proj(times))
    later = flow.config.layers // 2 + 1
    modules: dict[str, nn.Module] = {"out": flow.norm_out}
    modules |= {f"block{i}": block for i, block in enumerate(flow.blocks)}
    for i in (0, later):
        block = cast(FlowBlock, flow.blocks[i])
        modules |= {f"block{i}_self": block.attn1, f"block{i}_ff": block.ff.net}
        modules[f"block{i}_cross"] = block.attn2
        if block.skip_norm is not None:
            modules[f"block{i}_skip"] = block.skip_norm
    seen = _Recorder(modules)
    noise = tensor_of(golden["noise"])
    image = flow.image_keys_values(tensor_of(golden["image_features"]))
    time = torch.full((2,), float(sampling["forward_time"]))
    velocity = flow(noise.expand(2, -1, -1), time, image)
    outputs = [seen.outputs[f"block{i}"] for i in range(flow.config.layers)]
    yield row("block_outputs", torch.stack(outputs))
    first = cast(FlowBlock, flow.blocks[0]).attn1
    normed = seen.inputs["block0_self"][0]
    yield row("block0_query", first.queries(normed))
    yield row("block0_key", first.keys_values(normed)[0])
    for i in (0, later):
        block = cast(FlowBlock, flow.blocks[i])
        yield row(f"block{i}_self", seen.outputs[f"block{i}_self"])
        cross = seen.outputs[f"block{i}_cross"]
        bias = cast(Tensor, block.attn2.to_out[0].bias)  # without an image
        yield row(f"block{i}_cross", torch.cat([bias.expand_as(cross), cross]))
        yield row(f"block{i}_ff", seen.outputs[f"block{i}_ff"].unflatten(0, (2, -1)))
        if i:
            yield row(f"block{i}_skip", seen.outputs[f"block{i}_skip"].unflatten(0, (2, -1)))
    yield row("tokens_out", seen.outputs["out"])
    yield row("velocity", velocity)
    guided = velocity[:1] + sampling["guidance_scale"] * (velocity[1:] - velocity[:1])
    yield row("guided", guided)


def _sampling_rows(model: TripoSG, golden: Any, sampling: Any, row: Any) -> Iterator[Row]:
    for name in golden:
        if name.startswith("sigmas_"):
            _, steps, shift = name.split("_")
            sigmas = flow_sigmas(int(steps), float(shift.removeprefix("shift")))
            yield row(name, sigmas)
            yield row(f"timesteps_{steps}_{shift}", sigmas[:-1] * 1000)
    noise, features = tensor_of(golden["noise"]), tensor_of(golden["image_features"])
    steps, guidance = sampling["num_inference_steps"], sampling["guidance_scale"]
    sigmas = flow_sigmas(steps, model.config.shift)
    states = [noise]
    for step in range(steps):
        some = sigmas[step : step + 2]
        states.append(sample_latents(model.transformer, states[-1], features, some, guidance))
    yield row("latents", torch.cat(states))
    unguided = sample_latents(model.transformer, noise, features, sigmas, 1.0)
    yield row("latents_unguided", unguided)


def _field_rows(model: TripoSG, golden: Any, row: Any) -> Iterator[Row]:
    decoder, points = model.decoder, tensor_of(golden["points"])
    latents = tensor_of(golden["latents"])[-1:]
    yield row("decoder_tokens", decoder.post_quant(latents))
    context = decoder.context(latents)
    yield row("decoder_context", context)
    attention = decoder.points.block.attn2
    assert attention.norm_cross is not None
    yield row("decoder_context_normed", attention.norm_cross(context))
    yield row("point_embedding", decoder.points.embed(points))
    yield row("point_query", decoder.points.proj_query(decoder.points.embed(points)))
    field = decoder.field(latents)
    seen = _Recorder({"cross": field.decoder.block.attn2, "hidden": field.decoder.block})
    logits = -field.values(_ours(points), CHUNK)
    yield row("point_cross", seen.outputs["cross"][0])
    yield row("point_hidden", seen.outputs["hidden"][0])
    yield row("point_logits", logits)
    axis, count = tensor_of(golden["grid_axis"]), len(golden["grid_axis"])
    everywhere = _ours(torch.cartesian_prod(axis, axis, axis))
    logits = -field.values(everywhere, CHUNK).view(count, count, count)
    yield row("grid_logits", logits)
    yield from _surface_rows(field, golden)


def _surface_rows(field: LatentSet, golden: Any) -> Iterator[Row]:
    from skimage.measure import marching_cubes

    axis = tensor_of(golden["grid_axis"])
    volume = field.values_on_grid(axis, axis, axis).volume(CHUNK).numpy()
    vertices, faces, _, _ = marching_cubes(volume, level=0.0, gradient_direction="ascent")
    places = vertices / (len(axis) - 1) * 2 * field.half_side - field.half_side
    wanted = _ours(tensor_of(golden["mc_vertices"]))
    ties = Ties.of(volume, 0.0, TOLERANCE * float(np.abs(volume).max()), axis.numpy())
    rows, _ = compare_meshes(
        "triposg mc",
        torch.from_numpy(places.astype(np.float32)),
        torch.from_numpy(faces[:0].astype(np.int64)),
        wanted.numpy(),
        golden["mc_faces"][:0],
        TOLERANCE,
        ties=ties,
    )
    yield rows[1]
    volumes = [
        np.linalg.det(corners.astype(np.float64)).sum(keepdims=True) / 6
        for corners in (places[faces], wanted.numpy()[golden["mc_faces"]])
    ]
    yield compare("triposg mc volume", volumes[0], volumes[1], 1e-3, relative=True)


def _ours(points: Tensor) -> Tensor:
    """Turn points from the official axes (y up, front +z) to ours (z up, front +x)."""
    return points[:, [2, 0, 1]]
