from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from torch.nn import functional as F

from benchmarks import gpu, stages
from benchmarks.limits import operation_counter
from benchmarks.textures import object_of
from training.objects import Soup

from .tiny_models import ball_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operation_counter_counts_attention_on_cpus(dtype: torch.dtype) -> None:
    query, key = torch.randn(2, 3, 48, 16, dtype=dtype), torch.randn(2, 3, 32, 16, dtype=dtype)
    with operation_counter() as counter:
        F.scaled_dot_product_attention(query, key, key)
    # Two matrix products, with a multiplication and an addition per term.
    assert counter.get_total_flops() == 2 * 3 * 2 * (2 * 48 * 32 * 16)


def test_operation_counter_counts_matrix_products_once() -> None:
    with operation_counter() as counter:
        torch.randn(8, 4) @ torch.randn(4, 2)
    assert counter.get_total_flops() == 2 * 8 * 4 * 2


def test_write_table_replaces_the_table_and_reports_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(device: torch.device) -> None:
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(stages, "model", lambda *_: ball_model())
    networks = {"tiny planes": stages.views_to_triplane(torch.float32), "broken": broken}
    monkeypatch.setattr(gpu, "gpu_stages", lambda: networks)
    file = tmp_path / "table.md"
    file.write_text(f"before\n{gpu.BEGIN}\nold\n{gpu.END}\nafter\n")
    gpu.write_table(torch.device("cpu"), 1, file)
    text = file.read_text()
    assert text.startswith(f"before\n{gpu.BEGIN}")
    assert text.endswith(f"{gpu.END}\nafter\n")
    assert "old" not in text
    assert "| broken | failed: out of memory |  |" in text
    (tiny,) = (line for line in text.splitlines() if line.startswith("| tiny planes"))
    assert float(tiny.split("|")[2]) > 0


def test_rows_start_no_stage_after_the_limit() -> None:
    found = list(gpu.rows({"late": lambda device: print}, torch.device("cpu"), 1, limit_s=-1))
    assert found == ["| late | not measured: out of time | |"]


def test_gpu_stages_include_every_kind() -> None:
    names = " ".join(gpu.gpu_stages())
    assert (
        "<!-- make bench-gpu: begin -->"
        in (Path(__file__).parents[1] / "BENCHMARKS.md").read_text()
    )
    for part in (
        "TripoSR planes, float16",
        "views to triplane, bfloat16, torch.compile",
        "TripoSG",
    ):
        assert part in names
    for part in ("75 steps", "mesh at 512", "texture", "OBJ", "Zero123++ step, bfloat16"):
        assert part in names


def test_object_of_gives_each_face_its_own_vertices_and_colour() -> None:
    ball = trimesh.creation.icosphere(1, 0.5)
    soup = Soup(ball.vertices, ball.faces, np.arange(3.0 * len(ball.faces)).reshape(-1, 3))
    mesh = object_of([soup], 0)
    assert mesh.vertices[mesh.faces].numpy() == pytest.approx(1.6 * ball.triangles)
    assert mesh.vertex_colors[mesh.faces[:, 2]].numpy() * 255 == pytest.approx(soup.colors)
    assert object_of([soup._replace(faces=ball.faces[:50])], 0) is None
