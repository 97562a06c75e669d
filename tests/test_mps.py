"""Check without a Mac that the models run on MPS.

Every operator that runs on a model's device must have an MPS kernel in every PyTorch that
requirements.txt allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torchgen
import yaml
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.stages import smooth_triplane
from pipelines.cameras import orbit_cameras
from pipelines.multiview.sampling import sample_views
from pipelines.multiview.schedulers import SCHEDULERS
from pipelines.reconstruction.frustum import FrustumConfig
from pipelines.reconstruction.instant_mesh import ReconstructionModel
from pipelines.reconstruction.reconstruct import reconstruct
from pipelines.rendering.render_field import render_field
from pipelines.settings import SurfaceSettings, ViewSettings
from pipelines.surface.extraction import extract_mesh

CPU = torch.device("cpu")
# Operators that got their MPS kernel after PyTorch 2.4: the difference between two releases'
# torchgen/packaged/ATen/native/native_functions.yaml, without backward and special functions.
LATER = {
    "__lshift__",
    "__rshift__",
    "_assert_async",
    "_cholesky_solve_helper",
    "_convert_weight_to_int4pack",
    "_cummax_helper",
    "_cummin_helper",
    "_dirichlet_grad",
    "_embedding_bag",
    "_embedding_bag_forward_only",
    "_linalg_det",
    "_linalg_slogdet",
    "_linalg_solve_ex",
    "_logcumsumexp",
    "_sample_dirichlet",
    "_standard_gamma",
    "_to_sparse",
    "_unique",
    "_upsample_bicubic2d_aa",
    "_upsample_bilinear2d_aa",
    "_upsample_nearest_exact3d",
    "angle",
    "avg_pool3d",
    "bitwise_left_shift",
    "bitwise_right_shift",
    "cholesky",
    "cholesky_inverse",
    "col2im",
    "erfc",
    "gcd",
    "grid_sampler_3d",
    "hardshrink",
    "i0",
    "igamma",
    "igammac",
    "im2col",
    "index_copy",
    "index_reduce",
    "isin",
    "isneginf",
    "isposinf",
    "kthvalue",
    "lcm",
    "linalg_cholesky_ex",
    "linalg_householder_product",
    "linalg_lu",
    "linalg_lu_factor_ex",
    "linalg_qr",
    "lu_unpack",
    "max_pool3d_with_indices",
    "max_unpool2d",
    "max_unpool3d",
    "nanmedian",
    "nonzero_static",
    "scatter_reduce",
    "sinc",
    "tril_indices",
    "triu_indices",
    "unique_dim",
    "upsample_bicubic2d",
    "upsample_nearest3d",
    "upsample_trilinear3d",
    "vdot",
}
ELSEWHERE = {
    "_scaled_dot_product_flash_attention_for_cpu",  # each device has its own
    "upsample_bicubic2d",  # the library runs these four on the CPU
    "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
    "grid_sampler_3d",
}


class Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        self.names.add(function.name().removeprefix("aten::"))
        return function(*arguments, **(named or {}))


@cache
def kernels() -> dict[str, tuple[str, str | None]]:
    """Describe the kernels of each operator of the installed PyTorch, by the operator's name.

    Each value is a pair: the operator's dispatch keys, and the name of the operator whose kernels
    it uses (None if it has its own).
    """
    path = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    entries = yaml.load(
        path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )
    return {
        e["func"].split("(")[0]: (" ".join(e.get("dispatch") or {}), e.get("structured_delegate"))
        for e in entries
    }


def runs_on_mps(name: str) -> bool:
    base = name.split(".")[0]
    if base in LATER or base.rstrip("_") in LATER:  # the operator, or its in-place variant
        return False
    keys, delegate = kernels()[name]
    return runs_on_mps(delegate) if delegate else not keys or "MPS" in keys or "Composite" in keys


def triplane_stage(tiny):
    resized = replace(
        tiny.reconstruction.config,
        encoder=replace(tiny.reconstruction.config.encoder, view_size=160),
    )
    reconstruct(ReconstructionModel(resized).requires_grad_(False), torch.rand(6, 3, 128, 128))


def views_stage(tiny):
    for scheduler in SCHEDULERS:
        sample_views(
            tiny.multiview,
            torch.rand(1, 3, 64, 64),
            ViewSettings(steps=2, scheduler=scheduler, seed=1),
        )


def surface_stage(preset: str) -> Callable[[Any], None]:
    def run(_) -> None:
        triplane, threshold = smooth_triplane(preset, CPU)
        extract_mesh(triplane, SurfaceSettings(resolution=192, threshold=threshold))
        render_field(triplane, orbit_cameras(1), 16)

    return run


def photo_stage(_: Any) -> None:
    model = FrustumConfig(image_size=64, layers=1).build().eval().requires_grad_(False)
    reconstruct(model, torch.rand(1, 3, 80, 80), masks=torch.ones(1, 1, 80, 80))


STAGES = {
    "a photograph": photo_stage,
    "views": views_stage,
    "triplane": triplane_stage,
    "FlexiCubes and orbit": surface_stage("instant-mesh-base"),
    "marching cubes and orbit": surface_stage("instant-nerf-base"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_stage_uses_only_operators_with_an_mps_kernel(stage, tiny):
    with Recorder() as recorder:
        STAGES[stage](tiny)
    assert len(recorder.names) > 30
    assert {name for name in recorder.names - ELSEWHERE if not runs_on_mps(name)} == set()


def test_runs_on_mps_recognises_missing_kernels():
    assert runs_on_mps("add.Tensor")
    assert runs_on_mps("index_add_")
    assert not runs_on_mps("max_pool3d_with_indices")  # since 2.9 only
    assert not runs_on_mps("__lshift__.Scalar")  # since 2.5
    assert not runs_on_mps("_cholesky_solve_helper")
    assert not runs_on_mps("_linalg_eigh")  # never, so far
