"""Nodes for the tests, which copy this file beside the pack: a MESH as core's Hunyuan3D nodes make
it, and a ModelsLab on this machine.
"""

import os

import torch


def _core_class(name):
    try:
        from comfy_api.latest import Types

        return getattr(Types, name)
    except AttributeError:
        from comfy_extras import nodes_hunyuan3d

        return getattr(nodes_hunyuan3d, name)


def _mesh_class():
    return _core_class("MESH")


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


class TrellisOutput:
    """The double shell of a ball as core's decoders of TRELLIS.2 and Pixal3D give it, and the
    colours of the cells at its surface: red grows to the right, metalness upward.
    """

    RETURN_TYPES = ("MESH", "VOXEL")
    FUNCTION = "make"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"resolution": ("INT", {"default": 64})}}

    def make(self, resolution):
        import trimesh

        balls = [trimesh.creation.icosphere(4, radius) for radius in (0.4, 0.39)]
        ball = trimesh.util.concatenate(balls)
        vertices = torch.tensor(ball.vertices)[None].float()
        mesh = _mesh_class()(vertices, torch.tensor(ball.faces)[None].int())
        cells = torch.cartesian_prod(*[torch.arange(resolution)] * 3)
        centers = (cells + 0.5) / resolution - 0.5
        cells = cells[(centers.norm(dim=1) - 0.4).abs() < 2 / resolution]
        centers = (cells + 0.5) / resolution - 0.5
        voxel = _core_class("VOXEL")(torch.nn.functional.pad(cells, (1, 0)).int())
        voxel.voxel_colors = torch.full((len(cells), 6), 0.25)
        voxel.voxel_colors[:, 0] = centers[:, 0] + 0.5
        voxel.voxel_colors[:, 3] = centers[:, 1] + 0.5
        voxel.resolution = resolution
        return mesh, voxel


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
    "Test_TrellisOutput": TrellisOutput,
    "Test_LocalModelsLab": LocalModelsLab,
    "Test_CastWeights": CastWeights,
}
