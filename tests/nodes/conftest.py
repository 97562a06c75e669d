"""The pack as ComfyUI imports it, with `tests/stand_in` in ComfyUI's place."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import folder_paths
import pytest
from comfy import model_management, utils
from server import PromptServer

from pipelines.images.framing import frame_foreground

from ..tiny_models import MODEL, VIEWS_MODEL
from .inputs import SAMPLING, red_box

PACK = Path(__file__).parents[2]
NAME = "image_to_3d_pack"
_LIBRARY = f"{NAME}.pipelines"


class _OneLibrary(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Maps the pack's `..pipelines` to the modules that other tests import as `pipelines`."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return (
            importlib.machinery.ModuleSpec(name, self)
            if name == _LIBRARY or name.startswith(f"{_LIBRARY}.")
            else None
        )

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return importlib.import_module(spec.name.removeprefix(f"{NAME}."))

    def exec_module(self, module: ModuleType) -> None:
        pass


@pytest.fixture(scope="session")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Import the pack, with a ComfyUI folder for session fixtures."""
    finder = _OneLibrary()
    sys.meta_path.insert(0, finder)
    spec = importlib.util.spec_from_file_location(
        NAME, PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    assert spec is not None
    assert spec.loader is not None
    pack = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = pack
    spec.loader.exec_module(pack)
    package = importlib.import_module(f"{NAME}.nodes")
    folder_paths.use(tmp_path_factory.mktemp("once") / "ComfyUI")
    package.host.register_folders()
    return package


@pytest.fixture(autouse=True)
def comfyui(tmp_path: Path, nodes: ModuleType) -> Iterator[Path]:
    """Give each test its own empty ComfyUI folder."""
    folder_paths.use(tmp_path / "ComfyUI")
    nodes.host.register_folders()
    yield tmp_path / "ComfyUI"
    model_management.freed.clear()
    model_management.loaded.clear()
    model_management.interrupted = False
    utils.bars.clear()
    PromptServer.instance.texts.clear()


@pytest.fixture(scope="session")
def managed(nodes: ModuleType, models_dir: Path) -> tuple[Any, Any]:
    """Return both tiny models as the loader nodes return them."""
    folder_paths.add_model_folder_path("image_to_3d", str(models_dir))
    views = nodes.LoadMultiviewModel.execute(VIEWS_MODEL, "float32")[0]
    return views, nodes.LoadReconstructionModel.execute(MODEL, "float32")[0]


@pytest.fixture(scope="session")
def triplane(nodes: ModuleType, managed: tuple[Any, Any]) -> Any:
    image = red_box().permute(0, 3, 1, 2)
    framed, _ = frame_foreground(image, (image[:, 1:2] < 0.5).float(), size=128)
    views = nodes.GenerateViews.execute(managed[0], framed.permute(0, 2, 3, 1), 1, **SAMPLING)[0]
    return nodes.Reconstruct.execute(managed[1], views)[0]
