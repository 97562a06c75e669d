"""The page itself: a user opens a template, presses Run, and turns the mesh around."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .server import PACK_NAME, Server

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SOFTWARE_GL = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
TEMPLATE = "1 Pocket - picture to OBJ"


@pytest.fixture
def page(comfyui: Server) -> Iterator[playwright.Page]:
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=SOFTWARE_GL)
        page = browser.new_page(viewport={"width": 1900, "height": 1000})
        page.goto(comfyui.url)
        page.wait_for_function("window.app && window.app.graph && window.app.extensionManager", timeout=90_000)
        yield page
        browser.close()


def _open_template(page: playwright.Page) -> None:
    if not page.get_by_text(PACK_NAME).count():  # the first visit opens the browser of templates by itself
        page.wait_for_timeout(3000)
        page.evaluate("window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text(PACK_NAME).first.click(timeout=60_000)
    page.get_by_text(TEMPLATE).first.click(timeout=60_000)
    page.wait_for_function("window.app.graph._nodes.length >= 11", timeout=60_000)
    page.evaluate("window.app.canvas.ds.scale = 0.72; window.app.canvas.ds.offset = [480, 330]; window.app.graph.setDirtyCanvas(true, true)")


def _share_of_green(page: playwright.Page) -> float:
    """Of the pixels of the 3D preview: the demo's tree is green, the empty viewer is grey."""
    place = page.evaluate(
        "(() => { const n = window.app.graph._nodes.find(n => n.type === 'Preview3D'), s = window.app.canvas.ds;"
        " return [(n.pos[0] + s.offset[0]) * s.scale, (n.pos[1] + s.offset[1]) * s.scale, n.size[0] * s.scale, n.size[1] * s.scale]; })()"
    )
    box = page.locator("canvas#graph-canvas").bounding_box()
    pixels = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
    left, top = round(box["x"] + place[0]), round(box["y"] + place[1])
    inside = pixels[top : top + round(place[3]), left : left + round(place[2])]
    return float(((inside[..., 1] > inside[..., 0] + 25) & (inside[..., 1] > inside[..., 2] + 25)).mean())


def test_a_template_runs_and_its_mesh_is_seen(comfyui: Server, page: playwright.Page):
    fetched: list[str] = []
    page.on("response", lambda answer: fetched.append(answer.url) if answer.ok and ".obj" in answer.url else None)
    _open_template(page)
    before = len(comfyui.http.get("/history").json())
    page.get_by_role("button", name="Run").first.click()
    deadline = time.monotonic() + 180
    while len(comfyui.http.get("/history").json()) == before:
        assert time.monotonic() < deadline, "the run did not end"
        page.wait_for_timeout(500)
    while (green := _share_of_green(page)) < 0.03 and time.monotonic() < deadline:
        page.wait_for_timeout(1000)
    if "SCREENSHOT" in os.environ:  # for the README
        page.wait_for_timeout(2000)
        page.screenshot(path=Path(os.environ["SCREENSHOT"]))
    assert green >= 0.03, "the mesh is not to be seen in the preview"
    assert any("pocket_00001_.obj" in url for url in fetched)
    assert page.locator(".p-toast-message-error").count() == 0
    assert page.evaluate("window.app.graph._nodes.filter(n => n.has_errors).map(n => n.type)") == []
    assert not page.evaluate("window.app.lastNodeErrors && Object.keys(window.app.lastNodeErrors).length")
