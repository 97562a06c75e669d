from __future__ import annotations

import pytest
import torch

from pipelines.cameras import cameras_around
from pipelines.meshes.rasterization import Silhouette, on_screen, visible_triangles

from .posed import figure


@pytest.mark.parametrize("kept", [slice(None), slice(0, None, 3)], ids=["closed", "torn"])
def test_silhouette_covers_the_pixels_of_the_visible_triangles(kept):
    mesh, _ = figure()
    faces, camera = mesh.faces[kept], cameras_around([70.0], [20.0], 3.2, 45.0)
    screen = on_screen(mesh.vertices, camera, 128)
    hit = torch.zeros(128, 128, dtype=torch.bool)
    hit.view(-1)[visible_triangles(screen[faces], 128)[0]] = True
    assert torch.equal(Silhouette(faces).covered(screen, 128), hit)
    assert 1000 < int(hit.sum()) < 10_000
