"""Check a queued graph before anything is downloaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..pipelines.errors import InvalidInput
from ..pipelines.weights.inventory import check_available
from ..pipelines.weights.presets import MULTIVIEW_PRESETS, RECONSTRUCTION_PRESETS, licenses_of

#: Nodes that output one image for each input image.
_FRAMING = ("ImageTo3D_FrameForeground", "ImageTo3D_RemoveBackground")


def check_loaders(
    prompt: Mapping[str, Any] | None, model: str, models_dirs: Sequence[Path]
) -> None:
    """Raise an error if the graph cannot work, as soon as the first loader runs.

    Args:
        prompt: the graph in API format, as ComfyUI hands it to nodes.
        model: the name chosen in the calling loader.
        models_dirs: folders with weights.

    Raises:
        InvalidInput: if the inputs of a Reconstruct node do not suit its model.
        EnvironmentProblem: if weights for any loader are missing and there is no network.
    """
    nodes = [node for node in (prompt or {}).values() if "class_type" in node]
    for node in nodes:
        if node["class_type"] == "ImageTo3D_Reconstruct":
            _check_reconstruct(prompt or {}, node.get("inputs", {}))
    models = [node.get("inputs", {}).get("model") for node in nodes if _is_loader(node)]
    known = [name for name in (model, *models) if _is_model(name)]
    check_available(list(dict.fromkeys(known)), models_dirs)


def licenses_before(prompt: Mapping[str, Any] | None, node_id: str) -> dict[str, str]:
    """Return the licences of the weights that a node's inputs were made with, by model.

    Args:
        prompt: the graph in API format, as ComfyUI hands it to nodes.
        node_id: key of the node in the graph.
    """
    found: dict[str, str] = {}
    seen, waiting = set(), [[node_id, 0]]
    while waiting:
        link = waiting.pop()
        node = _source(prompt or {}, link)
        if not node or str(link[0]) in seen:
            continue
        seen.add(str(link[0]))
        inputs = node.get("inputs", {})
        if _is_loader(node) and _is_model(name := inputs.get("model")):
            found[name] = licenses_of(name)[name]
        waiting += inputs.values()
    return found


def _is_model(name: Any) -> bool:
    return isinstance(name, str) and (name in RECONSTRUCTION_PRESETS or name in MULTIVIEW_PRESETS)


def _is_loader(node: Mapping[str, Any]) -> bool:
    return node.get("class_type") in (
        "ImageTo3D_LoadReconstructionModel",
        "ImageTo3D_LoadMultiviewModel",
    )


def _check_reconstruct(prompt: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    loader = _source(prompt, inputs.get("model"))
    model = loader.get("inputs", {}).get("model")
    preset = RECONSTRUCTION_PRESETS.get(model) if isinstance(model, str) else None
    if preset is None:
        return
    views = _source(prompt, inputs.get("views")).get("class_type")
    if preset.input_kind == "image":
        if views == "ImageTo3D_GenerateViews":
            raise InvalidInput(
                f"The model {model} takes one framed image, but Reconstruct gets six views:"
                " connect Frame Foreground's image and mask, or choose an instant-mesh model."
            )
        if "mask" not in inputs:
            raise InvalidInput(
                f"The model {model} takes one framed image and its mask: connect the mask of Frame"
                " Foreground to Reconstruct."
            )
    elif views in _FRAMING and "cameras" not in inputs and _is_one_image(prompt, inputs["views"]):
        raise InvalidInput(
            f"The model {model} needs six views of the object, but Reconstruct gets one image:"
            " choose photo or triposr, or put Generate Views in between."
        )


def _is_one_image(prompt: Mapping[str, Any], link: Any) -> bool:
    """Return whether an IMAGE comes from Load Image, through framing nodes only."""
    node = _source(prompt, link)
    while node.get("class_type") in _FRAMING:
        node = _source(prompt, node.get("inputs", {}).get("image"))
    return node.get("class_type") == "LoadImage"


def _source(prompt: Mapping[str, Any], link: Any) -> Mapping[str, Any]:
    """Return the node that a link comes from; empty if there is no such node."""
    linked = isinstance(link, list) and len(link) == 2
    node: Mapping[str, Any] = prompt.get(str(link[0]), {}) if linked else {}
    return node
