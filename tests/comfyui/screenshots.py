"""Take the images of the templates and of the README in a real ComfyUI.

python -m tests.comfyui.images [WORKFLOW ...]    # all of them, or those whose names begin so
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from .browser import CHROMIUM, SOFTWARE_GL
from .server import PACK, Server, start_server

# The others need weights or a key that are not here.
RUNNING = ("1 Photo - picture to OBJ", "5 Orbit video", "7 Textured GLB", "8 Print-ready STL")
README_IMAGE = PACK / "web" / "docs" / "images" / "comfyui.jpg"
WIDTH, HEIGHT, MARGIN = 2800, 1600, 60
SIDEBAR, TOP_BAR, BOTTOM_BAR = 80, 100, 100
IMAGE_WIDTH = 1200


def fit(page: Page, nodes: list[dict[str, Any]]) -> tuple[int, int, int, int]:
    """Move the view so that all nodes are seen, and return the part of the window that they
    fill.
    """
    left, top = min(n["pos"][0] for n in nodes), min(n["pos"][1] for n in nodes) - 60
    right = max(n["pos"][0] + n["size"][0] for n in nodes)
    bottom = max(n["pos"][1] + n["size"][1] for n in nodes)
    scale = min(
        (WIDTH - SIDEBAR - 2 * MARGIN) / (right - left),
        (HEIGHT - TOP_BAR - BOTTOM_BAR - 2 * MARGIN) / (bottom - top),
        1.2,
    )
    canvas = page.locator("canvas#graph-canvas").bounding_box()
    assert canvas is not None
    x = (SIDEBAR + MARGIN - canvas["x"]) / scale - left
    y = (TOP_BAR + MARGIN - canvas["y"]) / scale - top
    page.evaluate(
        f"window.app.canvas.ds.scale = {scale}; window.app.canvas.ds.offset = [{x}, {y}];"
        " window.app.graph.setDirtyCanvas(true, true)"
    )
    return (
        SIDEBAR,
        TOP_BAR,
        round(SIDEBAR + (right - left) * scale + 2 * MARGIN),
        round(TOP_BAR + (bottom - top) * scale + 2 * MARGIN),
    )


def take(server: Server, page: Page, path: Path) -> None:
    """Open a workflow, run it if it can run here, and save its image beside it."""
    graph = json.loads(path.read_text())
    page.evaluate("graph => window.app.loadGraphData(graph)", graph)
    page.wait_for_timeout(3000)
    page.keyboard.press("Escape")  # a note on models that are missing
    area = fit(page, graph["nodes"])
    if path.stem in RUNNING:
        before = len(server.http.get("/history").json())
        page.get_by_role("button", name="Run").first.click()
        while len(server.http.get("/history").json()) == before:
            time.sleep(1)
        page.wait_for_timeout(20_000)  # software rendering of the viewer is slow
        page.get_by_text("Loading 3D").wait_for(state="hidden", timeout=300_000)
    page.wait_for_timeout(3000)
    screen = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    save(screen.crop(area), path.with_suffix(".jpg"))
    if path.stem == RUNNING[0]:
        save(screen, README_IMAGE)


def save(image: Image.Image, path: Path) -> None:
    image.resize(
        (IMAGE_WIDTH, round(image.height * IMAGE_WIDTH / image.width)), Image.Resampling.LANCZOS
    ).save(path, quality=78, optimize=True, progressive=True)


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as base,
        start_server(Path(base)) as server,
        sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=SOFTWARE_GL)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(server.url)
        page.wait_for_function(
            "window.app && window.app.graph && window.app.extensionManager", timeout=90_000
        )
        page.wait_for_timeout(5000)
        page.keyboard.press("Escape")
        page.evaluate("window.app.extensionManager.setting.set('Comfy.Minimap.Visible', false)")
        for path in sorted((PACK / "workflows").glob("*.json")):
            if not sys.argv[1:] or path.name.startswith(tuple(sys.argv[1:])):
                take(server, page, path)
        browser.close()


if __name__ == "__main__":
    main()
