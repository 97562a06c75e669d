"""From the start of a job to its end: retries, polling, Stop and timeouts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from pipelines.errors import InvalidInput
from pipelines.modelslab.client import ModelsLab
from pipelines.modelslab.errors import (
    ConnectionFailed,
    GenerationFailed,
    JobTimedOut,
    RequestRejected,
)
from pipelines.modelslab.request import Request
from pipelines.modelslab.servers import ApiKey, Server
from pipelines.modelslab.timing import Timing

from .jobs import FAST, FETCH, FILE, IMAGE, START, a_job, against_service, failure_of
from .server import KEY, OBJ, Reply, Service


def test_image_to_3d_polls_a_queued_job(tmp_path):
    result, service = against_service(
        a_job(
            tmp_path,
            lambda s: s.queued(),
            fetch=[lambda s: s.queued(), lambda s: s.queued(), lambda s: s.success(id=None)],
        )
    )
    assert result.job_id == "7"
    assert len(service.of(FETCH)) == 3
    assert all(r.json == {"key": KEY} for r in service.of(FETCH))
    assert len(service.of(START)) == 1
    assert not service.of("/files/not-yet.obj"), "links to future files are not requested"


@pytest.mark.parametrize("message", ["no object", ["no", "object"], {"image": ["no object"]}])
@pytest.mark.parametrize("name", ["message", "messege", "error"])
def test_failed_job_quotes_the_servers_message(tmp_path, name, message):
    error = failure_of(
        a_job(tmp_path, lambda s: s.queued(), fetch=[{"status": "failed", name: message}])
    )
    assert isinstance(error, GenerationFailed)
    assert "object" in str(error)
    assert "\n" not in str(error)


def test_start_that_may_have_arrived_is_not_sent_again(tmp_path):
    services = []

    def job(reply: Reply) -> Callable[[Service, ModelsLab], Awaitable[object]]:
        async def run(service: Service, client: ModelsLab) -> None:
            services.append(service)
            service.answers[START] = [reply]
            await client.image_to_3d(IMAGE, Request(), tmp_path / "m")

        return run

    for reply in (
        Reply({"status": "error", "message": "oops"}, 500),
        Reply(b'{"status"', cut_after=4, length=100),
        Reply(b"", 503),
    ):
        error = failure_of(job(reply))
        assert "may have been started" in str(error), str(error)
    assert [len(s.of(START)) for s in services] == [1, 1, 1]


def test_start_that_certainly_failed_is_retried(tmp_path):
    """Status 429 means that no job was started, and a refused connection sent nothing."""
    busy = Reply({"status": "error", "message": "slow down", "retry_after": 0.05}, 429)
    _, service = against_service(a_job(tmp_path, busy, busy, lambda s: s.success()))
    assert len(service.of(START)) == 3
    _, service = against_service(
        a_job(tmp_path, Reply(b"", 429, {"Retry-After": "0.05"}), lambda s: s.success())
    )
    assert len(service.of(START)) == 2

    async def nobody_listens(service: Service, client: ModelsLab) -> None:
        nobody = Server("http://127.0.0.1:9", ApiKey(KEY), named=True)
        async with ModelsLab(nobody, timing=FAST) as other:
            await other.image_to_3d("https://x.example/y.png", Request(), tmp_path / "m")

    error = failure_of(nobody_listens)
    assert type(error) is ConnectionFailed
    assert "may have been started" not in str(error)


def test_retry_waits_for_retry_after(tmp_path):
    began = time.monotonic()
    against_service(
        a_job(
            tmp_path,
            Reply({"status": "error", "message": "slow down", "retry_after": "0.6"}, 429),
            lambda s: s.success(),
        )
    )
    assert time.monotonic() - began > 0.6


def test_poll_is_repeated_after_server_errors(tmp_path):
    oops = Reply({"status": "error", "message": "oops"}, 500)
    cut = Reply({"status": "success"}, cut_after=3)
    _, service = against_service(
        a_job(
            tmp_path,
            lambda s: s.queued(),
            fetch=[oops, cut, Reply(b"", 503), lambda s: s.success()],
        )
    )
    assert len(service.of(FETCH)) == 4
    assert len(service.of(START)) == 1


def test_job_id_resumes_a_job(tmp_path):
    async def run(service: Service, client: ModelsLab) -> None:
        service.answers[FETCH] = [Reply(service.queued()), Reply(service.success())]
        result = await client.image_to_3d(IMAGE, Request(), tmp_path / "m", job_id=" 7 ")
        assert result.path.exists()
        assert not service.of(START)
        assert not service.of("/api/base64_to_url")
        with pytest.raises(InvalidInput):
            await client.image_to_3d(IMAGE, Request(), tmp_path / "m", job_id="../../user")

    against_service(run)


def test_timeout_names_the_job_id(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    error = failure_of(
        a_job(tmp_path, lambda s: s.queued(), fetch=[lambda s: s.queued(eta=100)]),
        Timing(overall=0.4, first_poll=0.05, longest_poll=0.1, check=0.05),
    )
    assert isinstance(error, JobTimedOut)
    assert "Job 7 is still running" in str(error)
    assert (error.job_id, error.resume_ids) == ("7", "7")
    assert str(error).endswith("Put 7 into job_id to resume without paying again.")
    assert "job 7 has started" in caplog.text


def test_stop_ends_every_wait_within_a_second(tmp_path):
    class Stop(Exception):
        pass

    def job(slow: str) -> Callable[[Service, ModelsLab], Awaitable[object]]:
        async def run(service: Service, client: ModelsLab) -> None:
            service.answers[START] = [
                Reply(
                    service.queued() if slow == "fetch" else service.success(),
                    drip=0.5 if slow == "start" else 0,
                )
            ]
            service.answers[FETCH] = [Reply(service.queued(eta=1000))]
            service.answers[FILE] = [Reply(OBJ, drip=0.5)]
            began = time.monotonic()

            def stop_after_half_a_second(done: int, total: int, preview: object = None) -> None:
                if time.monotonic() - began > 0.5:
                    raise Stop

            with pytest.raises(Stop):
                await client.image_to_3d(
                    IMAGE, Request(), tmp_path / "m", progress=stop_after_half_a_second
                )
            assert time.monotonic() - began < 1.5
            assert not list(tmp_path.iterdir())

        return run

    for slow in ("start", "fetch", "file"):
        against_service(job(slow), Timing())


def test_slow_answer_is_read(tmp_path):
    result, _ = against_service(a_job(tmp_path, lambda s: Reply(s.success(), drip=0.001)))
    assert result.path.exists()


def test_fifty_concurrent_jobs_are_neither_lost_nor_doubled(tmp_path):
    async def run(service: Service, client: ModelsLab) -> None:
        started: list[str] = []

        def start(request):
            started.append(request.json["image"])
            job = len(started)
            service.answers[f"/api/3d/fetch/{job}"] = [
                Reply(service.queued(job)),
                Reply(service.success(f"/files/{job}.obj", id=job)),
            ]
            number = request.json["image"].removeprefix("https://p.example/")
            service.answers[f"/files/{job}.obj"] = [
                Reply(OBJ.replace(b"v 0 2 0", f"v 0 {number} 0".encode()))
            ]
            return Reply(service.queued(job))

        service.answers[START] = [start]
        jobs = [
            client.image_to_3d(f"https://p.example/{i + 1}", Request(), tmp_path / f"m{i}")
            for i in range(50)
        ]
        results = await asyncio.gather(*jobs)
        assert len(started) == len(set(started)) == 50
        assert len({r.job_id for r in results}) == 50
        for i, result in enumerate(results):
            assert f"v 0 {i + 1} 0" in result.path.read_text()

    against_service(run)


def test_poll_survives_every_transient_error(tmp_path):
    """Only the service's own report of an end stops the polling of a paid job."""
    transient = [
        Reply(b"<html>bad gateway</html>", 502),
        Reply({"status": "error", "message": "not found"}, 404),
        Reply(b"<html>hello</html>"),
        Reply(b'{"status": "succ'),
        Reply(b"<html>cloudflare</html>", 403),
        Reply(b"", cut_after=0, length=50),
        Reply(b"no gzip", headers={"Content-Encoding": "gzip"}),
        Reply({"status": "error", "message": "slow", "retry_after": 0.01}, 429),
        Reply(b"", 304),
        Reply(b"", 302, {"Location": "https://login.example/"}),
        Reply({"status": "processing", "eta": float("nan")}),
    ]
    result, service = against_service(
        a_job(tmp_path, lambda s: s.queued(), fetch=[*transient * 2, lambda s: s.success(id=7)])
    )
    assert result.job_id == "7"
    assert len(service.of(FETCH)) == 2 * len(transient) + 1


def test_unknown_job_ends_before_the_timeout(tmp_path):
    missing = Reply({"status": "error", "message": "no such job"}, 404)
    error = failure_of(a_job(tmp_path, lambda s: s.queued(), fetch=[missing]))
    assert isinstance(error, RequestRejected)
    assert "no such job" in str(error)


@pytest.mark.parametrize("slow", ["upload", "start", "fetch", "file"])
def test_slow_server_ends_with_the_timeout(tmp_path, slow):
    async def run(service: Service, client: ModelsLab) -> None:
        drip = {"drip": 0.02}
        service.answers["/api/base64_to_url"] = [
            Reply(
                {"status": "success", "output": ["https://pictures.example/in.png"] * 99},
                **drip if slow == "upload" else {},
            )
        ]
        service.answers[START] = [
            Reply(service.queued(message="x" * 999), **drip if slow == "start" else {})
        ]
        service.answers[FETCH] = [
            Reply(service.success(message="x" * 999), **drip if slow == "fetch" else {})
        ]
        service.answers[FILE] = [Reply(OBJ, **drip if slow == "file" else {})]
        await client.image_to_3d(IMAGE, Request(), tmp_path / "m")

    began = time.monotonic()
    error = failure_of(run, replace(FAST, overall=1.0))
    assert time.monotonic() - began < 3
    told = {"start": "may have been started", "upload": "Nothing was started"}
    assert told.get(slow, "Put 7 into job_id") in str(error)
    assert not list(tmp_path.iterdir())
