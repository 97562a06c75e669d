"""Stages of TripoSG at full size with random weights: a guided step, the context, and points."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar

import torch
from torch import nn

from pipelines.fields.latent_set import LatentSetDecoder
from pipelines.packing import packed
from pipelines.reconstruction.flow_transformer import FlowTransformer
from pipelines.reconstruction.triposg import TOKENS, TripoSGConfig

POINTS = 100_000
_IMAGE_TOKENS = 257
_CONFIG = TripoSGConfig()

Stage = Callable[[torch.device], Callable[[], object]]
_Module = TypeVar("_Module", bound=nn.Module)


def _random(build: Callable[[], _Module], device: torch.device, dtype: torch.dtype) -> _Module:
    """Build a network with small random weights, and norms in float32 as the loader leaves them."""
    torch.manual_seed(0)
    with torch.device("meta"):
        made = build().requires_grad_(False).eval().to(dtype)
    for name, module in made.named_modules():
        if "norm" in name.rpartition(".")[2]:
            module.to(torch.float32)
    made.to_empty(device=device)
    pattern = torch.empty(1_000_003).uniform_(-0.03, 0.03).to(device)  # repeated, to save time
    for weights in made.parameters():
        for some in weights.view(-1).split(len(pattern)):
            some.copy_(pattern[: len(some)])
    return made


def _latents(device: torch.device) -> torch.Tensor:
    return torch.randn(1, TOKENS, _CONFIG.flow.channels, device=device)


def guided_step(dtype: torch.dtype) -> Stage:
    """Return a stage that runs the transformer once with guidance, at 2048 tokens."""

    def prepare(device: torch.device) -> Callable[[], object]:
        model = _random(lambda: FlowTransformer(_CONFIG.flow), device, dtype)
        tokens = torch.randn(1, _IMAGE_TOKENS, _CONFIG.flow.context_dim, device=device)
        with torch.no_grad():
            image = model.image_keys_values(tokens)
        both, times = _latents(device).expand(2, -1, -1), torch.full((2,), 500.0, device=device)
        once = ExitStack()  # for all steps, as in `sample_latents`
        once.enter_context(packed(model))
        return torch.no_grad()(lambda _=once: model(both, times, image))

    return prepare


def context(dtype: torch.dtype) -> Stage:
    """Return a stage that decodes 2048 latent vectors to the context of the points."""

    def prepare(device: torch.device) -> Callable[[], object]:
        decoder = _random(lambda: LatentSetDecoder(_CONFIG.decoder), device, dtype)
        latents = _latents(device)
        return torch.no_grad()(lambda: decoder.context(latents))

    return prepare


def points(dtype: torch.dtype) -> Stage:
    """Return a stage that evaluates 100,000 points of a shape whose context is known."""

    def prepare(device: torch.device) -> Callable[[], object]:
        decoder = _random(lambda: LatentSetDecoder(_CONFIG.decoder), device, dtype)
        with torch.no_grad():
            field = decoder.field(_latents(device))
        places = torch.rand(POINTS, 3, device=device) * 2 - 1
        return lambda: field.values(places, 131072)

    return prepare
