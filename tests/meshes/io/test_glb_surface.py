"""Colours, textures and materials of glTF files, put together by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.images.colors import to_linear
from pipelines.meshes.color_transfer import texture_to_vertex_colors
from pipelines.meshes.io import load_mesh, save_mesh
from pipelines.meshes.mesh import Mesh

from .gltf_builder import QUAD, Glb
from .helpers import BLUE, RED, colors_of


def test_glb_factor_texture_and_vertex_colors_multiply_as_light(tmp_path):
    glb = Glb()
    image = glb.image((188, 188, 188))  # 0.5 of the light
    glb.tree |= {
        "textures": [{"source": image}],
        "materials": [
            {
                "pbrMetallicRoughness": {
                    "baseColorFactor": [0.5, 1, 1, 1],
                    "baseColorTexture": {"index": 0},
                }
            }
        ],
    }
    attributes = {
        "POSITION": glb.add(QUAD),
        "TEXCOORD_0": glb.add([[0.5, 0.5]] * 4, "VEC2"),
        "COLOR_0": glb.add([[65535, 32768, 65535, 65535]] * 4, "VEC4", "<u2", normalized=True),
    }
    mesh = load_mesh(
        glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5, "material": 0})
    )
    light = to_linear(texture_to_vertex_colors(mesh).vertex_colors)
    assert light[0].tolist() == pytest.approx([0.25, 0.25, 0.5], abs=0.01)
    save_mesh(mesh, tmp_path / "again.glb")
    again = to_linear(texture_to_vertex_colors(load_mesh(tmp_path / "again.glb")).vertex_colors)
    torch.testing.assert_close(again, light, atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("texture", "sampler", "uv", "color"),
    [
        ({"index": 0}, {}, [0.25, 0.5], RED),
        ({"index": 0, "texCoord": 1}, {}, [0.25, 0.5], BLUE),
        (
            {"index": 0, "extensions": {"KHR_texture_transform": {"offset": [0.5, 0]}}},
            {},
            [0.25, 0.5],
            BLUE,
        ),
        (
            {"index": 0, "extensions": {"KHR_texture_transform": {"scale": [3, 1]}}},
            {},
            [0.25, 0.5],
            BLUE,
        ),
        (
            {"index": 0, "extensions": {"KHR_texture_transform": {"texCoord": 1}}},
            {},
            [0.25, 0.5],
            BLUE,
        ),
        (
            {"index": 0, "extensions": {"KHR_texture_transform": {"rotation": np.pi}}},
            {},
            [0.25, 0.5],
            BLUE,
        ),  # (-0.25, -0.5)
        (
            {"index": 0, "extensions": {"KHR_texture_transform": {"rotation": np.pi / 2}}},
            {},
            [0.75, 0.25],
            RED,
        ),  # (0.25, -0.75)
        ({"index": 0}, {}, [1.25, 0.5], RED),
        ({"index": 0}, {"wrapS": 33071}, [1.25, 0.5], BLUE),
        ({"index": 0}, {"wrapS": 33648}, [1.25, 0.5], BLUE),
        ({"index": 0}, {"wrapS": 33648}, [1.75, 0.5], RED),
        ({"index": 0}, {"wrapT": 33071}, [0.25, 7.5], RED),
    ],
)
def test_glb_sampler_and_texture_transform_are_applied(tmp_path, texture, sampler, uv, color):
    glb = Glb(samplers=[sampler])
    glb.tree |= {"textures": [{"source": glb.image((255, 0, 0), (0, 0, 255)), "sampler": 0}]}
    glb.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": texture}}]
    other = [0.75, 0.5]  # blue
    attributes = {
        "POSITION": glb.add(QUAD),
        "TEXCOORD_0": glb.add([uv] * 4, "VEC2"),
        "TEXCOORD_1": glb.add([other] * 4, "VEC2"),
    }
    mesh = load_mesh(
        glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5, "material": 0})
    )
    assert colors_of(mesh) == {color}


def test_glb_specular_glossiness_color_is_read(tmp_path):
    glb = Glb()
    glb.tree["materials"] = [
        {"extensions": {"KHR_materials_pbrSpecularGlossiness": {"diffuseFactor": [0, 0, 1, 1]}}}
    ]
    path = glb.save(
        tmp_path / "x.glb", {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5, "material": 0}
    )
    assert colors_of(load_mesh(path)) == {BLUE}


def test_glb_dark_colors_survive_saving(tmp_path):
    dark = torch.tensor([[0.0, 0.004, 0.02], [0.05, 0.5, 1.0], [0.001, 0.01, 0.99]])
    save_mesh(Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]), dark), tmp_path / "x.glb")
    torch.testing.assert_close(load_mesh(tmp_path / "x.glb").vertex_colors, dark, atol=1e-5, rtol=0)


def test_glb_one_image_in_two_colors_becomes_one_texture(tmp_path):
    glb = Glb()
    image = glb.image((255, 255, 255))
    metallic = [
        {"baseColorTexture": {"index": 0}, "baseColorFactor": [*color, 1]}
        for color in (RED, (1.0, 1.0, 1.0))
    ]
    glb.tree |= {
        "textures": [{"source": image}],
        "materials": [{"pbrMetallicRoughness": m} for m in metallic],
    }
    attributes = {"POSITION": glb.add(QUAD), "TEXCOORD_0": glb.add([[0.5, 0.5]] * 4, "VEC2")}
    glb.tree["meshes"] = [
        {"primitives": [{"attributes": attributes, "mode": 5, "material": i} for i in (0, 1)]}
    ]
    colors = texture_to_vertex_colors(load_mesh(glb.save(tmp_path / "x.glb", {}))).vertex_colors
    assert colors.round().tolist() == [list(RED)] * 4 + [[1.0, 1.0, 1.0]] * 4


def test_glb_sampler_mirrors_both_ways(tmp_path):
    glb = Glb(samplers=[{"wrapS": 33648, "wrapT": 33648}])
    glb.tree |= {"textures": [{"source": glb.image((255, 0, 0), (0, 0, 255)), "sampler": 0}]}
    glb.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    attributes = {
        "POSITION": glb.add(QUAD),
        "TEXCOORD_0": glb.add([[1.25, 1.5], [1.75, 1.5], [0.25, 0.5], [2.25, 3.5]], "VEC2"),
    }
    mesh = load_mesh(
        glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5, "material": 0})
    )
    assert texture_to_vertex_colors(mesh).vertex_colors.round().tolist() == [
        list(BLUE),
        list(RED),
        list(RED),
        list(RED),
    ]


def test_glb_vertex_colors_are_clipped(tmp_path):
    glb = Glb()
    colors = [[-1, 0.5, 2], [1, 1, 1], [0, 0, 0], [0.5, 0.5, 0.5]]
    mesh = load_mesh(
        glb.save(
            tmp_path / "x.glb",
            {"attributes": {"POSITION": glb.add(QUAD), "COLOR_0": glb.add(colors)}, "mode": 5},
        )
    )
    assert to_linear(mesh.vertex_colors).flatten().tolist() == pytest.approx(
        [0, 0.5, 1, 1, 1, 1, 0, 0, 0, 0.5, 0.5, 0.5], abs=1e-4
    )


def test_glb_webp_source_is_preferred(tmp_path):
    glb = Glb()
    other, webp = glb.image((0, 0, 255)), glb.image((255, 0, 0))
    glb.tree["textures"] = [{"source": other, "extensions": {"EXT_texture_webp": {"source": webp}}}]
    glb.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    primitive = {
        "attributes": {"POSITION": glb.add(QUAD), "TEXCOORD_0": glb.add([[0.5, 0.5]] * 4, "VEC2")},
        "mode": 5,
        "material": 0,
    }
    assert colors_of(load_mesh(glb.save(tmp_path / "x.glb", primitive))) == {RED}


def test_glb_empty_material_is_white(tmp_path):
    glb = Glb(materials=[{}])
    primitive = {"attributes": {"POSITION": glb.add(QUAD)}, "mode": 5, "material": 0}
    mesh = load_mesh(glb.save(tmp_path / "x.glb", primitive))
    assert mesh.vertex_colors is None
    assert len(mesh.faces) == 2


def test_glb_sampler_clamps_v_and_repeats_u(tmp_path):
    """The image is red above blue. Above it the red continues; beside it the image repeats."""
    image = Image.new("RGB", (8, 8), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 8, 4))
    image.save(tmp_path / "map.png")
    glb = Glb(samplers=[{"wrapT": 33071}], images=[{"uri": "map.png"}])
    glb.tree["textures"] = [{"source": 0, "sampler": 0}]
    glb.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    attributes = {"POSITION": glb.add(QUAD), "TEXCOORD_0": glb.add([[1.5, -0.3]] * 4, "VEC2")}
    mesh = load_mesh(
        glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5, "material": 0})
    )
    assert colors_of(mesh) == {RED}


def test_glb_factor_and_vertex_colors_multiply_without_texture(tmp_path):
    glb = Glb(materials=[{"pbrMetallicRoughness": {"baseColorFactor": [0.5, 1, 1, 1]}}])
    attributes = {"POSITION": glb.add(QUAD), "COLOR_0": glb.add([[0.5, 0.25, 1.0]] * 4)}
    mesh = load_mesh(
        glb.save(tmp_path / "x.glb", {"attributes": attributes, "mode": 5, "material": 0})
    )
    expected = torch.tensor([[0.25, 0.25, 1.0]]).expand(4, -1)
    torch.testing.assert_close(to_linear(mesh.vertex_colors), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("reason", ["unreadable", "other coordinates"])
def test_glb_numbers_of_a_skipped_image_are_dropped(tmp_path, caplog, reason):
    """Otherwise the surface would be black metal that emits white light."""
    glb = Glb(images=[{"uri": "data:image/png;base64,AAAA"}])
    image = 0 if reason == "unreadable" else glb.image((255, 255, 255))
    slot = {"index": 0} | ({} if reason == "unreadable" else {"texCoord": 1})
    glb.tree["textures"] = [{"source": image}]
    glb.tree["materials"] = [
        {
            "pbrMetallicRoughness": {"metallicRoughnessTexture": slot},
            "emissiveTexture": slot,
            "emissiveFactor": [1, 1, 1],
            "extensions": {"KHR_materials_emissive_strength": {"emissiveStrength": 5}},
        }
    ]
    attributes = {"POSITION": glb.add(QUAD), "TEXCOORD_0": glb.add([[0.5, 0.5]] * 4, "VEC2")}
    primitive = {"attributes": attributes, "mode": 5, "material": 0}
    assert load_mesh(glb.save(tmp_path / "x.glb", primitive)).material is None
    assert "skipped" in caplog.text


def test_glb_unreadable_webp_falls_back_to_png(tmp_path):
    glb = Glb(images=[{"uri": "data:image/webp;base64,AAAA"}])
    png = glb.image((255, 0, 0))
    glb.tree["textures"] = [{"source": png, "extensions": {"EXT_texture_webp": {"source": 0}}}]
    glb.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    attributes = {"POSITION": glb.add(QUAD), "TEXCOORD_0": glb.add([[0.5, 0.5]] * 4, "VEC2")}
    primitive = {"attributes": attributes, "mode": 5, "material": 0}
    assert colors_of(load_mesh(glb.save(tmp_path / "x.glb", primitive))) == {RED}


@pytest.mark.parametrize("mode", ["OPAQUE", "MASK", "BLEND"])
def test_glb_opacity_of_a_texture_is_reported(tmp_path, caplog, mode):
    Image.new("RGBA", (8, 8), (255, 0, 0, 100)).save(tmp_path / "t.png")
    glb = Glb(images=[{"uri": "t.png"}], textures=[{"source": 0}])
    metallic = {"baseColorTexture": {"index": 0}}
    glb.tree["materials"] = [{"pbrMetallicRoughness": metallic, "alphaMode": mode}]
    attributes = {"POSITION": glb.add(QUAD), "TEXCOORD_0": glb.add([[0.5, 0.5]] * 4, "VEC2")}
    primitive = {"attributes": attributes, "mode": 5, "material": 0}
    glb.tree["meshes"] = [{"primitives": [primitive, primitive]}]
    assert colors_of(load_mesh(glb.save(tmp_path / "x.glb", {}))) == {RED}
    assert caplog.text.count("skipped the opacity of a texture") == (mode != "OPAQUE")
