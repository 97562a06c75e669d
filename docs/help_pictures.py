"""Render the images of the help pages with the embedded model.

python -m docs.help_pictures
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import trimesh
from torch import Tensor
from torch.nn import functional as F

from pipelines.cameras import cameras_around, orbit_cameras, zero123plus_cameras
from pipelines.image_to_3d import ImageTo3D
from pipelines.images.background import remove_background
from pipelines.images.framing import composite, frame_foreground
from pipelines.images.reading import read_image, to_pillow
from pipelines.meshes.cleaning import clean
from pipelines.meshes.decimation import decimate
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.quads import remesh_quads
from pipelines.meshes.solid import make_solid
from pipelines.meshes.texture import texture_from_images
from pipelines.rendering.render_field import render_field
from pipelines.rendering.render_mesh import preview_sheet, render_mesh

ROOT = Path(__file__).parent.parent
HEIGHT = 320


def side_by_side(*images: Tensor) -> Tensor:
    """Join images (1, 3, H, W) in a row, resized to the same height."""
    scaled = [
        F.interpolate(
            p,
            size=(HEIGHT, round(p.shape[3] * HEIGHT / p.shape[2])),
            mode="bilinear",
            antialias=True,
        )
        for p in images
    ]
    return torch.cat(scaled, dim=-1)


def with_cameras(mesh: Mesh) -> Mesh:
    """Shrink a mesh and add six cones at the positions of the cameras, pointing at it."""
    parts = [trimesh.Trimesh(mesh.vertices.numpy() * 0.5, mesh.faces.numpy(), process=False)]
    colors = [mesh.vertex_colors]
    assert mesh.vertex_colors is not None
    for i, c2w in enumerate(zero123plus_cameras().c2w):
        cone = trimesh.creation.cone(radius=0.08, height=0.25)
        place = c2w.double().numpy().copy()
        place[:3, 3] *= 0.3
        place[:3, :3] = place[:3, :3] @ np.diag([1.0, -1.0, -1.0])
        parts.append(cone.apply_transform(place))
        hue = torch.tensor([0.15, 0.35, 0.8]) if i % 2 == 0 else torch.tensor([0.85, 0.4, 0.1])
        colors.append(hue.expand(len(cone.vertices), 3))
    whole = trimesh.util.concatenate(parts)
    return Mesh(
        torch.tensor(whole.vertices, dtype=torch.float32),
        torch.tensor(whole.faces),
        torch.cat(colors),
    )


def with_and_without_texture() -> Tensor:
    """Render a low-poly cup with vertex colours and with a texture, next to the texture atlas."""
    result = ImageTo3D.load("photo")(read_image(ROOT / "workflows" / "cup.png"))
    plain = decimate(result.mesh, 4000)
    textured = texture_from_images(plain, result.layers(), field=result.field)
    assert textured.texture is not None
    camera = cameras_around([15.0], [result.field.elevation_deg], 4.0, 30.0)
    shown = [render_mesh(mesh, camera, 2 * HEIGHT) for mesh in (plain, textured)]
    return side_by_side(*shown, textured.texture.permute(2, 0, 1)[None])


def double_shell_and_body(mesh: Mesh) -> Tensor:
    """Render a broken double shell, whole and cut open, and the solid body made from it."""
    inner = Mesh(mesh.vertices * 0.93, mesh.faces.flip(1), mesh.vertex_colors)
    both = Mesh(
        torch.cat([mesh.vertices, inner.vertices]),
        torch.cat([mesh.faces, inner.faces + len(mesh.vertices)]),
        torch.cat([mesh.vertex_colors, inner.vertex_colors]),
    )
    torch.manual_seed(0)
    broken = Mesh(both.vertices, both.faces[torch.rand(len(both.faces)) > 0.1], both.vertex_colors)
    camera = cameras_around([20.0], [15.0], 4.0, 30.0)
    half = broken.faces[broken.vertices[broken.faces].mean(dim=1)[:, 1] < 0]
    cut = Mesh(broken.vertices, half, broken.vertex_colors)
    return side_by_side(
        *(render_mesh(m, camera, HEIGHT) for m in (broken, cut, make_solid(broken)))
    )


def triangles_and_quads(mesh: Mesh) -> Tensor:
    """Render a body's triangles and its quads, each in a shade of its own."""
    body = make_solid(mesh)
    torch.manual_seed(0)
    shown = []
    for shape, halves in ((decimate(body, 6000), 1), (remesh_quads(body, 3000), 2)):
        shades = 0.35 + 0.6 * torch.rand(len(shape.faces) // halves)
        corners = shape.faces.flatten()
        facets = Mesh(
            shape.vertices[corners],
            torch.arange(len(corners)).view(-1, 3),
            shades.repeat_interleave(3 * halves)[:, None].expand(-1, 3),
        )
        shown.append(render_mesh(facets, cameras_around([20.0], [15.0], 4.0, 30.0), HEIGHT))
    return side_by_side(*shown)


def main() -> None:
    folder = ROOT / "web" / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    image = read_image(ROOT / "workflows" / "demo.png")
    mask = remove_background(image)
    framed, _ = frame_foreground(image[:, :3], mask, size=512)
    result = ImageTo3D.load("photo")(read_image(ROOT / "workflows" / "cup.png"))
    views = render_mesh(result.mesh, zero123plus_cameras(), HEIGHT // 2)
    grid = torch.cat([torch.cat(list(views[i : i + 3].split(1)), dim=-1) for i in (0, 3)], dim=-2)
    images = {
        "background": side_by_side(
            image[:, :3], composite(image[:, :3], mask), mask.expand(-1, 3, -1, -1)
        ),
        "frame": side_by_side(image[:, :3], framed),
        "views": side_by_side(result.photo.framed, grid),
        "mesh": preview_sheet(result.mesh, HEIGHT),
        "cameras": render_mesh(
            with_cameras(result.mesh), cameras_around([20.0], [30.0], 5.0, 32.0), 384
        ),
        "orbit": side_by_side(
            *render_field(result.field, orbit_cameras(6), HEIGHT).rgb.clamp(0, 1).split(1)
        ),
    }
    rough = Mesh(
        result.mesh.vertices + 0.012 * torch.randn(result.mesh.vertices.shape),
        result.mesh.faces,
        result.mesh.vertex_colors,
    )
    fair = clean(rough, smoothing=10, max_faces=4000)
    images["clean"] = torch.cat(
        [preview_sheet(rough, HEIGHT)[..., :HEIGHT], preview_sheet(fair, HEIGHT)[..., :HEIGHT]],
        dim=-1,
    )
    images["solid"] = double_shell_and_body(decimate(result.mesh, 6000))
    images["texture"] = with_and_without_texture()
    images["quads"] = triangles_and_quads(result.mesh)
    for name, image in images.items():
        to_pillow(image).save(folder / f"{name}.jpg", quality=88)


if __name__ == "__main__":
    main()
