from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

if not hasattr(torch.optim, "Muon"):
    pytest.skip("training requires PyTorch 2.9", allow_module_level=True)

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
    losses, rates = [], []

    def loss(generator):
        if len(losses) == stop_at:
            raise _Stop
        x = torch.randn(16, 4, generator=generator)
        losses.append((model(x) - 1).square().mean())
        rates.append([optimizer.param_groups[0]["lr"] for optimizer in optimizers])
        return {"loss": losses[-1]}

    matrices, biases = [m.weight for m in model], [m.bias for m in model]
    optimizers = [torch.optim.AdamW(biases, lr=1e-2), MatrixMuon(matrices, 1e-2, 0.0)]
    trained = train(model, optimizers, loss, minutes, checkpoint, average_over=10)
    return SimpleNamespace(
        model=trained,
        losses=[float(value.detach()) for value in losses],
        rates=rates,
        optimizers=optimizers,
    )


def test_training_learns_and_ends_in_time(tmp_path, monkeypatch):
    losses = _run(tmp_path / "run.pt", monkeypatch).losses
    assert 30 < len(losses) < 120
    assert sum(losses[-5:]) < 0.3 * sum(losses[:5])


def test_all_optimizers_follow_the_schedule(tmp_path, monkeypatch):
    rates = _run(tmp_path / "run.pt", monkeypatch).rates
    for own in zip(*rates, strict=True):
        assert own[0] < 1e-3 < max(own)
        assert own[-1] < 1e-3


def test_training_resumes_with_time_weights_and_optimizers(tmp_path, monkeypatch):
    whole = _run(tmp_path / "whole.pt", monkeypatch)
    with pytest.raises(_Stop):
        _run(tmp_path / "parts.pt", monkeypatch, stop_at=20)
    rest = _run(tmp_path / "parts.pt", monkeypatch)
    steps = 20 + len(rest.losses)
    assert steps == pytest.approx(len(whole.losses), abs=2)
    assert rest.losses[0] == pytest.approx(whole.losses[20], rel=0.05)
    assert {int(state["step"]) for state in rest.optimizers[0].state.values()} == {steps}


def test_training_of_a_finished_run_does_nothing(tmp_path, monkeypatch):
    finished = _run(tmp_path / "run.pt", monkeypatch)
    again = _run(tmp_path / "run.pt", monkeypatch)
    assert again.losses == []
    for a, b in zip(finished.model.parameters(), again.model.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_checkpoint_of_an_older_version_is_refused(tmp_path, monkeypatch):
    torch.save({"model": {}, "optimizer": {}}, tmp_path / "run.pt")
    with pytest.raises(SystemExit, match="older version"):
        _run(tmp_path / "run.pt", monkeypatch)


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


def test_muon_resumes_with_its_state_and_the_current_weights():
    torch.manual_seed(0)
    gradients = torch.randn(4, 8, 6)
    weight = nn.Parameter(torch.randn(8, 6))
    optimizer = MatrixMuon([weight], 0.1, 0.0)
    for gradient in gradients[:2]:
        weight.grad = gradient.clone()
        optimizer.step()
    resumed = nn.Parameter(torch.zeros(8, 6))
    restored = MatrixMuon([resumed], 0.1, 0.0)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    resumed.data.copy_(weight.detach())
    for gradient in gradients[2:]:
        weight.grad, resumed.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        restored.step()
    torch.testing.assert_close(resumed, weight)
