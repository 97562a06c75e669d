"""InstantMesh: reconstruct the triplane of an object from views and their cameras.

Modules are named as in the checkpoints.
"""

from __future__ import annotations

from dataclasses import field
from typing import Literal, cast

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from ..cameras import FOUR_VIEWS, Cameras, zero123plus_cameras
from ..errors import InvalidInput
from ..fields.triplane import Decoder, SignedDistanceDecoder, SoftplusDecoder, Triplane
from .triplane_transformer import TriplaneTransformer
from .vision_transformer import STRICT_SIZES, CameraViT, EncoderConfig


@dataclass(frozen=True, config=STRICT_SIZES)
class ReconstructionConfig:
    """Sizes of the model.

    Attributes:
        surface: "mesh" for signed distance and FlexiCubes, "nerf" for density and marching cubes.
        samples_per_ray: total number of coarse and fine samples when rendering the density.
        grid_resolution: cells along an edge of the grid for surface extraction.
        grid_scale: edge length of that grid ("mesh" only; always 2 for "nerf").
        density_threshold: density at the surface ("nerf" only).
    """

    surface: Literal["mesh", "nerf"]
    transformer_layers: PositiveInt
    triplane_dim: PositiveInt
    samples_per_ray: PositiveInt
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    transformer_dim: PositiveInt = 1024
    transformer_heads: PositiveInt = 16
    triplane_low_res: PositiveInt = 32
    grid_resolution: PositiveInt = 128
    grid_scale: PositiveFloat = 2.1
    density_threshold: PositiveFloat = 10.0

    def build(self) -> ReconstructionModel:
        """Build a model of these sizes, without weights."""
        return ReconstructionModel(self)


class ReconstructionModel(nn.Module):
    """Transformer from views and cameras to a triplane, with the triplane's decoders.

    Source: Xu et al., InstantMesh (arXiv 2404.07191), section 3.2.
    """

    input_kind: Literal["views"] = "views"

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
        decoder = (
            SignedDistanceDecoder(features, config.grid_resolution, config.grid_scale)
            if config.surface == "mesh"
            else SoftplusDecoder(
                features,
                resolution=config.grid_resolution,
                threshold=config.density_threshold,
                samples_per_ray=config.samples_per_ray,
            )
        )
        self.synthesizer = nn.ModuleDict({"decoder": decoder})

    @property
    def decoder(self) -> Decoder:
        return cast(Decoder, self.synthesizer["decoder"])

    def forward(self, views: Tensor, camera_tokens: Tensor) -> Tensor:
        """Compute the triplanes of B objects.

        Args:
            views: (B, N, 3, S, S) in [0, 1], where S is the encoder's view size.
            camera_tokens: (B, N, 16).

        Returns:
            (B, 3, triplane_dim, 2 * triplane_low_res, 2 * triplane_low_res).
        """
        features = self.encoder(views.flatten(0, 1), camera_tokens.flatten(0, 1))
        planes: Tensor = self.transformer(features.reshape(len(views), -1, features.shape[-1]))
        return planes

    def field(self, images: Tensor, cameras: Cameras | None, masks: Tensor | None) -> Triplane:
        """Reconstruct the triplane of one object; see `reconstruct.FieldModel.field`.

        Raises:
            InvalidInput: if the numbers of views and cameras differ, or there are no cameras and
                neither 4 nor 6 views.
        """
        if cameras is None:
            cameras = _default_cameras(len(images))
        if len(cameras) != len(images):
            raise InvalidInput(
                f"There must be one camera for each view, got {len(cameras)} cameras and"
                f" {len(images)} views."
            )
        size = self.config.encoder.view_size
        parameter = self.transformer.pos_embed
        if images.shape[-1] != size:
            # Resize on the CPU: MPS supports antialiasing only since PyTorch 2.8.
            images = F.interpolate(
                images.cpu(), size=(size, size), mode="bicubic", antialias=True, align_corners=False
            )
        views = images.clamp(0, 1).to(parameter)
        planes = self(views[None], cameras.tokens()[None].to(parameter))[0]
        return self.decoder.triplane(planes)


def _default_cameras(count: int) -> Cameras:
    """Return the cameras of Zero123++'s six views, or of four of them."""
    if count not in (4, 6):
        raise InvalidInput(
            "Without cameras there must be 6 views, or 4 (views 0, 2, 4 and 5 of the 6), got"
            f" {count}."
        )
    return zero123plus_cameras() if count == 6 else zero123plus_cameras()[FOUR_VIEWS]


def split_objects(views: Tensor, each: int) -> list[Tensor]:
    """Split the views of several objects into one tensor for each.

    Args:
        views: (N, 3, H, W).
        each: number of views of one object, which cannot be inferred from N.

    Raises:
        InvalidInput: if N is not a multiple of `each`.
    """
    if not len(views) or len(views) % each:
        raise InvalidInput(
            f"Each object needs {each} views; {len(views)} is not a multiple of that."
        )
    return list(views.split(each))
