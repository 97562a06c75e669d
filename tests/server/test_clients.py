"""Our client, the clients of others, and the page, with a server that runs the embedded model."""

from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path

import httpx
import pytest
import trimesh
from PIL import Image

from pipelines.modelslab.client import ModelsLab
from pipelines.modelslab.request import Request
from pipelines.modelslab.servers import ApiKey, Server

from ..comfyui.browser import CHROMIUM, SOFTWARE_GL
from .conftest import FETCH, Running

CUP = Path(__file__).parents[2] / "workflows" / "cup.png"


def _cup() -> str:
    return base64.b64encode(CUP.read_bytes()).decode()


def test_modelslab_client_of_this_library_gets_mesh_and_video(real: Running, tmp_path):
    """The client uploads the image, starts a job, and downloads mesh and video."""
    server = Server(f"{real.url}/api/v6", ApiKey(""), named=True)
    request = Request(remove_bg=True, resolution=32, model_id="photo", render=True, seed=5)

    async def run() -> None:
        async with ModelsLab(server) as client:
            with Image.open(CUP) as image:
                result = await client.image_to_3d(image.convert("RGB"), request, tmp_path / "cup")
        assert result.mesh.volume() > 0.01
        assert result.video is not None
        assert result.video.read_bytes()[4:8] == b"ftyp"
        assert result.answer.seed == 5

    asyncio.run(run())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_modelslab_package_of_the_vendor_gets_a_mesh(real: Running):
    pytest.importorskip("modelslab_py")
    from modelslab_py.core.apis.three_d import Three_D
    from modelslab_py.core.client import Client
    from modelslab_py.schemas.threed import Image23D

    client = Client("any-key")
    client.base_url = f"{real.url}/api/"
    uploaded = client.post(
        f"{client.base_url}v6/base64_to_url", {"base64_string": f"data:image/png;base64,{_cup()}"}
    )
    wanted = Image23D(image=uploaded["output"][0], resolution=32, remove_bg=True)
    answer = Three_D(client).image_to_3d(wanted)
    while answer["status"] == "processing":
        answer = client.post(f"{real.url}{FETCH}/{answer['id']}")
    assert httpx.get(answer["output"][0]).text.count("\nf ") > 100


def test_generate_as_the_blender_add_on_calls_it(real: Running):
    wish = {"image": _cup(), "octree_resolution": 64, "texture": True, "face_count": 2000}
    made = httpx.post(f"{real.url}/generate", json=wish, timeout=180)
    assert made.status_code == 200, made.text
    mesh = trimesh.load(io.BytesIO(made.content), file_type="glb", force="mesh")
    assert len(mesh.faces) <= 2000
    assert mesh.visual.material.baseColorTexture.size == (1024, 1024)


def test_page_makes_shows_and_offers_a_mesh(real: Running):
    """In Chromium, without internet access."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as tools:
        try:
            browser = tools.chromium.launch(executable_path=CHROMIUM, args=SOFTWARE_GL)
        except playwright.Error as error:
            pytest.skip(f"there is no Chromium: {error}".splitlines()[0])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.set_default_timeout(30_000)
        page.goto(real.url, wait_until="domcontentloaded")
        page.locator("input[type=file]").first.set_input_files(str(CUP))
        page.locator("#object img").first.wait_for(timeout=60_000)
        page.get_by_role("button", name="Make the mesh").click()
        page.get_by_text("is done, in").wait_for(timeout=120_000)
        for kind in ("glb", "obj", "stl", "ply"):
            link = page.locator(f"#files a[href$='.{kind}']").evaluate("link => link.href")
            assert len(httpx.get(link).content) > 1000
        page.wait_for_function("document.querySelector('#mesh canvas').dataset.faces > 100")
        elsewhere = [u for u in asked if not u.startswith((real.url, "data:", "blob:"))]
        assert not elsewhere
        browser.close()
