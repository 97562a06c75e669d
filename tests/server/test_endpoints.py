"""The endpoints of ModelsLab and of Hunyuan3D-2."""

from __future__ import annotations

import base64
import io
import json
import zipfile

import pytest
from PIL import Image

from pipelines.server.auth import digest

from .conftest import FETCH, START, ended, image
from .makers import BUG, FAIL, SLOW


def test_image_to_3d_job_is_queued_and_ends_with_a_file(serve):
    client = serve()
    body = {"image": image(), "seed": "0", "temp": "no", "track_id": "mine", "key": "none"}
    answer = client.post(START, json=body).json()
    assert answer["status"] == "processing"
    assert answer["output"] == []
    assert answer["future_links"][0].startswith("http://testserver/files/")
    assert answer["fetch_result"] == f"http://testserver{FETCH}/{answer['id']}"
    done = ended(client, answer["id"])
    assert done["status"] == "success"
    assert done["output"] == done["proxy_links"] == answer["future_links"]
    assert done["generationTime"] >= 0
    assert done["track_id"] == "mine"
    assert done["meta"]["seed"] > 0, "seed 0 draws one and reports it"
    assert (done["meta"]["resolution"], done["meta"]["temp"]) == (256, "no")
    assert "key" not in done["meta"]
    assert client.get(done["output"][0]).text.startswith(f"# {done['meta']['seed']} 1\nv 0 0 0")


def test_image_to_3d_that_ends_within_the_wait_answers_with_the_result(serve):
    client = serve(wait=20.0)
    for source in (image(), image().split(",")[1]):
        answer = client.post(START, json={"init_image": source, "output_format": "glb"}).json()
        assert answer["status"] == "success"
        assert answer["output"][0].endswith(".glb")


def test_links_begin_with_public_url(serve):
    client = serve(public_url="https://meshes.example/base/")
    answer = client.post(START, json={"image": image()}).json()
    assert answer["future_links"][0].startswith("https://meshes.example/base/files/")


def test_base64_to_url_gives_a_link_that_image_accepts(serve):
    client = serve(wait=20.0)
    for path in ("/api/v6/base64_to_url", "/api/v6/3d/base64_to_url"):
        (link,) = client.post(path, json={"base64_string": image()}).json()["output"]
        assert client.get(link).content.startswith(b"\x89PNG")
        assert client.post(START, json={"image": link}).json()["status"] == "success"


def test_multi_image_needs_one_image_per_camera_or_side(serve, of_views):
    client = serve(wait=20.0, **of_views)
    six = client.post(START, json={"image": [image()] * 6, "multi_image": "yes"}).json()
    assert client.get(six["output"][0]).text.startswith(f"# {six['meta']['seed']} 6")
    angles = [{"azimuth": 0, "elevation": 10}, {"azimuth": 90, "elevation": 10}]
    two = {"image": [image()] * 2, "multi_image": True, "cameras": angles}
    assert client.post(START, json=two).json()["status"] == "success"
    sides = {"image": [image()] * 2, "multi_image": True, "sides": ["front", 90], "elevation": 10}
    done = client.post(START, json=sides).json()
    assert (done["status"], done["meta"]["elevation"], done["meta"]["report"]) == (
        "success", 10, {"tries": []}
    )  # fmt: skip
    for wrong in (
        sides | {"sides": ["front"]},
        sides | {"cameras": angles},
        sides | {"multi_image": False},
        {"image": [image()] * 5, "multi_image": True},
        {"image": [image()] * 2},
        two | {"image": [image()] * 3},
        {"image": [], "multi_image": True},
    ):
        assert client.post(START, json=wrong).status_code == 400


@pytest.mark.parametrize(
    ("resolution", "says"), [(FAIL, "The image holds no object."), (BUG, "the server's log")]
)
def test_failed_job_reports_its_message_without_details(serve, resolution, says):
    client = serve(wait=20.0)
    answer = client.post(START, json={"image": image(), "resolution": resolution}).json()
    assert answer["status"] == "failed"
    assert says in answer["message"]
    assert "secret" not in json.dumps(answer)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"image": None}, "image is missing"),
        ({"image": ""}, "image is missing"),
        ({"image": "data:text/plain,hello"}, "data URI or base64"),
        ({"image": "not base64!"}, "data URI or base64"),
        ({"image": base64.b64encode(b"no picture").decode()}, "not a readable image"),
        ({"image": "https://127.0.0.1/x.png"}, "open internet"),
        ({"image": "http://localhost:1/x.png"}, "open internet"),
        ({"resolution": 513}, "resolution"),
        ({"resolution": "many"}, "resolution"),
        ({"chunk_size": 12001}, "chunk_size"),
        ({"seed": -1}, "seed"),
        ({"output_format": "fbx"}, "output_format"),
        ({"model_id": "huge"}, "choose one of photo"),
        ({"webhook": "file:///etc/passwd"}, "webhook"),
    ],
)
def test_image_to_3d_with_an_invalid_value_names_the_field(serve, change, word):
    answer = serve().post(START, json={"image": image()} | change)
    assert answer.status_code == 400
    assert answer.json()["status"] == "error"
    assert word in answer.json()["message"]


def test_image_of_too_many_pixels_is_refused(serve):
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    bomb = base64.b64encode(buffer.getvalue()).decode()
    answer = serve().post(START, json={"image": bomb})
    assert answer.status_code == 400
    assert "50,000,000 pixels" in answer.json()["message"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"[" * 10_000 + b"]" * 10_000, "application/json"),
        (b'{"image": ', "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"image=x", "application/x-www-form-urlencoded"),
        (b"image=%ff", "application/x-www-form-urlencoded"),
        (b"a&" * 1000, "application/x-www-form-urlencoded"),
        (b"[]", "application/json"),
        (b"<image/>", "text/xml"),
        (b"", "application/json"),
    ],
)
def test_malformed_body_is_refused_in_one_sentence(serve, content, kind):
    answer = serve().post(START, content=content, headers={"Content-Type": kind})
    assert answer.status_code in (400, 422)
    assert answer.json()["status"] == "error"


@pytest.mark.parametrize(
    "path", ["/files/x/mesh.obj", "/files/../jobs.sqlite3", "/files/%2e%2e/jobs.sqlite3"]
)
def test_files_of_unknown_tokens_are_404(serve, path):
    assert serve().get(path).status_code == 404


def test_files_of_unknown_names_are_404(serve):
    client = serve(wait=20.0)
    link = client.post(START, json={"image": image()}).json()["output"][0]
    folder = link.rpartition("/")[0]
    for name in ("picture-0", "mesh.txt", "other.obj", "..%2f..%2fjobs.sqlite3", ""):
        assert client.get(f"{folder}/{name}").status_code == 404


def test_fetch_of_an_unknown_job_is_404(serve):
    client = serve()
    for id in (1, -1, 10**30):
        answer = client.post(f"{FETCH}/{id}", json={})
        assert answer.status_code == 404


def test_key_is_required_and_sees_only_its_own_jobs(serve):
    client = serve(wait=20.0, keys=frozenset({digest("one"), digest("two")}))
    for wrong in ({}, {"key": "three"}, {"key": digest("one")}):
        answer = client.post(START, json={"image": image()} | wrong)
        assert answer.status_code == 401
        assert answer.json()["message"] == "Invalid API key."
        upload = {"base64_string": image()} | wrong
        assert client.post("/api/v6/base64_to_url", json=upload).status_code == 401
    answer = client.post(START, json={"image": image(), "key": "one"}).json()
    id = answer["id"]
    assert answer["status"] == "success"
    assert client.post(f"{FETCH}/{id}", json={"key": "one"}).json()["status"] == "success"
    assert client.post(f"{FETCH}/{id}", json={"key": "two"}).status_code == 404, (
        "the job of another key"
    )
    assert client.post(f"{FETCH}/{id}").status_code == 401
    bearer = {"Authorization": "Bearer two"}
    assert client.post("/send", json={"image": image()}, headers=bearer).status_code == 200
    assert client.post("/send", json={"image": image()}).status_code == 401


def test_full_queue_is_429_and_cancel_makes_room(serve):
    client = serve(queue=2)
    slow = {"image": image(), "resolution": SLOW}
    first = client.post(START, json=slow).json()["id"]
    for _ in range(100):
        if client.get("/health").json()["running"]:
            break
    second, third = (client.post(START, json=slow).json() for _ in range(2))
    assert (second["queue_position"], third["queue_position"]) == (1, 2)
    assert third["eta"] > second["eta"]
    full = client.post(START, json=slow)
    assert full.status_code == 429
    assert full.json()["retry_after"] == int(full.headers["retry-after"]) > 0
    for id in (third["id"], first, second["id"]):
        assert client.post(f"/api/v6/3d/cancel/{id}").json()["status"] == "failed"
    assert ended(client, first)["message"] == "The job was cancelled."
    quick = client.post(START, json={"image": image()}).json()["id"]
    assert ended(client, quick)["status"] == "success", "the worker restarts"


def test_hunyuan_generate_send_and_status(serve):
    client = serve(wait=0.0)
    made = client.post("/generate", json={"image": image().split(",")[1], "seed": 7})
    assert made.status_code == 200
    assert made.content.startswith(b"# 7 1")
    uid = client.post("/send", json={"image": image(), "type": "obj"}).json()["uid"]
    while (answer := client.get(f"/status/{uid}").json())["status"] != "completed":
        assert answer["status"] in ("queued", "processing")
    assert base64.b64decode(answer["model_base64"]).startswith(b"# 1234 1")
    failing = {"image": image(), "octree_resolution": FAIL}
    assert client.post("/generate", json=failing).status_code == 500
    uid = client.post("/send", json=failing).json()["uid"]
    while (answer := client.get(f"/status/{uid}").json())["status"] != "error":
        assert answer["status"] in ("queued", "processing")
    assert answer["message"] == "The image holds no object."
    assert client.post("/send", json={"text": "a chair"}).status_code == 400
    assert client.get("/status/nobody").status_code == 404


def test_health_and_metrics_count_jobs(serve):
    client = serve(wait=20.0, public_url="http://testserver", host="localhost")
    client.post(START, json={"image": image()})
    health = client.get("/health")
    assert health.json() == {"status": "ok", "workers": 1, "queued": 0, "running": 0}
    assert health.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in health.headers
    assert "image_to_3d_jobs_done 1.0" in client.get("/metrics").text
    assert client.get("/health", headers={"Host": "evil.example"}).status_code == 400
    paths = client.get("/openapi.json").json()["paths"]
    assert {START, FETCH + "/{id}", "/generate", "/send", "/status/{uid}"} <= paths.keys()


def test_image_to_3d_refuses_an_archive(serve):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", "x")
    answer = serve().post(START, json={"image": base64.b64encode(buffer.getvalue()).decode()})
    assert answer.status_code == 400
