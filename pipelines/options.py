"""The command line's options, its images and the names of its results."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from .devices import DEVICES, DTYPES
from .errors import InvalidInput
from .files import is_own
from .images.background import DEFAULT_THRESHOLD, METHODS
from .images.reading import SUFFIXES
from .meshes.decimation import MIN_FACES
from .meshes.io import FORMATS
from .meshes.io.glb_material import TEXTURE_FORMATS
from .meshes.placement import PIVOTS
from .meshes.texture import MAX_SIZE, MIN_SIZE
from .multiview.schedulers import SCHEDULERS
from .settings import Settings, SurfaceSettings, ViewSettings
from .surface.extraction import DEFAULT_CHUNK_SIZE
from .weights.presets import MULTIVIEW_PRESETS, RECONSTRUCTION_PRESETS

log = logging.getLogger(__name__)

PROGRAM = "python -m pipelines" if __package__ == "pipelines" else "image-to-3d"
INTERRUPTED = 130  # the shell's code for Ctrl-C
DEVICE_HELP = "auto, cuda, cuda:1 and so on, mps or cpu (default: auto, the best that is there)"


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def number(kind: Callable[[str], float], low: float, high: float) -> Callable[[str], float]:
    """An option's type: numbers from `low` to `high`."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be a number from {low} to {high}, got '{text}'")
        return value

    return parse


def make_parser() -> argparse.ArgumentParser:
    """All options, with their bounds."""
    parser = Parser(
        prog=PROGRAM,
        description="Turn images into textured 3D meshes.",
        epilog="In place of images: 'catalogue' makes thousands, 'serve' starts a server,"
        " 'models' lists the models, 'download' fetches one, 'doctor' says what a bug report"
        " needs; each has --help of its own.",
    )
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="image files, or folders of them"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("out"),
        help="folder for the results (default: out)",
    )
    add_settings(parser)
    parser.add_argument("--device", type=device_name, default="auto", help=DEVICE_HELP)
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files of earlier runs; without it, new results get numbers",
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="say what is loaded from where"
    )
    parser.set_defaults(previews=True, model=None)
    return parser


def device_name(text: str) -> str:
    """A device as `devices.choose_device` takes it; whether the machine has it is seen there."""
    kind, colon, number = text.partition(":")
    if kind not in DEVICES or (colon and not (kind == "cuda" and number.isdecimal())):
        raise argparse.ArgumentTypeError(
            f"must be one of {', '.join(DEVICES)}, or cuda:1 and so on, got '{text}'"
        )
    return text


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add what decides about results: models, settings, and what is written of them."""
    parser.add_argument(
        "--model",
        choices=list(RECONSTRUCTION_PRESETS),
        default="photo",
        help=f"reconstruction model: '{PROGRAM} models' lists them (default: the best that is here,"
        " for a catalogue photo)",
    )
    parser.add_argument(
        "--views-model",
        choices=list(MULTIVIEW_PRESETS),
        help="multiview model (default: the one that fits --model)",
    )
    parser.add_argument(
        "--seed", type=number(int, 0, 2**63 - 1), default=0, help="0 draws one and reports it"
    )
    parser.add_argument(
        "--steps",
        type=number(int, 1, 1000),
        help="denoising steps (default: the views' model's own)",
    )
    parser.add_argument(
        "--guidance",
        type=number(float, 0, 100),
        help="weight of the image (default: the views' model's own)",
    )
    parser.add_argument("--scheduler", choices=SCHEDULERS, default="euler_ancestral")
    parser.add_argument(
        "--resolution",
        type=number(int, 32, 512),
        help="of the surface grid (default: the model's own)",
    )
    parser.add_argument(
        "--chunk-size",
        type=number(int, 1, 2**31),
        default=DEFAULT_CHUNK_SIZE,
        help="points evaluated at once",
    )
    parser.add_argument(
        "--threshold",
        type=number(float, 1e-6, 1e6),
        help="density of the surface, for the instant-nerf models",
    )
    parser.add_argument("--exact", action="store_true", help="evaluate every grid point")
    parser.add_argument(
        "--min-part-share",
        type=number(float, 0, 1),
        default=1.0,
        help="smallest part kept, as share of the largest",
    )
    parser.add_argument(
        "--remove-bg",
        choices=METHODS,
        default="auto",
        metavar="METHOD",
        help=f"one of {', '.join(METHODS)}",
    )
    parser.add_argument(
        "--alpha-threshold",
        type=number(float, 0, 1),
        default=DEFAULT_THRESHOLD,
        help="less of a mask than this is background (default: 0.05)",
    )
    parser.add_argument(
        "--foreground-ratio",
        type=number(float, 0.1, 1),
        default=0.85,
        help="size of the object in its image (default: 0.85)",
    )
    parser.add_argument("--format", choices=FORMATS, default="obj")
    parser.add_argument(
        "--up-axis", choices=("y", "z"), default="y", help="of the mesh file (default: y, front +z)"
    )
    parser.add_argument(
        "--solid",
        action="store_true",
        help="one closed body for printing, without inner walls (needs libigl)",
    )
    parser.add_argument(
        "--size",
        type=number(float, 0, 1e9),
        default=0.0,
        help="longest side of the mesh, in the file's unit (millimetres for STL and 3MF); 0 keeps"
        " it",
    )
    parser.add_argument(
        "--pivot",
        choices=PIVOTS,
        default="keep",
        help="where the mesh's origin lies: as it is (default), in its middle, or below it",
    )
    parser.add_argument(
        "--max-faces",
        type=number(int, MIN_FACES, 10**9),
        help="decimate to at most so many triangles",
    )
    parser.add_argument(
        "--texture",
        type=number(int, MIN_SIZE, MAX_SIZE),
        metavar="SIZE",
        help="a texture instead of vertex colours, of at most SIZE pixels: where the images hold"
        " no more, of 1024 or 512",
    )
    parser.add_argument(
        "--texture-from",
        choices=("pictures", "views", "triplane"),
        default="pictures",
        help="colours of the texture: the photograph over the views over the triplane (default),"
        " the views over the triplane, or the triplane alone",
    )
    parser.add_argument(
        "--texture-format",
        choices=TEXTURE_FORMATS,
        default="png",
        help="of the texture in a GLB (default: png)",
    )
    parser.add_argument(
        "--orbit",
        type=number(int, 0, 360),
        default=0,
        metavar="FRAMES",
        help="frames around the object, and a WebP of them",
    )
    parser.add_argument(
        "--save-views",
        "--views",
        action="store_true",
        help="save the framed image and the six views too",
    )
    parser.add_argument("--dtype", choices=("auto", *DTYPES), default="auto")
    parser.add_argument(
        "--offload",
        action="store_true",
        help="keep on the device only the model at work: slower, for little device memory",
    )
    parser.add_argument(
        "--models-dir",
        type=Path,
        help="folder of weights: looked in first, and filled by downloads",
    )
    parser.add_argument(
        "--no-half-copy",
        action="store_true",
        help="do not keep half-precision copies of .ckpt and .bin files",
    )


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings among the options."""
    return Settings(
        remove_bg=options.remove_bg,
        alpha_threshold=options.alpha_threshold,
        foreground_ratio=options.foreground_ratio,
        views=ViewSettings(
            steps=options.steps,
            guidance=options.guidance,
            scheduler=options.scheduler,
            seed=options.seed,
        ),
        surface=SurfaceSettings(
            resolution=options.resolution,
            chunk_size=options.chunk_size,
            threshold=options.threshold,
            exact=options.exact,
            min_part_share=options.min_part_share,
        ),
    )


def contradiction(options: argparse.Namespace) -> str | None:
    """What in the options does not go together, as a sentence; None if all does."""
    if RECONSTRUCTION_PRESETS[options.model].sees == "picture" and (
        options.views_model or settings_of(options).views != ViewSettings()
    ):
        return (
            f"{options.model} sees the image itself: leave out --views-model, --steps,"
            " --guidance, --scheduler and --seed"
        )
    if options.texture_format != "png" and options.format != "glb":
        return "--texture-format is for the texture in a GLB: add --format glb"
    return None


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The images among files and folders, but for those that this library wrote.

    A folder's images come in order of names.

    Raises:
        InvalidInput: if a path does not exist or a folder holds no image.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and not is_own(p)
            )
            if not inside:
                raise InvalidInput(f"The folder {path} holds no image ({', '.join(SUFFIXES)}).")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InvalidInput(f"There is no file or folder {path}.")
    return found


def output_names(images: Sequence[Path], folder: Path, *, overwrite: bool = False) -> list[str]:
    """One name for each image: its own, without the ending.

    A name gets a number where two would be the same, or where the folder has files of that name.

    Args:
        images: of which none is ever a result's place.
        folder: of the results.
        overwrite: take names of earlier results, though not of the images.
    """
    inputs = {image.resolve() for image in images}
    names: list[str] = []
    for image in images:
        name, number = image.stem, 2
        while name in names or any(
            not overwrite or place.resolve() in inputs
            for place in _results(folder, name)
            if place.exists()
        ):
            name, number = f"{image.stem}-{number}", number + 1
        names.append(name)
    return names


def _results(folder: Path, name: str) -> list[Path]:
    """All files and folders that a run may make for an image of this name."""
    ends = [f".{suffix}" for suffix in (*FORMATS, "mtl")] + [
        "-preview.png",
        "-framed.png",
        "-orbit",
        "-orbit.webp",
        "",
    ]
    return [folder / f"{name}{end}" for end in (*ends, *(f"-view-{i}.png" for i in range(6)))]
