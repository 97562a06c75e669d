"""Check which models are on this machine, choose the best one, and download missing ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import EnvironmentProblem
from ..progress import Progress, silent
from ..settings import License
from .finding import (
    WeightsFile,
    find_file,
    hub_is_reachable,
    not_downloaded,
    pinned_revision,
    recorded_revision,
)
from .presets import (
    MULTIVIEW_PRESETS,
    RECONSTRUCTION_PRESETS,
    Preset,
    ReconstructionPreset,
    find_preset,
    is_commercial,
    licenses_of,
    views_model_for,
)

_PRESETS: dict[str, Preset] = {**RECONSTRUCTION_PRESETS, **MULTIVIEW_PRESETS}
#: Best first. On a CPU, a single network is preferred to half an hour of view generation.
_BEST_ON_A_GPU = ("instant-mesh-large", "instant-mesh-base", "triposr")
_BEST_ON_A_CPU = ("triposr", "instant-mesh-large", "instant-mesh-base")
#: Seconds from an image to its OBJ, on a GPU and on two CPU cores; see BENCHMARKS.md.
_SECONDS = {
    "photo": (1, 2),
    "triposr": (2, 15),
    "triposg": (10, 1800),
    "instant-mesh": (10, 1800),
    "instant-nerf": (10, 1800),
}


def _presets_of(name: str) -> list[Preset]:
    """Return the presets of a model and of its multiview model.

    Raises:
        InvalidInput: if there is no such model.
    """
    preset = find_preset(_PRESETS, name)
    views = views_model_for(name) if name in RECONSTRUCTION_PRESETS else None
    return [preset, *([MULTIVIEW_PRESETS[views]] if views else [])]


def files_of(name: str) -> list[WeightsFile]:
    """List all files of a model and of its multiview model; an embedded model has none.

    Args:
        name: a key of `RECONSTRUCTION_PRESETS` or `MULTIVIEW_PRESETS`.

    Raises:
        InvalidInput: if there is no such model.
    """
    return [file for preset in _presets_of(name) for file in preset.files]


def commit_of(name: str, models_dirs: Sequence[Path] = ()) -> str:
    """Return the commit of a reconstruction model's weights.

    If files are missing and the preset sets no commit, the commit to download is looked up.

    Returns:
        40 digits; empty if the model is embedded, or if the commit is unknown.
    """
    preset = RECONSTRUCTION_PRESETS[name]
    if preset.repository is None or preset.revision is not None:
        return preset.revision or ""
    if all(file.here(models_dirs) for file in preset.files):
        return recorded_revision(preset.repository, models_dirs) or ""
    try:
        return pinned_revision(preset.repository, preset.file, models_dirs)
    except Exception:  # hub and HTTP errors share no type; the download explains them
        return ""


def missing(name: str, models_dirs: Sequence[Path] = ()) -> list[WeightsFile]:
    """List the files of a model that are not on this machine."""
    return [file for file in files_of(name) if file.here(models_dirs) is None]


def check_available(names: Sequence[str], models_dirs: Sequence[Path] = ()) -> None:
    """Raise an error that lists every missing file, if there are any and the hub is unreachable.

    Without this check, libraries take half a minute per file to notice a missing network.

    Args:
        names: models, see `files_of`; multiview models must be listed separately.
        models_dirs: see `finding.find_file`.

    Raises:
        EnvironmentProblem: with the URL of each missing file and the path where to put it.
    """
    files = dict.fromkeys(file for name in names for file in _PRESETS[name].files)
    wanted = [file for file in files if file.here(models_dirs) is None]
    if not wanted or hub_is_reachable():
        return
    if len(wanted) == 1:
        raise not_downloaded(wanted[0], models_dirs, "no network")
    raise EnvironmentProblem(
        f"{len(wanted)} files of {' and '.join(names)} are missing and could not be downloaded (no"
        " network). The model photo needs no download. The files:\n"
        + "\n".join(file.address(models_dirs) for file in wanted)
    )


def best_model(on_cpu: bool, models_dirs: Sequence[Path] = (), license: License = "any") -> str:
    """Choose the best reconstruction model whose files are all on this machine.

    Args:
        on_cpu: whether it runs on the CPU.
        models_dirs: see `finding.find_file`.
        license: "commercial" skips models whose weights forbid commercial use.
    """
    order = _BEST_ON_A_CPU if on_cpu else _BEST_ON_A_GPU
    allowed = [name for name in order if license == "any" or is_commercial(name)]
    return next((name for name in allowed if not missing(name, models_dirs)), "photo")


def download(name: str, models_dirs: Sequence[Path] = (), progress: Progress = silent) -> int:
    """Download and verify a model's missing files, and return their number.

    Args:
        name: see `files_of`.
        models_dirs: see `finding.find_file`.
        progress: called with the number of bytes received of the current file. Interrupted
            downloads resume.

    Raises:
        InvalidInput, EnvironmentProblem, CheckpointError: as `files_of` and `finding.find_file`.
    """
    wanted = missing(name, models_dirs)
    for file in wanted:
        find_file(file, models_dirs, progress)
    return len(wanted)


def gigabytes(name: str) -> float:
    """Return the approximate size in GB of a model's full download; 0 for embedded models."""
    return sum(preset.gigabytes for preset in _presets_of(name))


def duration(name: str, on_cpu: bool) -> str:
    """Describe the approximate time that a reconstruction model takes from an image to an OBJ."""
    of_gpu, of_cpu = next(s for start, s in _SECONDS.items() if name.startswith(start))
    took = of_cpu if on_cpu else of_gpu
    return f"{took} s" if took < 90 else f"{took // 60} min"


def licenses(name: str) -> str:
    """Return the licences of the weights of a model and of its multiview model."""
    return " and ".join(dict.fromkeys(licenses_of(name).values()))


def table(models_dirs: Sequence[Path], on_cpu: Sequence[bool] = ()) -> list[tuple[str, ...]]:
    """Return a row for each model: name, input, size, times, location, licences.

    Args:
        models_dirs: see `finding.find_file`.
        on_cpu: for each column of times, True for the times on a CPU, False for those on a GPU.
    """
    rows: list[tuple[str, ...]] = []
    for name, preset in _PRESETS.items():
        takes, took = "one image, makes views", [""] * len(on_cpu)
        if isinstance(preset, ReconstructionPreset):
            takes = "one image" if preset.input_kind == "image" else "six views"
            took = [duration(name, each) for each in on_cpu]
        size = f"{gigabytes(name):.1f} GB" if gigabytes(name) else ""
        rows.append((name, takes, size, *took, _place(name, models_dirs), licenses(name)))
    return rows


def _place(name: str, models_dirs: Sequence[Path]) -> str:
    wanted = files_of(name)
    if not wanted:
        return "embedded"
    here = [place for file in wanted if (place := file.here(models_dirs)) is not None]
    if len(here) == len(wanted):
        return str(here[0])
    if not here:
        return "not downloaded"
    return f"{here[0]}, {len(wanted) - len(here)} of {len(wanted)} files missing"
