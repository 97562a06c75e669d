"""Folders below `base`, which a fixture sets."""

from __future__ import annotations

import os
from pathlib import Path

base = Path()
models_dir = ""
_folders: dict[str, list[str]] = {}


def use(folder: Path) -> None:
    global base, models_dir
    base, models_dir = folder, str(folder / "models")
    _folders.clear()
    for name in ("input", "output", "user", "models"):
        (folder / name).mkdir(parents=True, exist_ok=True)


def add_model_folder_path(name: str, path: str) -> None:
    _folders.setdefault(name, []).append(path)


def get_folder_paths(name: str) -> list[str]:
    return list(_folders[name])


def get_input_directory() -> str:
    return str(base / "input")


def get_output_directory() -> str:
    return str(base / "output")


def get_user_directory() -> str:
    return str(base / "user")


def get_save_image_path(prefix: str, output: str) -> tuple[str, str, int, str, str]:
    folder = os.path.join(output, os.path.dirname(prefix))
    if os.path.commonpath((output, os.path.abspath(folder))) != output:
        raise Exception("outside the output folder")  # as bare as core's
    os.makedirs(folder, exist_ok=True)
    name = os.path.basename(prefix)
    taken = [
        int(f[len(name) + 1 :].split("_")[0])
        for f in os.listdir(folder)
        if f.startswith(f"{name}_") and f[len(name) + 1 :][:5].isdigit()
    ]
    return folder, name, max(taken, default=0) + 1, os.path.dirname(prefix), prefix
