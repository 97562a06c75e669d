"""Parameters initialised with noise."""

from __future__ import annotations

import torch
from torch import nn


def noise_parameter(*shape: int, std: float) -> nn.Parameter:
    """Create a parameter of normal noise with standard deviation `std`.

    The parameter is on the CPU even inside `torch.device("meta")`, where models are built before
    their weights are read. Arithmetic on the meta device imports `torch._dynamo`, which takes 1 s.
    """
    return nn.Parameter(torch.randn(*shape, device="cpu") * std)
