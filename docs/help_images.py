"""Draw the images of the help pages with the embedded model: meshes, orbit, texture, repair.

python -m docs.help_images
"""

from __future__ import annotations

from pathlib import Path

import torch
import trimesh
from torch import Tensor
from torch.nn import functional as F

from pipelines.cameras import cameras_around, orbit_cameras
from pipelines.image_to_3d import ImageTo3D
from pipelines.images.reading import read_image, to_pillow
from pipelines.meshes.cleaning import clean
from pipelines.meshes.decimation import decimate
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.projection import PosedImages
from pipelines.meshes.solid import make_solid
from pipelines.meshes.texture import texture_from_images
from pipelines.rendering.render_field import render_field
from pipelines.rendering.render_mesh import render_mesh

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "web" / "docs" / "images"
SIDE, FOV_DEG, ELEVATION_DEG = 320, 30.0, 20.0
FACES, _WALL = 4000, 0.03  # of the textured and the torn mesh; between two shells


def seen(mesh: Mesh, *azimuths_deg: float) -> list[Tensor]:
    """Render a mesh from some directions, (1, 3, S, S) each."""
    shape, radius = mesh.center_for_camera(FOV_DEG)
    elevations = [ELEVATION_DEG] * len(azimuths_deg)
    cameras = cameras_around(list(azimuths_deg), elevations, radius * 0.7, FOV_DEG)
    return list(render_mesh(shape, cameras, SIDE).split(1))


def torn(mesh: Mesh) -> Mesh:
    """Remove a tenth of the triangles."""
    kept = torch.rand(len(mesh.faces), generator=torch.Generator().manual_seed(0)) > 0.1
    return Mesh(mesh.vertices, mesh.faces[kept], vertex_colors=mesh.vertex_colors)


def doubled(mesh: Mesh) -> Mesh:
    """Put a second shell into a mesh."""
    shape = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)
    normals = torch.from_numpy(shape.vertex_normals.copy()).float()
    vertices = torch.cat([mesh.vertices, mesh.vertices - _WALL * normals])
    assert mesh.vertex_colors is not None
    faces = torch.cat([mesh.faces, mesh.faces + len(mesh.vertices)])
    return Mesh(vertices, faces, vertex_colors=mesh.vertex_colors.repeat(2, 1))


def half(mesh: Mesh) -> Mesh:
    """Return the triangles on the left."""
    left = mesh.vertices[mesh.faces].mean(dim=1)[:, 1] < 0
    return Mesh(mesh.vertices, mesh.faces[left], vertex_colors=mesh.vertex_colors)


def save(name: str, images: list[Tensor]) -> None:
    """Save images (1, 3, S, S) side by side."""
    to_pillow(torch.cat(images, dim=-1).clamp(0, 1)).save(FOLDER / f"{name}.jpg", quality=85)


def main() -> None:
    result = ImageTo3D.load(device="cpu")(read_image(ROOT / "workflows" / "cup.png"))
    assert result.photo is not None
    assert result.field.camera is not None
    save("mesh", seen(result.mesh, 20.0, 90.0, 180.0))
    save("orbit", list(render_field(result.field, orbit_cameras(6), SIDE).rgb.split(1)))
    plain = decimate(result.mesh, FACES)
    photograph = PosedImages(result.photo.photograph, result.field.camera, result.photo.mask)
    textured = texture_from_images(plain, [photograph], field=result.field)
    assert textured.texture is not None
    sheet = textured.texture.permute(2, 0, 1)[None]
    sheet = F.interpolate(sheet, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    save("texture", [*seen(plain, 20.0), *seen(textured, 20.0), sheet])
    broken = torn(plain)
    save("clean", seen(broken, 20.0) + seen(clean(broken, hole_edges=60, smoothing=3), 20.0))
    shells = torn(doubled(plain))
    save("solid", seen(shells, 20.0) + seen(half(shells), 20.0) + seen(make_solid(shells), 20.0))


if __name__ == "__main__":
    main()
