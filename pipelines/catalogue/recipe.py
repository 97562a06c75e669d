"""What is made of each item: the run's settings, changed by its row."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass

from .. import __version__, job
from ..errors import InvalidInput
from ..settings import JobSettings, LoadSettings, declared
from ..weights.presets import RECONSTRUCTION_PRESETS
from .items import Item

#: What a row cannot set, since a worker loads its models once.
_OF_THE_RUN = declared(LoadSettings).keys() | {"model", "views_model"}
SETTINGS = declared(JobSettings, LoadSettings)
#: What changes no result.
_WITHOUT_EFFECT = {"models_dir", "offload", "device", "chunk_size"}
#: The revision of embedded models in all fingerprints: a new version makes no finished item anew.
_EMBEDDED = "embedded in 0.2.0"
#: The settings and defaults of version 0.2.0. A value that is its default counts in a fingerprint
#: as it did then, or not at all: neither a new setting nor a new default makes old items anew.
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
    """One item's work.

    Attributes:
        folder: of its files, within the catalogue's.
        fingerprint: of what is made of it.
        seed: of its views or its shape; 0 for models that sample neither.
    """

    item: Item
    folder: str
    fingerprint: str
    seed: int


@dataclass(frozen=True)
class Recipe:
    """The settings of a run, from which each item's follow.

    Attributes:
        settings: of items whose row changes nothing. The seed must be drawn, unless the model
            takes images.
        loading: how the models are loaded.
    """

    settings: JobSettings
    loading: LoadSettings

    @property
    def revision(self) -> str:
        """The commit of the model's weights, its repository, or this version for embedded ones."""
        preset = RECONSTRUCTION_PRESETS[self.settings.model]
        return preset.revision or preset.repository or f"embedded in {__version__}"

    def settings_of(self, item: Item) -> JobSettings:
        """Return the run's settings, changed by the item's row.

        Raises:
            InvalidInput: if a value is out of range, or cannot be set by a row.
        """
        try:
            return _with_overrides(self.settings, item.overrides)
        except InvalidInput as error:
            raise InvalidInput(f"The row of '{item.id}': {error}") from error

    def task(self, item: Item, folder: str) -> Task:
        """Return what is to be done with an item.

        Its seed follows from the run's seed and the item's id, so that it does not depend on the
        order, the machine and the number of tries.
        """
        settings = self.settings_of(item)
        seed = 0
        if job.takes_seed(settings.model):
            own = "seed" in {_name(column) for column, _ in item.overrides}
            drawn = hashlib.sha256(f"{self.settings.views.seed}:{item.id}".encode()).digest()
            seed = settings.views.seed if own else int.from_bytes(drawn[:7], "big") or 1
        return Task(item, folder, self._fingerprint(settings, seed), seed)

    def _fingerprint(self, settings: JobSettings, seed: int) -> str:
        values = settings.flat() | self.loading.flat()
        own = {
            name: value
            for name, value in values.items()
            if name not in _WITHOUT_EFFECT and value != SETTINGS[name].default
        }
        preset = RECONSTRUCTION_PRESETS[settings.model]
        revision = preset.revision or preset.repository or _EMBEDDED
        decisive = _DEFAULTS_OF_0_2_0 | own | {"seed": seed, "revision": revision}
        text = json.dumps(decisive, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def unknown_columns(items: list[Item]) -> list[str]:
    """Return the columns that are no settings, in order of names."""
    columns = {column for item in items for column, _ in item.overrides}
    return sorted(column for column in columns if _name(column) not in SETTINGS)


@functools.lru_cache(maxsize=4096)
def _with_overrides(base: JobSettings, overrides: tuple[tuple[str, str], ...]) -> JobSettings:
    values = {_name(column): text for column, text in overrides}
    if of_the_run := sorted(values.keys() & _OF_THE_RUN):
        raise InvalidInput(f"{of_the_run[0]} is a setting of the whole run: pass it as an option.")
    settings = JobSettings.from_flat(base.flat() | values)
    job.check(settings)
    return settings


def _name(column: str) -> str:
    return column.strip().lower().replace("-", "_")
