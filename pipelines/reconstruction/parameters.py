"""Parameters that start as noise."""

from __future__ import annotations

import torch
from torch import nn


def noise_parameter(*shape: int, std: float) -> nn.Parameter:
    """Return a parameter of normal noise.

    It is on the CPU even within `torch.device("meta")`, where models are built before their weights
    are read: arithmetic on that device imports `torch._dynamo`, which takes a second.
    """
    return nn.Parameter(torch.randn(*shape, device="cpu") * std)
