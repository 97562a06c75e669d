"""`doctor`: describe this machine for a bug report."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from .parsing import Parser, path

_PACKAGES = (
    "torch", "numpy", "pillow", "trimesh", "diffusers", "transformers", "huggingface_hub", "rembg",
    "onnxruntime", "xatlas", "libigl", "fast-simplification", "pynanoinstantmeshes", "ray",
)  # fmt: skip


def make_parser() -> Parser:
    """Return the parser of all options."""
    parser = Parser("doctor", "[DIR ...]", "Print versions, devices and models, without secrets.")
    parser.add_argument(
        "models_dirs", nargs="*", type=path, metavar="DIR", help="folders of weights"
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Print the report; return the exit code."""
    print(report(make_parser().parse_args(arguments).models_dirs))
    return 0


def report(models_dirs: Sequence[Path] = ()) -> str:
    """Return a table of versions, devices, models and performance hints, without secrets.

    Args:
        models_dirs: folders to search for weights.
    """
    rows = [*_system(), *_devices(), *_models(models_dirs)]
    return "\n".join(f"{name:>24}  {value}" for name, value in rows)


def _system() -> Iterator[tuple[str, str]]:
    yield "system", f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "Python", f"{platform.python_version()} ({sys.executable})"
    for package in _PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield package, "not installed"
    named = os.environ.get("COMFYUI_PATH")
    folders = [Path(named)] if named else [_home() / "ComfyUI", _home() / "comfy/ComfyUI"]
    found = next((folder for folder in folders if (folder / "main.py").is_file()), None)
    yield "ComfyUI", str(found or "not found (set COMFYUI_PATH)")


def _devices() -> Iterator[tuple[str, str]]:
    import torch

    from ..devices import choose_device, choose_dtype

    device = choose_device("auto")
    yield (
        "device",
        f"{device} in {choose_dtype('auto', device)} (chosen by 'auto')".replace("torch.", ""),
    )
    yield "CPU", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    for i in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(i)
        yield f"cuda:{i}", f"{gpu.name}, {gpu.total_memory / 2**30:.1f} GiB"
    free = shutil.disk_usage(_home()).free
    yield "free disk space", f"{free / 2**30:.0f} GiB"
    if device.type == "cpu":
        yield "slow here", "the six-view models (half an hour per image on two cores)"
        yield "quick here", "photo (seconds), triposr (under half a minute)"


def _home() -> Path:
    """Return the home directory, or the working directory for users without one."""
    with suppress(RuntimeError):
        if (home := Path.home()).is_dir():
            return home
    return Path.cwd()


def _models(models_dirs: Sequence[Path]) -> Iterator[tuple[str, str]]:
    from ..weights.inventory import table

    for name, *_, where, license_ in table(models_dirs):
        yield name, f"{where} ({license_})"
    if os.environ.get("HF_HUB_OFFLINE"):
        yield "HF_HUB_OFFLINE", "set: nothing is downloaded"
