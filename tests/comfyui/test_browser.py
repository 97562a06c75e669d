"""The page itself: a user opens a template, presses Run, and turns the mesh around."""

from __future__ import annotations

import io
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy import ndimage

from pipelines.cameras import cameras_around
from pipelines.fields.field import Field
from pipelines.image_to_3d import ImageTo3D
from pipelines.images.reading import read_image, to_pillow
from pipelines.rendering.render_field import render_field
from pipelines.settings import Settings, SurfaceSettings
from pipelines.surface.extraction import extract_mesh

from .browser import CHROMIUM, SOFTWARE_GL
from .server import PACK, PACK_NAME, Server

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
TEMPLATE = "1 Photo - picture to OBJ"
RUN_SECONDS = 180
SCALED_SIZE = 5.0  # of the longest side, where the viewer scales meshes
NODE = "window.app.graph._nodes.find(n => n.type === '{}')"
PREVIEW, SAVER = NODE.format("Preview3D"), NODE.format("ImageTo3D_SaveMesh")


@pytest.fixture
def page(comfyui: Server) -> Iterator[playwright.Page]:
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=SOFTWARE_GL)
        page = browser.new_page(viewport={"width": 1900, "height": 1000})
        page.goto(comfyui.url)
        page.wait_for_function(
            "window.app && window.app.graph && window.app.extensionManager", timeout=90_000
        )
        yield page
        browser.close()


def _open_templates(page: playwright.Page) -> None:
    if not page.get_by_text(
        PACK_NAME
    ).count():  # the first visit opens the browser of templates by itself
        page.wait_for_timeout(3000)
        page.evaluate("window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text(PACK_NAME).first.click(timeout=60_000)


def _open_template(page: playwright.Page) -> None:
    _open_templates(page)
    page.get_by_text(TEMPLATE).first.click(timeout=60_000)
    page.wait_for_function("window.app.graph._nodes.length >= 9", timeout=60_000)
    page.evaluate(
        "window.app.canvas.ds.scale = 0.72; window.app.canvas.ds.offset = [480, 330];"
        " window.app.graph.setDirtyCanvas(true, true)"
    )


def _run(comfyui: Server, page: playwright.Page) -> dict[str, Any]:
    """Press Run; what the history says of it."""
    before = comfyui.http.get("/history").json().keys()
    page.get_by_role("button", name="Run").first.click()
    deadline = time.monotonic() + RUN_SECONDS
    while not (new := comfyui.http.get("/history").json().keys() - before):
        assert time.monotonic() < deadline, "the run did not end"
        page.wait_for_timeout(500)
    (run,) = new
    return comfyui.http.get(f"/history/{run}").json()[run]


def _wait_until_the_mesh_is_seen(page: playwright.Page, node: str) -> None:
    deadline = time.monotonic() + RUN_SECONDS
    while not _object_in(_viewer(page, node)).mean() >= 0.03:
        assert time.monotonic() < deadline, "the mesh is not to be seen"
        page.wait_for_timeout(1000)


def _viewer(page: playwright.Page, node: str = PREVIEW) -> np.ndarray:
    """(H, W, 3) uint8: what the 3D viewer in a node shows."""
    left, top, width, height = _viewer_box(page, node)
    screen = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
    return screen[round(top) : round(top + height), round(left) : round(left + width)]


def _viewer_box(page: playwright.Page, node: str = PREVIEW) -> list[float]:
    """Left, top, width and height on the screen of the canvas within a node."""
    return page.evaluate(f"""(() => {{
            const node = {node}, scaling = window.app.canvas.ds;
            const graph = document.querySelector('canvas#graph-canvas').getBoundingClientRect();
            const left = graph.left + (node.pos[0] + scaling.offset[0]) * scaling.scale;
            const top = graph.top + (node.pos[1] + scaling.offset[1]) * scaling.scale;
            const width = node.size[0] * scaling.scale, height = node.size[1] * scaling.scale;
            const canvases = [...document.querySelectorAll('canvas')];
            const boxes = canvases.map(c => c.getBoundingClientRect());
            const inside = boxes.find(
                c => c.left >= left - 1 && c.top >= top - 1
                    && c.right <= left + width + 1 && c.bottom <= top + height + 1);
            return inside ? [inside.left, inside.top, inside.width, inside.height]
                : [left, top, width, height];
        }})()""")


def _object_in(image: np.ndarray) -> np.ndarray:
    """(H, W) bool: the largest coloured thing; the viewer's background, its grid and its buttons
    are grey, its axes small.
    """
    levels = image.astype(int)
    return _largest(levels.max(axis=2) - levels.min(axis=2) > 25)


def _silhouette(image: np.ndarray) -> np.ndarray:
    """(H, W) bool: the largest thing before a plain background without grid, without holes."""
    levels = image.astype(int)
    background = np.median(levels.reshape(-1, 3), axis=0)
    return ndimage.binary_fill_holes(_largest(np.abs(levels - background).max(axis=2) > 25))


def _largest(mask: np.ndarray) -> np.ndarray:
    parts, count = ndimage.label(mask)
    return (
        parts == 1 + np.bincount(parts.ravel(), minlength=2)[1:].argmax()
        if count
        else np.zeros(parts.shape, bool)
    )


def test_a_template_runs_and_its_mesh_is_seen(comfyui: Server, page: playwright.Page):
    fetched: list[str] = []
    page.on(
        "response",
        lambda answer: fetched.append(answer.url) if answer.ok and ".obj" in answer.url else None,
    )
    _open_template(page)
    _run(comfyui, page)
    _wait_until_the_mesh_is_seen(page, PREVIEW)
    if "SCREENSHOT" in os.environ:
        page.wait_for_timeout(2000)
        page.screenshot(path=Path(os.environ["SCREENSHOT"]))
    assert any("photo_00001_.obj" in url for url in fetched)
    assert page.locator(".p-toast-message-error").count() == 0
    assert page.evaluate("window.app.graph._nodes.filter(n => n.has_errors).map(n => n.type)") == []
    assert not page.evaluate(
        "window.app.lastNodeErrors && Object.keys(window.app.lastNodeErrors).length"
    )


def _turn(page: playwright.Page) -> tuple[list[float], list[float], bool]:
    """Drag the mesh; the camera's position and target afterwards, y up, and whether the viewer has
    scaled the mesh.
    """
    left, top, width, height = _viewer_box(page)
    x, y = left + width / 2, top + height / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 20, steps=4)
    page.mouse.up()
    page.wait_for_timeout(5000)  # it swings on for a while
    page.mouse.down()  # the viewer notes its camera when a drag ends
    page.mouse.up()
    page.wait_for_function(
        f"{PREVIEW}.properties['Camera Info'] || {PREVIEW}.properties['Camera Config']?.state"
    )
    page.wait_for_timeout(3000)
    properties: dict[str, Any] = page.evaluate(f"{PREVIEW}.properties")
    old = "Camera Info" in properties
    camera = properties["Camera Info"] if old else properties["Camera Config"]["state"]
    position, target = ([camera[name][axis] for axis in "xyz"] for name in ("position", "target"))
    return position, target, old


@pytest.fixture(scope="module")
def demo_triplane() -> Field:
    """Compute the field of the template's image without its nodes.

    This is done before the page opens: its software rendering takes the whole processor.
    """
    chain = ImageTo3D.load(device="cpu")
    image = read_image(PACK / "workflows" / "cup.png")
    return chain(image, Settings(surface=SurfaceSettings(resolution=32))).field


def _cut_out(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The object's box as 96 x 96 pixels in [0, 1], and its mask: the camera's field of view and
    the window's size fall away.
    """
    rows, columns = np.nonzero(mask)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    cut, cut_mask = (
        Image.fromarray(x).crop(box).resize((96, 96), Image.Resampling.BILINEAR)
        for x in (image, mask.astype(np.uint8) * 255)
    )
    return np.asarray(cut) / 255, np.asarray(cut_mask) > 127


@pytest.mark.slow
def test_the_viewer_shows_what_the_triplane_holds(
    comfyui: Server, demo_triplane: Field, page: playwright.Page
):
    _open_template(page)
    page.evaluate(f"""(() => {{
            const extract = window.app.graph._nodes.find(n => n.type === 'ImageTo3D_ExtractMesh');
            extract.widgets.find(w => w.name === 'keep_largest_part').value = false;
            {PREVIEW}.properties['Show Grid'] = false;
            {PREVIEW}.properties['Scene Config'] = {{
                showGrid: false, backgroundColor: '#282828', backgroundImage: ''}};
        }})()""")
    _run(comfyui, page)
    _wait_until_the_mesh_is_seen(page, PREVIEW)
    position, target, scaled = _turn(page)
    shot = _viewer(page)
    page.close()
    vertices = extract_mesh(demo_triplane, SurfaceSettings(min_part_share=0.0)).vertices
    low, high = vertices.amin(dim=0), vertices.amax(dim=0)
    offset = (torch.tensor(position) - torch.tensor(target)).roll(1)  # z up
    radius = float(offset.norm()) * (float((high - low).max()) / SCALED_SIZE if scaled else 1)
    azimuth, elevation = math.atan2(offset[1], offset[0]), math.asin(offset[2] / offset.norm())
    camera = cameras_around([math.degrees(azimuth)], [math.degrees(elevation)], radius, 35.0)
    camera.c2w[:, :3, 3] += (low + high) / 2  # the viewer looks at the middle of the box
    rendering = render_field(demo_triplane, camera, 256)
    ours, our_mask = _cut_out(
        np.asarray(to_pillow(rendering.rgb)), rendering.weight[0, 0].numpy() > 0.5
    )
    theirs, their_mask = _cut_out(shot, _silhouette(shot))
    both = our_mask & their_mask
    assert both.sum() / (our_mask | their_mask).sum() > 0.9
    gain = (ours[both] * theirs[both]).sum() / (theirs[both] ** 2).sum()  # of the viewer's lamps
    assert 0.8 < gain < 1.25
    assert np.abs(ours[both] - gain * theirs[both]).mean() < 0.12  # of a mirrored one: 0.17


@pytest.mark.slow
def test_the_blueprint_runs_between_cores_nodes_and_ours(comfyui: Server, page: playwright.Page):
    """Load Image, the blueprint as the page's library adds it, Save Mesh."""
    blueprint = json.loads((PACK / "subgraphs" / "Image to 3D.json").read_text())
    template = json.loads((PACK / "workflows" / "1 Photo - picture to OBJ.json").read_text())
    by_type = {node["type"]: node for node in template["nodes"]}
    load, save, (middle,) = (
        by_type["LoadImage"],
        by_type["ImageTo3D_SaveMesh"],
        blueprint["nodes"],
    )
    for node in (load, save):
        for output in node["outputs"]:
            output["links"] = []
    load["outputs"][0]["links"] = [1]
    middle["inputs"][0]["link"], middle["outputs"][0]["links"] = 1, [2]
    for socket in save["inputs"]:
        socket["link"] = 2 if socket["name"] == "mesh" else None
    save["widgets_values"][0] = "3d/blueprint"
    graph = template | {
        "nodes": [load, middle, save],
        "links": [
            [1, load["id"], 0, middle["id"], 0, "IMAGE"],
            [2, middle["id"], 0, save["id"], 0, "MESH"],
        ],
        "definitions": blueprint["definitions"],
        "last_node_id": middle["id"],
        "last_link_id": 2,
    }
    _load(page, graph)
    assert _run(comfyui, page)["status"]["status_str"] == "success"
    assert (comfyui.output / "3d" / "blueprint_00001_.obj").stat().st_size > 1_000_000


def _load(page: playwright.Page, graph: dict[str, Any]) -> None:
    page.wait_for_timeout(3000)
    page.keyboard.press("Escape")  # the browser of templates opens by itself
    page.evaluate("graph => window.app.loadGraphData(graph)", graph)
    page.wait_for_timeout(2000)


@pytest.mark.slow
def test_save_mesh_shows_its_mesh_and_saves_it_once(comfyui: Server, page: playwright.Page):
    ring = trimesh.creation.torus(0.6, 0.25)
    ring.visual.vertex_colors = (220, 40, 40, 255)
    ring.export(comfyui.input / "ring.glb")
    _load(page, {"nodes": [], "links": [], "version": 0.4})
    page.evaluate("""(() => {
            const load = window.LiteGraph.createNode('ImageTo3D_LoadMesh');
            const save = window.LiteGraph.createNode('ImageTo3D_SaveMesh');
            for (const [node, x] of [[load, 300], [save, 700]]) {
                node.pos = [x, 150];
                window.app.graph.add(node);
            }
            load.widgets.find(w => w.name === 'file').value = 'ring.glb';
            save.widgets.find(w => w.name === 'filename_prefix').value = '3d/ring';
            load.connect(0, save, 0);
        })()""")
    first = _run(comfyui, page)
    assert first["status"]["status_str"] == "success"
    _wait_until_the_mesh_is_seen(page, SAVER)
    _run(comfyui, page)
    assert [path.name for path in (comfyui.output / "3d").glob("ring*")] == ["ring_00001_.obj"]
    assert len(page.evaluate(f"{SAVER}.serialize().widgets_values")) == 7


@pytest.mark.slow
def test_templates_are_listed_by_number(comfyui: Server, page: playwright.Page):
    names = sorted(
        (path.stem for path in (PACK / "workflows").glob("*.json")),
        key=lambda name: int(name.split()[0]),
    )
    _open_templates(page)
    for name in names:
        page.get_by_text(name).first.wait_for()
    text = page.inner_text("body")
    places = [text.index(name) for name in names]
    assert places == sorted(places)
