"""Every GLB that the library writes, checked by the Khronos validator.

It runs where Node.js and the package gltf-validator are installed, with npm:

    npm install --prefix ~/gltf-validator gltf-validator
    GLTF_VALIDATOR=~/gltf-validator python -m pytest tests/meshes/io/test_gltf_validator.py

Without GLTF_VALIDATOR, the package is looked up in node_modules of the working directory and where
npm installs packages globally.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipelines.meshes.io import save_mesh
from pipelines.meshes.material import Material
from pipelines.meshes.mesh import Mesh

from ...shapes import l_shape, textured_l
from .test_materials import whole_mesh

VALIDATE = """
const validator = require('gltf-validator'), fs = require('fs');
const bytes = new Uint8Array(fs.readFileSync(process.argv[1]));
validator.validateBytes(bytes).then(report => console.log(JSON.stringify(report.issues)));
"""


@pytest.fixture(scope="session")
def node_path() -> str:
    """Return the folders in which Node.js finds the validator."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no Node.js for the Khronos glTF validator")
    installed = subprocess.run(["npm", "root", "-g"], capture_output=True, text=True)
    folders = [Path("node_modules").resolve(), Path(installed.stdout.strip())]
    if "GLTF_VALIDATOR" in os.environ:
        folders.insert(0, Path(os.environ["GLTF_VALIDATOR"]).expanduser() / "node_modules")
    if not any((folder / "gltf-validator").is_dir() for folder in folders):
        pytest.skip("the npm package gltf-validator is not installed")
    return os.pathsep.join(map(str, folders))


def _with(**factors: object) -> Mesh:
    material = whole_mesh().material
    assert material is not None
    return replace(whole_mesh(), material=replace(material, factors=factors))


def _images_alone(**factors: object) -> Mesh:
    material = Material(emissive=torch.rand(4, 5, 3), factors=factors)
    return replace(whole_mesh(), material=material, vertex_alpha=None)


def _bare() -> Mesh:
    return Mesh(whole_mesh().vertices, whole_mesh().faces)


MESHES = {
    "plain": _bare,
    "colours": l_shape,
    "texture": textured_l,
    "everything": whole_mesh,
    "unlit": lambda: replace(_bare(), material=Material(unlit=True)),
    "unlit with texture": lambda: replace(textured_l(), material=Material(unlit=True)),
    "images without uvs": lambda: replace(whole_mesh(), uvs=None, texture=None),
    "opacity": lambda: replace(_bare(), vertex_alpha=torch.linspace(-0.5, 1.5, 162)),
    "automatic factors": lambda: _with(metallic_factor=-1.0, roughness_factor=-1.0),
    "factors beyond their range": lambda: _with(
        metallic_factor=2.0,
        roughness_factor=7,
        occlusion_strength=3.0,
        emissive_factor=[4.0, 2.0, -1.0],
        base_color_factor=[2.0, -1.0, 0.5, 1.5],
        normal_scale=-2.0,
    ),
    "no base colour": lambda: _with(base_color_factor=None, double_sided=1),
    "unknown factors": lambda: _with(clearcoat_factor=1.0, alpha_mode="unknown"),
    "cutoff without mask": lambda: _with(alpha_mode="BLEND", alpha_cutoff=0.5),
    "mask": lambda: _with(alpha_mode="MASK", alpha_cutoff=0.5),
    "strong light": lambda: _with(emissive_factor=[1.0, 0.5, 0.0], emissive_strength=8.0),
    "strong light of an image": lambda: _images_alone(emissive_strength=8.0),
    "strength without light": lambda: replace(
        _bare(), material=Material(factors={"emissive_strength": 8.0})
    ),
    "long and missing normals": lambda: replace(
        whole_mesh(), normals=whole_mesh().normals * torch.tensor([[5.0]]) * torch.eye(162)[:, :1]
    ),
    "zero tangents": lambda: replace(whole_mesh(), tangents=torch.zeros(162, 4)),
    "tangents without normals": lambda: replace(whole_mesh(), normals=None),
    "colours beyond their range": lambda: replace(_bare(), vertex_colors=whole_mesh().vertices * 3),
    "double precision": lambda: replace(_bare(), vertices=_bare().vertices.double() / 3),
    "unused vertices": lambda: replace(_bare(), faces=_bare().faces[:1]),
    "degenerate triangles": lambda: Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2], [0, 0, 0]])),
}


@pytest.mark.parametrize(
    ("name", "texture_format"),
    [(name, "png") for name in MESHES]
    + [(name, kind) for name in ("texture", "everything") for kind in ("jpeg", "webp")],
)
def test_khronos_finds_no_error_and_no_warning(tmp_path, node_path, name, texture_format):
    save_mesh(
        MESHES[name](),
        tmp_path / "m.glb",
        up_axis="z" if texture_format == "jpeg" else "y",
        metadata={"prompt": '{"1": "ä"}', "": "\0"},
        texture_format=texture_format,
    )
    answer = subprocess.run(
        ["node", "-e", VALIDATE, str(tmp_path / "m.glb")],
        env=os.environ | {"NODE_PATH": node_path},
        capture_output=True,
        text=True,
        check=True,
    )
    found = [issue for issue in json.loads(answer.stdout)["messages"] if issue["severity"] < 2]
    # A normal map without tangents is legal, but viewers may light it differently.
    assert [i for i in found if i["code"] != "MESH_PRIMITIVE_GENERATED_TANGENT_SPACE"] == []
