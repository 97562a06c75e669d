from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..modelslab.server import KEY
from ..tiny_models import write_models
from .server import CannotStart, Server, find_comfyui, start_server


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if find_comfyui() is None:
        pytest.skip("no ComfyUI at COMFYUI_PATH or ~/comfy/ComfyUI")
    running = start_server(tmp_path_factory.mktemp("comfyui"), {"MODELSLAB_API_KEY": KEY})
    try:
        server = running.__enter__()
    except CannotStart as reason:
        pytest.skip(str(reason))
    write_models(server.base / "models" / "image_to_3d")
    yield server
    running.__exit__(None, None, None)
