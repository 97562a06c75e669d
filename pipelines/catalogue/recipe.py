"""Derive each item's settings, seed and fingerprint from the run's settings and the item's row."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass

from .. import __version__, job
from ..errors import InvalidInput
from ..multiview.photographs import Viewpoints
from ..settings import JobSettings, LoadSettings, declared
from ..weights.presets import RECONSTRUCTION_PRESETS
from .items import Item

#: Settings that a row cannot change, because each worker loads its models only once.
_RUN_SETTINGS = declared(LoadSettings).keys() | {"model", "views_model", "license"}
SETTINGS = declared(JobSettings, LoadSettings)
#: Settings that do not change the result.
_WITHOUT_EFFECT = {"models_dir", "offload", "device", "chunk_size", "license"}
#: Revision of embedded models in fingerprints; constant, so that a new version of this library
#: does not repeat finished items.
_EMBEDDED = "embedded in 0.2.0"
#: The settings and defaults of version 0.2.0. In a fingerprint, a default value is replaced by the
#: default of 0.2.0, or omitted if the setting is newer. New settings and changed defaults
#: therefore do not repeat finished items.
_DEFAULTS_OF_0_2_0 = {
    "alpha_threshold": 0.05,
    "dtype": "auto",
    "exact": False,
    "foreground_ratio": 0.85,
    "format": "obj",
    "guidance": None,
    "max_faces": None,
    "min_part_share": 1.0,
    "model": "photo",
    "orbit": 0,
    "pivot": "keep",
    "previews": False,
    "remove_bg": "auto",
    "resolution": None,
    "save_views": False,
    "scheduler": "euler_ancestral",
    "size": 0.0,
    "solid": False,
    "steps": None,
    "texture": None,
    "texture_format": "png",
    "texture_from": "pictures",
    "threshold": None,
    "up_axis": "y",
    "views_model": None,
}


@dataclass(frozen=True, slots=True)
class Task:
    """The work to do for one item.

    Attributes:
        folder: folder of the result files, relative to the catalogue's folder.
        fingerprint: digest of all settings that change the result.
        seed: seed of the sampled views or shape; 0 for models without random sampling.
        model, revision: see `manifest.Row`.
    """

    item: Item
    folder: str
    fingerprint: str
    seed: int
    model: str
    revision: str


@dataclass(frozen=True)
class Recipe:
    """The settings of a run; each item overrides some of them.

    Attributes:
        settings: defaults for all items. Their seed must not be 0 if the model uses it.
        loading: settings of model loading.
        commit: commit of the model's weights, see `weights.inventory.commit_of`.
    """

    settings: JobSettings
    loading: LoadSettings
    commit: str = ""

    @property
    def revision(self) -> str:
        """Commit of the model's weights; their repository if the commit is unknown.

        For embedded models, this library's version.
        """
        return self._weights(self.settings.model) or f"embedded in {__version__}"

    def _weights(self, model: str) -> str:
        preset = RECONSTRUCTION_PRESETS[model]
        return preset.revision or self.commit or preset.repository or ""

    def settings_of(self, item: Item) -> JobSettings:
        """Return the run's settings with the overrides of the item's row.

        Raises:
            InvalidInput: if a value is out of range, or the setting applies to the whole run.
        """
        try:
            settings = _with_overrides(self.settings, item.overrides)
            job.check_images(settings, len(item.pictures), viewpoints_of(item, settings))
            return settings
        except InvalidInput as error:
            raise InvalidInput(f"The row of '{item.id}': {error}") from error

    def task(self, item: Item, folder: str) -> Task:
        """Return the task of an item.

        The seed is derived from the run's seed and the item's id. It is therefore independent of
        the order of items, the machine and the number of tries.
        """
        settings = self.settings_of(item)
        seed = 0
        if job.takes_seed(settings.model):
            own = "seed" in {_name(column) for column, _ in item.overrides}
            drawn = hashlib.sha256(f"{self.settings.views.seed}:{item.id}".encode()).digest()
            seed = settings.views.seed if own else int.from_bytes(drawn[:7], "big") or 1
        fingerprint, model = self._fingerprint(item, settings, seed), self.settings.model
        return Task(item, folder, fingerprint, seed, model, self.revision)

    def _fingerprint(self, item: Item, settings: JobSettings, seed: int) -> str:
        values = settings.flat() | self.loading.flat()
        own = {
            name: value
            for name, value in values.items()
            if name not in _WITHOUT_EFFECT and value != SETTINGS[name].default
        }
        revision = self._weights(settings.model) or _EMBEDDED
        decisive = _DEFAULTS_OF_0_2_0 | own | {"seed": seed, "revision": revision}
        decisive |= {"sides": item.azimuths} if item.sides else {}
        text = json.dumps(decisive, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def viewpoints_of(item: Item, settings: JobSettings) -> Viewpoints | None:
    """Return the directions of an item's photographs; None if there is only one.

    Raises:
        InvalidInput: if two are from the same side.
    """
    return Viewpoints.of(item.azimuths, settings) if item.sides else None


def unknown_columns(items: list[Item]) -> list[str]:
    """Return the names of columns that are not settings, sorted."""
    columns = {column for item in items for column, _ in item.overrides}
    return sorted(column for column in columns if _name(column) not in SETTINGS)


@functools.lru_cache(maxsize=4096)
def _with_overrides(base: JobSettings, overrides: tuple[tuple[str, str], ...]) -> JobSettings:
    values = {_name(column): text for column, text in overrides}
    if of_the_run := sorted(values.keys() & _RUN_SETTINGS):
        raise InvalidInput(f"{of_the_run[0]} is a setting of the whole run: pass it as an option.")
    settings = JobSettings.from_flat(base.flat() | values)
    job.check(settings)
    return settings


def _name(column: str) -> str:
    return column.strip().lower().replace("-", "_")
