"""The command line.

python -m pipelines photo.jpg -o out/
python -m pipelines catalogue images/ -o out/
python -m pipelines serve [options]
python -m pipelines models
python -m pipelines download triposr
python -m pipelines doctor [folders of weights]
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from torch import Tensor
from tqdm import tqdm

from .devices import choose_device, memory_explained
from .doctor import report
from .errors import ImageTo3DError, InvalidInput
from .files import check_writable
from .image_to_3d import ImageTo3D, timed
from .images.reading import read_image
from .model_commands import chosen_model, fetch, models
from .options import INTERRUPTED, contradiction, find_images, make_parser, output_names, settings_of
from .results import finished_mesh, save_result, summary
from .settings import Settings

log = logging.getLogger(__name__)

MEMORY_ADVICE = "try --offload, a smaller --resolution or --chunk-size, or --device cpu."


class _Bars:
    """One progress bar for each stage."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int, preview: Tensor | None = None) -> None:
        if stage != self._stage or self._bar is None:
            self.close()
            self._stage = stage
            self._bar = tqdm(
                total=total, desc=f"{stage:>10}", leave=False, disable=None, file=sys.stderr
            )
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns: the exit code: 0, 1 if an image failed, 2 for bad arguments, 130 for Ctrl-C.
    """
    # transformers announces at import that torchvision is missing, which is on purpose.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["serve"]:
        from .server.__main__ import main as serve

        return serve(arguments[1:])
    if arguments[:1] == ["catalogue"]:
        from .catalogue.__main__ import main as catalogue

        return catalogue(arguments[1:])
    if arguments[:1] == ["models"]:
        return models(arguments[1:])
    if arguments[:1] == ["download"]:
        return fetch(arguments[1:])
    if arguments[:1] == ["doctor"]:
        print(report([Path(folder) for folder in arguments[1:]]))
        return 0
    parser = make_parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING, format="%(message)s"
    )
    models_dirs = [options.models_dir] if options.models_dir else []
    line = None
    if options.model is None:
        try:
            options.model, line = chosen_model(choose_device(options.device), models_dirs)
        except ImageTo3DError as error:
            parser.error(str(error))
    settings = settings_of(options)
    if (problem := contradiction(options)) is not None:
        parser.error(problem)
    try:
        images = find_images(options.images)
    except InvalidInput as error:
        parser.error(str(error))
    try:
        check_writable(options.output)
        if line is not None:
            print(line, file=sys.stderr)
        with memory_explained(MEMORY_ADVICE):
            chain = ImageTo3D.load(
                options.model,
                options.views_model,
                models_dirs=models_dirs,
                device=options.device,
                dtype=options.dtype,
                offload=options.offload,
            )
        names = output_names(images, options.output, overwrite=options.overwrite)
        failures = {}
        for image, name in zip(images, names, strict=True):
            if (reason := _run_one(chain, image, name, settings, options)) is not None:
                failures[image] = reason
    except ImageTo3DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    if failures and len(images) > 1:
        listed = "\n".join(f"  {image}: {reason}" for image, reason in failures.items())
        print(f"{len(failures)} of {len(images)} images failed:\n{listed}", file=sys.stderr)
    return 1 if failures else 0


def _run_one(
    chain: ImageTo3D, image: Path, name: str, settings: Settings, options: argparse.Namespace
) -> str | None:
    """Make one image's files; returns what went wrong, or None."""
    bars = _Bars()
    try:
        with memory_explained(MEMORY_ADVICE):
            result = chain(read_image(image), settings, bars)
            seconds = dict(result.seconds)
            with timed("finishing", seconds):
                mesh = finished_mesh(result, options, bars)
            with timed("files", seconds):
                written = save_result(result, mesh, options.output, name, options, bars)
    except Exception as error:  # whatever it is, the next image has its turn
        known = isinstance(error, ImageTo3DError)
        if not known:
            log.info("an error that has no sentence of its own", exc_info=error)
        reason = (
            str(error)
            if known
            else f"{type(error).__name__}: {error} (please report this, with what -v prints)"
        )
        print(f"error: {image}: {reason}", file=sys.stderr)
        return reason
    finally:
        bars.close()
    print(f"{image}\n{summary(mesh, result.seed, seconds, written, chain.device)}", flush=True)
    return None


if __name__ == "__main__":
    sys.exit(main())
