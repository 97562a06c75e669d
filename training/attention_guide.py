"""Where the attention of the triplane transformer should look: along lines of sight, and at the
same coordinate on the other planes.

A token stands for a line through the volume, parallel to one axis. What the views know of it lies
where that line is seen, and what the other planes know of it lies in the row or column that shares
one of its coordinates. Training finds neither by itself within thousands of steps: all heads look
everywhere, and objects are guessed from their general look. So most heads are told their place; the
last head of each layer is free.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipelines.cameras import Cameras
from pipelines.fields.plane_networks import PLANE_AXES
from pipelines.reconstruction.triplane_transformer import Attention, TriplaneTransformer

SAMPLES_ALONG_LINE = 48


def token_coordinates(low_res: int) -> Tensor:
    """(3 * low_res ** 2, 3) index of each token's cell along x, y and z; -1 along the line that it
    stands for.
    """
    cells = torch.arange(low_res)
    row, column = (x.flatten() for x in torch.meshgrid(cells, cells, indexing="ij"))
    coordinates = torch.full((3, low_res**2, 3), -1)
    for plane, (across, down) in enumerate(PLANE_AXES):
        coordinates[plane, :, across], coordinates[plane, :, down] = column, row
    return coordinates.flatten(0, 1)


def seen_along_lines(low_res: int, cameras: Cameras, patches: int) -> Tensor:
    """(V, 3 * low_res ** 2, V * (1 + patches ** 2)) bool: the patches of view v that each token's
    line crosses. Class tokens are False.
    """
    coordinates = token_coordinates(low_res)
    line = (torch.arange(SAMPLES_ALONG_LINE) + 0.5) / SAMPLES_ALONG_LINE * 2 - 1
    centres = (coordinates[:, None] + 0.5) / low_res * 2 - 1
    points = torch.where(coordinates[:, None] >= 0, centres, line[:, None]).flatten(
        0, 1
    )  # (tokens * samples, 3)
    seen = torch.zeros(
        len(cameras), len(coordinates), len(cameras), 1 + patches**2, dtype=torch.bool
    )
    token = torch.arange(len(coordinates)).repeat_interleave(SAMPLES_ALONG_LINE)
    for view, (c2w, k) in enumerate(zip(cameras.c2w, cameras.intrinsics_normalized, strict=True)):
        camera_points = (points - c2w[:3, 3]) @ c2w[:3, :3]
        pixels = (
            camera_points[:, :2]
            * camera_points.new_tensor([1.0, -1.0])
            / -camera_points[:, 2:]
            * k[(0, 1), (0, 1)]
            + k[:2, 2]
        )
        column, row = (pixels * patches).floor().long().unbind(dim=1)
        inside = (column >= 0) & (column < patches) & (row >= 0) & (row < patches)
        seen[view, token[inside], view, 1 + row[inside] * patches + column[inside]] = True
    return seen.flatten(2)


def sharing_a_coordinate(low_res: int) -> Tensor:
    """(2, tokens, tokens) bool: the tokens with a common coordinate on the next plane and on the
    one after.
    """
    coordinates = token_coordinates(low_res)
    plane = torch.arange(3).repeat_interleave(low_res**2)
    common = ((coordinates[:, None] == coordinates) & (coordinates[:, None] >= 0)).any(dim=-1)
    return torch.stack([common & ((plane[:, None] + step) % 3 == plane) for step in (1, 2)])


def neglect(attention: Attention, tokens: Tensor, context: Tensor | None, places: Tensor) -> Tensor:
    """Mean of -log(share of the attention that falls on its place), over the first heads and the
    tokens that have a place.

    Args:
        tokens: (B, L, D).
        context: (B, M, context_dim); None for self-attention.
        places: (heads, L, M) bool; heads may be fewer than the module has.
    """
    q, k, _ = attention.queries_keys_values(tokens, context)
    q, k = q[:, : len(places)], k[:, : len(places)]
    logits = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    placed = places.any(dim=-1)
    on_place = logits.masked_fill(~places, -1e4).logsumexp(dim=-1)
    return (logits.logsumexp(dim=-1) - on_place)[:, placed].mean()


class AttentionGuide:
    """Watches a transformer's forward passes and says how far its attention is from its places.

    Args:
        transformer: of at least four heads.
        cameras, patches: the views, and patches along a side of each.
        objects: of a batch that are looked at, the first ones.
    """

    def __init__(
        self, transformer: TriplaneTransformer, cameras: Cameras, patches: int, objects: int = 2
    ) -> None:
        self.objects = objects
        lines = seen_along_lines(transformer.low_res, cameras, patches)
        shared = sharing_a_coordinate(transformer.low_res)
        self._terms: list[Tensor] = []
        for index, layer in enumerate(transformer.layers):
            # Three heads of a layer look at three views, those of the next layer at the other
            # three.
            self._watch(layer.cross_attn, lines[index % 2 :: 2])
            self._watch(layer.self_attn, shared)

    def _watch(self, attention: Attention, places: Tensor) -> None:
        def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            tokens, *context = (x[: self.objects] for x in inputs)
            self._terms.append(neglect(attention, tokens, context[0] if context else None, places))

        attention.register_forward_pre_hook(look)

    def loss(self) -> Tensor:
        """Mean over the attention modules that ran since the last call."""
        terms, self._terms = self._terms, []
        return torch.stack(terms).mean()
