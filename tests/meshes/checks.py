"""Checks that a slicer can print a mesh."""

from __future__ import annotations

from dataclasses import replace

import manifold3d
import numpy as np

from pipelines.meshes.mesh import Mesh
from pipelines.meshes.topology import bare_shape, component_labels, is_closed_manifold


def printable_bodies(mesh: Mesh) -> list[float]:
    """Check that a mesh is closed when its vertices are merged by position.

    Returns:
        the volumes of its bodies.
    """
    shape = bare_shape(mesh)
    assert is_closed_manifold(shape)
    labels = component_labels(shape)
    volumes = [
        replace(shape, faces=shape.faces[labels == i]).volume() for i in range(labels.max() + 1)
    ]
    assert min(volumes) > 1e-4 * max(volumes), "a speck, or a triangle and its reverse"
    body = manifold3d.Manifold(
        manifold3d.Mesh(shape.vertices.numpy(), shape.faces.numpy().astype(np.uint32))
    )
    assert body.status() == manifold3d.Error.NoError
    assert len(body.decompose()) == len(volumes)
    return sorted(volumes)
