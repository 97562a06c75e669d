"""Compare a folder of golden arrays with this code, array by array.

    python -m tests.golden_report DIR

The folder holds some of the groups that `tests/golden` holds, made by the official implementations; every size is read from its files.
Exits 1 if an array is off, a group is incomplete, or there is no group.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.spatial import cKDTree
from torch import Tensor

from pipelines.cameras import Cameras, intrinsics_from_fov, orbit_cameras, zero123plus_cameras
from pipelines.checkpoints import RECONSTRUCTION_PRESETS, load_strictly, read_reconstruction_model, renamed
from pipelines.isosurface.extraction import density_surface, signed_distance_surface
from pipelines.isosurface.flexicubes import CubeGrid, flexicubes
from pipelines.multiview.model import MultiviewModel
from pipelines.multiview.preprocessing import ImageTransform
from pipelines.multiview.reference_attention import ReferenceUNet
from pipelines.multiview.sampling import condition_latents, contexts, generate_views, on_background
from pipelines.multiview.schedulers import make_scheduler
from pipelines.reconstruction.encoder import EncoderConfig
from pipelines.reconstruction.model import ReconstructionConfig, ReconstructionModel
from pipelines.reconstruction.reconstruct import reconstruct
from pipelines.reconstruction.triplane import Triplane, density_of
from pipelines.rendering.triplane import render

CHUNK = 65536
GROUPS = {
    "cameras": ("cameras.npz",),
    "manifest": ("checkpoint_manifest.json",),
    "flexicubes": ("flexicubes.npz",),
    "mesh model": ("lrm_tiny.json", "instant_mesh_tiny.npz", "instant_mesh_tiny.safetensors"),
    "nerf model": ("lrm_tiny.json", "instant_nerf_tiny.npz", "instant_nerf_tiny.safetensors"),
    "zero123plus": (
        "zero123plus_tiny.json",
        "zero123plus_tiny.npz",
        *(f"zero123plus_tiny_{part}.safetensors" for part in ("unet", "vae", "text_encoder", "vision_encoder")),
    ),
}
_SHARED_FILES = {"lrm_tiny.json"}  # says nothing by itself of which group is meant


@dataclass(frozen=True)
class Row:
    """One comparison: `worst` is what is held against `tolerance`."""

    name: str
    absolute: float
    relative: float
    worst: float
    tolerance: float
    note: str = ""

    @property
    def passed(self) -> bool:
        return bool(self.worst <= self.tolerance)  # false for NaN


def compare(name: str, found: Tensor | np.ndarray, golden: np.ndarray, tolerance: float, *, relative: bool = False) -> Row:
    """Largest absolute error, and relative to the largest golden value."""
    a, b = np.asarray(found, dtype=np.float64), np.asarray(golden, dtype=np.float64)
    if a.shape != b.shape:
        return Row(name, float("inf"), float("inf"), float("inf"), tolerance, f"shape {a.shape}, golden {b.shape}")
    if not a.size:
        return Row(name, 0.0, 0.0, 0.0, tolerance, "empty")
    absolute = float(np.abs(a - b).max())
    ratio = absolute / max(float(np.abs(b).max()), 1e-12)
    return Row(name, absolute, ratio, ratio if relative else absolute, tolerance, "relative" if relative else "")


@dataclass(frozen=True)
class Ties:
    """Grid points whose value lies within the tolerance of the level: which side they are on is anybody's guess.

    Attributes:
        points: (N, 3) their positions.
        spacing: between grid points.
    """

    points: np.ndarray
    spacing: float

    @classmethod
    def of(cls, values: np.ndarray, level: float, tolerance: float, axis: np.ndarray) -> Ties:
        """Those of values (X, Y, Z) at the coordinates of an axis."""
        index = np.argwhere(np.abs(np.asarray(values, dtype=np.float64) - level) <= tolerance)
        return cls(np.asarray(axis, dtype=np.float64)[index].reshape(-1, 3), float(axis[1] - axis[0]))

    def beside(self, vertices: np.ndarray) -> np.ndarray:
        """(V,) which vertices lie in a cell that touches a tie, or in one beside it."""
        if not len(self.points):
            return np.zeros(len(vertices), dtype=bool)
        distance, _ = cKDTree(self.points).query(vertices, p=np.inf)
        near: np.ndarray = distance <= 2 * self.spacing
        return near


NO_TIES = Ties(np.zeros((0, 3)), 1.0)


def compare_meshes(
    name: str,
    vertices: Tensor,
    faces: Tensor,
    golden_vertices: np.ndarray,
    golden_faces: np.ndarray,
    tolerance: float,
    unmatched: float = 0.0,
    ties: Ties = NO_TIES,
) -> tuple[list[Row], np.ndarray]:
    """Vertices matched by position, triangles by their vertices, those beside ties left out; also the golden index of each vertex."""
    if not len(vertices) or not len(golden_vertices):
        missing = float(abs(len(vertices) - len(golden_vertices)))
        return [Row(f"{name} counts", missing, missing, missing, 0.0, "empty")], np.zeros(0, dtype=np.int64)
    own = vertices.numpy().astype(np.float64)
    left_out, golden_left_out = ties.beside(own), ties.beside(golden_vertices)
    ours, theirs = ~left_out[faces.numpy()].any(axis=1), ~golden_left_out[golden_faces].any(axis=1)
    counts = abs(int((~left_out).sum()) - int((~golden_left_out).sum())) + abs(int(ours.sum()) - int(theirs.sum()))
    note = f"{len(vertices)} vertices, {len(faces)} triangles; golden {len(golden_vertices)}, {len(golden_faces)}"
    if left_out.any() or golden_left_out.any():
        note += f"; beside ties, left out: {int(left_out.sum())} and {int(golden_left_out.sum())} vertices"
    distance, match = cKDTree(golden_vertices).query(own)
    back, _ = cKDTree(own).query(golden_vertices)
    worst = float(max(distance[~left_out].max(initial=0.0), back[~golden_left_out].max(initial=0.0)))
    our_triangles = {tuple(sorted(t)) for t in match[faces.numpy()[ours]].tolist()}
    their_triangles = {tuple(sorted(t)) for t in golden_faces[theirs].tolist()}
    share = 1 - len(our_triangles & their_triangles) / max(len(their_triangles), 1) if their_triangles else float(bool(our_triangles))
    return [
        Row(f"{name} counts", *(float(counts),) * 3, 0.0, note),
        Row(f"{name} vertices", worst, worst / float(np.abs(golden_vertices).max()), worst, tolerance),
        Row(f"{name} triangles", share, share, share, unmatched, "share unmatched"),
    ], match


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


# --- groups ----------------------------------------------------------------------------------------------------------


def report_cameras(folder: Path) -> Iterator[Row]:
    golden = np.load(folder / "cameras.npz")
    makers: dict[str, Callable[[], Tensor]] = {
        "zero123plus_cameras": lambda: zero123plus_cameras().tokens(),
        "zero123plus_cameras_r2_5_fov40": lambda: zero123plus_cameras(2.5, 40.0).tokens(),
        "orbit_120_r4_e20": lambda: orbit_cameras(120).c2w,
        "intrinsics_fov30": lambda: intrinsics_from_fov(30.0),
        "intrinsics_fov50": lambda: intrinsics_from_fov(50.0),
    }
    for name in golden.files:
        if name not in makers:
            yield Row(f"cameras {name}", *(float("inf"),) * 3, 1e-6, "unknown array")
            continue
        yield compare(f"cameras {name}", makers[name](), golden[name], 1e-6)


def report_manifest(folder: Path) -> Iterator[Row]:
    manifest = json.loads((folder / "checkpoint_manifest.json").read_text())
    for name, entry in manifest.items():
        if name not in RECONSTRUCTION_PRESETS:
            yield Row(f"manifest {name}", *(float("inf"),) * 3, 0.0, "unknown preset")
            continue
        with torch.device("meta"):
            model = ReconstructionModel(RECONSTRUCTION_PRESETS[name].config)
        ours = {f"lrm_generator.{k}": list(v.shape) for k, v in model.state_dict().items()}
        wrong = sum(ours.get(k) != entry["state_dict"].get(k) for k in ours.keys() | entry["state_dict"].keys())
        wrong += sum(v.numel() for v in model.parameters()) != entry["parameters"]
        yield Row(f"manifest {name}", *(float(wrong),) * 3, 0.0, f"{len(ours)} names and shapes")


def report_flexicubes(folder: Path) -> Iterator[Row]:
    golden = np.load(folder / "flexicubes.npz")
    resolution = int(golden["resolution"])
    scale = float(golden["grid_vertices"].max() - golden["grid_vertices"].min())
    grid = CubeGrid(resolution, round(scale, 4))
    index = torch.cartesian_prod(*(torch.arange(resolution + 1),) * 3)
    yield compare("flexicubes grid_vertices", grid.vertices(index), golden["grid_vertices"], 2e-5)

    def number(index: Tensor, per_axis: int) -> Tensor:
        return (index[..., 0] * per_axis + index[..., 1]) * per_axis + index[..., 2]

    for name in (n.removesuffix("_sdf") for n in golden.files if n.endswith("_sdf")):
        values = _tensor(golden[f"{name}_sdf"]).float().view((resolution + 1,) * 3)
        weights, deformation = _tensor(golden[f"{name}_weights"]), _tensor(golden[f"{name}_deformation"])
        plain = flexicubes(values, grid, CHUNK)
        yield from compare_meshes(f"flexicubes {name} plain", *plain, golden[f"{name}_plain_vertices"], golden[f"{name}_plain_faces"], 1e-5)[0]
        learnt = flexicubes(
            values,
            grid,
            CHUNK,
            deformation=lambda index, d=deformation: d[number(index, resolution + 1)],
            weights=lambda cubes, w=weights: w[number(cubes, resolution)],
        )
        yield from compare_meshes(f"flexicubes {name}", *learnt, golden[f"{name}_vertices"], golden[f"{name}_faces"], 1e-5)[0]


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
    images, cameras = _tensor(golden["images"]).float() / 255, _tensor(golden["cameras"])
    with torch.no_grad():
        if "image_features" in golden.files:
            yield compare(f"{label} image_features", model.encoder(images, cameras[0]), golden["image_features"], 1e-4, relative=True)
        yield compare(f"{label} planes", model(images[None], cameras), golden["planes"], 1e-4, relative=True)


def _reconstruct(model: ReconstructionModel, golden: Any) -> Triplane:
    tokens = _tensor(golden["cameras"])[0]
    c2w = torch.cat([tokens[:, :12].view(-1, 3, 4), torch.tensor([0.0, 0, 0, 1]).expand(len(tokens), 1, 4)], dim=1)
    k = torch.eye(3).repeat(len(tokens), 1, 1)
    k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2] = tokens[:, 12:].unbind(dim=1)
    return reconstruct(model, _tensor(golden["images"]).float() / 255, Cameras(c2w, k))


def report_mesh_model(folder: Path) -> Iterator[Row]:
    golden = np.load(folder / "instant_mesh_tiny.npz")
    model = _model(folder, "instant_mesh_tiny", "mesh", golden["images"].shape[-1])
    yield from _planes(model, golden, "mesh model")
    triplane, resolution = _reconstruct(model, golden), model.config.grid_resolution
    grid = CubeGrid(resolution, model.config.grid_scale)
    signed_distance = triplane.level_field.on_grid(grid.axis, grid.axis, grid.axis).volume(CHUNK)
    yield compare("mesh model sdf", signed_distance.reshape(1, -1, 1), golden["sdf"], 1e-4)
    number = torch.cartesian_prod(*[torch.arange(resolution + 1)] * 3)
    yield compare("mesh model grid_vertices", grid.vertices(number), golden["grid_vertices"], 1e-5)
    deformation, weights = triplane.deformation(grid.axis, CHUNK), triplane.cube_weights(grid.axis, CHUNK)
    yield compare("mesh model deformation", deformation(number)[None], golden["deformation"], 1e-4)
    cubes = number[_tensor(golden["cubes"]).long()[:, 0]]  # by their lowest corners
    yield compare("mesh model cube_weights", weights(cubes)[None], golden["cube_weights"], 1e-4)
    vertices, faces = signed_distance_surface(triplane, resolution, CHUNK, exact=True, closed=False, empty_as_box=True)
    ties = Ties.of(golden["sdf"].reshape((resolution + 1,) * 3), 0.0, 1e-4, grid.axis.numpy())
    rows, match = compare_meshes("mesh model", vertices, faces, golden["vertices"], golden["faces"], 1e-4, unmatched=0.001, ties=ties)
    yield from rows
    sure = ~ties.beside(vertices.numpy())
    colors = (triplane.colors(vertices, CHUNK).clamp(0, 1) * 255).numpy()
    one_level = 1 / 255 + 1e-4  # the golden colours were cut to bytes
    yield compare("mesh model vertex_colors", colors[sure] / 255, golden["vertex_colors"][match][sure] / 255, one_level)
    if (folder / "instant_mesh_tiny_all_inside.npz").exists():
        inside = np.load(folder / "instant_mesh_tiny_all_inside.npz")
        box = _tensor(inside["sdf"])[0].view((resolution + 1,) * 3)
        vertices, faces = flexicubes(
            box,
            grid,
            CHUNK,
            deformation=deformation,
            weights=weights,
        )
        yield from compare_meshes("mesh model all_inside", vertices, faces, inside["vertices"], inside["faces"], 1e-4, unmatched=0.001)[0]


def report_nerf_model(folder: Path) -> Iterator[Row]:
    golden = np.load(folder / "instant_nerf_tiny.npz")
    model = _model(folder, "instant_nerf_tiny", "nerf", golden["images"].shape[-1])
    yield from _planes(model, golden, "nerf model")
    triplane = _reconstruct(model, golden)
    raw, colors = triplane.density_and_colors(_tensor(golden["points"]), CHUNK)
    yield compare("nerf model point_sigma", density_of(raw)[:, None], golden["point_sigma"], 1e-4, relative=True)
    yield compare("nerf model point_rgb", colors, golden["point_rgb"], 1e-4, relative=True)
    resolution, threshold = golden["sigma_grid"].shape[0], float(golden["threshold"])
    axis = torch.linspace(-1, 1, resolution)
    raw = triplane.level_field.on_grid(axis, axis, axis).volume(CHUNK)
    yield compare("nerf model sigma_grid", density_of(raw), golden["sigma_grid"], 1e-4, relative=True)
    half = 5e-4 if golden["rgb_grid"].dtype == np.float16 else 1e-4
    colors = triplane.colors(torch.cartesian_prod(axis, axis, axis), CHUNK).unflatten(0, (resolution,) * 3)
    yield compare("nerf model rgb_grid", colors, golden["rgb_grid"], half, relative=True)
    vertices, faces = density_surface(triplane, resolution, CHUNK, threshold, exact=True, closed=False)
    # A value of the grid may be off by what is allowed of sigma_grid above.
    ties = Ties.of(golden["sigma_grid"], threshold, 1e-4 * float(golden["sigma_grid"].max()), axis.numpy())
    inner = _inside_cells(vertices.numpy(), resolution)
    rows, match = compare_meshes("nerf model mc", vertices[~inner], faces[:0], golden["mc_vertices"], golden["mc_faces"][:0], 1e-4, ties=ties)
    yield Row(*(getattr(rows[1], f) for f in ("name", "absolute", "relative", "worst", "tolerance")), _left_out(rows[0], int(inner.sum())))
    numbers = np.full(len(vertices), -1)
    numbers[~inner.numpy()] = match
    yield _same_cells(numbers[faces.numpy()], vertices.numpy()[faces.numpy()], golden["mc_vertices"], golden["mc_faces"], resolution, ties)
    sure = ~ties.beside(vertices.numpy()) & ~inner.numpy()
    colors = triplane.colors(vertices, CHUNK).clamp(0, 1)
    yield compare("nerf model mc_colors", colors[sure], golden["mc_colors"][numbers[sure]].clip(0, 1), 1e-3)
    cameras = _tensor(golden["render_cameras"])[0]
    size = golden["render_rgb"].shape[-1]
    pictures = render(triplane, Cameras(cameras[:, :16].view(-1, 4, 4), cameras[:, 16:].view(-1, 3, 3)), size)
    for name in ("rgb", "depth", "weight"):
        yield compare(f"nerf model render_{name}", getattr(pictures, name)[None], golden[f"render_{name}"], 1e-3)


def _inside_cells(vertices: np.ndarray, resolution: int) -> Tensor:
    """(V,) which vertices lie on no edge of the grid: Lewiner's marching cubes has some of these, others have none."""
    place = (vertices.astype(np.float64) + 1) / 2 * (resolution - 1)
    between = np.abs(place - place.round()) > 1e-3
    return torch.from_numpy(between.sum(axis=1) > 1)


def _left_out(counts: Row, inner: int) -> str:
    _, _, ties = counts.note.partition("; beside")
    return f"without {inner} inside cells" + (f"; beside{ties}" if ties else "")


def _same_cells(
    ours: np.ndarray, our_corners: np.ndarray, golden_vertices: np.ndarray, theirs: np.ndarray, resolution: int, ties: Ties
) -> Row:
    """Share of grid cells in which other vertices are joined. How a cell's polygon is cut into triangles differs between marching cubes.

    Args:
        ours: (F, 3) golden numbers of our triangles' vertices, -1 for those that lie inside a cell.
        our_corners: (F, 3, 3) their positions.
        theirs: (F', 3).
    """

    def cells(faces: np.ndarray, corners: np.ndarray) -> dict[tuple[int, ...], set[int]]:
        middles = corners.mean(axis=1)
        sure = ~ties.beside(middles)
        index = ((middles[sure] + 1) / 2 * (resolution - 1)).astype(int)
        joined: dict[tuple[int, ...], set[int]] = {}
        for cell, face in zip(map(tuple, index.tolist()), faces[sure].tolist(), strict=True):
            joined.setdefault(cell, set()).update(number for number in face if number >= 0)
        return joined

    a, b = cells(ours, our_corners), cells(theirs, golden_vertices[theirs])
    share = sum(a.get(c) != b.get(c) for c in a.keys() | b.keys()) / max(len(b), 1)
    return Row("nerf model mc_faces", share, share, share, 0.001, "share of cells that join other vertices")


@contextmanager
def _recorded_noise(golden: Any) -> Iterator[None]:
    """Noise from the golden arrays in drawing order, in place of the generator's."""
    names = iter(sorted(n for n in golden.files if n.startswith("noise_")))

    def draw(shape: Any, *_: Any, **__: Any) -> Tensor:
        noise = _tensor(golden[next(names)])
        if tuple(noise.shape) != tuple(shape):
            raise ValueError(f"noise of shape {tuple(shape)} was asked for, the golden one is {tuple(noise.shape)}")
        return noise

    with (
        patch("pipelines.multiview.sampling.draw_noise", draw),
        patch("diffusers.schedulers.scheduling_euler_ancestral_discrete.randn_tensor", draw),
    ):
        yield


def _multiview_model(folder: Path, config: dict[str, Any], golden: Any) -> MultiviewModel:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

    parts: dict[str, Any] = {
        "unet": UNet2DConditionModel.from_config(config["unet"]),
        "vae": AutoencoderKL.from_config(config["vae"]),
        "vision_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**config["vision_encoder"])),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**config["text_encoder"])),
    }
    for name, part in parts.items():
        path = folder / f"zero123plus_tiny_{name}.safetensors"
        load_strictly(part, renamed(name, load_file(path), part), path)
    with torch.no_grad():
        empty_prompt = parts.pop("text_encoder")(_tensor(golden["input_ids"]))[0][0]
    transforms = {
        f"{name}_transform": ImageTransform(c["size"], c["crop"], tuple(c["mean"]), tuple(c["std"]))
        for name, c in (("vae", config["feature_extractor_vae"]), ("clip", config["feature_extractor_clip"]))
    }
    return MultiviewModel(
        **parts,
        **transforms,
        empty_prompt=empty_prompt,
        ramp=torch.tensor(config["ramping_coefficients"]),
        scheduler_config=config["scheduler"],
        view_size=config["width"] // 2,
        device=torch.device("cpu"),
    )


def report_zero123plus(folder: Path) -> Iterator[Row]:
    config, golden = json.loads((folder / "zero123plus_tiny.json").read_text()), np.load(folder / "zero123plus_tiny.npz")
    model = _multiview_model(folder, config, golden)
    steps, guidance = config["num_inference_steps"], config["guidance_scale"]
    guided = guidance > 1
    image = _tensor(golden["image_rgba"]).permute(2, 0, 1).float() / 255
    picture = on_background(image, model.background)
    yield compare("zero123plus vae_pixels", model.vae_transform(picture), golden["vae_pixels"], 1e-4)
    yield compare("zero123plus clip_pixels", model.clip_transform(picture), golden["clip_pixels"], 1e-4)
    with torch.no_grad():
        embedding = model.vision_encoder(model.clip_transform(picture)).image_embeds
        yield compare("zero123plus image_embeds", embedding, golden["image_embeds"], 1e-4, relative=True)
        noise = iter([_tensor(golden[n]) for n in sorted(golden.files) if n.startswith("noise_")])
        condition = condition_latents(model, picture, guided, lambda shape: next(noise))
        context = contexts(model, picture, guided)
        yield compare("zero123plus condition_latents", condition[-1:], golden["condition_latents"], 1e-4, relative=True)
        if guided:
            yield compare("zero123plus negative_latents", condition[:1], golden["negative_latents"], 1e-4, relative=True)
        yield compare("zero123plus encoder_hidden_states", context, golden["encoder_hidden_states"][-len(context) :], 1e-4, relative=True)
        scheduler = make_scheduler("euler_ancestral", model.scheduler_config)
        scheduler.set_timesteps(steps)
        yield compare("zero123plus timesteps", scheduler.timesteps, golden["timesteps"], 1e-4)
        yield compare("zero123plus sigmas", scheduler.sigmas, golden["sigmas"], 1e-4, relative=True)
        unet = ReferenceUNet(model.unet)
        reference_noise = [_tensor(golden[n]) for n in sorted(golden.files) if n.endswith("_reference")]
        for i, timestep in enumerate(scheduler.timesteps.clone()):
            scheduler.set_timesteps(steps)  # forgets its place: the steps are compared one by one
            noised = scheduler.add_noise(condition, reference_noise[i], timestep.expand(len(condition)))
            output = unet(_tensor(golden["unet_inputs"][i]), timestep, context, scheduler.scale_model_input(noised, timestep))
            yield compare(f"zero123plus unet_outputs[{i}]", output, golden["unet_outputs"][i], 1e-4)
    with _recorded_noise(golden):
        generated = generate_views(model, image, steps=steps, guidance=guidance, seed=1)
    yield compare("zero123plus views", generated.grid.permute(1, 2, 0), golden["views"], 1e-3)


REPORTS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "cameras": report_cameras,
    "manifest": report_manifest,
    "flexicubes": report_flexicubes,
    "mesh model": report_mesh_model,
    "nerf model": report_nerf_model,
    "zero123plus": report_zero123plus,
}


def report(folder: Path) -> tuple[list[Row], list[str]]:
    """All rows of a folder, and what is wrong with the folder itself."""
    rows: list[Row] = []
    problems: list[str] = []
    for group, files in GROUPS.items():
        there = [f for f in files if (folder / f).exists()]
        if not set(there) - _SHARED_FILES:
            continue
        missing = [f for f in files if f not in there]
        if missing:
            problems.append(f"{group}: incomplete, without {', '.join(missing)}")
            continue
        try:
            found = list(REPORTS[group](folder))
        except Exception as error:  # any array that is missing or of another form fails its group, and the others are still reported
            problems.append(f"{group}: {type(error).__name__}: {error}")
            continue
        rows += found
    if not rows and not problems:
        problems.append(f"{folder} holds none of the groups {', '.join(GROUPS)}")
    return rows, problems


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python -m tests.golden_report DIR", file=sys.stderr)
        return 2
    rows, problems = report(Path(arguments[0]))
    width = max((len(r.name) for r in rows), default=10)
    print(f"{'array':{width}}  {'absolute':>9}  {'relative':>9}  {'tolerance':>9}  verdict")
    for row in rows:
        verdict = "ok" if row.passed else "FAILED"
        print(f"{row.name:{width}}  {row.absolute:9.2e}  {row.relative:9.2e}  {row.tolerance:9.1e}  {verdict:7} {row.note}")
    for problem in problems:
        print(f"FAILED  {problem}")
    failed = len(problems) + sum(not r.passed for r in rows)
    print(f"{len(rows)} arrays, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
