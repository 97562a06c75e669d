"""A training: schedule, averaged weights, a log and a checkpoint to resume from."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

log = logging.getLogger(__name__)

WARM_UP = 0.03
DECAY = 0.35  # the last share of the steps, over which the learning rate falls to zero
LOG_EVERY = 20
SAVE_EVERY_S = 60.0


def learning_rate_factor(step: int, steps: int) -> float:
    """Warm up, stay, decay linearly: a run can be lengthened until the decay begins."""
    return min(1.0, (step + 1) / (WARM_UP * steps), (steps - step) / (DECAY * steps))


def train(
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    loss: Callable[[torch.Generator], dict[str, Tensor]],
    steps: int,
    checkpoint: Path,
    average_over: int = 200,
) -> nn.Module:
    """Minimise the sum of `loss`'s terms.

    Args:
        model: what is trained and averaged.
        loss: draws a batch with the generator that it is given and returns named terms; each step
            has a generator of its own.
        steps: length of the whole run. A checkpoint of the same run is taken up where it stopped.
        checkpoint: where the run is kept.
        average_over: horizon, in steps, of the averaged weights.

    Returns:
        the model with averaged weights.
    """
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / average_over))
    start = 0
    if checkpoint.exists():
        state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start = state["step"]
        log.info("resumed at step %d", start)
    rates = [
        [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]
        for optimizer in optimizers
    ]
    parameters = [p for p in model.parameters() if p.requires_grad]
    sums: dict[str, Tensor] = {}
    began = saved_at = time.monotonic()
    for step in range(start, steps):
        factor = learning_rate_factor(step, steps)
        for optimizer, initial in zip(optimizers, rates, strict=True):
            for group, rate in zip(optimizer.param_groups, initial, strict=True):
                group["lr"] = rate * factor
        terms = loss(torch.Generator().manual_seed(step))
        torch.stack(list(terms.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        # The first weights are far from any good ones: start the average late.
        if step < average_over:
            average.module.load_state_dict(model.state_dict())
        else:
            average.update_parameters(model)
        for name, value in terms.items():
            sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach()
        if (step + 1) % LOG_EVERY == 0:
            losses = "  ".join(
                f"{name} {float(value) / LOG_EVERY:.4f}" for name, value in sums.items()
            )
            log.info(
                "step %d  %s  %.2f s/step", step + 1, losses, (time.monotonic() - began) / LOG_EVERY
            )
            sums, began = {}, time.monotonic()
        if time.monotonic() - saved_at > SAVE_EVERY_S or step + 1 == steps:
            saved_at = time.monotonic()
            partial = checkpoint.with_suffix(".partial")
            torch.save(
                {
                    "model": model.state_dict(),
                    "average": average.state_dict(),
                    "optimizers": [o.state_dict() for o in optimizers],
                    "step": step + 1,
                },
                partial,
            )
            partial.replace(checkpoint)
    averaged: nn.Module = average.module
    return averaged
