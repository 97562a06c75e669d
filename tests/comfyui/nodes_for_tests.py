"""Nodes for the tests, which copy this file beside the pack: a MESH as core's Hunyuan3D nodes make
it, and a ModelsLab on this machine.
"""

import os

import torch


def _mesh_class():
    try:
        from comfy_api.latest import Types

        return Types.MESH
    except AttributeError:
        from comfy_extras.nodes_hunyuan3d import MESH

        return MESH


class CoreTetrahedra:
    RETURN_TYPES = ("MESH",)
    FUNCTION = "make"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"count": ("INT", {"default": 1})}}

    def make(self, count):
        vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])
        faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
        return (_mesh_class()(vertices.expand(count, -1, -1), faces.expand(count, -1, -1)),)


class CoreSquare:
    """An upright square as core's textured meshes are: uvs from the upper left, its texture red
    above and blue below.
    """

    RETURN_TYPES = ("MESH",)
    FUNCTION = "make"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def make(self):
        vertices = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]])
        texture = torch.zeros(1, 64, 64, 3)
        texture[:, :32, :, 0] = 1.0
        texture[:, 32:, :, 2] = 1.0
        uvs = torch.tensor([[[0.0, 1], [1, 1], [1, 0], [0, 0]]])
        return (
            _mesh_class()(
                vertices, torch.tensor([[[0, 1, 2], [0, 2, 3]]]), uvs=uvs, texture=texture
            ),
        )


class LocalModelsLab:
    """Names a service on this machine as the one to use from now on."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "use"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"api": ("STRING", {"default": ""})}}

    def use(self, api):
        os.environ["MODELSLAB_API_URL"] = api
        return ()


class CastWeights:
    """Sets a model's layers to work as where ComfyUI has loaded them in part, and says which
    parameters are in layers that cannot.
    """

    RETURN_TYPES = ("IMAGE_TO_3D_MULTIVIEW_MODEL",)
    OUTPUT_NODE = True
    FUNCTION = "cast"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("IMAGE_TO_3D_MULTIVIEW_MODEL",)}}

    def cast(self, model):
        others = set()
        for module in model.patcher.model.modules():
            if hasattr(module, "comfy_cast_weights"):
                module.comfy_cast_weights = True
            elif list(module.parameters(recurse=False)):
                others.add(type(module).__name__)
        return {"ui": {"text": sorted(others)}, "result": (model,)}


NODE_CLASS_MAPPINGS = {
    "Test_CoreTetrahedra": CoreTetrahedra,
    "Test_CoreSquare": CoreSquare,
    "Test_LocalModelsLab": LocalModelsLab,
    "Test_CastWeights": CastWeights,
}
