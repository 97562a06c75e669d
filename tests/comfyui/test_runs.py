"""Graphs in a real ComfyUI: everything that a user does, through the server's own interface."""

from __future__ import annotations

import copy
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from pipelines.meshes.color_transfer import texture_to_vertex_colors
from pipelines.meshes.io import load_mesh
from pipelines.meshes.mesh import Mesh

from ..tiny_models import MODEL, VIEWS_MODEL, write_models
from .server import PACK, PLACE, Run, Server, start_server

CASES = PACK / "tests" / "data" / "cases"
PHOTO = PACK / "workflows" / "api" / "1 Photo - picture to OBJ.json"
SIX_VIEWS = PACK / "workflows" / "api" / "2 InstantMesh - picture to OBJ.json"
STEPS = 3


def _graph(prefix: str) -> dict[str, Any]:
    """The workflow of six views with tiny models, few steps and a coarse grid."""
    graph = json.loads(SIX_VIEWS.read_text())
    _set(graph, "LoadMultiviewModel", dtype="float32")
    _set(graph, "LoadReconstructionModel", model=MODEL, dtype="float32")
    _set(graph, "GenerateViews", steps=STEPS)
    _set(graph, "ExtractMesh", resolution=32)
    _set(graph, "SaveMesh", filename_prefix=prefix)
    return graph


def _photo_graph(prefix: str) -> dict[str, Any]:
    graph = json.loads(PHOTO.read_text())
    _set(graph, "SaveMesh", filename_prefix=prefix)
    return graph


def _id(graph: dict[str, Any], kind: str) -> str:
    return next(
        key for key, node in graph.items() if node["class_type"] in (kind, f"ImageTo3D_{kind}")
    )


def _set(graph: dict[str, Any], kind: str, **inputs: Any) -> None:
    graph[_id(graph, kind)]["inputs"].update(inputs)


def _saved(server: Server, run: Run, graph: dict[str, Any], kind: str = "SaveMesh") -> list[Path]:
    assert run.error is None, run.error
    return [
        server.output / f["subfolder"] / f["filename"] for f in run.outputs[_id(graph, kind)]["3d"]
    ]


def _image(
    server: Server, name: str, color: tuple[int, int, int], transparent: bool = False
) -> str:
    """A box of one colour on white, or on nothing."""
    pixels = np.full((96, 128, 4), 255, np.uint8)
    if transparent:
        pixels[..., 3] = 0
    pixels[20:80, 40:90] = (*color, 255)
    Image.fromarray(pixels if transparent else pixels[..., :3]).save(server.input / name)
    return name


def test_the_first_template_makes_a_mesh_of_a_photograph(comfyui: Server):
    graph = _photo_graph("3d/photo")
    (path,) = _saved(comfyui, comfyui.run(graph), graph)
    mesh = trimesh.load(path, process=False)
    assert mesh.is_watertight
    assert mesh.volume > 0
    assert max(mesh.extents) == pytest.approx(1.9, abs=0.2)
    red = np.asarray(mesh.visual.vertex_colors)[:, 0].mean()
    blue = np.asarray(mesh.visual.vertex_colors)[:, 2].mean()
    assert red > 1.5 * blue, "the cup is red"


def test_image_to_obj_then_all_from_the_cache_then_another_resolution(comfyui: Server):
    graph = _graph("3d/first")
    run = comfyui.run(graph)
    (path,) = _saved(comfyui, run, graph)
    assert path == comfyui.output / "3d" / "first_00001_.obj"
    lines = path.read_text().splitlines()
    kept = json.loads(lines[0].removeprefix("# prompt: "))
    assert {key: node["inputs"] for key, node in kept.items()} == {
        key: node["inputs"] for key, node in graph.items()
    }
    assert len(lines[1].split()) == 7  # v x y z r g b
    mesh = trimesh.load(path, process=False)
    assert mesh.is_watertight
    assert mesh.volume > 0
    views = _id(graph, "GenerateViews")
    assert run.progress[views][-1] == (STEPS, STEPS)
    assert len(run.previews) >= STEPS
    assert run.outputs[_id(graph, "Preview3D")]["result"][0] == "3d/first_00001_.obj"

    again = comfyui.run(graph)
    assert again.error is None
    assert set(again.executed) <= {_id(graph, "Preview3D")}
    assert views in again.cached

    finer = copy.deepcopy(graph)
    _set(finer, "ExtractMesh", resolution=48)
    third = comfyui.run(finer)
    assert [finer[key]["class_type"] for key in third.executed] == [
        "ImageTo3D_ExtractMesh",
        "ImageTo3D_SaveMesh",
        "Preview3D",
    ]
    (finer_path,) = _saved(comfyui, third, finer)
    assert finer_path.name == "first_00002_.obj"
    assert len(trimesh.load(finer_path, process=False).faces) > len(mesh.faces)


def test_a_seed_repeats_and_another_differs(comfyui: Server):
    texts = []
    for prefix, seed in (("seed/a", 5), ("seed/b", 6), ("seed/c", 5)):
        graph = _graph(prefix)
        _set(graph, "GenerateViews", seed=seed)
        (path,) = _saved(comfyui, comfyui.run(graph), graph)
        texts.append([line for line in path.read_text().splitlines() if not line.startswith("#")])
    assert texts[0] == texts[2]
    assert texts[0] != texts[1]


def test_a_batch_of_three_gives_three_files_in_order(comfyui: Server):
    colors = ((200, 30, 30), (30, 160, 30), (30, 30, 200))
    graph = _graph("batch/three")
    load = _id(graph, "LoadImage")
    graph[load]["inputs"]["image"] = _image(comfyui, "0.png", colors[0])
    for i in (1, 2):
        graph[f"load{i}"] = {
            "class_type": "LoadImage",
            "inputs": {"image": _image(comfyui, f"{i}.png", colors[i])},
        }
    graph["two"] = {
        "class_type": "ImageBatch",
        "inputs": {"image1": [load, 0], "image2": ["load1", 0]},
    }
    graph["three"] = {
        "class_type": "ImageBatch",
        "inputs": {"image1": ["two", 0], "image2": ["load2", 0]},
    }
    _set(graph, "RemoveBackground", image=["three", 0])
    graph["views"] = {
        "class_type": "SaveImage",
        "inputs": {"images": [_id(graph, "GenerateViews"), 0], "filename_prefix": "batch/views"},
    }
    run = comfyui.run(graph)
    paths = _saved(comfyui, run, graph)
    assert [p.name for p in paths] == ["three_00001_.obj", "three_00002_.obj", "three_00003_.obj"]
    sizes = [len(trimesh.load(p, process=False).faces) for p in paths]
    assert min(sizes) > 0
    assert len(set(sizes)) > 1, "padding must not reach the files"
    assert len(run.outputs["views"]["images"]) == 18
    assert run.progress[_id(graph, "GenerateViews")][-1] == (3 * STEPS, 3 * STEPS)

    # Each mesh of the batch is the mesh of its image alone.
    alone = _graph("batch/second")
    _set(alone, "LoadImage", image="1.png")
    _set(alone, "GenerateViews", seed=2)
    (path,) = _saved(comfyui, comfyui.run(alone), alone)
    assert _vertices(path) == pytest.approx(_vertices(paths[1]), abs=2e-6)


def _vertices(path: Path) -> np.ndarray:
    return np.array(
        [line.split()[1:4] for line in path.read_text().splitlines() if line.startswith("v ")],
        float,
    )


def _framed(comfyui: Server, graph: dict[str, Any], prefix: str) -> np.ndarray:
    """Run a graph up to Remove Background and read its image and mask."""
    node = _id(graph, "RemoveBackground")
    for key in [
        k
        for k, n in graph.items()
        if n["class_type"].startswith(("ImageTo3D", "Preview")) and k != node
    ]:
        del graph[key]
    graph["mask"] = {"class_type": "MaskToImage", "inputs": {"mask": [node, 1]}}
    for name, source in (("image", [node, 0]), ("as-mask", ["mask", 0])):
        graph[name] = {
            "class_type": "SaveImage",
            "inputs": {"images": source, "filename_prefix": f"{prefix}-{name}"},
        }
    run = comfyui.run(graph)
    assert run.error is None, run.error
    images = [
        np.array(Image.open(comfyui.output / f"{prefix}-{name}_00001_.png").convert("RGB"))
        for name in ("image", "as-mask")
    ]
    return np.concatenate(images, axis=-1)


def test_four_channels_count_as_alpha(comfyui: Server):
    graph = _graph("x")
    _set(graph, "LoadImage", image=_image(comfyui, "rgba.png", (10, 120, 200), transparent=True))
    load = _id(graph, "LoadImage")
    graph["rgba"] = {
        "class_type": "JoinImageWithAlpha",
        "inputs": {"image": [load, 0], "alpha": [load, 1]},
    }
    _set(graph, "RemoveBackground", image=["rgba", 0], model="alpha")
    found = _framed(comfyui, graph, "rgba")
    assert found[50, 60].tolist() == [10, 120, 200, 255, 255, 255]
    assert found[5, 5].tolist() == [255, 255, 255, 0, 0, 0]


def test_an_inverted_mask_of_load_image_is_the_object(comfyui: Server):
    graph = _graph("x")
    _set(graph, "LoadImage", image=_image(comfyui, "masked.png", (10, 120, 200), transparent=True))
    graph["inverted"] = {
        "class_type": "InvertMask",
        "inputs": {"mask": [_id(graph, "LoadImage"), 1]},
    }
    _set(graph, "RemoveBackground", mask=["inverted", 0])
    found = _framed(comfyui, graph, "masked")
    assert found[50, 60].tolist() == [10, 120, 200, 255, 255, 255]
    assert found[5, 5].tolist() == [255, 255, 255, 0, 0, 0]


def test_stop_within_a_step_and_then_a_run_that_works(comfyui: Server):
    graph = _graph("3d/stopped")
    _set(graph, "GenerateViews", steps=200, seed=77)
    run = comfyui.run(graph, interrupt_at=2)
    assert run.interrupted
    assert run.progress[_id(graph, "GenerateViews")][-1][0] < 100
    assert not list((comfyui.output / "3d").glob("stopped*"))
    _set(graph, "GenerateViews", steps=STEPS)
    _saved(comfyui, comfyui.run(graph), graph)


@pytest.fixture
def official_layout(comfyui: Server) -> Iterator[Path]:
    """The stock Zero123++, which has a U-Net of its own, as a pickle."""
    models = comfyui.base / "models" / "image_to_3d"
    own = models / "zero123plus-v1.2" / "unet" / "diffusion_pytorch_model.bin"
    shutil.copy(models / "InstantMesh" / own.name, own)
    yield models / "zero123plus-v1.2"
    own.unlink()


def test_one_model_after_another(comfyui: Server, official_layout: Path):
    found = []
    for i, name in enumerate((VIEWS_MODEL, "zero123plus", VIEWS_MODEL)):
        graph = _graph(f"3d/model{i}")
        _set(graph, "LoadMultiviewModel", model=name, dtype="float32")
        (path,) = _saved(comfyui, comfyui.run(graph), graph)
        found.append(_vertices(path))
    assert found[0].shape == found[2].shape
    assert found[0] == pytest.approx(found[2], abs=2e-6)
    assert not (official_layout / "unet" / "diffusion_pytorch_model.fp16.safetensors").exists(), (
        "float32 is not rounded to half first"
    )


def test_layers_bring_their_own_weights_where_a_model_is_loaded_in_part(comfyui: Server):
    """What ComfyUI does on a small GPU: weights stay outside and layers fetch them one by one."""
    graph = _graph("3d/whole")
    _set(graph, "LoadMultiviewModel", dtype="float32")
    (whole,) = _saved(comfyui, comfyui.run(graph), graph)
    graph["cast"] = {
        "class_type": "Test_CastWeights",
        "inputs": {"model": [_id(graph, "LoadMultiviewModel"), 0]},
    }
    _set(graph, "GenerateViews", model=["cast", 0])
    _set(graph, "SaveMesh", filename_prefix="3d/cast")
    run = comfyui.run(graph)
    (cast,) = _saved(comfyui, run, graph)
    assert _vertices(cast) == pytest.approx(_vertices(whole), abs=2e-6)
    assert set(run.outputs["cast"]["text"]) <= {"Embedding", "CLIPVisionEmbeddings"}


def test_half_precision_on_request(comfyui: Server):
    graph = _graph("3d/half")
    _set(graph, "LoadMultiviewModel", dtype="bfloat16")
    _set(graph, "LoadReconstructionModel", dtype="bfloat16")
    (path,) = _saved(comfyui, comfyui.run(graph), graph)
    assert trimesh.load(path, process=False).is_watertight


@pytest.mark.parametrize(
    ("kind", "inputs", "message"),
    [
        (
            "LoadReconstructionModel",
            {"model": "instant-mesh-large"},
            "put it at {base}/models/image_to_3d/InstantMesh/instant_mesh_large.ckpt.",
        ),
        ("SaveMesh", {"filename_prefix": "../../x"}, "leads outside ComfyUI's output folder"),
        ("SaveMesh", {"filename_prefix": "/tmp/x"}, "leads outside ComfyUI's output folder"),
        (
            "RemoveBackground",
            {"model": "silueta"},
            (
                "silueta.onnx is missing and could not be downloaded: put it at"
                " {base}/models/rembg/silueta"
            ),
        ),
        (
            "FrameForeground",
            {"background": "whiteish"},
            "A colour is written like #ffffff or white, got 'whiteish'.",
        ),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    comfyui: Server, kind: str, inputs: dict[str, Any], message: str
):
    graph = _graph("3d/wrong")
    _set(graph, kind, **inputs)
    run = comfyui.run(graph)
    assert run.error is not None
    assert message.format(base=comfyui.base) in run.error
    assert "\n" not in run.error
    assert not list(comfyui.base.parent.glob("x*"))


def test_meshes_go_into_cores_saver(comfyui: Server):
    graph = _graph("3d/core")
    graph["glb"] = {
        "class_type": "SaveGLB",
        "inputs": {"mesh": [_id(graph, "ExtractMesh"), 0], "filename_prefix": "3d/core-glb"},
    }
    run = comfyui.run(graph)
    (obj,) = _saved(comfyui, run, graph)
    (glb,) = _saved(comfyui, run, graph, "SaveGLB")
    ours, cores = trimesh.load(obj, process=False), trimesh.load(glb, force="mesh", process=False)
    assert len(ours.faces) == len(cores.faces)
    np.testing.assert_allclose(ours.vertices, cores.vertices, atol=1e-6)
    if comfyui.meshes_have_colors:
        assert load_mesh(glb).vertex_colors is not None


@pytest.mark.parametrize("suffix", ["obj", "glb", "ply", "stl"])
def test_meshes_of_cores_nodes_are_saved(comfyui: Server, suffix: str):
    graph = {
        "1": {"class_type": "Test_CoreTetrahedra", "inputs": {"count": 2}},
        "2": {
            "class_type": "ImageTo3D_SaveMesh",
            "inputs": {
                "mesh": ["1", 0],
                "filename_prefix": f"core/{suffix}",
                "format": suffix,
                **PLACE,
            },
        },
    }
    paths = _saved(comfyui, comfyui.run(graph), graph)
    assert len(paths) == 2
    for path in paths:
        mesh = trimesh.load(path, force="mesh", process=False)
        assert sorted(np.ptp(mesh.vertices, axis=0).tolist()) == [1, 2, 3]
        assert mesh.vertices.max(axis=0).tolist() == [1, 2, 3]
        assert mesh.volume == pytest.approx(1)


def test_orbit_frames_are_batches(comfyui: Server):
    graph = _graph("3d/orbit")
    graph["orbit"] = {
        "class_type": "ImageTo3D_RenderOrbit",
        "inputs": {
            "triplane": [_id(graph, "Reconstruct"), 0],
            "frames": 3,
            "elevation": 10.0,
            "radius": 4.0,
            "size": 64,
        },
    }
    graph["mask"] = {"class_type": "MaskToImage", "inputs": {"mask": ["orbit", 1]}}
    for name, source in (("frames", ["orbit", 0]), ("masks", ["mask", 0]), ("depth", ["orbit", 2])):
        graph[name] = {
            "class_type": "SaveImage",
            "inputs": {"images": source, "filename_prefix": f"orbit/{name}"},
        }
    run = comfyui.run(graph)
    assert run.error is None, run.error
    frames, masks, depth = (
        [
            np.array(Image.open(comfyui.output / "orbit" / f["filename"]).convert("RGB"))
            for f in run.outputs[name]["images"]
        ]
        for name in ("frames", "masks", "depth")
    )
    assert len(frames) == len(masks) == len(depth) == 3
    assert frames[0].shape == (64, 64, 3)
    for frame, mask, near in zip(frames, masks, depth, strict=True):
        assert (frame[mask[..., 0] == 0] == 255).all()
        assert (near[mask[..., 0] == 0] == 0).all()
        assert 0.05 < (mask[..., 0] > 127).mean() < 0.8


def test_cameras_of_ones_own(comfyui: Server):
    """The six cameras of Zero123++, written down by hand, give the mesh that is made without any;
    others do not.
    """
    found = []
    for i, elevations in enumerate((None, "20, -10, 20, -10, 20, -10", "0")):
        graph = _graph(f"3d/cameras{i}")
        if elevations is not None:
            inputs = {
                "azimuths": "30, 90, 150, 210, 270, 330",
                "elevations": elevations,
                "radius": 4.0,
                "fov": 30.0,
            }
            graph["cameras"] = {"class_type": "ImageTo3D_ViewCameras", "inputs": inputs}
            _set(graph, "Reconstruct", cameras=["cameras", 0])
        (path,) = _saved(comfyui, comfyui.run(graph), graph)
        found.append(_vertices(path))
    assert found[0] == pytest.approx(found[1], abs=2e-6)
    assert found[0].shape != found[2].shape or not np.allclose(found[0], found[2])


def test_five_views_are_refused(comfyui: Server):
    graph = _graph("3d/five")
    inputs = {"image": [_id(graph, "GenerateViews"), 0], "batch_index": 0, "length": 5}
    graph["five"] = {"class_type": "ImageFromBatch", "inputs": inputs}
    _set(graph, "Reconstruct", views=["five", 0])
    run = comfyui.run(graph)
    assert run.error == "Each object needs 6 views; 5 is not a multiple of that."


def test_options_of_comfyui_and_missing_packages(comfyui: Server, tmp_path: Path):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "diffusers.py").write_text("raise ModuleNotFoundError('no', name='diffusers')")
    paths = tmp_path / "paths.yaml"
    paths.write_text(f"mine:\n    base_path: {tmp_path / 'elsewhere'}\n    image_to_3d: weights\n")
    write_models(tmp_path / "elsewhere" / "weights")
    options = ("--disable-metadata", "--extra-model-paths-config", str(paths))
    with start_server(tmp_path / "base", {"PYTHONPATH": str(blocked)}, options) as server:
        run = server.run(_graph("3d/blocked"))
        assert run.error is not None
        assert run.error.startswith("The package 'diffusers' is missing: run '")
        assert "requirements.txt" in run.error
        graph = _graph("3d/missing")
        _set(graph, "LoadReconstructionModel", model="instant-mesh-large")
        _set(graph, "Reconstruct", views=[_id(graph, "LoadImage"), 0])
        for kind in ("GenerateViews", "PreviewImage", "LoadMultiviewModel"):
            del graph[_id(graph, kind)]
        run = server.run(graph)
        assert run.error is not None
        assert (
            "put it at"
            f" {tmp_path / 'elsewhere' / 'weights' / 'InstantMesh' / 'instant_mesh_large.ckpt'}."
            in run.error
        )
        graph = {
            "1": {"class_type": "Test_CoreTetrahedra", "inputs": {"count": 1}},
            "2": {
                "class_type": "ImageTo3D_SaveMesh",
                "inputs": {"mesh": ["1", 0], "filename_prefix": "plain", "format": "obj", **PLACE},
            },
        }
        (path,) = _saved(server, server.run(graph), graph)
        assert path.read_text().startswith("v ")


def test_previews_are_images(comfyui: Server):
    graph = _graph("3d/previews")
    _set(graph, "GenerateViews", seed=99)
    run = comfyui.run(graph)
    images = [
        Image.open(io.BytesIO(p[p.index(b"\xff\xd8") :])) for p in run.previews if b"\xff\xd8" in p
    ]
    assert len(images) >= STEPS
    assert images[0].height > images[0].width  # three rows of two


def test_clean_texture_save_load_and_look(comfyui: Server):
    """The whole of the mesh nodes in one graph, and the textured GLB through the file and back."""
    graph = _photo_graph("3d/plain")
    _set(graph, "ExtractMesh", resolution=32)
    mesh, triplane = [_id(graph, "ExtractMesh"), 0], [_id(graph, "Reconstruct"), 0]
    save = {"filename_prefix": "3d/textured", "format": "glb", **PLACE}
    bed = {
        "format": "stl",
        "filename_prefix": "3d/print",
        "up_axis": "z",
        "longest_side": 80.0,
        "pivot": "bottom",
    }
    clean = {
        "min_part_share": 0.1,
        "fill_holes": 32,
        "smooth": 1,
        "max_faces": 600,
        "watertight": True,
    }
    graph |= {
        "clean": {"class_type": "ImageTo3D_CleanMesh", "inputs": {"mesh": mesh, **clean}},
        "texture": {
            "class_type": "ImageTo3D_TextureMesh",
            "inputs": {"mesh": ["clean", 0], "triplane": triplane, "size": 512, "max_faces": 0},
        },
        "textured": {
            "class_type": "ImageTo3D_SaveMesh",
            "inputs": {"mesh": ["texture", 0], **save},
        },
        "baked": {
            "class_type": "ImageTo3D_BakeVertexColors",
            "inputs": {"mesh": ["clean", 0], "size": 512, "max_faces": 0},
        },
        "bakedsave": {
            "class_type": "ImageTo3D_SaveMesh",
            "inputs": {
                "mesh": ["baked", 0],
                **save,
                "format": "obj",
                "filename_prefix": "3d/baked",
            },
        },
        "print": {
            "class_type": "ImageTo3D_SaveMesh",
            "inputs": {"mesh": ["clean", 0], **save, **bed},
        },
        "info": {"class_type": "ImageTo3D_MeshInfo", "inputs": {"mesh": ["clean", 0]}},
    }
    run = comfyui.run(graph)
    assert run.error is None, run.error
    assert "watertight, one closed body, volume" in run.outputs["info"]["text"][0]
    assert "before: " in "".join(run.outputs["clean"]["text"])
    textured = trimesh.load(
        comfyui.output / "3d" / "textured_00001_.glb", force="mesh", process=False
    )
    assert textured.visual.material.baseColorTexture.size == (512, 512)
    baked = comfyui.output / "3d" / "baked_00001_"
    assert {p.name for p in baked.iterdir()} == {
        "baked_00001_.mtl",
        "baked_00001_.obj",
        "baked_00001_.png",
    }
    assert run.outputs["bakedsave"]["3d"] == [
        {"filename": "baked_00001_.obj", "subfolder": "3d/baked_00001_", "type": "output"}
    ]
    printed = trimesh.load(comfyui.output / "3d" / "print_00001_.stl")
    assert printed.is_watertight
    assert printed.bounds[0][2] == pytest.approx(0, abs=1e-3)
    assert max(printed.extents) == pytest.approx(80, abs=1e-2)

    back = {
        "load": {"class_type": "ImageTo3D_LoadMesh", "inputs": {"file": "3d/textured_00001_.glb"}},
        "look": {
            "class_type": "ImageTo3D_RenderMesh",
            "inputs": {"mesh": ["load", 0], "frames": 2, "elevation": 10.0, "size": 64},
        },
        "save": {
            "class_type": "SaveImage",
            "inputs": {"images": ["look", 0], "filename_prefix": "look"},
        },
    }
    run = comfyui.run(back)
    assert run.error is None, run.error
    assert len(run.outputs["save"]["images"]) == 2
    pixels = np.array(Image.open(comfyui.output / "look_00001_.png").convert("RGB")).astype(int)
    seen = (pixels < 250).any(axis=-1)
    assert 0.05 < seen.mean() < 0.9
    assert pixels[seen][:, 0].mean() > pixels[seen][:, 2].mean(), "the cup is red"
    for name in ("../../etc/passwd.obj", "3d/nothing.obj"):
        back["load"]["inputs"]["file"] = name
        run = comfyui.run(back)
        assert run.error is not None
        assert "ComfyUI's" in run.error


def test_textures_reach_cores_saver(comfyui: Server):
    if not comfyui.meshes_have_colors:
        pytest.skip("this version's MESH has no place for textures")
    graph = _graph("3d/for-core")
    graph |= {
        "texture": {
            "class_type": "ImageTo3D_TextureMesh",
            "inputs": {
                "mesh": [_id(graph, "ExtractMesh"), 0],
                "triplane": [_id(graph, "Reconstruct"), 0],
                "size": 512,
                "max_faces": 2000,
            },
        },
        "glb": {
            "class_type": "SaveGLB",
            "inputs": {"mesh": ["texture", 0], "filename_prefix": "3d/core-textured"},
        },
    }
    run = comfyui.run(graph)
    (path,) = _saved(comfyui, run, graph, "SaveGLB")
    ours = trimesh.load(path, force="mesh", process=False)
    assert ours.visual.material.baseColorTexture.size == (512, 512)


def _through_core(server: Server, case: str, name: str) -> Mesh:
    """A file of the cases after Load Mesh and core's own saver."""
    shutil.copytree(CASES / case, server.input / case, dirs_exist_ok=True)
    graph = {
        "load": {"class_type": "ImageTo3D_LoadMesh", "inputs": {"file": f"{case}/{name}"}},
        "core": {
            "class_type": "SaveGLB",
            "inputs": {"mesh": ["load", 0], "filename_prefix": f"3d/{case}"},
        },
    }
    (path,) = _saved(server, server.run(graph), graph, "SaveGLB")
    content = path.read_bytes()
    tree = json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])
    pbr = tree.get("materials", [{}])[0].get("pbrMetallicRoughness", {})
    if min(pbr.get("baseColorFactor", [1.0])[:3]) < 1:
        pytest.skip("this version's saver multiplies every mesh with a grey of its own")
    return load_mesh(path)


def test_colours_and_textures_keep_their_brightness_and_place_through_cores_saver(comfyui: Server):
    if not comfyui.meshes_have_colors:
        pytest.skip("this version's MESH has no place for colours and textures")
    grey = _through_core(comfyui, "core-vertex-colours-pale", "grey.obj")
    torch.testing.assert_close(
        grey.vertex_colors, torch.full_like(grey.vertices, 0.5), atol=0.005, rtol=0
    )
    square = texture_to_vertex_colors(
        _through_core(comfyui, "core-texture-upside-down", "square.obj")
    )
    assert _top_and_bottom(square) == ([1, 0, 0], [0, 0, 1])


def test_textured_meshes_of_cores_nodes_keep_their_place_in_save_mesh(comfyui: Server):
    if not comfyui.meshes_have_colors:
        pytest.skip("this version's MESH has no place for textures")
    graph = {
        "1": {"class_type": "Test_CoreSquare", "inputs": {}},
        "2": {
            "class_type": "ImageTo3D_SaveMesh",
            "inputs": {
                "mesh": ["1", 0],
                "filename_prefix": "core/square",
                "format": "glb",
                **PLACE,
            },
        },
    }
    (path,) = _saved(comfyui, comfyui.run(graph), graph)
    assert _top_and_bottom(texture_to_vertex_colors(load_mesh(path))) == ([1, 0, 0], [0, 0, 1])


def _saved_mesh(server: Server, graph: dict[str, Any], suffix: str) -> Mesh:
    """What Save Mesh writes of the graph's node "last"."""
    graph = graph | {
        "save": {
            "class_type": "ImageTo3D_SaveMesh",
            "inputs": {
                "mesh": ["last", 0],
                "filename_prefix": f"core/shells-{suffix}",
                "format": suffix,
                **PLACE,
            },
        }
    }
    run = server.run(graph)
    assert run.error is None, run.error
    (saved,) = run.outputs["save"]["3d"]
    return load_mesh(server.output / saved["subfolder"] / saved["filename"])


def test_materials_of_newer_versions_are_kept(comfyui: Server):
    shells = {"last": {"class_type": "Test_CoreShells", "inputs": {"as_list": False}}}
    mesh = _saved_mesh(comfyui, shells, "glb")
    assert mesh.material.images.keys() == {"metallic_roughness", "normal_map", "emissive"}
    assert dict(mesh.material.factors) == {"metallic_factor": 0.5, "double_sided": True}
    assert mesh.normals is not None
    assert _saved_mesh(comfyui, shells, "obj").material.normal_map is not None


@pytest.mark.parametrize("as_list", [False, True])
def test_a_double_shell_becomes_a_body_to_print(comfyui: Server, as_list: bool):
    graph = {
        "1": {"class_type": "Test_CoreShells", "inputs": {"as_list": as_list}},
        "last": {
            "class_type": "ImageTo3D_MakeSolid",
            "inputs": {"mesh": ["1", 0], "resolution": 64, "max_faces": 4000},
        },
    }
    mesh = _saved_mesh(comfyui, graph, "3mf")
    assert len(mesh.faces) <= 4000
    assert mesh.volume() == pytest.approx(4.18, rel=0.05)
    torch.testing.assert_close(
        mesh.vertex_colors, torch.tensor([1.0, 0, 0]).expand_as(mesh.vertices)
    )


def test_files_go_both_ways_through_cores_socket(comfyui: Server):
    if "file_3d" not in comfyui.object_info()["ImageTo3D_LoadMesh"]["input"]["optional"]:
        pytest.skip("this version has no FILE_3D")
    save = {"filename_prefix": "core/both-ways", "format": "glb", **PLACE}
    graph = {
        "1": {"class_type": "Test_CoreShells", "inputs": {"as_list": False}},
        "2": {"class_type": "ImageTo3D_SaveMesh", "inputs": {"mesh": ["1", 0], **save}},
        "last": {"class_type": "ImageTo3D_LoadMesh", "inputs": {"file": "", "file_3d": ["2", 1]}},
    }
    mesh = _saved_mesh(comfyui, graph, "ply")
    assert len(mesh.faces) == 2 * 5120


def test_cores_own_mesh_nodes_before_and_behind_ours(comfyui: Server):
    if "DecimateMesh" not in comfyui.object_info():
        pytest.skip("this version has no mesh nodes of its own")
    graph = {
        "1": {"class_type": "Test_CoreShells", "inputs": {"as_list": True}},
        "2": {
            "class_type": "DecimateMesh",
            "inputs": {"mesh": ["1", 0], "target_face_count": 6000},
        },
        "3": {
            "class_type": "ImageTo3D_MakeSolid",
            "inputs": {"mesh": ["2", 0], "resolution": 64, "max_faces": 0},
        },
        "4": {"class_type": "FillHoles", "inputs": {"mesh": ["3", 0], "max_perimeter": 0.03}},
        "last": {
            "class_type": "DecimateMesh",
            "inputs": {"mesh": ["4", 0], "target_face_count": 3000},
        },
    }
    mesh = _saved_mesh(comfyui, comfyui.with_defaults(graph), "glb")
    assert len(mesh.faces) < 8000
    assert mesh.volume() == pytest.approx(4.1, rel=0.1)
    assert mesh.vertex_colors is not None


def _top_and_bottom(square: Mesh) -> tuple[list[float], list[float]]:
    """Colours at the upper and at the lower edge."""
    above = square.vertices[:, 2] > 0.5
    top, bottom = (
        square.vertex_colors[chosen].mean(dim=0).round().tolist() for chosen in (above, ~above)
    )
    return top, bottom
