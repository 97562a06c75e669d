"""Convert meshes from and to the TRIMESH socket of other packs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..pipelines.images.reading import to_pillow
from ..pipelines.meshes.io import to_y_up
from ..pipelines.meshes.mesh import Mesh
from .cleaning import FOLDER
from .errors import explained
from .mesh_sockets import mesh_socket, meshes_of
from .schema import node_schema

if TYPE_CHECKING:
    import trimesh

_Trimesh = io.Custom("TRIMESH")


class ConvertTrimesh(io.ComfyNode):
    """Converts between MESH and the TRIMESH of other packs: connect one, the node outputs both."""

    define_schema = node_schema(
        "ImageTo3D_ConvertTrimesh",
        "Convert Trimesh",
        "trimesh, bridge, trimesh to mesh, mesh to trimesh",
        folder=FOLDER,
        inputs=[
            io.MultiType.Input("any_mesh", types=[io.Mesh, _Trimesh], tooltip="MESH or TRIMESH.")
        ],
        outputs=[
            io.Mesh.Output("mesh", tooltip="With its texture or vertex colours."),
            _Trimesh.Output("trimesh", is_output_list=True, tooltip="A list of the meshes."),
        ],
    )

    @classmethod
    @explained
    def execute(cls, any_mesh: Any) -> io.NodeOutput:
        meshes = meshes_of(any_mesh)
        return io.NodeOutput(mesh_socket(meshes), [_trimesh(to_y_up(one)) for one in meshes])


def _trimesh(mesh: Mesh) -> trimesh.Trimesh:
    """Convert a mesh, y up, to trimesh's class, which other packs use."""
    import trimesh
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    made = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)
    if mesh.texture is not None and mesh.uvs is not None:
        image = to_pillow(mesh.texture.permute(2, 0, 1)[None])
        material = PBRMaterial(baseColorTexture=image)
        made.visual = TextureVisuals(mesh.uvs.numpy(), material=material)
    elif mesh.vertex_colors is not None:
        colors = mesh.vertex_colors.clamp(0, 1) * 255
        made.visual.vertex_colors = colors.round().byte().numpy()
    return made
