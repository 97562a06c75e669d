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


class CoreShells:
    """Two balls of triangles one in the other, as generators make them, with all that the newest
    version's MESH has, attached where the running one has no place for it.
    """

    RETURN_TYPES = ("MESH",)
    FUNCTION = "make"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"as_list": ("BOOLEAN", {"default": False})}}

    def make(self, as_list):
        import trimesh

        balls = [trimesh.creation.icosphere(4, radius) for radius in (1.0, 0.9)]
        ball = trimesh.util.concatenate(balls)
        vertices = torch.tensor(ball.vertices).float()
        faces = torch.tensor(ball.faces)
        mesh = _mesh_class()(vertices[None], faces[None])
        if as_list:
            mesh.vertices, mesh.faces = [vertices], [faces]
        red_and_opaque = torch.tensor([1.0, 0, 0, 1]).expand(len(vertices), -1)
        mesh.vertex_colors = [red_and_opaque] if as_list else red_and_opaque[None]
        if not as_list:
            mesh.uvs = vertices[None, :, :2] / 4 + 0.5
            mesh.normals = torch.nn.functional.normalize(vertices, dim=1)[None]
            mesh.metallic_roughness = torch.full((1, 8, 8, 3), 0.5)
            mesh.normal_map = torch.tensor([0.5, 0.5, 1.0]).expand(1, 8, 8, 3)
            mesh.emissive = torch.full((1, 8, 8, 3), 0.25)
            mesh.material = {"metallic_factor": 0.5, "double_sided": True}
        return (mesh,)


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
    "Test_CoreShells": CoreShells,
    "Test_LocalModelsLab": LocalModelsLab,
    "Test_CastWeights": CastWeights,
}
