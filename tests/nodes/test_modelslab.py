"""The ModelsLab node."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import folder_paths

from pipelines.meshes.io import load_mesh, save_mesh
from pipelines.modelslab.answers import ApiAnswer
from pipelines.modelslab.run import CloudResult

from .inputs import red_box, small_ball


def test_modelslab_gives_mesh_paths_and_meta(nodes, monkeypatch):
    async def made(
        client: Any, images: Any, values: Any, stems: list[Path], **more: Any
    ) -> list[Any]:
        assert client == "client"
        assert values["resolution"] == 256
        assert images[0].size == (128, 96)
        assert more["pay_again"] is False
        path = stems[0].with_name(f"{stems[0].name}-7.obj")
        save_mesh(small_ball(), path)
        return [
            CloudResult(
                path=path,
                mesh=load_mesh(path),
                video=None,
                job_id="7",
                answer=ApiAnswer("success", "7", meta={"prompt": "x", "job_id": "another"}),
            )
        ]

    monkeypatch.setattr("pipelines.modelslab.client.images_to_3d", made)
    monkeypatch.setattr(nodes.host, "modelslab_client", lambda server: "client")
    out = asyncio.run(
        nodes.ModelsLabImageTo3D.execute(red_box(), "", "3d/modelslab", resolution=256)
    )
    assert out[1] == "3d/modelslab_00001-7.obj"
    assert out[2] == ""
    assert json.loads(out[3])[0]["job_id"] == "7"
    assert out[4].message == "There is no video."
    assert load_mesh(Path(folder_paths.get_output_directory()) / out[1]).volume() > 0
