"""The pack's `__init__.py`."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sys
from pathlib import Path

import comfyui_version
import pytest

PACK = Path(__file__).parents[2]


def _import_pack() -> None:
    spec = importlib.util.spec_from_file_location("pack", PACK / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.mark.parametrize("version", ["0.3.40", "0.3.63", "0.2.9"])
def test_import_below_the_oldest_comfyui_logs_the_needed_version(monkeypatch, caplog, version):
    monkeypatch.setattr(comfyui_version, "__version__", version)
    _import_pack()
    assert caplog.messages == ["Image to 3D needs ComfyUI 0.3.64 or newer: update ComfyUI."]
    assert caplog.records[0].levelno == logging.ERROR


def test_import_in_a_comfyui_without_a_version_logs_the_needed_version(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "comfyui_version", None)
    _import_pack()
    assert "0.3.64 or newer" in caplog.text


@pytest.mark.parametrize("version", ["0.3.64", "0.3.100", "0.27.0", "0.33.0", "1.0.0"])
def test_import_in_a_supported_comfyui_logs_nothing(monkeypatch, caplog, version):
    monkeypatch.setattr(comfyui_version, "__version__", version)
    _import_pack()
    assert not caplog.messages


def test_entry_point_returns_the_extension(nodes):
    extension = asyncio.run(sys.modules["image_to_3d_pack"].comfy_entrypoint())
    assert isinstance(extension, nodes.ImageTo3DExtension)
