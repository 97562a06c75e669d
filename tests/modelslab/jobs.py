"""Jobs with the local service, for all tests of the client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from PIL import Image

from pipelines.modelslab.client import ModelsLab
from pipelines.modelslab.errors import ModelsLabError
from pipelines.modelslab.request import Request
from pipelines.modelslab.servers import ApiKey, Server
from pipelines.modelslab.timing import Timing

from .server import KEY, Reply, Service

START, FETCH, FILE = "/api/3d/image_to_3d", "/api/3d/fetch/7", "/files/a.obj"
FAST = Timing(
    overall=20,
    first_poll=0.02,
    longest_poll=0.05,
    check=0.02,
    first_retry=0.02,
    longest_retry=0.1,
    appearing=1.0,
)
IMAGE = Image.new("RGB", (32, 24), "red")


def against_service(
    test: Callable[[Service, ModelsLab], Awaitable[object]], timing: Timing = FAST
) -> object:
    async def inside() -> object:
        async with (
            Service() as service,
            ModelsLab(
                Server(f"{service.url}/api", ApiKey(KEY), named=True), timing=timing
            ) as client,
        ):
            return await test(service, client)

    return asyncio.run(inside())


def failure_of(
    test: Callable[[Service, ModelsLab], Awaitable[object]], timing: Timing = FAST
) -> ModelsLabError:
    with pytest.raises(ModelsLabError) as caught:
        against_service(test, timing)
    return caught.value


def a_job(
    tmp_path: Path, *answers: Reply | dict, **replies: list
) -> Callable[[Service, ModelsLab], Awaitable[object]]:
    """Return a test that runs one job.

    Args:
        tmp_path: folder of the results.
        answers: answers to the request that starts the job.
        replies: answers to other requests: `fetch`, `file`, or a path.
    """

    async def run(service: Service, client: ModelsLab) -> object:
        def ready(answer):
            made = answer(service) if callable(answer) and not isinstance(answer, Reply) else answer
            return made if isinstance(made, Reply) else Reply(made)

        service.answers[START] = [ready(a) for a in answers]
        for name, several in replies.items():
            service.answers[{"fetch": FETCH, "file": FILE}.get(name, name)] = [
                a if isinstance(a, Reply) else ready(a) for a in several
            ]
        result = await client.image_to_3d(IMAGE, Request(), tmp_path / "mesh")
        return result, service

    return run
