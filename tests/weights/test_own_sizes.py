"""Weights of other sizes than the official ones, with a JSON of these beside them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from pipelines.errors import CheckpointError
from pipelines.weights.reconstruction_models import load_reconstruction_model

from .. import tiny_models


@pytest.fixture
def own_sizes(tmp_path: Path) -> Path:
    tiny_models.write_reconstruction_model(tmp_path / "InstantMesh")
    return tmp_path / "InstantMesh" / "instant_mesh_base.json"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_of_other_sizes_have_these_beside_them(own_sizes, dtype):
    load = partial(
        load_reconstruction_model, "instant-mesh-base", models_dirs=[own_sizes.parents[1]]
    )
    for _ in range(2):  # from the pickle, then from its half copy
        assert load(dtype=dtype).config == tiny_models.config()
    own_sizes.unlink()
    with pytest.raises(CheckpointError, match="weights of another model"):
        load(dtype=dtype)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read"),
        ("[1]", r"must hold an object of sizes, got \[1\]"),
        ('{"layers": 2}', "'layers' is no size; there are transformer_layers"),
        ('{"transformer_dim": "64"}', "'transformer_dim' must be a whole number above 0, got '64'"),
        ('{"grid_scale": true}', "'grid_scale' must be a number above 0, got True"),
        ('{"triplane_dim": -8}', "'triplane_dim' must be a whole number above 0, got -8"),
        ('{"surface": "nerf"}', "'surface' is no size"),
        ('{"encoder": {"patch_size": 0}}', "'patch_size' must be a whole number above 0"),
        (
            '{"transformer_heads": 7}',
            "No model has the sizes in .*1024 channels cannot be shared by 7",
        ),
        (
            '{"encoder": {"heads": 5}}',
            "No model has the sizes in .*768 channels cannot be shared by 5",
        ),
        ('{"encoder": 3}', "must hold an object of sizes, got 3"),
        ('{"encoder": {"width": 3}}', "'width' is no size; there are hidden_size"),
    ],
)
def test_wrong_sizes_have_a_sentence(own_sizes, content, said):
    own_sizes.write_text(content)
    with pytest.raises(CheckpointError, match=said):
        load_reconstruction_model("instant-mesh-base", models_dirs=[own_sizes.parents[1]])
