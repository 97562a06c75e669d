"""The embedded model for photographs: predict which parts of each pixel's ray are in the object.

The model is a U-Net with an encoder trained on ImageNet. From one image it predicts occupancy and
colour in the camera's frustum, and the elevation of the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..cameras import Cameras
from ..fields.frustum_volume import FrustumVolume
from ..fields.thickness import expected_thickness
from .efficientnet import CHANNELS, STEM, TAPS, EfficientNetLite0
from .parameters import noise_parameter
from .reconstruct import on_grey

ELEVATION_UNIT_DEG = 20.0
_FROZEN_BLOCKS = 3
_COLOR_STRIDE = 4  # rays along each axis that share the predicted change of colour


@dataclass(frozen=True)
class FrustumConfig:
    """Sizes of the model.

    Attributes:
        image_size: side of the input image in pixels; the volume's resolution is half of it.
        bins: number of occupancy bins along a ray.
        color_bins: number of colour bins along a ray.
        half_depth: depth of the volume before and behind its middle, in image sides.
        fov_y_deg: vertical field of view of the training images in degrees.
        dim: width of the transformer.
        layers: number of blocks of the transformer.
        heads: attention heads of the transformer.
        widths: channels of the decoder at strides 16, 8, 4 and 2.
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
        """Build a model of these sizes, without weights."""
        return FrustumModel(self)


class _Layer(nn.Module):
    """A pre-norm transformer block on image tokens with position embeddings."""

    def __init__(self, dim: int, side: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.place = noise_parameter(1, side * side, dim, std=0.02)
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
    """A `reconstruct.FieldModel` from an image to a volume in its camera's frustum."""

    input_kind: Literal["image"] = "image"
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
        """Switch modes, but keep the batch norm statistics of the encoder's ImageNet training."""
        super().train(mode)
        for module in self.encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the volumes of B images; S is the config's `image_size`.

        Args:
            images: (B, 3, S, S) in [0, 1], on white.
            masks: (B, 1, S, S) in [0, 1], 1 on the object.

        Returns:
            occupancy: logits (B, 1, bins, S / 2, S / 2), front bin first.
            colors: logits of sRGB (B, 3, color_bins, S / 2, S / 2).
            elevations: (B, 1) in units of 20 degrees.
        """
        hidden, kept = self.encoder(images - (1 - masks) * 0.5, _FROZEN_BLOCKS)
        fine = torch.cat([kept[0], self.stem(_placed(images, masks))], dim=1)
        hidden = self.middle(self.enter(hidden))
        elevation = self.elevation(hidden.mean(dim=(2, 3)))
        for up, skip in zip(self.up, (kept[10], kept[4], kept[2], fine), strict=True):
            size = skip.shape[2:]
            mask = F.adaptive_avg_pool2d(masks, size).to(skip.dtype)
            hidden = up(torch.cat([F.interpolate(hidden, size=size), skip, mask], dim=1))
        around = torch.logit(outline_colors(images.float(), masks.float()).clamp(0.02, 0.98))
        # Colours are coarse: what nobody saw has no details, and sharp ones would be streaks.
        change = self.color(F.avg_pool2d(hidden, _COLOR_STRIDE)).float()
        change = F.interpolate(change, size=around.shape[2:], mode="bilinear", align_corners=False)
        color = change.unflatten(1, (3, self.config.color_bins)) + around[:, :, None]
        return blurred(self.occupancy(hidden)).float()[:, None], color, elevation.float()

    def field(self, images: Tensor, cameras: Cameras | None, masks: Tensor | None) -> FrustumVolume:
        """Reconstruct the field of one image; see `reconstruct.FieldModel.field`.

        The predictions for the image and its mirror image are averaged; `expected_thickness` turns
        them into a shape. The exact mask bounds the object.
        """
        assert masks is not None
        image, mask = on_grey(images, masks, self.background), masks
        # Use a parameter outside standard layers: it is on the device even if ComfyUI loads a model
        # in part.
        place, side = cast(_Layer, self.middle[0]).place, self.config.image_size
        # Resize on the CPU: MPS supports antialiasing only since PyTorch 2.8.
        seen, seen_mask = (
            F.interpolate(x.cpu(), size=(side, side), mode="bilinear", antialias=True)
            .clamp(0, 1)
            .to(place)
            for x in (image, mask)
        )
        both = [torch.cat([x, x.flip(-1)]) for x in (seen, seen_mask)]
        # MPS supports sampling volumes only since PyTorch 2.9.
        target = torch.device("cpu") if place.device.type == "mps" else place.device
        occupancy, color, elevation = (
            ((x[:1] + (x[1:].flip(-1) if x.ndim > 2 else x[1:])) / 2).float().to(target)
            for x in self(*both)
        )
        shares = F.interpolate(seen_mask.float(), size=occupancy.shape[-2:], mode="area").to(target)
        logits, uncertain = expected_thickness(occupancy[:, 0], shares)
        return FrustumVolume.of(
            logits[:, None],
            color,
            image.to(target),
            mask.to(target),
            elevation_deg=float(elevation) * ELEVATION_UNIT_DEG,
            fov_y_deg=self.config.fov_y_deg,
            half_depth=self.config.half_depth,
            uncertain=uncertain,
        )


def blurred(occupancy: Tensor) -> Tensor:
    """Convolve logits (B, D, H, W) with [1, 4, 6, 4, 1] / 16 along the last three axes.

    The network learns to compensate for the blur, which prevents one-bin steps between neighbouring
    rays.
    """
    bins = occupancy.shape[1]
    taps = torch.tensor([1.0, 4, 6, 4, 1], device=occupancy.device, dtype=occupancy.dtype) / 16
    for shape, padding in (((1, 5), (2, 2, 0, 0)), ((5, 1), (0, 0, 2, 2))):
        kernel = taps.view(1, 1, *shape).expand(bins, 1, *shape)
        occupancy = F.conv2d(F.pad(occupancy, padding, "replicate"), kernel, groups=bins)
    # Bins are channels here, so the convolution along them is a product with a banded matrix.
    line = torch.eye(bins, device=occupancy.device, dtype=occupancy.dtype)
    padded = torch.cat([line[:1], line[:1], line, line[-1:], line[-1:]])
    band = (taps[:, None, None] * padded.unfold(0, bins, 1).transpose(1, 2)).sum(dim=0)
    return F.conv2d(occupancy, band[:, :, None, None])


def outline_colors(images: Tensor, masks: Tensor) -> Tensor:
    """Continue the colours at objects' outlines inwards and outwards.

    They are a first guess for unseen sides: the image's own colours would draw the front on the
    back. Far from the outline they come from coarser copies of the image, as in the pull-push
    algorithm (Gortler et al., *The Lumigraph*, SIGGRAPH 1996, section 3.4).

    Args:
        images: (B, 3, S, S) in [0, 1], on white.
        masks: (B, 1, S, S) in [0, 1], 1 on the object.

    Returns:
        (B, 3, S / 2, S / 2) in [0, 1].
    """
    color, mask = F.avg_pool2d(images - 1 + masks, 2), F.avg_pool2d(masks, 2)
    within = _eroded(mask, 1)
    near_outline = within - _eroded(within, 2) + 1e-3
    levels = [(color * near_outline, mask * near_outline + 1e-9)]
    while levels[-1][1].shape[-1] > 1:
        color, weight = levels[-1]
        levels.append((F.avg_pool2d(color, 2), F.avg_pool2d(weight, 2)))
    color, weight = levels.pop()
    filled = color / weight
    for color, weight in reversed(levels):
        filled = F.interpolate(filled, color.shape[2:], mode="bilinear", align_corners=False)
        filled = torch.lerp(filled, color / weight, (4 * weight).clamp_max(1))
    return filled


def _eroded(masks: Tensor, pixels: int) -> Tensor:
    return -F.max_pool2d(-masks, 2 * pixels + 1, 1, pixels)


def _placed(images: Tensor, masks: Tensor) -> Tensor:
    """Stack images, masks and pixel positions, all in [-1, 1], to (B, 6, S, S)."""
    line = torch.linspace(-1, 1, images.shape[-1], device=images.device, dtype=images.dtype)
    place = torch.stack([line.expand(len(line), -1), line[:, None].expand(-1, len(line))])
    own = torch.cat([images, masks], dim=1) * 2 - 1
    return torch.cat([own, place.expand(len(images), -1, -1, -1)], dim=1)
