"""List the nodes for ComfyUI."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import host
from .background import RemoveBackground
from .cleaning import CleanMesh, MakeSolid, MeshInfo, QuadRemesh
from .framing import FrameForeground
from .loading import LoadMesh
from .modelslab import ModelsLabImageTo3D
from .multiview import GenerateViews, LoadMultiviewModel
from .photographs import PhotographsOfOneObject
from .ranking import BestMesh
from .reconstruction import LoadReconstructionModel, Reconstruct, ViewCameras
from .rendering import RenderMesh, RenderOrbit
from .saving import SaveMesh
from .surface import ExtractMesh
from .texturing import ApplyTexture, BakeVertexColors, TextureMesh
from .trimesh_bridge import ConvertTrimesh
from .triposg import ReconstructTripoSG

NODES: list[type[io.ComfyNode]] = [
    RemoveBackground,
    FrameForeground,
    LoadMultiviewModel,
    GenerateViews,
    PhotographsOfOneObject,
    LoadReconstructionModel,
    ViewCameras,
    Reconstruct,
    ReconstructTripoSG,
    ExtractMesh,
    RenderOrbit,
    CleanMesh,
    MakeSolid,
    QuadRemesh,
    TextureMesh,
    ApplyTexture,
    BakeVertexColors,
    MeshInfo,
    RenderMesh,
    LoadMesh,
    SaveMesh,
    ModelsLabImageTo3D,
    ConvertTrimesh,
    BestMesh,
]


class ImageTo3DExtension(ComfyExtension):
    """The entry point that ComfyUI loads."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        # ComfyUI 0.3.64 does not call on_load, so this is done here.
        host.register_folders()
        host.offer_demo_images()
        return NODES
