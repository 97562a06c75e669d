"""Put a run's weights into the pack as its embedded model, in half precision.

python -m training.export RUN/frustum.pt
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from pipelines.files import atomic_path
from pipelines.weights.presets import EMBEDDED_DIR, RECONSTRUCTION_PRESETS


def main(weights: Path) -> None:
    tensors = torch.load(weights, map_location="cpu", weights_only=True)
    halves = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in tensors.items()
    }
    note = {
        "license": "Apache-2.0",
        "encoder": "EfficientNet-Lite0, ImageNet, Apache-2.0: see NOTICE",
    }
    with atomic_path(EMBEDDED_DIR / RECONSTRUCTION_PRESETS["photo"].file) as partial:
        save_file(halves, partial, note)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
