"""Nothing is paid for twice, whatever happens between the request and its answer."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.modelslab.answers import parse_retry_after, printable
from pipelines.modelslab.client import ModelsLab
from pipelines.modelslab.errors import (
    AuthenticationFailed,
    GenerationFailed,
    PossiblyStarted,
    QuotaExceeded,
    RequestRejected,
)
from pipelines.modelslab.jobs import PaidJobs, fingerprint
from pipelines.modelslab.request import Request
from pipelines.modelslab.servers import ApiKey, Server

from .jobs import FAST, FETCH, IMAGE, START, a_job, against_service, failure_of
from .server import KEY, Reply, Service

WRITTEN_BY_0_2_0 = Path(__file__).parents[1] / "data" / "modelslab" / "jobs-0.2.0.sqlite3"
Run = Callable[..., Awaitable[Any]]


class Stop(Exception):
    pass


def with_paid_jobs(tmp_path: Path, test: Callable[[Service, Run], Awaitable[None]]) -> None:
    """Call a test with a service and a function; the function runs one job with a new client."""

    async def inside(service: Service, _: ModelsLab) -> None:
        async def run(request: Request | None = None, **options: Any) -> Any:
            server = Server(f"{service.url}/api", ApiKey(KEY), named=True)
            jobs = PaidJobs(tmp_path / "jobs.sqlite3")
            async with ModelsLab(server, jobs=jobs, timing=FAST) as client:
                return await client.image_to_3d(
                    IMAGE, request or Request(), tmp_path / "mesh", **options
                )

        await test(service, run)

    against_service(inside)


def stop_once_received(service: Service) -> Callable[..., None]:
    """Return a progress callback that stops the job while its paid request waits for an answer."""

    def progress(done: int, total: int, preview: object = None) -> None:
        if service.of(START):
            raise Stop

    return progress


def test_stop_while_the_paid_request_waits_is_an_error_once_and_then_paid_again(tmp_path):
    async def test(service: Service, run: Run) -> None:
        service.answers[START] = [Reply(b"", delay=5.0), Reply(service.queued())]
        service.answers[FETCH] = [Reply(service.success(id=7))]
        with pytest.raises(Stop):
            await run(progress=stop_once_received(service))
        with pytest.raises(PossiblyStarted, match="run again to send and pay for a new job"):
            await run()
        assert len(service.of(START)) == 1
        assert (await run()).job_id == "7"
        assert len(service.of(START)) == 2

    with_paid_jobs(tmp_path, test)


@pytest.mark.parametrize(
    "unknown",
    [
        pytest.param(Reply({"status": "error", "message": "oops"}, 500), id="500"),
        pytest.param(Reply(b"", 503), id="503"),
        pytest.param(Reply(b"", cut_after=0, length=9), id="cut off"),
        pytest.param(Reply(b"<html>"), id="a page"),
        pytest.param(Reply({"status": "processing"}), id="no id"),
        pytest.param(Reply({"status": "processing", "id": "a/b"}), id="an invalid id"),
        pytest.param(Reply({"status": "queued", "id": ".."}), id="a path"),
        pytest.param(Reply({"status": "queued", "id": "7" * 99}), id="a long id"),
        pytest.param(Reply(b"x", headers={"Content-Encoding": "br"}), id="brotli"),
    ],
)
def test_unknown_outcome_of_a_paid_request_is_an_error_in_the_next_run(tmp_path, unknown):
    async def test(service: Service, run: Run) -> None:
        service.answers[START] = [unknown]
        with pytest.raises(PossiblyStarted, match="may have been started and paid for"):
            await run()
        with pytest.raises(PossiblyStarted, match="its answer never arrived"):
            await run()
        assert len(service.of(START)) == 1

    with_paid_jobs(tmp_path, test)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Reply({"status": "error", "message": "bad"}, 400), RequestRejected),
        (Reply({"status": "error", "message": "Invalid API key"}, 401), AuthenticationFailed),
        (Reply({"status": "error", "message": "slow down"}, 429), QuotaExceeded),
    ],
)
def test_refused_request_is_sent_again_by_the_next_run(tmp_path, answer, error):
    async def test(service: Service, run: Run) -> None:
        service.answers[START] = [answer]
        with pytest.raises(error):
            await run()
        before = len(service.of(START))
        service.answers[START] = [Reply(service.success())]
        await run()
        assert len(service.of(START)) == before + 1

    with_paid_jobs(tmp_path, test)


def test_unreachable_service_is_asked_again_by_the_next_run(tmp_path):
    async def test(service: Service, run: Run) -> None:
        upload = service.answers["/api/base64_to_url"]
        service._server.close()
        service.answers["/api/base64_to_url"] = upload
        for _ in range(2):
            with pytest.raises(Exception, match="could not be reached"):
                await run()

    with_paid_jobs(tmp_path, test)


def test_pay_again_after_an_unknown_outcome_sends_a_new_request(tmp_path):
    async def test(service: Service, run: Run) -> None:
        service.answers[START] = [Reply(b"", 500), Reply(service.success(id=7))]
        service.answers[FETCH] = [Reply(service.success(id=7))]
        with pytest.raises(PossiblyStarted):
            await run()
        assert (await run(pay_again=True)).path.exists()
        assert (await run()).job_id == "7"
        assert len(service.of(START)) == 2

    with_paid_jobs(tmp_path, test)


def test_job_id_resumes_a_job_with_unknown_outcome(tmp_path):
    async def test(service: Service, run: Run) -> None:
        service.answers[START] = [Reply(b"", 500)]
        service.answers[FETCH] = [Reply(service.success(id=7))]
        with pytest.raises(PossiblyStarted):
            await run()
        assert (await run(job_id="7")).job_id == "7"
        assert len(service.of(START)) == 1

    with_paid_jobs(tmp_path, test)


def test_request_is_recorded_before_it_is_sent(tmp_path):
    """Otherwise kill -9 would lose a paid request."""
    noted: list[int] = []

    async def test(service: Service, run: Run) -> None:
        def start(_: object) -> Reply:
            with sqlite3.connect(tmp_path / "jobs.sqlite3") as database:
                noted.append(*database.execute("SELECT count(*) FROM unanswered").fetchone())
            return Reply(service.success())

        service.answers[START] = [start]
        await run()
        with sqlite3.connect(tmp_path / "jobs.sqlite3") as database:
            noted.append(*database.execute("SELECT count(*) FROM unanswered").fetchone())

    with_paid_jobs(tmp_path, test)
    assert noted == [1, 0]


@pytest.mark.parametrize("id", ["a/b", "..", "../../x", "", None, True, "x" * 99, "7\n", [7]])
def test_success_with_an_invalid_id_is_saved(tmp_path, id):
    async def test(service: Service, run: Run) -> None:
        service.answers[START] = [Reply(service.success(id=id))]
        result = await run()
        assert result.job_id == ""
        assert result.path.parent == tmp_path
        assert result.path.name.startswith("mesh-")

    with_paid_jobs(tmp_path, test)


def test_failure_of_an_accepted_job_names_its_id(tmp_path):
    failed = {"status": "failed", "message": "no object"}
    error = failure_of(a_job(tmp_path, lambda s: s.queued(), fetch=[failed]))
    assert isinstance(error, GenerationFailed)
    assert str(error).endswith("ModelsLab's message: no object. (ModelsLab job 7)")


# Jobs of earlier versions


@pytest.mark.parametrize(
    ("image", "request_", "job"),
    [
        (IMAGE, Request(), "7"),
        (IMAGE, Request(remove_bg=True, seed=1, resolution=512, output_format="glb"), "8"),
        ("https://pictures.example/cup.png", Request(slat_guidance_strength=4.0), "9"),
    ],
)
def test_job_paid_for_with_0_2_0_is_resumed(tmp_path, monkeypatch, image, request_, job):
    """Version 0.2.0 wrote the list of jobs. The service is the proxy for the address in it."""
    api = "http://modelslab.example/api"
    shutil.copy(WRITTEN_BY_0_2_0, tmp_path / "jobs.sqlite3")

    async def run() -> None:
        async with Service() as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            monkeypatch.delenv("no_proxy", raising=False)
            result = proxy.success(id=job) | {"output": ["http://modelslab.example/a.obj"]}
            proxy.answers[f"{api}/3d/fetch/{job}"] = [Reply(result)]
            proxy.answers["http://modelslab.example/a.obj"] = proxy.answers["/files/a.obj"]
            jobs = PaidJobs(tmp_path / "jobs.sqlite3")
            server = Server(api, ApiKey(KEY), named=True)
            async with ModelsLab(server, jobs=jobs, timing=FAST) as client:
                got = await client.image_to_3d(image, request_, tmp_path / "m")
            assert got.job_id == job
            assert not proxy.of(f"{api}/3d/image_to_3d"), "nothing is paid for"
            assert not proxy.of(f"{api}/base64_to_url")

    asyncio.run(run())


def test_fingerprint_does_not_change_with_a_new_field():
    class Newer(Request):
        quality: str = "usual"

    assert fingerprint("api", IMAGE, Newer()) == fingerprint("api", IMAGE, Request())
    assert fingerprint("api", IMAGE, Newer(quality="best")) != fingerprint("api", IMAGE, Request())


def test_fingerprint_changes_with_every_field():
    different = {
        name: not field.default
        for name, field in Request.model_fields.items()
        if isinstance(field.default, bool)
    } | {
        "foreground_ratio": 0.5,
        "resolution": 128,
        "chunk_size": 512,
        "seed": 1,
        "output_format": "glb",
        "model_id": "other",
        "ss_guidance_strength": 5.0,
        "ss_sampling_steps": 20,
        "slat_guidance_strength": 5.0,
        "slat_sampling_steps": 20,
        "mesh_simplify": 0.95,
    }
    found = {fingerprint("api", IMAGE, Request(**{n: v})) for n, v in different.items()}
    assert len(found | {fingerprint("api", IMAGE, Request())}) == len(different) + 1


# Retry-After


def test_parse_retry_after_reads_seconds_and_dates():
    assert parse_retry_after("12.5") == 12.5
    assert parse_retry_after(3600) == 3600
    soon = datetime.now(timezone.utc) + timedelta(hours=1)
    assert parse_retry_after(format_datetime(soon, usegmt=True)) == pytest.approx(3600, abs=5)
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert parse_retry_after("-5") == 0
    for wrong in ("soon", "", None, [], "nan", "Wed, 99 Oct 2015 07:28:00 GMT"):
        assert parse_retry_after(wrong) is None


def test_retry_after_as_a_date_is_waited_for(tmp_path):
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=2), usegmt=True)
    busy = Reply({"status": "error", "message": "slow"}, 429, {"Retry-After": date})
    began = time.monotonic()
    _, service = against_service(a_job(tmp_path, busy, lambda s: s.success()))
    assert 0.5 < time.monotonic() - began < 10
    assert len(service.of(START)) == 2


@pytest.mark.parametrize("where", ["start", "fetch"])
def test_retry_after_of_an_hour_is_an_error_at_once(tmp_path, where):
    busy = Reply({"status": "error", "message": "slow"}, 429, {"Retry-After": "3600"})
    began = time.monotonic()
    error = failure_of(
        a_job(tmp_path, busy)
        if where == "start"
        else a_job(tmp_path, lambda s: s.queued(), fetch=[busy])
    )
    assert isinstance(error, QuotaExceeded)
    assert "try again in 60 minutes" in str(error)
    assert ("Put 7 into job_id" in str(error)) == (where == "fetch")
    assert time.monotonic() - began < 5


# Messages


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x07b\x00c\x7fd\x9b31me", "abcd31me"),
        ("one\r\ntwo\tthree", "one two three"),
        ("abc\u202edef\u200b", "abcdef"),
        ("Zurück 図", "Zurück 図"),
        ("\x1b", ""),
    ],
)
def test_printable_removes_terminal_escapes(text, expected):
    assert printable(text) == expected


def test_message_of_the_server_shows_no_terminal_escapes(tmp_path):
    message = "\x1b[2Jbad\x1b]0;x\x07 value"
    error = failure_of(a_job(tmp_path, Reply({"status": "error", "message": message}, 400)))
    assert "bad value" in str(error)
    assert str(error).isprintable()
