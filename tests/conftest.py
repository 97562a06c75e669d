"""Fixtures of all tests: golden arrays, small images, tiny models."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
# Importing rembg makes numba compile pymatting, which takes a minute and which we never call.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

import hypothesis
import pytest
from PIL import Image, ImageDraw

from pipelines.image_to_3d import ImageTo3D

from . import tiny_models

# Run the same examples every time, without a deadline that a busy machine would miss. Examples may
# share the folder of a fixture, because each writes its own file.
_CALM = [hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile(
    "calm", deadline=None, derandomize=True, suppress_health_check=_CALM
)
hypothesis.settings.load_profile("calm")

GOLDEN = tiny_models.GOLDEN


@pytest.fixture
def image_path(tmp_path: Path) -> Path:
    """A red disc on white, 200 x 160."""
    image = Image.new("RGB", (200, 160), "white")
    ImageDraw.Draw(image).ellipse((60, 40, 140, 120), fill=(200, 30, 30))
    path = tmp_path / "disc.png"
    image.save(path)
    return path


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights with the tiny models."""
    folder = tmp_path_factory.mktemp("models")
    tiny_models.write_models(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(models_dir: Path) -> ImageTo3D:
    return ImageTo3D.load(
        tiny_models.MODEL, models_dirs=[models_dir], device="cpu", dtype="float32"
    )
