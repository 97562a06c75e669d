"""Check which models are on this machine, choose the best one, and download missing ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import EnvironmentProblem, InvalidInput
from ..progress import Progress, silent
from ..settings import License
from .finding import find_file, hub_is_reachable, local_file, place_of, url_of
from .multiview_models import repository_files
from .presets import (
    MULTIVIEW_PRESETS,
    RECONSTRUCTION_PRESETS,
    MultiviewPreset,
    ReconstructionPreset,
    is_commercial,
    licenses_of,
    views_model_for,
)

#: Best first. On a CPU, a single network is preferred to half an hour of view generation.
_BEST_ON_A_GPU = ("instant-mesh-large", "instant-mesh-base", "triposr")
_BEST_ON_A_CPU = ("triposr", "instant-mesh-large", "instant-mesh-base")
#: Seconds from an image to its OBJ, on a GPU and on two CPU cores; see BENCHMARKS.md.
_SECONDS = {
    "photo": (1, 2),
    "triposr": (2, 15),
    "triposg": (10, 2400),
    "instant-mesh": (10, 1800),
    "instant-nerf": (10, 1800),
}


@dataclass(frozen=True)
class WeightsFile:
    """A file that a model needs: the first of `names` that exists in the repository."""

    repository: str
    revision: str | None
    names: tuple[str, ...]
    digest: str | None = None

    def here(self, models_dirs: Sequence[Path]) -> Path | None:
        """Return the file's path on this machine, or None if it is missing."""
        return local_file(self.repository, self.names, models_dirs, revision=self.revision)


def files_of(name: str) -> list[WeightsFile]:
    """List all files of a model and of its multiview model; an embedded model has none.

    Args:
        name: a key of `RECONSTRUCTION_PRESETS` or `MULTIVIEW_PRESETS`.

    Raises:
        InvalidInput: if there is no such model.
    """
    if (preset := RECONSTRUCTION_PRESETS.get(name)) is not None:
        views = views_model_for(name)
        return [*_own_files(preset), *(_files_of_views(MULTIVIEW_PRESETS[views]) if views else ())]
    if (multiview := MULTIVIEW_PRESETS.get(name)) is not None:
        return list(_files_of_views(multiview))
    known = dict.fromkeys((*RECONSTRUCTION_PRESETS, *MULTIVIEW_PRESETS))
    raise InvalidInput(f"There is no model '{name}': it must be one of {', '.join(known)}.")


def _own_files(preset: ReconstructionPreset) -> Iterator[WeightsFile]:
    if preset.repository is not None:
        yield WeightsFile(preset.repository, preset.revision, (preset.file,), preset.sha256)
        for name in preset.more_files:
            yield WeightsFile(preset.repository, preset.revision, (name,))


def _files_of_views(preset: MultiviewPreset) -> Iterator[WeightsFile]:
    if preset.unet_repository and preset.unet_file:
        yield WeightsFile(preset.unet_repository, preset.unet_revision, (preset.unet_file,))
    for names in repository_files(with_unet=preset.unet_file is None):
        yield WeightsFile(preset.repository, preset.revision, names)


def missing(name: str, models_dirs: Sequence[Path] = ()) -> list[WeightsFile]:
    """List the files of a model that are not on this machine."""
    return [file for file in files_of(name) if file.here(models_dirs) is None]


def check_available(names: Sequence[str], models_dirs: Sequence[Path] = ()) -> None:
    """Raise an error that lists every missing file if the hub cannot be reached.

    Without this check, libraries take half a minute per file to notice it.

    Args:
        names: models, see `files_of`; multiview models must be listed separately.
        models_dirs: see `finding.find_file`.

    Raises:
        EnvironmentProblem: with the URL of each missing file and the path where to put it.
    """
    files = dict.fromkeys(file for name in names for file in _files_alone(name))
    wanted = [file for file in files if file.here(models_dirs) is None]
    if not wanted or hub_is_reachable():
        return
    places = [
        f"{url_of(file.repository, file.names, file.revision)} : put it at"
        f" {place_of(file.repository, file.names, models_dirs)}."
        for file in wanted
    ]
    if len(wanted) == 1:
        raise EnvironmentProblem(
            f"{wanted[0].names[0]} is missing and could not be downloaded (no network) from"
            f" {places[0]} The model photo needs no download."
        )
    raise EnvironmentProblem(
        f"{len(wanted)} files of {' and '.join(names)} are missing and could not be downloaded (no"
        " network). The model photo needs no download. The files:\n" + "\n".join(places)
    )


def _files_alone(name: str) -> list[WeightsFile]:
    """List the files of a model as `files_of` does, but without those of its multiview model."""
    preset = RECONSTRUCTION_PRESETS.get(name)
    return files_of(name) if preset is None else list(_own_files(preset))


def best_model(
    device: torch.device, models_dirs: Sequence[Path] = (), license: License = "any"
) -> str:
    """Choose the best reconstruction model whose files are all on this machine.

    Args:
        device: the device to run it on.
        models_dirs: see `finding.find_file`.
        license: "commercial" skips models whose weights forbid commercial use.
    """
    order = _BEST_ON_A_CPU if device.type == "cpu" else _BEST_ON_A_GPU
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
        find_file(
            file.repository,
            file.names,
            models_dirs,
            progress,
            revision=file.revision,
            digest=file.digest,
        )
    return len(wanted)


def gigabytes(name: str) -> float:
    """Return the approximate size in GB of a model's full download; 0 for embedded models."""
    if (preset := RECONSTRUCTION_PRESETS.get(name)) is None:
        return MULTIVIEW_PRESETS[name].gigabytes
    views = views_model_for(name)
    return preset.gigabytes + (MULTIVIEW_PRESETS[views].gigabytes if views else 0)


def duration(name: str, device: torch.device) -> str:
    """Describe the approximate time that a reconstruction model takes from an image to an OBJ."""
    of_gpu, of_cpu = next(s for start, s in _SECONDS.items() if name.startswith(start))
    took = of_cpu if device.type == "cpu" else of_gpu
    return f"{took} s" if took < 90 else f"{took // 60} min"


def licenses(name: str) -> str:
    """Return the licences of the weights of a model and of its multiview model."""
    return " and ".join(dict.fromkeys(licenses_of(name).values()))


def table(device: torch.device, models_dirs: Sequence[Path] = ()) -> list[tuple[str, ...]]:
    """Return a row for each model: name, input, size, time, location, licences."""
    rows: list[tuple[str, ...]] = []
    for name, preset in RECONSTRUCTION_PRESETS.items():
        rows.append(
            (
                name,
                "one image" if preset.input_kind == "image" else "six views",
                _size(name),
                duration(name, device),
                _place(name, models_dirs),
                licenses(name),
            )
        )
    for name, views in MULTIVIEW_PRESETS.items():
        row = (name, "draws views", _size(name), "", _place(name, models_dirs), views.license)
        rows.append(row)
    return rows


def _size(name: str) -> str:
    return f"{gigabytes(name):.1f} GB" if gigabytes(name) else ""


def _place(name: str, models_dirs: Sequence[Path]) -> str:
    wanted = files_of(name)
    if not wanted:
        return "embedded"
    here = [place for file in wanted if (place := file.here(models_dirs)) is not None]
    if len(here) == len(wanted):
        return str(here[0])
    if not here:
        return "not here"
    return f"{here[0]}, {len(wanted) - len(here)} of {len(wanted)} files not here"
