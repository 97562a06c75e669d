from __future__ import annotations

import pytest
import torch
from torch import nn

from training.optimization import learning_rate_factor, train


class _Stop(Exception):
    pass


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    def run(checkpoint, stop_at=None):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
        calls = 0

        def loss(generator):
            nonlocal calls
            calls += 1
            if calls == stop_at:
                raise _Stop
            return {"loss": (model(torch.randn(16, 4, generator=generator)) - 1).square().mean()}

        return train(
            model,
            [torch.optim.AdamW(layer.parameters(), lr=1e-2) for layer in model],
            loss,
            70,
            checkpoint,
            average_over=10,
        )

    whole = run(tmp_path / "whole.pt")
    with pytest.raises(_Stop):
        run(tmp_path / "parts.pt", stop_at=60)
    resumed = run(tmp_path / "parts.pt")
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_learning_rate_warms_up_stays_and_falls():
    factors = [learning_rate_factor(step, 1000) for step in range(1000)]
    assert factors[0] < 0.05
    assert factors[100] == factors[600] == 1
    assert 0 < factors[999] < 0.01
