"""A training run: schedule, averaged weights, a log and a checkpoint to resume from."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

log = logging.getLogger(__name__)

WARM_UP_STEPS = 50
DECAY = 0.6  # the last share of the run, over which the learning rate falls to zero
LOG_EVERY = 20
SAVE_EVERY_S = 60.0


class MatrixMuon(torch.optim.Muon):
    """Muon for weights of convolutions too, as matrices with a row for each output.

    Learning rates and weight decay are like AdamW's. Requires PyTorch 2.9.

    Source: Jordan et al., *Muon: An optimizer for hidden layers in neural networks* (2024); Liu et
    al., *Muon is Scalable for LLM Training* (arXiv 2502.16982), equation 4.

    Args:
        weights: parameters with two or more dimensions.
        rate: learning rate.
        weight_decay: share of the weights that a step at a rate of 1 removes.

    Attributes:
        weights: the parameters that are updated; `param_groups` has copies of them as matrices.
    """

    def __init__(self, weights: Iterable[nn.Parameter], rate: float, weight_decay: float) -> None:
        self.weights = list(weights)
        matrices = [nn.Parameter(w.detach().flatten(1).clone()) for w in self.weights]
        super().__init__(matrices, rate, weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update the weights; those without gradients stay as they are."""
        pairs = list(zip(self.weights, self.param_groups[0]["params"], strict=True))
        for weight, matrix in pairs:
            matrix.copy_(weight.flatten(1))
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        super().step()
        for weight, matrix in pairs:
            weight.copy_(matrix.view(weight.shape))


def learning_rate_factor(step: int, progress: float) -> float:
    """Warm up, stay, decay linearly; `progress` is the share of the run that is over."""
    return max(0.0, min(1.0, (step + 1) / WARM_UP_STEPS, (1 - progress) / DECAY))


def train(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    loss: Callable[[torch.Generator], dict[str, Tensor]],
    minutes: float,
    checkpoint: Path,
    average_over: int = 400,
) -> nn.Module:
    """Minimise the sum of `loss`'s terms.

    Args:
        model: what is trained and averaged.
        optimizers: of its parameters, at their full learning rates.
        loss: draws a batch with the generator that it is given and returns named terms; each step
            has a generator of its own.
        minutes: length of the whole run. A checkpoint of the same run is taken up where it stopped,
            and its time counts.
        checkpoint: where the run is kept.
        average_over: horizon, in steps, of the averaged weights.

    Returns:
        the model with averaged weights.
    """
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / average_over))
    step, before_s = _resume(checkpoint, model, average, optimizers)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    rates = [group.setdefault("initial_lr", group["lr"]) for group in groups]
    parameters = [p for p in model.parameters() if p.requires_grad]
    sums: dict[str, Tensor] = {}
    started = logged_at = saved_at = time.monotonic()
    while (progress := (before_s + time.monotonic() - started) / (60 * minutes)) < 1:
        factor = learning_rate_factor(step, progress)
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * factor
        terms = loss(torch.Generator().manual_seed(step))
        torch.stack(list(terms.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        average.update_parameters(model)
        step += 1
        sums = {name: sums.get(name, 0) + value.detach() for name, value in terms.items()}
        now = time.monotonic()
        if step % LOG_EVERY == 0:
            _log(step, progress, sums, (now - logged_at) / LOG_EVERY)
            sums, logged_at = {}, now
        if now - saved_at > SAVE_EVERY_S:
            saved_at = now
            _save(checkpoint, model, average, optimizers, step, before_s + now - started)
    _save(checkpoint, model, average, optimizers, step, 60 * minutes)
    averaged: nn.Module = average.module
    return averaged


def _log(step: int, progress: float, sums: dict[str, Tensor], seconds: float) -> None:
    losses = "  ".join(f"{name} {float(value) / LOG_EVERY:.4f}" for name, value in sums.items())
    log.info("step %d (%.0f %%)  %s  %.2f s/step", step, 100 * progress, losses, seconds)


def _resume(
    checkpoint: Path,
    model: nn.Module,
    average: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
) -> tuple[int, float]:
    """Load a run's state, if there is one, and return its steps and seconds."""
    if not checkpoint.exists():
        return 0, 0.0
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    if "optimizers" not in state:
        raise SystemExit(f"{checkpoint} is from an older version: delete it or name another run.")
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    for optimizer, own in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(own)
    log.info("resumed at step %d", state["step"])
    return state["step"], state["seconds"]


def _save(
    checkpoint: Path,
    model: nn.Module,
    average: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    step: int,
    seconds: float,
) -> None:
    state = {
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "step": step,
        "seconds": seconds,
    }
    partial = checkpoint.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(checkpoint)
