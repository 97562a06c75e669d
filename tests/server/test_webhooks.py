"""Webhooks are delivered concurrently, signed and retried; no exception stops the delivery."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.server.job import Job
from pipelines.server.jobs import Jobs
from pipelines.server.protocol import JobRequest
from pipelines.server.webhooks import deliver_webhooks, signed_headers

from ..modelslab.server import Received, Reply, Service
from .conftest import START, image


def body_of(job: Job) -> dict[str, Any]:
    return {"status": "success" if job.state == "done" else "failed", "id": job.id}


@pytest.fixture
def jobs(tmp_path: Path):
    store = Jobs(tmp_path / "server")
    yield store
    store.close()


def finish(jobs: Jobs, webhook: str) -> Job:
    """Store a finished job that has a webhook."""
    job = jobs.submit(JobRequest(), [b"image"], webhook=webhook)
    jobs.claim()
    jobs.end(job.id, "done", outputs=["mesh.obj"])
    return job


def deliver(
    jobs: Jobs,
    until: Callable[[Service], bool],
    prepare: Callable[[Service], None],
    *,
    body_of: Callable[[Job], dict[str, Any]] = body_of,
    secret: str = "",
    allow_private: bool = True,
) -> Service:
    """Deliver webhooks until a condition holds, for at most ten seconds."""

    async def run() -> Service:
        async with Service() as service:
            prepare(service)
            task = asyncio.create_task(
                deliver_webhooks(
                    jobs,
                    body_of,
                    secret=secret,
                    allow_private=allow_private,
                    retry_pauses_s=(0.05, 0.05),
                    poll_interval_s=0.02,
                )
            )
            try:
                began = time.monotonic()
                while not until(service):
                    assert time.monotonic() - began < 10, "timed out"
                    assert not task.done(), "the delivery has ended"
                    await asyncio.sleep(0.02)
                return service
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    return asyncio.run(run())


def nothing_due(jobs: Jobs) -> bool:
    with jobs._lock:
        return jobs._database.execute("SELECT count(*) FROM deliveries").fetchone()[0] == 0


def test_deliver_webhooks_posts_the_body_once(jobs):
    def prepare(service: Service) -> None:
        service.answers["/hook"] = [Reply(b"")]
        finish(jobs, f"{service.url}/hook")

    service = deliver(jobs, lambda _: nothing_due(jobs), prepare)
    (request,) = service.of("/hook")
    assert request.json == {"status": "success", "id": 1}
    assert request.headers["content-type"] == "application/json"


def test_deliver_webhooks_retries_with_the_same_id(jobs):
    def prepare(service: Service) -> None:
        service.answers["/hook"] = [Reply(b"", 500), Reply(b"", 302), Reply(b"")]
        finish(jobs, f"{service.url}/hook")

    service = deliver(jobs, lambda _: nothing_due(jobs), prepare)
    assert len({request.headers["webhook-id"] for request in service.of("/hook")}) == 1
    assert len(service.of("/hook")) == 3


def test_deliver_webhooks_gives_up_after_three_tries(jobs):
    def prepare(service: Service) -> None:
        service.answers["/hook"] = [Reply(b"", 500)]
        finish(jobs, f"{service.url}/hook")

    service = deliver(jobs, lambda _: nothing_due(jobs), prepare)
    assert len(service.of("/hook")) == 3


def test_deliver_webhooks_interrupted_keeps_the_delivery(jobs):
    def prepare(service: Service) -> None:
        service.answers["/hook"] = [Reply(b"x" * 99, drip=1.0)]
        finish(jobs, f"{service.url}/slow")

    deliver(jobs, lambda s: bool(s.received), prepare)
    assert not nothing_due(jobs)


def test_deliver_webhooks_with_slow_receivers_delays_no_other(jobs):
    def prepare(service: Service) -> None:
        def slow(_: Received) -> Reply:
            return Reply(b"", delay=30.0)

        service.answers["/slow"] = [slow]
        service.answers["/hook"] = [Reply(b"")]
        for path in ("/slow", "/slow", "/slow", "/hook"):
            finish(jobs, f"{service.url}{path}")

    began = time.monotonic()
    service = deliver(jobs, lambda s: bool(s.of("/hook")), prepare)
    assert time.monotonic() - began < 5
    assert len(service.of("/slow")) == 3, "a pending webhook is not called again"


@pytest.mark.parametrize(
    "webhook",
    ["http://xn--a/", "http://[::1/", "http://127.0.0.1:99999/", "hello", "http://\ud800/"],
)
def test_deliver_webhooks_to_a_malformed_address_stops_no_other(jobs, webhook):
    def prepare(service: Service) -> None:
        service.answers["/hook"] = [Reply(b"")]
        finish(jobs, webhook.encode("utf-8", "replace").decode())
        finish(jobs, f"{service.url}/hook")

    service = deliver(jobs, lambda _: nothing_due(jobs), prepare)
    assert len(service.of("/hook")) == 1


def test_deliver_webhooks_with_an_exception_stops_no_other(jobs, caplog):
    def broken_for_the_first(job: Job) -> dict[str, Any]:
        if job.id == 1:
            raise ZeroDivisionError
        return body_of(job)

    def prepare(service: Service) -> None:
        service.answers["/hook"] = [Reply(b"")]
        finish(jobs, f"{service.url}/hook")
        finish(jobs, f"{service.url}/hook")

    service = deliver(jobs, lambda _: nothing_due(jobs), prepare, body_of=broken_for_the_first)
    assert [request.json["id"] for request in service.of("/hook")] == [2]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("method", ["due_deliveries", "delivered"])
def test_deliver_webhooks_after_an_error_of_the_store_logs_and_retries(
    jobs, monkeypatch, caplog, method
):
    monkeypatch.setattr("pipelines.server.webhooks._FIRST_PAUSE_S", 0.02)
    whole, failures = getattr(jobs, method), iter(range(3))

    def failing(*args: Any, **options: Any) -> Any:
        if next(failures, None) is not None:
            raise sqlite3.OperationalError("database is locked")
        return whole(*args, **options)

    monkeypatch.setattr(jobs, method, failing)

    def prepare(service: Service) -> None:
        service.answers["/hook"] = [Reply(b"")]
        finish(jobs, f"{service.url}/hook")

    service = deliver(jobs, lambda _: nothing_due(jobs), prepare)
    assert len(service.of("/hook")) == 1, "a delivery that could not be recorded is not repeated"
    assert "database is locked" in caplog.text


def test_deliver_webhooks_does_not_read_the_answer(jobs):
    def prepare(service: Service) -> None:
        bomb = gzip.compress(bytes(50 * 2**20))
        service.answers["/hook"] = [
            Reply(b"", length=10**12, endless=True),
            Reply(bomb, headers={"Content-Encoding": "gzip"}),
        ]
        finish(jobs, f"{service.url}/hook")
        finish(jobs, f"{service.url}/hook")

    service = deliver(jobs, lambda _: nothing_due(jobs), prepare)
    assert len(service.of("/hook")) == 2


def test_deliver_webhooks_follows_no_redirect(jobs):
    def prepare(service: Service) -> None:
        service.answers["/hook"] = [Reply(b"", 302, {"Location": "/elsewhere"})]
        finish(jobs, f"{service.url}/hook")

    service = deliver(jobs, lambda _: nothing_due(jobs), prepare)
    assert not service.of("/elsewhere")


def test_deliver_webhooks_does_not_call_private_networks(jobs, caplog):
    caplog.set_level("INFO")

    def prepare(service: Service) -> None:
        finish(jobs, f"{service.url}/hook")

    service = deliver(jobs, lambda _: nothing_due(jobs), prepare, allow_private=False)
    assert service.connections == 0
    assert "the webhook of job 1 failed: AddressRefused" in caplog.text


# Signatures


def test_signed_headers_match_the_example_of_standard_webhooks():
    """Message, secret and signature are from the tests of the specification's libraries."""
    headers = signed_headers(
        b'{"test": 2432232314}',
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    )
    assert headers["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_signed_headers_accept_any_text_as_secret():
    headers = signed_headers(b"body", "id", 5, "shared")
    expected = hmac.digest(b"shared", b"id.5.body", "sha256")
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(expected).decode()}"


def test_signed_headers_keep_the_older_signature():
    headers = signed_headers(b"body", "id", 5, "whsec_c2hhcmVk")
    expected = hmac.new(b"whsec_c2hhcmVk", b"body", hashlib.sha256).hexdigest()
    assert headers["X-Signature-SHA256"] == expected


def test_signed_headers_without_a_secret_are_not_signed():
    assert not any("signature" in name.lower() for name in signed_headers(b"", "id", 5, ""))


def test_server_signs_its_webhooks(serve, tmp_path):
    """End to end: a client's request, the job and the webhook."""
    heard: list[Received] = []

    async def run() -> None:
        async with Service() as service:

            def hear(request: Received) -> Reply:
                heard.append(request)
                return Reply(b"")

            service.answers["/hook"] = [hear]
            client = serve(wait=20.0, allow_private=True, webhook_secret="shared")
            body = {"image": image(), "webhook": f"{service.url}/hook", "track_id": 5}
            await asyncio.to_thread(client.post, START, json=body)
            for _ in range(200):
                if heard:
                    return
                await asyncio.sleep(0.05)

    asyncio.run(run())
    (request,) = heard
    assert request.json["status"] == "success"
    assert request.json["track_id"] == 5
    headers = signed_headers(
        request.body,
        request.headers["webhook-id"],
        int(request.headers["webhook-timestamp"]),
        "shared",
    )
    for name in ("webhook-signature", "X-Signature-SHA256"):
        assert request.headers[name.lower()] == headers[name]
