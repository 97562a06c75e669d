"""Weights with a JSON file of sizes in the same folder."""

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
def test_load_takes_sizes_from_the_json_beside_the_weights(own_sizes, dtype):
    load = partial(
        load_reconstruction_model, "instant-mesh-base", models_dirs=[own_sizes.parents[1]]
    )
    assert load(dtype=dtype).config == tiny_models.config()
    own_sizes.unlink()
    with pytest.raises(CheckpointError, match="weights of another model"):
        load(dtype=dtype)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no model has these sizes: Expecting"),
        ("[1]", r"sizes: .*, got \[1\]"),
        ('{"layers": 2}', "layers: Unexpected keyword argument, got 2"),
        ('{"transformer_dim": "64"}', "transformer_dim: Input should be a valid integer, got '64'"),
        ('{"grid_scale": true}', "grid_scale: Input should be a valid number, got True"),
        ('{"triplane_dim": -8}', "triplane_dim: Input should be greater than 0, got -8"),
        ('{"surface": "voxels"}', "surface: Input should be 'mesh' or 'nerf', got 'voxels'"),
        ('{"encoder": {"patch_size": 0}}', "encoder.patch_size: Input should be greater than 0"),
        ('{"transformer_heads": 7}', "no model has .*1024 channels cannot be shared by 7"),
        ('{"encoder": {"heads": 5}}', "no model has .*768 channels cannot be shared by 5"),
        ('{"encoder": 3}', "encoder: .*, got 3"),
        ('{"encoder": {"width": 3}}', "encoder.width: Unexpected keyword argument, got 3"),
    ],
)
def test_load_refuses_wrong_sizes_in_one_sentence(own_sizes, content, said):
    own_sizes.write_text(content)
    with pytest.raises(CheckpointError, match=said):
        load_reconstruction_model("instant-mesh-base", models_dirs=[own_sizes.parents[1]])
