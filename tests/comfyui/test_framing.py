"""Remove Background in a real ComfyUI: alpha, masks and what comes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from .graphs import node_id, set_inputs, six_views_graph, write_image
from .server import Server


def _framed(comfyui: Server, graph: dict[str, Any], prefix: str) -> np.ndarray:
    """Run a graph up to Remove Background and read its image and mask."""
    node = node_id(graph, "RemoveBackground")
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
    graph = six_views_graph("x")
    set_inputs(
        graph, "LoadImage", image=write_image(comfyui, "rgba.png", (10, 120, 200), transparent=True)
    )
    load = node_id(graph, "LoadImage")
    graph["rgba"] = {
        "class_type": "JoinImageWithAlpha",
        "inputs": {"image": [load, 0], "alpha": [load, 1]},
    }
    set_inputs(graph, "RemoveBackground", image=["rgba", 0], model="alpha")
    found = _framed(comfyui, graph, "rgba")
    assert found[50, 60].tolist() == [10, 120, 200, 255, 255, 255]
    assert found[5, 5].tolist() == [255, 255, 255, 0, 0, 0]


def test_an_inverted_mask_of_load_image_is_the_object(comfyui: Server):
    graph = six_views_graph("x")
    set_inputs(
        graph,
        "LoadImage",
        image=write_image(comfyui, "masked.png", (10, 120, 200), transparent=True),
    )
    graph["inverted"] = {
        "class_type": "InvertMask",
        "inputs": {"mask": [node_id(graph, "LoadImage"), 1]},
    }
    set_inputs(graph, "RemoveBackground", mask=["inverted", 0])
    found = _framed(comfyui, graph, "masked")
    assert found[50, 60].tolist() == [10, 120, 200, 255, 255, 255]
    assert found[5, 5].tolist() == [255, 255, 255, 0, 0, 0]
