"""DINO and DINOv2 vision transformers, optionally with layer norms modulated by cameras.

DINOv2 scales the output of each branch. It resizes its position embeddings to a given size,
DINO by a given factor.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from pydantic import ConfigDict, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import attention, check_heads

#: Validation of model sizes that are read from a file.
STRICT_SIZES = ConfigDict(extra="forbid", strict=True)
Version = Literal[1, 2]
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, config=STRICT_SIZES)
class EncoderConfig:
    """Sizes of the vision transformer.

    `image_size` is the image size that the position grid was trained for; `view_size` is the size
    of the input images.
    """

    hidden_size: PositiveInt = 768
    layers: PositiveInt = 12
    heads: PositiveInt = 12
    mlp_size: PositiveInt = 3072
    layer_norm_eps: PositiveFloat = 1e-12
    image_size: PositiveInt = 224
    patch_size: PositiveInt = 16
    view_size: PositiveInt = 320


class _Embeddings(nn.Module):
    def __init__(self, config: EncoderConfig, version: Version) -> None:
        super().__init__()
        self.by_factor = version == 1
        self.grid_size = config.image_size // config.patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.position_embeddings = nn.Parameter(
            torch.zeros(1, self.grid_size**2 + 1, config.hidden_size)
        )
        patches = nn.Conv2d(3, config.hidden_size, config.patch_size, stride=config.patch_size)
        self.patch_embeddings = nn.ModuleDict({"projection": patches})

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embeddings["projection"](pixels)  # (N, D, h, w)
        height, width = patches.shape[-2:]
        tokens = torch.cat(
            [self.cls_token.expand(len(pixels), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1
        )
        return tokens + self.positions(height, width)

    def positions(self, height: int, width: int) -> Tensor:
        """Return position embeddings (1, 1 + height * width, D) for a grid of patches."""
        if height == width == self.grid_size:
            return self.position_embeddings
        cls, grid = self.position_embeddings[:, :1], self.position_embeddings[:, 1:]
        grid = grid.unflatten(1, (self.grid_size, self.grid_size)).permute(0, 3, 1, 2)
        # DINO's own code resizes by a factor, and adds 0.1, which shifts the sampling positions.
        factors = ((height + 0.1) / self.grid_size, (width + 0.1) / self.grid_size)
        # Resize on the CPU: MPS supports bicubic interpolation only since PyTorch 2.6.
        grid = F.interpolate(
            grid.float().cpu(),
            size=None if self.by_factor else (height, width),
            scale_factor=factors if self.by_factor else None,
            mode="bicubic",
            align_corners=False,
        ).to(cls)
        return torch.cat([cls, grid.flatten(2).transpose(1, 2)], dim=1)


class _Layer(nn.Module):
    """A pre-norm transformer block with adaptive layer norms, named as in the checkpoints."""

    def __init__(self, config: EncoderConfig, modulated: bool, version: Version) -> None:
        super().__init__()
        size = config.hidden_size
        check_heads(size, config.heads)
        self.heads = config.heads
        qkv = nn.ModuleDict({name: nn.Linear(size, size) for name in ("query", "key", "value")})
        self.attention = nn.ModuleDict(
            {"attention": qkv, "output": nn.ModuleDict({"dense": nn.Linear(size, size)})}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(size, config.mlp_size)})
        self.output = nn.ModuleDict({"dense": nn.Linear(config.mlp_size, size)})
        self.layernorm_before = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.layernorm_after = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.adaLN_modulation = (
            nn.Sequential(nn.SiLU(), nn.Linear(size, 4 * size)) if modulated else None
        )
        scales = (nn.Parameter(torch.ones(size)) if version == 2 else None for _ in range(2))
        self.attention_scale, self.mlp_scale = scales

    def forward(self, hidden: Tensor, camera: Tensor | None) -> Tensor:
        if self.adaLN_modulation is None:
            hidden = hidden + self._attend(self.layernorm_before(hidden))
            return hidden + self._mlp(self.layernorm_after(hidden))
        shift_a, scale_a, shift_m, scale_m = self.adaLN_modulation(camera)[:, None].chunk(4, dim=-1)
        hidden = hidden + self._attend(self.layernorm_before(hidden) * (1 + scale_a) + shift_a)
        return hidden + self._mlp(self.layernorm_after(hidden) * (1 + scale_m) + shift_m)

    def _mlp(self, hidden: Tensor) -> Tensor:
        mlp: Tensor = self.output["dense"](F.gelu(self.intermediate["dense"](hidden)))
        return mlp if self.mlp_scale is None else mlp * self.mlp_scale

    def _attend(self, hidden: Tensor) -> Tensor:
        qkv = cast(nn.ModuleDict, self.attention["attention"])
        query, key, value = (
            qkv[name](hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        mixed = attention(query, key, value).transpose(1, 2).flatten(2)
        projected: Tensor = cast(nn.ModuleDict, self.attention["output"])["dense"](mixed)
        return projected if self.attention_scale is None else projected * self.attention_scale


class VisionTransformer(nn.Module):
    """DINO's ViT, named as in the checkpoints of the first version.

    Args:
        config: sizes of the transformer.
        modulated: whether cameras modulate its layer norms.
        version: version of DINO, 1 or 2.

    Source: Caron et al., DINO (arXiv 2104.14294); Oquab et al., DINOv2 (arXiv 2304.07193).
    """

    def __init__(
        self, config: EncoderConfig, modulated: bool = False, version: Version = 1
    ) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config, version)
        layers = (_Layer(config, modulated, version) for _ in range(config.layers))
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor, camera: Tensor | None = None) -> Tensor:
        """Compute features (N, 1 + patches, D), class token first.

        Args:
            pixels: (N, 3, H, W) in [0, 1], H and W multiples of the patch size.
            camera: (N, D) camera embeddings, for modulated layer norms.
        """
        mean, std = (pixels.new_tensor(v)[:, None, None] for v in (IMAGE_MEAN, IMAGE_STD))
        hidden = self.embeddings((pixels - mean) / std)
        for layer in cast(nn.ModuleList, self.encoder["layer"]):
            hidden = layer(hidden, camera)
        features: Tensor = self.layernorm(hidden)
        return features


class CameraViT(nn.Module):
    """A DINO vision transformer with camera modulation.

    Source: Caron et al., DINO (arXiv 2104.14294); Hong et al., LRM (arXiv 2311.04400), section 3.1;
    Xu et al., InstantMesh (arXiv 2404.07191), section 3.2.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.model = VisionTransformer(config, modulated=True)
        self.camera_embedder = nn.Sequential(
            nn.Linear(16, config.hidden_size),
            nn.SiLU(),
            nn.Linear(config.hidden_size, config.hidden_size),
        )

    def forward(self, views: Tensor, camera_tokens: Tensor) -> Tensor:
        """Compute the features of each view.

        Args:
            views: (N, 3, H, W) in [0, 1], H and W multiples of the patch size.
            camera_tokens: (N, 16), see `Cameras.tokens`.

        Returns:
            (N, 1 + H * W / patch_size ** 2, hidden_size), class token first.
        """
        features: Tensor = self.model(views, self.camera_embedder(camera_tokens))
        return features
