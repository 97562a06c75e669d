from __future__ import annotations

import pytest
import torch

if not hasattr(torch.optim, "Muon"):
    pytest.skip("training requires PyTorch 2.9", allow_module_level=True)

from training.train import optimizers_of
from training.views import CONFIG


def test_each_trained_parameter_is_in_one_optimizer():
    model = CONFIG.build()
    frozen = next(model.encoder.parameters()).requires_grad_(False)
    adam, muon = optimizers_of(model, 1e-3)
    found = [p for group in adam.param_groups for p in group["params"]] + muon.weights
    assert len({id(p) for p in found}) == len(found)
    trained = {id(p) for p in model.parameters() if p is not frozen}
    assert {id(p) for p in found} == trained


def test_muon_trains_neither_the_encoder_nor_first_and_last_layers():
    model = CONFIG.build()
    _, muon = optimizers_of(model, 1e-3)
    chosen = {id(p) for p in muon.weights}
    names = {name for name, p in model.named_parameters() if id(p) in chosen}
    assert {"enter.weight", "middle.0.qkv.weight", "up.3.1.conv2.weight"} <= names
    others = ("encoder.", "stem.", "elevation.", "occupancy.4.", "color.4.")
    assert not [name for name in names if name.startswith(others)]
    assert all(name.endswith("weight") and ".norm" not in name for name in names)
