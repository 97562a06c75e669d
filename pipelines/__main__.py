"""The command line.

python -m pipelines photo.jpg -o out/
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import torch
from PIL import ExifTags, Image
from torch import Tensor
from tqdm import tqdm

from .cameras import orbit_cameras
from .devices import DEVICES, DTYPES, memory_explained
from .errors import EnvironmentProblem, ImageTo3DError, InvalidInput
from .files import SIGNATURE, atomic_path, is_own
from .image_to_3d import ImageTo3D, Result, StageProgress, timed
from .mesh_io import FORMATS, mesh_path, save_mesh
from .meshes.decimation import MIN_FACES, decimate
from .meshes.drawing import preview_sheet
from .meshes.mesh import Mesh
from .meshes.texture import DEFAULT_TEXTURED_FACES, MAX_SIZE, MIN_SIZE, texture_of_field
from .multiview.schedulers import SCHEDULERS
from .orbit.rendering import render
from .pictures.background import DEFAULT_THRESHOLD, METHODS
from .pictures.reading import SUFFIXES, read_picture, save_picture, to_pillow
from .settings import DEFAULT_CHUNK_SIZE, Settings, SurfaceSettings, ViewSettings
from .surface.extraction import MAX_RESOLUTION, MIN_RESOLUTION
from .weights.presets import MULTIVIEW_PRESETS, RECONSTRUCTION_PRESETS

log = logging.getLogger(__name__)

ORBIT_SIZE = 256
ORBIT_SECONDS = 4.0
MEMORY_ADVICE = "try --offload, a smaller --resolution or --chunk-size, or --device cpu."
INTERRUPTED = 130  # the shell's code for Ctrl-C


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _number(kind: Callable[[str], float], low: float, high: float) -> Callable[[str], float]:
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
    parser = _Parser(
        prog="python -m pipelines" if __package__ == "pipelines" else "image-to-3d",
        description="Turn pictures into textured 3D meshes.",
    )
    parser.add_argument(
        "pictures",
        nargs="+",
        type=Path,
        metavar="PICTURE",
        help="picture files, or folders of them",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("out"),
        help="folder for the results (default: out)",
    )
    parser.add_argument(
        "--model",
        choices=list(RECONSTRUCTION_PRESETS),
        default="pocket",
        help="reconstruction model (default: pocket)",
    )
    parser.add_argument(
        "--views-model",
        choices=list(MULTIVIEW_PRESETS),
        help="multiview model (default: the one that fits --model)",
    )
    parser.add_argument(
        "--seed", type=_number(int, 0, 2**63 - 1), default=0, help="0 draws one and reports it"
    )
    parser.add_argument(
        "--steps",
        type=_number(int, 1, 1000),
        help="denoising steps (default: the views' model's own)",
    )
    parser.add_argument(
        "--guidance",
        type=_number(float, 0, 100),
        help="weight of the picture (default: the views' model's own)",
    )
    parser.add_argument("--scheduler", choices=SCHEDULERS, default="euler_ancestral")
    parser.add_argument(
        "--resolution",
        type=_number(int, MIN_RESOLUTION, MAX_RESOLUTION),
        help="of the surface grid (default: the model's own)",
    )
    parser.add_argument(
        "--chunk-size",
        type=_number(int, 1, 2**31),
        default=DEFAULT_CHUNK_SIZE,
        help="points evaluated at once",
    )
    parser.add_argument(
        "--threshold",
        type=_number(float, 1e-6, 1e6),
        help="density of the surface, for the instant-nerf models",
    )
    parser.add_argument("--exact", action="store_true", help="evaluate every grid point")
    parser.add_argument(
        "--min-part-share",
        type=_number(float, 0, 1),
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
        type=_number(float, 0, 1),
        default=DEFAULT_THRESHOLD,
        help="less of a mask than this is background (default: 0.05)",
    )
    parser.add_argument(
        "--foreground-ratio",
        type=_number(float, 0.1, 1),
        default=0.85,
        help="size of the object in its picture (default: 0.85)",
    )
    parser.add_argument("--format", choices=FORMATS, default="obj")
    parser.add_argument(
        "--up-axis", choices=("y", "z"), default="y", help="of the mesh file (default: y, front +z)"
    )
    parser.add_argument(
        "--max-faces",
        type=_number(int, MIN_FACES, 10**9),
        help="decimate to at most so many triangles",
    )
    parser.add_argument(
        "--texture",
        type=_number(int, MIN_SIZE, MAX_SIZE),
        metavar="SIZE",
        help="a texture of SIZE pixels instead of vertex colours",
    )
    parser.add_argument(
        "--orbit",
        type=_number(int, 0, 360),
        default=0,
        metavar="FRAMES",
        help="frames around the object, and a WebP of them",
    )
    parser.add_argument(
        "--save-views", action="store_true", help="save the framed picture and the six views too"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files of earlier runs; without it, new results get numbers",
    )
    parser.add_argument("--device", choices=DEVICES, default="auto")
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
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="say what is loaded from where"
    )
    return parser


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """The pictures among files and folders, but for those that this library wrote.

    A folder's pictures come in order of names.

    Raises:
        InvalidInput: if a path does not exist or a folder holds no picture.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and not is_own(p)
            )
            if not inside:
                raise InvalidInput(f"The folder {path} holds no picture ({', '.join(SUFFIXES)}).")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InvalidInput(f"There is no file or folder {path}.")
    return found


def output_names(pictures: Sequence[Path], folder: Path, *, overwrite: bool = False) -> list[str]:
    """One name for each picture: its own, without the ending.

    A name gets a number where two would be the same, or where the folder has files of that name.

    Args:
        pictures: of which none is ever a result's place.
        folder: of the results.
        overwrite: take names of earlier results, though not of the pictures.
    """
    inputs = {picture.resolve() for picture in pictures}
    names: list[str] = []
    for picture in pictures:
        name, number = picture.stem, 2
        while name in names or any(
            not overwrite or place.resolve() in inputs
            for place in _results(folder, name)
            if place.exists()
        ):
            name, number = f"{picture.stem}-{number}", number + 1
        names.append(name)
    return names


def _results(folder: Path, name: str) -> list[Path]:
    """All files and folders that a run may make for a picture of this name."""
    ends = [f".{suffix}" for suffix in (*FORMATS, "mtl")] + [
        "-preview.png",
        "-framed.png",
        "-orbit",
        "-orbit.webp",
        "",
    ]
    return [folder / f"{name}{end}" for end in (*ends, *(f"-view-{i}.png" for i in range(6)))]


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


def finished_mesh(result: Result, options: argparse.Namespace, progress: StageProgress) -> Mesh:
    """The mesh with as many triangles, and the texture, that the options ask for."""
    mesh = decimate(result.mesh, options.max_faces) if options.max_faces else result.mesh
    if not options.texture:
        return mesh
    return texture_of_field(
        mesh,
        result.field,
        options.texture,
        max_faces=options.max_faces or DEFAULT_TEXTURED_FACES,
        progress=lambda done, total, preview=None: progress("texture", done, total),
    )


def save_result(
    result: Result,
    mesh: Mesh,
    folder: Path,
    name: str,
    options: argparse.Namespace,
    progress: StageProgress,
) -> list[Path]:
    """Write all files that the options ask for.

    Returns:
        their paths, the mesh first.

    Raises:
        EnvironmentProblem: if a file cannot be written.
    """
    path = mesh_path(folder, name, options.format, mesh)
    save_mesh(
        mesh, path, up_axis=options.up_axis, metadata={"picture": name, "seed": str(result.seed)}
    )
    pictures = {folder / f"{name}-preview.png": preview_sheet(mesh)}
    if options.save_views:
        pictures[folder / f"{name}-framed.png"] = result.framed
        for i, view in enumerate(result.views.split(1)):
            pictures[folder / f"{name}-view-{i}.png"] = view
    written = [path]
    for path, picture in pictures.items():
        save_picture(picture, path)
        written.append(path)
    if options.orbit:
        written += _save_orbit(result, folder, name, options.orbit, progress)
    return written


def _save_orbit(
    result: Result, folder: Path, name: str, count: int, progress: StageProgress
) -> list[Path]:
    frames = render(
        result.field,
        orbit_cameras(count),
        ORBIT_SIZE,
        progress=lambda done, total, preview=None: progress("orbit", done, total),
    )
    written = []
    for i, frame in enumerate(frames.rgb.split(1)):
        written.append(folder / f"{name}-orbit" / f"{i:03d}.png")
        save_picture(frame, written[-1])
    stills = [to_pillow(frame) for frame in frames.rgb.split(1)]
    animation = folder / f"{name}-orbit.webp"
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = SIGNATURE
    duration = round(1000 * ORBIT_SECONDS / count)
    with atomic_path(animation) as partial:
        stills[0].save(
            partial,
            save_all=True,
            append_images=stills[1:],
            duration=duration,
            loop=0,
            quality=85,
            exif=exif,
        )
    return [animation, *written]


def summary(
    mesh: Mesh,
    seed: int,
    seconds: Mapping[str, float],
    written: Sequence[Path],
    device: torch.device,
) -> str:
    """A table of what was done."""
    rows = [(stage, f"{took:.1f} s") for stage, took in seconds.items()]
    rows.append(("in all", f"{sum(seconds.values()):.1f} s"))
    rows.append(("memory", f"{_peak_memory() / 2**30:.2f} GiB at most"))
    if device.type == "cuda":
        rows.append(("device", f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB at most"))
    rows.append(("seed", str(seed)))
    rows.append(("triangles", f"{len(mesh.faces):,}"))
    rows += [("file", str(path)) for path in written[:8]]
    if len(written) > 8:
        rows.append(("", f"and {len(written) - 8} more"))
    return "\n".join(f"{name:>10}  {value}" for name, value in rows)


def _peak_memory() -> int:
    """Bytes that this process held at most; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _check_output(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise EnvironmentProblem(
            f"Nothing can be written to {folder}: {error.strerror}. Choose another folder with -o."
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns: the exit code: 0, 1 if a picture failed, 2 for bad arguments, 130 for Ctrl-C.
    """
    # transformers announces at import that torchvision is missing, which is on purpose.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    parser = make_parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING, format="%(message)s"
    )
    settings = Settings(
        remove_bg=options.remove_bg,
        alpha_threshold=options.alpha_threshold,
        foreground_ratio=options.foreground_ratio,
        views=ViewSettings(options.steps, options.guidance, options.scheduler, options.seed),
        surface=SurfaceSettings(
            options.resolution,
            options.chunk_size,
            options.threshold,
            options.exact,
            options.min_part_share,
        ),
    )
    try:
        pictures = find_pictures(options.pictures)
    except InvalidInput as error:
        parser.error(str(error))
    try:
        _check_output(options.output)
        with memory_explained(MEMORY_ADVICE):
            chain = ImageTo3D.load(
                options.model,
                options.views_model,
                models_dirs=[options.models_dir] if options.models_dir else [],
                device=options.device,
                dtype=options.dtype,
                keep_half_copy=not options.no_half_copy,
                offload=options.offload,
            )
        names = output_names(pictures, options.output, overwrite=options.overwrite)
        failures = {}
        for picture, name in zip(pictures, names, strict=True):
            if (reason := _run_one(chain, picture, name, settings, options)) is not None:
                failures[picture] = reason
    except ImageTo3DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    if failures and len(pictures) > 1:
        listed = "\n".join(f"  {picture}: {reason}" for picture, reason in failures.items())
        print(f"{len(failures)} of {len(pictures)} pictures failed:\n{listed}", file=sys.stderr)
    return 1 if failures else 0


def _run_one(
    chain: ImageTo3D, picture: Path, name: str, settings: Settings, options: argparse.Namespace
) -> str | None:
    """Make one picture's files; returns what went wrong, or None."""
    bars = _Bars()
    try:
        with memory_explained(MEMORY_ADVICE):
            result = chain(read_picture(picture), settings, bars)
            seconds = dict(result.seconds)
            with timed("finishing", seconds):
                mesh = finished_mesh(result, options, bars)
            with timed("files", seconds):
                written = save_result(result, mesh, options.output, name, options, bars)
    except Exception as error:  # whatever it is, the next picture has its turn
        known = isinstance(error, ImageTo3DError)
        if not known:
            log.info("an error that has no sentence of its own", exc_info=error)
        reason = (
            str(error)
            if known
            else f"{type(error).__name__}: {error} (please report this, with what -v prints)"
        )
        print(f"error: {picture}: {reason}", file=sys.stderr)
        return reason
    finally:
        bars.close()
    print(
        f"{picture}\n{summary(mesh, result.seed, seconds, written, chain.multiview.device)}",
        flush=True,
    )
    return None


if __name__ == "__main__":
    sys.exit(main())
