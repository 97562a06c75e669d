from __future__ import annotations

import pytest
import torch
from torch import nn

from training import optimization
from training.optimization import MatrixMuon, learning_rate_factor, train


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

    matrices, biases = [m.weight for m in model], [m.bias for m in model]
    optimizers = [torch.optim.AdamW(biases, lr=1e-2), MatrixMuon(matrices, 1e-2, 0.0)]
    trained = train(model, optimizers, loss, minutes, checkpoint, average_over=10)
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


@pytest.mark.parametrize("kernel", [1, 3])
def test_muon_takes_weights_of_convolutions_as_matrices(kernel):
    torch.manual_seed(0)
    weight = torch.randn(8, 4, kernel, kernel)
    gradients = torch.randn(3, *weight.shape)
    rows = nn.Parameter(weight.flatten(1).clone())
    plain, channels_last, unused = nn.Conv2d(4, 8, kernel), nn.Conv2d(4, 8, kernel), nn.Linear(4, 8)
    for convolution in (plain, channels_last):
        convolution.weight.data.copy_(weight)
    channels_last.to(memory_format=torch.channels_last)
    before = unused.weight.detach().clone()
    expected = torch.optim.Muon([rows], 0.1, weight_decay=0.5, adjust_lr_fn="match_rms_adamw")
    optimizer = MatrixMuon([m.weight for m in (plain, channels_last, unused)], 0.1, 0.5)
    for gradient in gradients:
        rows.grad = gradient.flatten(1)
        plain.weight.grad, channels_last.weight.grad = gradient.clone(), gradient.clone()
        expected.step()
        optimizer.step()
    assert not torch.allclose(rows, weight.flatten(1), atol=0.05)
    torch.testing.assert_close(plain.weight.flatten(1), rows)
    torch.testing.assert_close(channels_last.weight.flatten(1), rows)
    torch.testing.assert_close(unused.weight, before)
