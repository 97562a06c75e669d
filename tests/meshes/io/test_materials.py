"""Materials besides colour: metal, roughness, normals, occlusion, emission, tangents, opacity."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import trimesh

from pipelines.errors import InvalidInput
from pipelines.meshes.cleaning import clean
from pipelines.meshes.color_transfer import texture_to_vertex_colors
from pipelines.meshes.decimation import decimate
from pipelines.meshes.io import load_mesh, lost, save_mesh
from pipelines.meshes.material import Material
from pipelines.meshes.mesh import Mesh
from pipelines.meshes.placement import place
from pipelines.meshes.texture import TextureLayout, bake_vertex_colors
from pipelines.meshes.topology import keep_large_components
from pipelines.rendering.render_mesh import render_mesh

from .gltf_builder import saved_tree


def _levels(seed: int, size: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (size, size, 3), generator=generator) / 255


def whole_mesh() -> Mesh:
    """Return a ball that has every attribute of a mesh and a material."""
    ball = trimesh.creation.icosphere(2)
    vertices = torch.tensor(ball.vertices).float()
    normals = torch.tensor(ball.vertex_normals).float()
    across = torch.linalg.cross(normals, torch.tensor([[0.3, 0.5, 0.8]]).expand_as(normals))
    tangents = torch.cat([across / across.norm(dim=1, keepdim=True), -torch.ones(162, 1)], dim=1)
    material = Material(
        metallic_roughness=_levels(1),
        normal_map=_levels(2),
        emissive=_levels(3),
        occlusion_in_mr=True,
        factors={
            "metallic_factor": 0.5,
            "roughness_factor": 0.25,
            "emissive_factor": [1.0, 0.5, 0.0],
            "normal_scale": 2.0,
            "occlusion_strength": 0.5,
            "double_sided": True,
            "alpha_mode": "BLEND",
        },
    )
    return Mesh(
        vertices,
        torch.tensor(ball.faces).long(),
        vertex_colors=(vertices + 1) / 2,
        uvs=vertices[:, :2] / 4 + 0.5,
        texture=_levels(0),
        normals=normals,
        tangents=tangents,
        vertex_alpha=(vertices[:, 2] + 1) / 2,
        material=material,
    )


def _same(found: Mesh, expected: Mesh, atol: float = 2e-5) -> None:
    names = ("vertices", "faces", "vertex_colors", "uvs", "texture", "normals", "tangents")
    for name in (*names, "vertex_alpha"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None), name
        if one is not None:
            torch.testing.assert_close(one, other, atol=atol, rtol=0, msg=name)
    assert (found.material is None) == (expected.material is None)
    if found.material is None or expected.material is None:
        return
    own, wanted = found.material, expected.material
    assert own.images.keys() == wanted.images.keys()
    for name, image in own.images.items():
        torch.testing.assert_close(image, wanted.images[name], atol=1e-6, rtol=0, msg=name)
    assert own.occlusion_in_mr == wanted.occlusion_in_mr
    assert own.unlit == wanted.unlit
    assert dict(own.factors) == dict(wanted.factors)


@pytest.mark.parametrize("up_axis", ["y", "z"])
def test_glb_keeps_everything(tmp_path, up_axis):
    mesh = whole_mesh()
    save_mesh(mesh, tmp_path / "m.glb", up_axis=up_axis)
    _same(load_mesh(tmp_path / "m.glb"), mesh)
    assert lost(mesh, "glb") == ""


@pytest.mark.parametrize(
    "material",
    [
        Material(unlit=True),
        Material(factors={"metallic_factor": 1.0}),
        Material(factors={"metallic_factor": 0.25, "roughness_factor": 0.5}),
        Material(metallic_roughness=_levels(1)),
        Material(metallic_roughness=_levels(1), factors={"metallic_factor": 0.0}),
        Material(emissive=_levels(1)),
        Material(normal_map=_levels(1)),
        Material(factors={"base_color_factor": [1.0, 1.0, 1.0, 0.5]}),
        Material(factors={"alpha_mode": "MASK", "alpha_cutoff": 0.25}),
        Material(factors={"emissive_factor": [0.5, 0.25, 0.1], "emissive_strength": 3.0}),
        Material(emissive=_levels(1), factors={"emissive_strength": 3.0}),
        None,
    ],
)
def test_glb_keeps_each_part_of_a_material(tmp_path, material):
    mesh = replace(whole_mesh(), material=material, vertex_alpha=None)
    save_mesh(mesh, tmp_path / "m.glb")
    _same(load_mesh(tmp_path / "m.glb"), mesh)


def test_glb_material_without_images_is_not_metallic(tmp_path):
    mesh = Mesh(whole_mesh().vertices, whole_mesh().faces)
    save_mesh(mesh, tmp_path / "m.glb")
    (material,) = saved_tree(tmp_path / "m.glb")["materials"]
    assert material["pbrMetallicRoughness"] == {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    save_mesh(replace(mesh, material=Material(unlit=True)), tmp_path / "u.glb")
    assert saved_tree(tmp_path / "u.glb")["extensionsUsed"] == ["KHR_materials_unlit"]


def test_glb_material_is_read_by_trimesh(tmp_path):
    mesh = whole_mesh()
    save_mesh(mesh, tmp_path / "m.glb")
    scene = trimesh.load(tmp_path / "m.glb", process=False, force="mesh")
    found = scene.visual.material
    assert (found.metallicFactor, found.roughnessFactor) == (0.5, 0.25)
    assert list(found.emissiveFactor) == [1.0, 0.5, 0.0]
    assert found.doubleSided
    assert found.alphaMode == "BLEND"
    for image in (found.metallicRoughnessTexture, found.normalTexture, found.emissiveTexture):
        assert image.size == (16, 16)
    assert found.occlusionTexture.size == (16, 16)


def test_obj_keeps_material_images_and_numbers(tmp_path):
    mesh = replace(whole_mesh(), vertex_colors=None, vertex_alpha=None)
    save_mesh(mesh, tmp_path / "m.obj")
    text = (tmp_path / "m.mtl").read_text()
    for line in (
        "map_Kd m.png",
        "map_Pr m-roughness.png",
        "map_Pm m-metallic.png",
        "norm m-normal_map.png",
        "map_Ke m-emissive.png",
        "Pr 0.25",
        "Pm 0.5",
        "Ke 1 0.5 0",
    ):
        assert f"{line}\n" in text
    assert (
        lost(mesh, "obj")
        == "OBJ cannot store the ambient occlusion: save a GLB to keep everything."
    )
    found = load_mesh(tmp_path / "m.obj")
    own, wanted = found.material, mesh.material
    torch.testing.assert_close(own.metallic_roughness[..., 1:], wanted.metallic_roughness[..., 1:])
    torch.testing.assert_close(own.normal_map, wanted.normal_map)
    torch.testing.assert_close(own.emissive, wanted.emissive)
    named = ("metallic_factor", "roughness_factor", "emissive_factor")
    assert own.factors == {name: wanted.factors[name] for name in named}
    corners = (tmp_path / "m.obj").read_text().split("\nf ", 1)[1].split("\n")[0].split()
    assert all(len(set(corner.split("/"))) == 1 for corner in corners)
    assert all(corner.count("/") == 2 for corner in corners)


def test_obj_keeps_material_images_beside_vertex_colors(tmp_path):
    mesh = replace(whole_mesh(), texture=None)
    save_mesh(mesh, tmp_path / "m.obj")
    found = load_mesh(tmp_path / "m.obj")
    assert found.material.images.keys() == mesh.material.images.keys()
    torch.testing.assert_close(found.uvs, mesh.uvs)


def test_obj_keeps_material_numbers_without_images(tmp_path):
    factors = {"metallic_factor": 0.5, "roughness_factor": 0.25, "emissive_factor": [1.0, 0.5, 0.0]}
    mesh = Mesh(whole_mesh().vertices, whole_mesh().faces, material=Material(factors=factors))
    save_mesh(mesh, tmp_path / "m.obj")
    assert dict(load_mesh(tmp_path / "m.obj").material.factors) == factors
    save_mesh(replace(mesh, material=Material(unlit=True)), tmp_path / "u.obj")
    assert load_mesh(tmp_path / "u.obj").material.unlit


def test_3mf_keeps_colors_and_one_body(tmp_path):
    mesh = whole_mesh()
    doubled = Mesh(
        mesh.vertices[mesh.faces.reshape(-1)],
        torch.arange(3 * len(mesh.faces)).view(-1, 3),
        ((mesh.vertices + 1) / 2)[mesh.faces.reshape(-1)],
    )
    save_mesh(doubled, tmp_path / "m.3mf")
    assert trimesh.load(tmp_path / "m.3mf", force="mesh").is_watertight
    found = load_mesh(tmp_path / "m.3mf")
    expected = (found.vertices + 1) / 2
    torch.testing.assert_close(found.vertex_colors, expected, atol=1 / 255, rtol=0)


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        (
            "stl",
            "STL cannot store the colours, metalness and roughness, the normal map, the emission",
        ),
        (
            "ply",
            r"the opacity \(its texture becomes vertex colours\): save a GLB to keep everything",
        ),
        ("3mf", "3MF cannot store metalness and roughness"),
        ("obj", "OBJ cannot store the vertex colours, the ambient occlusion, the opacity"),
    ],
)
def test_save_reports_what_a_format_cannot_store(tmp_path, caplog, suffix, message):
    save_mesh(whole_mesh(), tmp_path / f"m.{suffix}")
    assert len(caplog.records) == 1
    import re

    assert re.search(message, caplog.text)
    assert lost(Mesh(whole_mesh().vertices, whole_mesh().faces), suffix) == ""


def test_place_rotates_normals_and_tangents():
    mesh = whole_mesh()
    turned = place(mesh, turn_deg=90, size=7, pivot="bottom")
    x, y, z = mesh.normals.unbind(dim=1)
    torch.testing.assert_close(turned.normals, torch.stack([-y, x, z], dim=1))
    x, y, z, sign = mesh.tangents.unbind(dim=1)
    torch.testing.assert_close(turned.tangents, torch.stack([-y, x, z, sign], dim=1))


def test_decimate_drops_images_and_their_factors(caplog):
    mesh = whole_mesh()
    fewer = decimate(mesh, 100)
    assert (fewer.normals, fewer.tangents, fewer.uvs, fewer.texture) == (None,) * 4
    assert fewer.material.images == {}
    assert fewer.material.factors == {"double_sided": True, "alpha_mode": "BLEND"}
    assert "its metallic_roughness and normal_map and emissive are dropped" in caplog.text
    assert clean(mesh, smoothing=1).material.factors == fewer.material.factors
    kept = keep_large_components(mesh, 0.0)
    assert kept.material is mesh.material
    torch.testing.assert_close(kept.normals, mesh.normals)


def test_bake_transfers_metal_and_glow(caplog):
    glow = torch.zeros(16, 16, 3)
    glow[:, 8:] = torch.tensor([1.0, 0.0, 0.0])  # where x > 0
    metal = torch.ones(16, 16, 3)
    metal[:8, :, 2] = 0.0  # where y > 0
    mesh = replace(
        whole_mesh(), material=Material(metal, _levels(2), glow, factors={"metallic_factor": 0.5})
    )
    baked = bake_vertex_colors(mesh, TextureLayout(512))
    assert "normal map is dropped" in caplog.text
    assert baked.material.images.keys() == {"metallic_roughness", "emissive"}
    assert baked.material.factors == {"metallic_factor": 0.5}
    shown = replace(baked, texture=baked.material.emissive, material=None)
    found = texture_to_vertex_colors(shown)
    right = found.vertices[:, 0] > 0.1
    left = found.vertices[:, 0] < -0.1
    torch.testing.assert_close(found.vertex_colors[right][:, 0].min(), torch.tensor(1.0))
    assert float(found.vertex_colors[left].max()) < 1e-3
    shown = replace(baked, texture=baked.material.metallic_roughness, material=None)
    blue = texture_to_vertex_colors(shown).vertex_colors[:, 2]
    assert float(blue[baked.vertices[:, 1] > 0.1].max()) < 1e-3
    assert float(blue[baked.vertices[:, 1] < -0.1].min()) > 0.999


def test_base_color_multiplies_everything():
    from pipelines.cameras import cameras_around

    red = Material(factors={"base_color_factor": [1.0, 0.0, 0.0, 1.0]})
    mesh = Mesh(whole_mesh().vertices, whole_mesh().faces, material=red)
    camera = cameras_around([0.0], [0.0], 4.0, 30.0)
    image = render_mesh(mesh, camera, 32, shaded=False)
    torch.testing.assert_close(image[0, :, 16, 16], torch.tensor([1.0, 0.0, 0.0]))
    painted = texture_to_vertex_colors(replace(mesh, vertex_colors=torch.ones_like(mesh.vertices)))
    torch.testing.assert_close(painted.vertex_colors[0], torch.tensor([1.0, 0.0, 0.0]))
    assert painted.material is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda m: replace(m, normals=m.normals[1:]), "normals must be"),
        (lambda m: replace(m, tangents=m.normals), "tangents must be"),
        (lambda m: replace(m, vertex_alpha=m.vertices), "vertex_alpha must be"),
        (lambda m: replace(m, normals=m.normals / 0), "normals of the mesh hold values"),
        (lambda m: Material(normal_map=torch.ones(4, 4)), "normal_map must be"),
        (lambda m: Material(emissive=torch.full((4, 4, 3), torch.nan)), "emissive of the mesh"),
    ],
)
def test_mesh_wrong_shapes_raise_one_sentence(wrong, message):
    with pytest.raises(InvalidInput, match=message):
        wrong(whole_mesh())


def test_glb_automatic_factors_are_not_written(tmp_path):
    factors = {"metallic_factor": -1.0, "roughness_factor": -1.0, "emissive_factor": [0, 0, 0]}
    mesh = replace(whole_mesh(), material=Material(_levels(1), factors=factors))
    save_mesh(mesh, tmp_path / "m.glb")
    (material,) = saved_tree(tmp_path / "m.glb")["materials"]
    pbr = material["pbrMetallicRoughness"]
    assert (pbr["metallicFactor"], pbr["roughnessFactor"]) == (1.0, 1.0)
    save_mesh(replace(mesh, material=Material(factors=factors)), tmp_path / "n.glb")
    (material,) = saved_tree(tmp_path / "n.glb")["materials"]
    assert material["pbrMetallicRoughness"]["metallicFactor"] == 0.0
    assert "emissiveFactor" not in material
    save_mesh(replace(mesh, material=Material(factors=factors)), tmp_path / "n.obj")
    assert "-1" not in (tmp_path / "n.mtl").read_text()


def test_glb_black_factor_of_a_glow_image_is_automatic(tmp_path):
    """Black means automatic, as in ComfyUI's own saver: a black factor would hide the image."""
    material = Material(emissive=_levels(1), factors={"emissive_factor": [0.0, 0.0, 0.0]})
    save_mesh(replace(whole_mesh(), material=material), tmp_path / "m.glb")
    found = load_mesh(tmp_path / "m.glb").material
    assert found.images.keys() == {"emissive"}
    assert "emissive_factor" not in found.factors


def test_obj_keeps_strong_light(tmp_path):
    factors = {"emissive_factor": [1.0, 0.5, 0.25], "emissive_strength": 4.0}
    mesh = Mesh(whole_mesh().vertices, whole_mesh().faces, material=Material(factors=factors))
    save_mesh(mesh, tmp_path / "m.obj")
    assert "Ke 4 2 1\n" in (tmp_path / "m.mtl").read_text()
    assert dict(load_mesh(tmp_path / "m.obj").material.factors) == factors


@pytest.mark.parametrize("suffix", ["glb", "obj"])
def test_save_without_uvs_drops_images_and_their_factors(tmp_path, suffix):
    material = Material(
        _levels(1),
        emissive=_levels(3),
        factors={"metallic_factor": 1.0, "emissive_factor": [1.0, 1.0, 1.0], "double_sided": True},
    )
    mesh = replace(whole_mesh(), uvs=None, texture=None, vertex_alpha=None, material=material)
    save_mesh(mesh, tmp_path / f"m.{suffix}")
    found = load_mesh(tmp_path / f"m.{suffix}").material
    kept = {"double_sided": True} if suffix == "glb" else None
    assert (None if found is None else dict(found.factors)) == kept
    assert not list(tmp_path.glob("*.png"))


def test_without_images_keeps_numbers_that_scale_no_image():
    metal = {"metallic_factor": 1.0, "roughness_factor": 0.2}
    glow = {"emissive_factor": [1.0, 1.0, 1.0], "emissive_strength": 2.0}
    assert Material(factors=metal | glow).without_images().factors == metal | glow
    assert Material(_levels(1), factors=metal | glow).without_images().factors == glow
    assert Material(emissive=_levels(1), factors=metal | glow).without_images().factors == metal
    assert Material(_levels(1), emissive=_levels(1), factors=metal | glow).without_images() is None


def test_materials_that_are_alike_are_kept(tmp_path, caplog):
    """Equal materials are kept even if one of them has a colour image."""
    lines = "newmtl a\nPr 0.5\nKd 1 0 0\nnewmtl b\nPr 0.5\nnewmtl c\nPr 0.25\n"
    (tmp_path / "x.mtl").write_text(lines)
    start = "mtllib x.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nusemtl a\nf 1 2 3\nusemtl "
    for other, factors in (("b", {"roughness_factor": 0.5}), ("c", None)):
        (tmp_path / "x.obj").write_text(f"{start}{other}\nf 3 2 1\n")
        found = load_mesh(tmp_path / "x.obj").material
        assert (None if found is None else dict(found.factors)) == factors
    assert "Several materials become one" in caplog.text
