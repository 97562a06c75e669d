from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class ModelPatcher:
    model: nn.Module
    load_device: torch.device
    offload_device: torch.device
