"""TripoSR: reconstruct the triplane of an object from one image.

Modules are named as in the checkpoint.

Source: Tochilkin et al., TripoSR (arXiv 2403.02151); Hong et al., LRM (arXiv 2311.04400).
"""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from ..cameras import Cameras
from ..fields.set_transformer import FeedForward, SetAttention
from ..fields.triplane import DensityTriplane, ExponentialDecoder
from .parameters import noise_parameter
from .reconstruct import on_grey
from .vision_transformer import STRICT_SIZES, EncoderConfig, VisionTransformer


@dataclass(frozen=True, config=STRICT_SIZES)
class TripoSRConfig:
    """Sizes of the model.

    Attributes:
        encoder: sizes of the image encoder; `view_size` is the side of the input image.
        radius: half the edge length of the cube that the planes span.
        grid_resolution: cells along an edge of the grid for surface extraction; the official code
            uses 256 points.
        density_threshold: density at the surface.
    """

    encoder: EncoderConfig = field(default_factory=lambda: EncoderConfig(view_size=512))
    transformer_layers: PositiveInt = 16
    transformer_dim: PositiveInt = 1024
    transformer_heads: PositiveInt = 16
    triplane_low_res: PositiveInt = 32
    triplane_dim: PositiveInt = 40
    decoder_dim: PositiveInt = 64
    decoder_layers: PositiveInt = 9
    radius: PositiveFloat = 0.87
    samples_per_ray: PositiveInt = 128
    grid_resolution: PositiveInt = 255
    density_threshold: PositiveFloat = 25.0

    def build(self) -> TripoSR:
        """Build a model of these sizes, without weights."""
        return TripoSR(self)


class _Block(nn.Module):
    """Equivalent of diffusers' BasicTransformerBlock, which takes seconds to import."""

    def __init__(self, dim: int, heads: int, context_dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))
        self.attn1 = SetAttention(dim, heads)
        self.attn2 = SetAttention(dim, heads, context_dim)
        self.ff = FeedForward(dim, gated=True)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        tokens = tokens + self.attn1(self.norm1(tokens))
        tokens = tokens + self.attn2(self.norm2(tokens), self.attn2.keys_values(context))
        fed: Tensor = self.ff(self.norm3(tokens))
        return tokens + fed


class _Backbone(nn.Module):
    def __init__(self, dim: int, layers: int, heads: int, context_dim: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, dim, eps=1e-6)
        self.proj_in = nn.Linear(dim, dim)
        self.transformer_blocks = nn.ModuleList(
            _Block(dim, heads, context_dim) for _ in range(layers)
        )
        self.proj_out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Transform tokens (B, L, D) with a context (B, M, context_dim)."""
        hidden = self.proj_in(self.norm(tokens.transpose(1, 2)).transpose(1, 2))
        for block in self.transformer_blocks:
            hidden = block(hidden, context)
        projected: Tensor = self.proj_out(hidden)
        return projected + tokens


class TripoSR(nn.Module):
    """A `reconstruct.FieldModel` from an image to a triplane, with the triplane's decoder."""

    input_kind: Literal["image"] = "image"
    background = 0.5

    def __init__(self, config: TripoSRConfig) -> None:
        super().__init__()
        self.config = config
        low, dim = config.triplane_low_res, config.transformer_dim
        self.image_tokenizer = nn.ModuleDict({"model": VisionTransformer(config.encoder)})
        self.tokenizer = nn.ParameterDict(
            {"embeddings": noise_parameter(3, dim, low, low, std=dim**-0.5)}
        )
        self.backbone = _Backbone(
            dim, config.transformer_layers, config.transformer_heads, config.encoder.hidden_size
        )
        upsample = nn.ConvTranspose2d(dim, config.triplane_dim, kernel_size=2, stride=2)
        self.post_processor = nn.ModuleDict({"upsample": upsample})
        self.decoder = ExponentialDecoder(
            3 * config.triplane_dim,
            config.decoder_dim,
            config.decoder_layers,
            resolution=config.grid_resolution,
            threshold=config.density_threshold,
            samples_per_ray=config.samples_per_ray,
            half_side=config.radius,
            even_steps=True,
        )

    def features(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, S, S) in [0, 1] on grey to features (B, 1 + patches, D)."""
        found: Tensor = self.image_tokenizer["model"](images)
        return found

    def field(
        self, images: Tensor, cameras: Cameras | None, masks: Tensor | None
    ) -> DensityTriplane:
        """Reconstruct the field of one image; see `reconstruct.FieldModel.field`."""
        assert masks is not None
        image = on_grey(images, masks, self.background)
        size = self.config.encoder.view_size
        # Resize on the CPU: MPS supports antialiasing only since PyTorch 2.8.
        resized = F.interpolate(
            image.cpu(), size=(size, size), mode="bilinear", antialias=True, align_corners=False
        )
        planes = self(resized.clamp(0, 1).to(self.tokenizer["embeddings"]))[0]
        return self.decoder.triplane(planes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the triplanes of B objects.

        Args:
            images: (B, 3, S, S) in [0, 1] on grey, where S is the encoder's view size.

        Returns:
            (B, 3, triplane_dim, 2 * triplane_low_res, 2 * triplane_low_res): the planes (x, y),
            (x, z) and (y, z).
        """
        embeddings = self.tokenizer["embeddings"]
        tokens = embeddings.flatten(2).transpose(1, 2).flatten(0, 1)  # (3 L, D)
        context = self.features(images)
        tokens = self.backbone(tokens.expand(len(images), -1, -1), context)
        planes = tokens.unflatten(1, (3, -1)).transpose(2, 3).unflatten(3, embeddings.shape[2:])
        upsampled: Tensor = self.post_processor["upsample"](planes.flatten(0, 1))
        return upsampled.unflatten(0, (-1, 3))
