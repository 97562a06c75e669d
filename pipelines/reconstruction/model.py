"""The large reconstruction model: encoder, transformer and the fields' decoders, named as in the checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast

from torch import Tensor, nn

from .encoder import CameraViT, EncoderConfig
from .fields import field_mlp
from .transformer import TriplaneTransformer


@dataclass(frozen=True)
class ReconstructionConfig:
    """Sizes of one model.

    Attributes:
        surface: "mesh" for signed distance and FlexiCubes, "nerf" for density and marching cubes.
        samples_per_ray: coarse and fine samples together when the density is rendered.
        grid_resolution, grid_scale: cubes along an edge and length of an edge of the FlexiCubes grid ("mesh").
        density_threshold: level of the surface ("nerf").
    """

    surface: Literal["mesh", "nerf"]
    transformer_layers: int
    triplane_dim: int
    samples_per_ray: int
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    transformer_dim: int = 1024
    transformer_heads: int = 16
    triplane_low_res: int = 32
    grid_resolution: int = 128
    grid_scale: float = 2.1
    density_threshold: float = 10.0


class MeshDecoder(nn.Module):
    """The MLPs of a model whose surface is a signed distance's."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.net_sdf = field_mlp(features, 1)
        self.net_rgb = field_mlp(features, 3)
        self.net_deformation = field_mlp(features, 3)
        self.net_weight = field_mlp(8 * features, 21)


class NerfDecoder(nn.Module):
    """The MLP of a model whose surface is a density's: raw density, then raw colour."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.net = field_mlp(features, 4)


class ReconstructionModel(nn.Module):
    """Views and cameras to a triplane, and the decoders that read it.

    Source: Xu et al., InstantMesh (arXiv 2404.07191), section 3.2.
    """

    def __init__(self, config: ReconstructionConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = CameraViT(config.encoder)
        self.transformer = TriplaneTransformer(
            config.transformer_dim,
            config.transformer_layers,
            config.transformer_heads,
            config.encoder.hidden_size,
            config.triplane_low_res,
            config.triplane_dim,
        )
        features = 3 * config.triplane_dim
        decoder = MeshDecoder(features) if config.surface == "mesh" else NerfDecoder(features)
        self.synthesizer = nn.ModuleDict({"decoder": decoder})

    @property
    def decoder(self) -> MeshDecoder | NerfDecoder:
        return cast(MeshDecoder | NerfDecoder, self.synthesizer["decoder"])

    def new_decoder(self) -> MeshDecoder | NerfDecoder:
        """A float32 copy of the decoder: the model may be moved away, or be in another precision."""
        weights = self.decoder.state_dict()
        features = 3 * self.config.triplane_dim
        copied = MeshDecoder(features) if isinstance(self.decoder, MeshDecoder) else NerfDecoder(features)
        copied.load_state_dict(weights)
        return copied.eval().requires_grad_(False)

    def forward(self, views: Tensor, camera_tokens: Tensor) -> Tensor:
        """Triplanes of B objects.

        Args:
            views: (B, N, 3, S, S) in [0, 1], S the encoder's view size.
            camera_tokens: (B, N, 16).

        Returns:
            (B, 3, triplane_dim, 2 * triplane_low_res, 2 * triplane_low_res).
        """
        features = self.encoder(views.flatten(0, 1), camera_tokens.flatten(0, 1))
        planes: Tensor = self.transformer(features.reshape(len(views), -1, features.shape[-1]))
        return planes
