"""One job of the client: its request, its result, and what it pays for."""

from __future__ import annotations

import asyncio
import base64
import io
import time

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import EnvironmentProblem, InvalidInput
from pipelines.modelslab.client import ModelsLab, images_to_3d
from pipelines.modelslab.errors import (
    AuthenticationFailed,
    BadAnswer,
    GenerationFailed,
    OutOfCredits,
    PossiblyStarted,
    QuotaExceeded,
    RequestRejected,
)
from pipelines.modelslab.jobs import PaidJobs
from pipelines.modelslab.request import Request
from pipelines.modelslab.servers import ApiKey, Server
from pipelines.modelslab.upload import data_uri
from pipelines.progress import silent

from .jobs import FAST, FETCH, FILE, IMAGE, START, a_job, against_service, failure_of
from .server import KEY, OBJ, Reply, Service


def test_image_to_3d_immediate_success_saves_the_mesh(tmp_path):
    result, service = against_service(a_job(tmp_path, lambda s: s.success()))
    assert result.path == tmp_path / "mesh-109655545.obj"
    assert result.path.read_bytes() == OBJ, "the file is kept unchanged"
    assert result.mesh.faces.shape == (4, 3)
    assert (result.job_id, result.answer.seed, result.answer.generation_seconds, result.video) == (
        "109655545",
        3480183101,
        10.62,
        None,
    )
    assert result.answer.meta == {
        "seed": "3480183101",
        "resolution": "256",
        "note": "sent with <key>",
    }
    assert [r.path for r in service.received] == ["/api/base64_to_url", START, FILE]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mesh-109655545.obj"]


#: Fields of the documented v6 API: JSON type and default.
DOCUMENTED = {
    "key": (str, None),
    "model_id": (str, "instantmesh"),
    "image": (str, None),
    "init_image": (str, None),
    "render": (bool, False),
    "foreground_ratio": (float, 0.85),
    "remove_bg": (bool, False),
    "resolution": (int, 256),
    "chunk_size": (int, 8192),
    "seed": (int, 0),
    "temp": (str, "no"),
    "output_format": (str, "obj"),
    "ss_guidance_strength": (float, 7.5),
    "ss_sampling_steps": (int, 12),
    "slat_guidance_strength": (float, 3.0),
    "slat_sampling_steps": (int, 12),
    "mesh_simplify": (float, 0.9),
}


def test_request_matches_the_documented_fields(tmp_path):
    _, service = against_service(a_job(tmp_path, lambda s: s.success()))
    body = service.of(START)[0].json
    assert body.keys() == DOCUMENTED.keys()
    for name, (kind, default) in DOCUMENTED.items():
        assert type(body[name]) is kind, name
        assert default is None or body[name] == default, name
    assert body["image"] == body["init_image"] == "https://pictures.example/in.png"
    upload = service.of("/api/base64_to_url")[0].json
    assert upload.keys() == {"key", "base64_string"}
    assert upload["base64_string"].startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    "wrong",
    [
        {"resolution": 513},
        {"resolution": 0},
        {"chunk_size": 12001},
        {"chunk_size": 0},
        {"foreground_ratio": 0.0},
        {"foreground_ratio": 1.5},
        {"seed": -1},
        {"seed": 2**32},
        {"output_format": "fbx"},
        {"model_id": " "},
        {"slat_sampling_steps": 51},
        {"mesh_simplify": 0.5},
    ],
)
def test_request_refuses_values_out_of_bounds(wrong):
    with pytest.raises(InvalidInput):
        Request(**wrong)


def test_image_to_3d_passes_a_url_on_and_refuses_other_text(tmp_path):
    async def run(service: Service, client: ModelsLab) -> None:
        service.answers[START] = [Reply(service.success())]
        await client.image_to_3d("https://mine.example/x.png", Request(), tmp_path / "m")
        assert [r.path for r in service.received] == [START, FILE]
        assert service.received[0].json["image"] == "https://mine.example/x.png"
        with pytest.raises(InvalidInput):
            await client.image_to_3d("file:///etc/passwd", Request(), tmp_path / "m")

    against_service(run)


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (
            Reply({"status": "error", "message": "The resolution field must be less than 512."}),
            RequestRejected,
            "less than 512",
        ),
        (
            Reply({"status": "error", "message": {"resolution": ["too large"]}}),
            RequestRejected,
            "resolution: too large",
        ),
        (Reply({"status": "error", "messege": ["bad image"]}), RequestRejected, "bad image"),
        (Reply({"status": "error", "message": "bad"}, 400), RequestRejected, "bad"),
        (Reply({"status": "error", "message": "Invalid API key"}), AuthenticationFailed, "API key"),
        (
            Reply({"status": "error", "message": "Invalid API key"}, 401),
            AuthenticationFailed,
            "API key",
        ),
        (
            Reply({"status": "error", "message": "You do not have enough credits"}),
            OutOfCredits,
            "credits",
        ),
        (Reply(b"", 402), OutOfCredits, "credits"),
        (Reply({"status": "error", "message": "no"}, 429), QuotaExceeded, "try again later"),
        (Reply(b"<html>", 200), PossiblyStarted, "may have been started"),
        (Reply(b'{"status": "succ', 200), PossiblyStarted, "may have been started"),
        (Reply(b"[1]", 200), PossiblyStarted, "may have been started"),
        (Reply(b'{"a":' * 9999, 200), PossiblyStarted, "may have been started"),
        (Reply({"status": "dancing"}), PossiblyStarted, "dancing"),
        (Reply({"status": "processing"}), PossiblyStarted, "without a valid id"),
        (Reply(b"<html>", 403), AuthenticationFailed, "API key"),
        (
            Reply(b"no gzip", 200, {"Content-Encoding": "gzip"}),
            PossiblyStarted,
            "may have been started",
        ),
        (Reply(b"", 304), BadAnswer, "redirect"),
        (Reply(b"", 302), BadAnswer, "redirect"),
        (Reply({"status": "success", "id": 5, "output": []}), GenerationFailed, "without a file"),
        (Reply(b"", 302, {"Location": "https://evil.example/"}), BadAnswer, "redirect"),
    ],
)
def test_start_with_a_problem_raises_the_matching_error(tmp_path, reply, kind, words):
    error = failure_of(a_job(tmp_path, reply))
    assert type(error) is kind
    assert words in str(error)
    assert not list(tmp_path.iterdir())


def test_images_to_3d_error_names_the_paid_jobs(tmp_path):
    async def run(service: Service, client: ModelsLab) -> None:
        service.answers[START] = [
            Reply(service.success(id=11)),
            Reply(service.success(id=12)),
            Reply({"status": "error", "message": "no"}),
        ]
        paths = [tmp_path / f"m{i}" for i in range(3)]
        with pytest.raises(RequestRejected, match="Put 11, 12 into job_id to resume"):
            await images_to_3d(
                client, [IMAGE] * 3, {"seed": 5}, paths, progress_of=lambda i: silent, notice=print
            )
        assert [r.json["seed"] for r in service.of(START)] == [5, 6, 7]
        assert [p.name for p in sorted(tmp_path.iterdir())] == ["m0-11.obj", "m1-12.obj"]

    against_service(run)


def test_data_uri_shrinks_large_images():
    notices: list[str] = []
    small = data_uri(IMAGE, notices.append)
    assert not notices
    assert small.startswith("data:image/png")
    noise = Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (3000, 3000, 3), dtype=np.uint8)
    )
    large = data_uri(noise, notices.append)
    assert large.startswith("data:image/jpeg")
    assert len(large) <= 5_000_000
    assert "too large to upload" in notices[0]
    assert Image.open(io.BytesIO(base64.b64decode(large.split(",")[1]))).width > 500


def test_data_uri_shrinks_huge_images_fast():
    began = time.monotonic()
    wide = data_uri(Image.new("RGB", (70_000, 300), "red"), print)
    assert Image.open(io.BytesIO(base64.b64decode(wide.split(",")[1]))).width == 2048
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "odd",
    [
        {"status": "queued", "id": 7},
        {"id": 7},
        {"status": "dancing", "id": "7"},
        Reply(b'{"status": "processing", "id": 7, "eta": 12, "fetch_'),
        Reply({"status": "error", "message": "oops", "id": 7}, 500),
        Reply(b'<html>{"id": 7}</html>'),
    ],
)
def test_odd_answer_to_a_start_keeps_the_job_id(tmp_path, odd):
    result, service = against_service(a_job(tmp_path, odd, fetch=[lambda s: s.success(id=7)]))
    assert result.job_id == "7"
    assert len(service.of(START)) == 1


@pytest.mark.parametrize(
    "odd",
    [
        lambda s: s.success(status="completed"),
        lambda s: {k: v for k, v in s.success().items() if k != "status"},
        lambda s: s.success(output=f"{s.url}{FILE}"),
        lambda s: s.success(output=[[f"{s.url}{FILE}"]]),
        lambda s: s.success(meta={"seed": "1e400"}),
        lambda s: s.success(meta={"seed": "9" * 5000}),
        lambda s: s.success(eta="NaN", generationTime="Infinity"),
    ],
)
def test_odd_success_answers_are_understood(tmp_path, odd):
    result, _ = against_service(a_job(tmp_path, odd))
    assert result.path.exists()


def test_same_request_is_paid_for_once(tmp_path):
    """After an error, with another prefix or a new client, the paid job is resumed."""
    jobs, notices = PaidJobs(tmp_path / "user" / "jobs.sqlite3"), []

    async def run(service: Service, _: ModelsLab) -> None:
        def client() -> ModelsLab:
            server = Server(f"{service.url}/api", ApiKey(KEY), named=True)
            return ModelsLab(server, jobs=jobs, timing=FAST)

        async def job(image=IMAGE, seed=3, **more):
            async with client() as one:
                return await one.image_to_3d(
                    image, Request(seed=seed), tmp_path / "m", notice=notices.append, **more
                )

        numbers = iter(range(7, 99))

        def start(_: object) -> Reply:
            return Reply(service.queued(next(numbers)))

        service.answers[START] = [start]
        service.answers[FETCH] = [Reply({"status": "error", "message": "Invalid API key"}, 401)]
        with pytest.raises(AuthenticationFailed, match="Put 7 into job_id"):
            await job()
        service.answers[FETCH] = [Reply(service.success(id=7))]
        assert (await job()).job_id == "7"
        assert (await job()).job_id == "7"
        assert len(service.of(START)) == 1
        assert "Resuming ModelsLab job 7 of the same request" in notices[-1]
        for n, change in enumerate(
            ({"pay_again": True}, {"seed": 4}, {"image": IMAGE.rotate(90)}), 8
        ):
            service.answers[f"/api/3d/fetch/{n}"] = [Reply(service.success(id=n))]
            assert (await job(**change)).job_id == str(n)
        await job(seed=9, job_id="7")
        assert any("made from another image or with other settings" in text for text in notices)
        service.answers["/api/3d/fetch/8"] = [Reply({"status": "failed", "message": "no object"})]
        with pytest.raises(GenerationFailed):
            await job()
        assert (await job()).job_id == "7", "a failed job is not resumed"

    against_service(run)
    stored = (tmp_path / "user" / "jobs.sqlite3").read_bytes()
    assert KEY.encode() not in stored


def test_concurrent_equal_requests_are_paid_for_once(tmp_path):
    jobs = PaidJobs(tmp_path / "jobs.sqlite3")

    async def run(service: Service, _: ModelsLab) -> None:
        service.answers[START] = [Reply(service.queued(), drip=0.001)]
        service.answers[FETCH] = [Reply(service.success(id=7))]

        async def job(name: str) -> str:
            server = Server(f"{service.url}/api", ApiKey(KEY), named=True)
            async with ModelsLab(server, jobs=jobs, timing=FAST) as client:
                return (await client.image_to_3d(IMAGE, Request(), tmp_path / name)).job_id

        assert await asyncio.gather(job("a"), job("b"), job("c")) == ["7"] * 3
        assert len(service.of(START)) == 1

    against_service(run)


def test_damaged_record_of_jobs_stops_before_payment(tmp_path):
    (tmp_path / "jobs.sqlite3").write_bytes(b"no database" * 99)

    async def run(service: Service, _: ModelsLab) -> None:
        server = Server(f"{service.url}/api", ApiKey(KEY), named=True)
        async with ModelsLab(server, jobs=PaidJobs(tmp_path / "jobs.sqlite3")) as client:
            with pytest.raises(EnvironmentProblem, match="list of paid jobs"):
                await client.image_to_3d(IMAGE, Request(), tmp_path / "m")
        assert not service.of(START)

    against_service(run)
