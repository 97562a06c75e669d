from __future__ import annotations

import pytest
import torch
from torch import nn

from training import optimization
from training.optimization import learning_rate_factor, train


class _Stop(Exception):
    pass


class _Clock:
    """A clock that advances by one second each time it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


def _run(checkpoint, monkeypatch, minutes=2.0, stop_at=None):
    monkeypatch.setattr(optimization, "time", _Clock())
    monkeypatch.setattr(optimization, "SAVE_EVERY_S", 0.0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    losses = []

    def loss(generator):
        if len(losses) == stop_at:
            raise _Stop
        x = torch.randn(16, 4, generator=generator)
        losses.append((model(x) - 1).square().mean())
        return {"loss": losses[-1]}

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    trained = train(model, optimizer, loss, minutes, checkpoint, average_over=10)
    return trained, [float(value.detach()) for value in losses]


def test_training_learns_and_ends_in_time(tmp_path, monkeypatch):
    _, losses = _run(tmp_path / "run.pt", monkeypatch)
    assert 30 < len(losses) < 120
    assert sum(losses[-5:]) < 0.3 * sum(losses[:5])


def test_training_resumes_with_time_and_weights(tmp_path, monkeypatch):
    _, whole = _run(tmp_path / "whole.pt", monkeypatch)
    with pytest.raises(_Stop):
        _run(tmp_path / "parts.pt", monkeypatch, stop_at=20)
    _, rest = _run(tmp_path / "parts.pt", monkeypatch)
    assert len(rest) + 20 == pytest.approx(len(whole), abs=2)
    assert rest[0] == pytest.approx(whole[20], rel=0.05)


def test_training_of_a_finished_run_does_nothing(tmp_path, monkeypatch):
    trained, _ = _run(tmp_path / "run.pt", monkeypatch)
    again, losses = _run(tmp_path / "run.pt", monkeypatch)
    assert losses == []
    for a, b in zip(trained.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_learning_rate_warms_up_stays_and_falls():
    factors = [learning_rate_factor(step, step / 1000) for step in range(1000)]
    assert factors[0] < 0.05
    assert factors[100] == factors[390] == 1
    assert 0 < factors[999] < 0.01
