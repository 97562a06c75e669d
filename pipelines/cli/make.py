"""`make`: turn images into meshes, one after another."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ImageTo3DError, InvalidInput
from ..settings import JobSettings, LoadSettings
from .parsing import GROUPS, SETTINGS, Parser, add_setting, exit_code, path

if TYPE_CHECKING:
    from torch import Tensor

    from ..image_to_3d import ImageTo3D
    from ..multiview.photographs import Viewpoints
    from ..result import JobResult

log = logging.getLogger(__name__)

_MEMORY_ADVICE = "try --offload, a smaller --resolution or --chunk-size, or --device cpu."
_SHOWN_FILES = 8


def make_parser() -> Parser:
    """Return the parser of all options."""
    parser = Parser("make", "IMAGE [IMAGE ...] [options]", "Turn images into textured 3D meshes.")
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="images, folders of images, or glob patterns"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=path,
        default=Path("out"),
        metavar="DIR",
        help="folder for the results (default: out)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files of earlier runs; otherwise, new files get a number in their names",
    )
    _add_sides(parser)
    add_setting(parser, SETTINGS["device"])
    parser.add_argument(
        "--json", action="store_true", help="print each result as one line of JSON, not as a table"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="log details, such as the weights in use"
    )
    parser.add_settings(SETTINGS, GROUPS, model={"default": None})
    parser.add_deprecated()
    return parser


def _add_sides(parser: Parser) -> None:
    group = parser.add_argument_group(
        "several photographs of one object (IMAGE shows its front; for models that take views)"
    )
    for side in ("left", "back", "right"):
        whose = "" if side == "back" else ", from the object's own point of view"
        group.add_argument(
            f"--image-{side}", metavar="FILE", help=f"photograph of the {side} side{whose}"
        )
    group.add_argument(
        "--image-at",
        nargs=2,
        action="append",
        default=[],
        metavar=("DEGREES", "FILE"),
        help="photograph from this azimuth: 90 is the left side, 180 the back; may be repeated",
    )
    add_setting(group, SETTINGS["elevation"])


def main(arguments: Sequence[str]) -> int:
    """Run the command; return the exit code."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING, format="%(message)s"
    )
    return exit_code(lambda: _make(parser, options))


def _make(parser: Parser, options: argparse.Namespace) -> int:
    from ..workers.threads import configure_threads

    configure_threads()  # before torch is imported
    with without_collecting():
        from .. import job
    from ..devices import choose_device, memory_explained
    from ..files import check_writable
    from .inputs import find_images, output_names
    from .models import choose_model

    loading = LoadSettings.from_flat(vars(options))
    line = ""
    if options.model is None:
        on_cpu = choose_device(loading.device).type == "cpu"
        options.model, line = choose_model(on_cpu, loading.models_dirs, options.license)
    settings = parser.job_settings(vars(options) | {"previews": True})
    try:
        images = find_images(options.images)
        sides, viewpoints = _sides(options, images, settings)
        job.check_images(settings, 1 + len(sides), viewpoints)
    except InvalidInput as error:
        parser.error(str(error))
    check_writable(options.output)
    if line:
        print(line, file=sys.stderr)
    with memory_explained(_MEMORY_ADVICE):
        chain = job.load(settings, loading, viewpoints)
    names = output_names([*images, *sides], options.output, overwrite=options.overwrite)
    failures = {}
    for image, name in zip(images, names[: len(images)], strict=True):
        result = _make_one(
            chain, [image, *sides], viewpoints, settings, options.output, name, as_json=options.json
        )
        if result.exception is not None:
            failures[image] = result.error
    if failures and len(images) > 1:
        listed = "\n".join(f"  {image}: {reason}" for image, reason in failures.items())
        print(f"{len(failures)} of {len(images)} images failed:\n{listed}", file=sys.stderr)
    return 1 if failures else 0


@contextmanager
def without_collecting() -> Iterator[None]:
    """Disable garbage collection while torch is imported, and exempt its objects from it later.

    These objects live until the process ends. Searching them for garbage would take half a second
    of a run, most of it at the end.
    """
    if "torch" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def _sides(
    options: argparse.Namespace, images: Sequence[Path], settings: JobSettings
) -> tuple[list[Path], Viewpoints | None]:
    """Return the photographs of the other sides, and the directions of all, with the front.

    Raises:
        InvalidInput: if a photograph does not exist or a direction is invalid, or if there is not
            exactly one image of the front.
    """
    from ..multiview.photographs import Viewpoints
    from .inputs import find_images

    named = [(side, getattr(options, f"image_{side}")) for side in ("left", "back", "right")]
    given = [*options.image_at, *((side, file) for side, file in named if file is not None)]
    if not given:
        return [], None
    viewpoints = Viewpoints.of(["front", *(side for side, _ in given)], settings)
    if len(images) != 1:
        raise InvalidInput(
            f"Photographs of other sides need one IMAGE, the object's front, got {len(images)}."
        )
    return [path for _, file in given for path in find_images([file])], viewpoints


def _make_one(
    chain: ImageTo3D,
    images: Sequence[Path],
    viewpoints: Viewpoints | None,
    settings: JobSettings,
    folder: Path,
    name: str,
    *,
    as_json: bool,
) -> JobResult:
    """Run the job of one object, and print its result as a table or as a line of JSON."""
    from .. import job

    image, bars = images[0], _Bars()
    try:
        result = job.run(
            chain,
            images,
            settings,
            folder,
            name,
            cameras=viewpoints,
            title=name,
            progress=bars,
            memory_advice=_MEMORY_ADVICE,
        )
    finally:
        bars.close()
    if as_json:
        print(json.dumps({"image": str(image), **result.summary()}), flush=True)
    elif result.exception is None:
        print(f"{image}\n{_summary(result, chain)}", flush=True)
    if result.exception is not None:
        hint = ""
        if not isinstance(result.exception, ImageTo3DError):
            log.info("unexpected error", exc_info=result.exception)
            hint = " (please report this, with the output of -v)"
        print(f"error: {image}: {result.error}{hint}", file=sys.stderr)
    return result


def _summary(result: JobResult, chain: ImageTo3D) -> str:
    """Return a table of the stages' durations, the peak memory and the files."""
    import torch

    from ..devices import peak_memory

    assert result.report is not None
    rows = [(stage, f"{took:.1f} s") for stage, took in result.seconds.items()]
    rows.append(("total", f"{sum(result.seconds.values()):.1f} s"))
    rows.append(("memory", f"{peak_memory() / 2**30:.2f} GiB peak"))
    if chain.device.type == "cuda":
        rows.append(("device", f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB peak"))
    rows.append(("seed", str(result.seed)))
    rows += [("try", str(one)) for one in result.tries]
    rows.append(("triangles", f"{result.report.triangles:,}"))
    if result.report.print is not None:
        rows.append(("print", str(result.report.print)))
    rows += [("licence", f"{text} ({model})") for model, text in result.licenses.items()]
    rows += [("file", str(path)) for path in result.files[:_SHOWN_FILES]]
    if len(result.files) > _SHOWN_FILES:
        rows.append(("", f"and {len(result.files) - _SHOWN_FILES} more"))
    return "\n".join(f"{name:>10}  {value}" for name, value in rows)


class _Bars:
    """Show one progress bar per stage."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage = ""

    def __call__(
        self, done: int, total: int, preview: Tensor | None = None, *, stage: str = ""
    ) -> None:
        from tqdm import tqdm

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
