"""A node that makes a MESH as core's Hunyuan3D nodes do, and joins pictures and alpha: copied beside the pack by the tests."""

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


NODE_CLASS_MAPPINGS = {"Test_CoreTetrahedra": CoreTetrahedra}
