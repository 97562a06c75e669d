"""The embedded model that sees photographs: where along each pixel's ray there is object.

A U-Net whose encoder learnt of photographs from ImageNet. It looks at one image and says, in the
camera's frustum, how likely each place is object, which colour it has, and from how far above the
camera looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..fields.frustum_volume import FrustumVolume
from .efficientnet import CHANNELS, STEM, TAPS, EfficientNetLite0

ELEVATION_UNIT_DEG = 20.0
_FROZEN_BLOCKS = 3
_MARGIN = 0.6  # logit that the likeliest place on each ray of the mask has at least
_IN_MASK = 0.05  # of a pixel's area, from which its ray is one of the mask's
_SMOOTHING = 1.0  # standard deviation, in cells
_BACKGROUND = 1e-3  # weight, while smoothing, of a ray that is none of the mask's
_SMOOTHED_AWAY = 0.3  # logit that smoothing takes from what is thin or convex


@dataclass(frozen=True)
class FrustumConfig:
    """Sizes of the model.

    Attributes:
        image_size: pixels of the side of the image that it sees; the volume has half as many.
        bins: of occupancy along a ray.
        color_bins: of colour along a ray.
        half_depth: image sides before and behind the middle.
        fov_y_deg: field of view of the images that it was trained on.
        dim: width of the transformer.
        layers: of the transformer.
        heads: of the transformer.
        widths: of the decoder at strides 16, 8, 4 and 2.
    """

    image_size: int = 128
    bins: int = 48
    color_bins: int = 6
    half_depth: float = 0.85
    fov_y_deg: float = 40.0
    dim: int = 256
    layers: int = 6
    heads: int = 4
    widths: tuple[int, int, int, int] = (256, 192, 128, 96)

    def build(self) -> FrustumModel:
        """A model of these sizes, without weights."""
        return FrustumModel(self)


class _Layer(nn.Module):
    """A pre-norm transformer block on the tokens of an image, each with its place."""

    def __init__(self, dim: int, side: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.place = nn.Parameter(torch.randn(1, side * side, dim) * 0.02)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 3 * dim), nn.GELU(), nn.Linear(3 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2) + self.place
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for y in self.qkv(self.norm1(tokens)).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = tokens + self.out(mixed)
        tokens = tokens + self.mlp(self.norm2(tokens))
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        changed: Tensor = self.conv2(F.silu(self.norm2(hidden)))
        return x + changed


def _head(before: int, inner: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.GroupNorm(8, before),
        nn.SiLU(),
        nn.Conv2d(before, inner, 1),
        nn.SiLU(),
        nn.Conv2d(inner, outputs, 1),
    )


class FrustumModel(nn.Module):
    """An image to a volume in its camera's frustum: a `one_image.ImageModel`."""

    sees: Literal["picture"] = "picture"
    background = 1.0

    def __init__(self, config: FrustumConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = EfficientNetLite0()
        self.stem = nn.Conv2d(6, 32, 4, 2, 1)
        self.enter = nn.Conv2d(CHANNELS, config.dim, 1)
        side = config.image_size // 32
        self.middle = nn.Sequential(
            *(_Layer(config.dim, side, config.heads) for _ in range(config.layers))
        )
        skips = [TAPS[10], TAPS[4], TAPS[2], TAPS[0] + STEM]
        widths = (config.dim, *config.widths)
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before + skip + 1, after, 1), _Residual(after))
            for before, after, skip in zip(widths, widths[1:], skips, strict=False)
        )
        self.occupancy = _head(widths[-1], 96, config.bins)
        self.color = _head(widths[-1], 64, 3 * config.color_bins)
        self.elevation = nn.Linear(config.dim, 1)
        nn.init.constant_(self.occupancy[-1].bias, -2.0)  # type: ignore[arg-type]

    def train(self, mode: bool = True) -> FrustumModel:
        """As of any module, but the encoder's batch norms keep what ImageNet taught them."""
        super().train(mode)
        for module in self.encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Volumes of B images, S the config's size.

        Args:
            images: (B, 3, S, S) in [0, 1], on white.
            masks: (B, 1, S, S) in [0, 1], 1 is the object.

        Returns:
            logits of occupancy (B, 1, bins, S / 2, S / 2), front bin first; logits of sRGB
            (B, 3, color_bins, S / 2, S / 2); elevations (B, 1) in units of 20 degrees.
        """
        hidden, kept = self.encoder(images - (1 - masks) * 0.5, _FROZEN_BLOCKS)
        fine = torch.cat([kept[0], self.stem(_placed(images, masks))], dim=1)
        hidden = self.middle(self.enter(hidden))
        elevation = self.elevation(hidden.mean(dim=(2, 3)))
        for up, skip in zip(self.up, (kept[10], kept[4], kept[2], fine), strict=True):
            size = skip.shape[2:]
            mask = F.adaptive_avg_pool2d(masks, size)
            hidden = up(torch.cat([F.interpolate(hidden, size=size), skip, mask], dim=1))
        own = torch.logit(F.avg_pool2d(images, 2).float().clamp(0.02, 0.98))[:, :, None]
        color = self.color(hidden).float().unflatten(1, (3, self.config.color_bins)) + own
        return self.occupancy(hidden).float()[:, None], color, elevation.float()

    def field(self, image: Tensor, mask: Tensor) -> FrustumVolume:
        """As `one_image.ImageModel.field`.

        The answers to the image and to its mirror image are averaged, then smoothed a little.
        Each ray of the mask is lifted until something stands on it: thin parts have an uncertain
        depth, and would be nowhere. Beside the mask the rays say what its own say, so that nothing
        is lost between them: there its outline, which is exact, ends the object.
        """
        # A parameter of no layer: where ComfyUI loads a model in part, it is on the device.
        place, side = cast(_Layer, self.middle[0]).place, self.config.image_size
        # On the CPU: MPS has this since PyTorch 2.8 only.
        seen, seen_mask = (
            F.interpolate(x.cpu(), size=(side, side), mode="bilinear", antialias=True)
            .clamp(0, 1)
            .to(place)
            for x in (image, mask)
        )
        both = [torch.cat([x, x.flip(-1)]) for x in (seen, seen_mask)]
        # MPS samples volumes since PyTorch 2.9 only.
        home = torch.device("cpu") if place.device.type == "mps" else place.device
        occupancy, color, elevation = (
            ((x[:1] + (x[1:].flip(-1) if x.ndim > 2 else x[1:])) / 2).float().to(home)
            for x in self(*both)
        )
        shares = F.interpolate(seen_mask.float(), size=occupancy.shape[-2:], mode="area").to(home)
        return FrustumVolume.of(
            lifted(_smooth(occupancy, shares) + _SMOOTHED_AWAY, shares),
            _spread(color, shares),
            image.to(home),
            mask.to(home),
            elevation_deg=float(elevation) * ELEVATION_UNIT_DEG,
            fov_y_deg=self.config.fov_y_deg,
            half_depth=self.config.half_depth,
        )


def lifted(occupancy: Tensor, shares: Tensor) -> Tensor:
    """Logits (B, 1, D, H, W) with something on every ray of a mask and on those beside it.

    A whole ray is raised until its largest logit is `_MARGIN`. `shares` (B, 1, H, W) is how much
    of each ray's pixel the mask covers, in [0, 1].
    """
    near = (F.max_pool2d(shares, 3, 1, 1) > _IN_MASK)[:, :, None]
    return torch.where(
        near, occupancy + F.relu(_MARGIN - occupancy.amax(dim=2, keepdim=True)), occupancy
    )


def _placed(images: Tensor, masks: Tensor) -> Tensor:
    """(B, 6, S, S) image and mask in [-1, 1], and each pixel's place."""
    line = torch.linspace(-1, 1, images.shape[-1], device=images.device, dtype=images.dtype)
    place = torch.stack([line.expand(len(line), -1), line[:, None].expand(-1, len(line))])
    own = torch.cat([images, masks], dim=1) * 2 - 1
    return torch.cat([own, place.expand(len(images), -1, -1, -1)], dim=1)


def _smooth(volume: Tensor, shares: Tensor) -> Tensor:
    """(1, 1, D, H, W), a mean of what is around, of the background's rays where no other is."""
    weights = (shares + _BACKGROUND)[:, :, None].expand_as(volume)
    axes = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))
    return _blurred(volume * weights, axes) / _blurred(weights, axes)


def _spread(color: Tensor, shares: Tensor) -> Tensor:
    """(1, 3, D, H, W), beside the mask the colours of its own rays, not the background's."""
    kept = (shares > _IN_MASK).to(color)[:, :, None]
    weights = kept.expand_as(color) + _BACKGROUND
    axes = ((1, -1, 1), (1, 1, -1))
    around, total = (
        _blurred(x.transpose(0, 1), axes).transpose(0, 1) for x in (color * weights, weights)
    )
    return torch.lerp(around / total, color, kept * shares)


def _blurred(volume: Tensor, axes: tuple[tuple[int, int, int], ...]) -> Tensor:
    """(B, 1, D, H, W) convolved with a small Gaussian along axes, given as shapes of the kernel."""
    taps = torch.exp(-0.5 * (torch.arange(-3, 4, device=volume.device) / _SMOOTHING) ** 2)
    taps = taps / taps.sum()
    for axis in axes:
        padding = [3 * (size == -1) for size in reversed(axis) for _ in range(2)]
        volume = F.conv3d(F.pad(volume, padding, "replicate"), taps.view(1, 1, *axis))
    return volume
