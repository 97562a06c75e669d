"""The declarations of settings, and their agreement with the library's registries."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from pipelines import settings
from pipelines.devices import DTYPES
from pipelines.errors import InvalidInput
from pipelines.images.background import DEFAULT_THRESHOLD, METHODS
from pipelines.meshes.decimation import MIN_FACES
from pipelines.meshes.io import FORMATS
from pipelines.meshes.io.glb_material import TEXTURE_FORMATS
from pipelines.meshes.placement import PIVOTS
from pipelines.meshes.texture import MAX_SIZE, MIN_SIZE
from pipelines.multiview.schedulers import SCHEDULERS
from pipelines.settings import (
    JobSettings,
    LoadSettings,
    OutputSettings,
    Settings,
    SurfaceSettings,
    ViewSettings,
    declared,
)
from pipelines.weights.presets import MULTIVIEW_PRESETS, RECONSTRUCTION_PRESETS

ALL = declared(JobSettings, LoadSettings)


@pytest.mark.parametrize(
    ("name", "registry"),
    [
        ("model", RECONSTRUCTION_PRESETS),
        ("views_model", MULTIVIEW_PRESETS),
        ("remove_bg", METHODS),
        ("scheduler", SCHEDULERS),
        ("format", FORMATS),
        ("pivot", PIVOTS),
        ("texture_format", TEXTURE_FORMATS),
        ("dtype", ["auto", *DTYPES]),
    ],
)
def test_setting_choices_equal_the_registry(name, registry):
    assert list(ALL[name].choices) == list(registry)


def test_setting_bounds_and_defaults_equal_those_of_the_stages():
    assert (ALL["texture"].low, ALL["texture"].high) == (MIN_SIZE, MAX_SIZE)
    assert ALL["max_faces"].low == MIN_FACES
    assert ALL["alpha_threshold"].default == DEFAULT_THRESHOLD


def test_settings_have_help_texts_and_unique_names():
    fields = 0
    for model in (ViewSettings, SurfaceSettings, OutputSettings, Settings, JobSettings):
        own = model.model_fields.keys() - model.__base__.model_fields.keys()
        fields += sum(not _is_nested(model, name) for name in own)
    assert fields == len(declared(JobSettings))
    assert all(setting.help for setting in ALL.values())


def _is_nested(model: type[BaseModel], name: str) -> bool:
    annotation = model.model_fields[name].annotation
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: SurfaceSettings(resolution=9),
            "resolution must be a whole number between 32 and 512, got 9.",
        ),
        (
            lambda: JobSettings(surface={"resolution": 4096}),
            "resolution must be a whole number between 32 and 512, got 4096.",
        ),
        (
            lambda: SurfaceSettings(threshold=float("nan")),
            "threshold must be a number between 1e-06 and 1,000,000, got nan.",
        ),
        (
            lambda: OutputSettings(format="doc"),
            "format must be one of obj, glb, ply, stl, 3mf, got 'doc'.",
        ),
        (
            lambda: JobSettings.from_flat({"exact": "maybe"}),
            "exact must be true or false, got 'maybe'.",
        ),
        (
            lambda: OutputSettings(texture_format="webp"),
            "texture_format webp needs format glb, got obj.",
        ),
        (
            lambda: ViewSettings(colour=1),
            "There is no setting 'colour': it must be one of steps, guidance, scheduler, seed,"
            " shift, tokens, tries.",
        ),
        (
            lambda: LoadSettings(device="nonsense"),
            "device must be auto, cuda, cuda:1 and so on, mps or cpu, got 'nonsense'.",
        ),
    ],
    ids=["low", "nested", "nan", "choice", "bool", "pair", "unknown", "pattern"],
)
def test_settings_with_an_invalid_value_raise_one_sentence(make, sentence):
    with pytest.raises(InvalidInput) as caught:
        make()
    assert str(caught.value) == sentence


def test_from_flat_of_flat_values_returns_equal_settings():
    some = JobSettings(
        model="triposr",
        surface=SurfaceSettings(resolution=64),
        output=OutputSettings(format="glb", texture=1024),
    )
    assert some.flat()["texture"] == 1024
    assert JobSettings.from_flat(some.flat()) == some
    assert JobSettings.from_flat({"resolution": "64", "exact": "Yes", "title": "x"}).surface == (
        SurfaceSettings(resolution=64, exact=True)
    )


def test_settings_are_frozen_hashable_and_picklable():
    some = JobSettings(surface=SurfaceSettings(resolution=64))
    with pytest.raises(ValueError, match="frozen"):
        some.model = "triposr"
    assert pickle.loads(pickle.dumps(some)) == some
    assert hash(some) == hash(JobSettings(surface=SurfaceSettings(resolution=64)))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("resolution", "64", 64),
        ("guidance", "3.5", 3.5),
        ("exact", "no", False),
        ("device", "cuda:1", "cuda:1"),
    ],
)
def test_parse_converts_text(name, text, value):
    assert ALL[name].parse(text) == value


def test_settings_do_not_import_torch():
    code = f"import sys, {settings.__name__}; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
