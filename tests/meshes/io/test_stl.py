"""STL as other programs write it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.errors import InvalidInput
from pipelines.meshes.io import load_mesh, save_mesh
from pipelines.meshes.mesh import Mesh

from .helpers import BLUE, CASES, RED, file_vertices


def test_stl_saved_has_facet_normals(tmp_path):
    mesh = Mesh(torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 2, 0]]), torch.tensor([[0, 1, 2]]))
    save_mesh(mesh, tmp_path / "x.stl", up_axis="z")
    numbers = np.frombuffer((tmp_path / "x.stl").read_bytes()[84:132], "<f4")
    assert numbers[:3].tolist() == [0, 0, 1]


FACETS = np.zeros(2, [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
FACETS["corners"] = [[[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 0, 1], [1, 0, 1], [0, 1, 1]]]


def _binary(path: Path, count: int, rest: bytes = b"", header: bytes = b"binary") -> Path:
    path.write_bytes(header.ljust(80) + struct.pack("<I", count) + FACETS.tobytes() + rest)
    return path


@pytest.mark.parametrize("name", ["two-bytes-more.stl", "count-0.stl"])
def test_stl_of_the_cases_has_two_triangles(name, caplog):
    assert len(load_mesh(CASES / "stl-whose-count-is-off" / name).faces) == 2
    assert f"{name}: its header declares" in caplog.text


@pytest.mark.parametrize(
    ("count", "rest", "triangles"),
    [
        (2, b"", 2),
        (2, b"\0", 2),
        (2, bytes(49), 2),
        (2, bytes(1000), 2),
        (1, b"", 1),
        (0, b"", 2),
        (0, b"12345", 2),
        (2**31 - 1, b"", 2),
        (2**32 - 1, b"", 2),
    ],
)
@pytest.mark.parametrize("header", [b"binary", b"solid binary"])
def test_stl_binary_of_any_length_is_read(tmp_path, caplog, count, rest, triangles, header):
    mesh = load_mesh(_binary(tmp_path / "x.stl", count, rest, header))
    assert len(mesh.faces) == triangles
    np.testing.assert_allclose(file_vertices(mesh)[:3], FACETS["corners"][0])
    assert bool(caplog.text) == ((count, rest) != (2, b""))


@pytest.mark.parametrize("count", [3, 1000])
def test_stl_binary_cut_off_names_both_counts(tmp_path, count):
    with pytest.raises(InvalidInput, match=f"declares {count} triangles, but it has only 2"):
        load_mesh(_binary(tmp_path / "x.stl", count))


FACET = (
    "facet normal 0 0 1\n outer loop\n  vertex 0 0 0\n  vertex 1 0 0\n  vertex 0 1 0\n"
    " endloop\nendfacet\n"
)


@pytest.mark.parametrize(
    ("text", "triangles"),
    [
        (f"solid a\n{FACET}endsolid a\n", 1),
        (f"solid a\n{FACET}endsolid a\nsolid b\n{FACET}{FACET}endsolid b\n", 3),
        (f"solid vertex facet 1 2 3\n{FACET}endsolid vertex facet 1 2 3\n", 1),
        (f"solid\n{FACET.upper()}endsolid\n", 1),
        (f"solid\r{FACET}endsolid\r".replace("\n", "\r"), 1),
        (f"\ufeff  solid a\r\n{FACET}endsolid\r\n", 1),
        (f"solid a\n{' '.join(FACET.split())}\nendsolid\n", 1),
        (f"solid a\n{FACET.replace('1 0 0', '1.0E+00 -0e-5 +0.')}endsolid\n", 1),
    ],
    ids=[
        "one",
        "two solids",
        "odd name",
        "capitals",
        "old Mac",
        "Windows",
        "one line",
        "exponents",
    ],
)
def test_stl_text_in_every_spelling_is_read(tmp_path, text, triangles):
    (tmp_path / "x.stl").write_bytes(text.encode())
    mesh = load_mesh(tmp_path / "x.stl")
    assert len(mesh.faces) == triangles
    np.testing.assert_allclose(file_vertices(mesh)[:3], [[0, 0, 0], [1, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"solid a\n" + FACET[:-25].encode(), "cut off"),
        (b"solid a\n" + FACET.replace("vertex 0 1 0", "").encode(), "other than three corners"),
        (b"solid a\nendsolid a\n", "no triangles"),
        (b"solid a\n" + FACET.replace("1", "x").encode(), "damaged"),
        (b"too short", "damaged"),
        (bytes(84), "no triangles"),
    ],
)
def test_stl_damaged_raises_one_sentence(tmp_path, content, message):
    (tmp_path / "x.stl").write_bytes(content)
    with pytest.raises(InvalidInput, match=message):
        load_mesh(tmp_path / "x.stl")


@pytest.mark.parametrize(
    ("header", "attributes", "colors"),
    [
        (b"VisCAM", [0x8000 | 31 << 10, 0x8000 | 31], [RED, BLUE]),
        (b"VisCAM", [0x8000 | 31 << 10, 31], [RED, (1, 1, 1)]),
        (b"COLOR=\xff\x00\x00\xff", [31 << 10, 0x8000], [BLUE, RED]),
        (b"binary", [0, 31], None),
    ],
)
def test_stl_facet_colors_are_read(tmp_path, header, attributes, colors):
    path = _binary(tmp_path / "x.stl", 2, header=header)
    content = bytearray(path.read_bytes())
    for i, attribute in enumerate(attributes):
        struct.pack_into("<H", content, 84 + 50 * i + 48, attribute)
    path.write_bytes(content)
    mesh = load_mesh(path)
    if colors is None:
        assert mesh.vertex_colors is None
    else:
        assert mesh.vertex_colors[::3].tolist() == [list(color) for color in colors]
