"""Draw the picture of `make demo`: an object that training never saw, larger than it ever saw one,
on plain white.

python -m training.demo_picture workflows/demo.png
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from pipelines.pictures.reading import to_pillow

from .dataset import VALIDATION_SEED, photograph
from .objects import make_object

SEED = VALIDATION_SEED + 5_015  # a tree, beyond the objects of the validation set as well


def main(path: Path) -> None:
    to_pillow(photograph(make_object(SEED), random.Random(SEED), size=512)[None]).save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
