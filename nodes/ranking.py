"""Keep the best of several meshes of one photograph."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..pipelines.errors import InvalidInput
from ..pipelines.fields.field import Field
from ..pipelines.meshes.ranking import score_of_photograph
from . import host
from .errors import explained
from .mesh_sockets import mesh_socket, meshes_of
from .schema import node_schema
from .sockets import FieldSocket, images_of, masks_of


class BestMesh(io.ComfyNode):
    """Keeps the most plausible of several meshes of one photograph, such as those of several seeds.

    Compares their outlines with the photograph's mask, and prefers one closed component.
    """

    define_schema = node_schema(
        "ImageTo3D_BestMesh",
        "Best Mesh",
        "best of n, several seeds, tries, rank, select mesh",
        inputs=[
            io.Mesh.Input("mesh", tooltip="Meshes of one object, from Extract Mesh."),
            io.Image.Input("image", tooltip="The framed photograph, from Frame Foreground."),
            io.Mask.Input("mask", tooltip="The mask of the framed photograph, 1 = object."),
            FieldSocket.Input("triplane", optional=True, tooltip="The fields of the meshes."),
        ],
        outputs=[
            io.Mesh.Output("best_mesh", display_name="mesh"),
            FieldSocket.Output("best_triplane", display_name="triplane"),
            io.String.Output("report", tooltip="The scores of all meshes."),
        ],
        hidden=[io.Hidden.unique_id],
    )

    @classmethod
    @explained
    def execute(
        cls, mesh: Any, image: Tensor, mask: Tensor, triplane: list[Field] | None = None
    ) -> io.NodeOutput:
        meshes, photograph = meshes_of(mesh), images_of(image)[:1, :3]
        if triplane is not None and len(triplane) != len(meshes):
            raise InvalidInput(
                f"There must be one field for each mesh, got {len(triplane)} fields and"
                f" {len(meshes)} meshes."
            )
        own_mask = masks_of(mask[:1] if mask.ndim == 3 else mask, photograph)
        scores = [
            score_of_photograph(one, photograph, own_mask, progress)
            for one, progress in host.each(meshes)
        ]
        best = max(range(len(scores)), key=lambda i: scores[i].total)
        lines = [f"mesh {i + 1}: {one}" for i, one in enumerate(scores)]
        text = "\n".join([f"best: mesh {best + 1}", *lines])
        host.show_on_node(cls.hidden.unique_id, text)
        field = None if triplane is None else [triplane[best]]
        return io.NodeOutput(mesh_socket([meshes[best]]), field, text, ui=ui.PreviewText(text))
