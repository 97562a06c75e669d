"""ModelsLab: files that are fetched, and what becomes of those that are not what they should be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pipelines.errors import BadAnswer, ConnectionFailed
from pipelines.modelslab import downloads
from pipelines.modelslab.client import ModelsLab, Request

from .modelslab_jobs import FILE, PICTURE, START, a_job, against_service, failure_of
from .modelslab_server import OBJ, Reply, Service, ranged


def test_a_cut_download_goes_on_where_it_was(tmp_path):
    result, service = against_service(_cut_job(tmp_path))
    assert result.mesh.read_bytes().startswith(b"# made in the cloud\nv 0 0 0")
    assert [r.headers.get("range") for r in service.of(FILE)] == [None, "bytes=50-"]


def _cut_job(tmp_path: Path) -> Callable[[Service, ModelsLab], Awaitable[object]]:
    async def run(service: Service, client: ModelsLab) -> object:
        service.answers[START] = [Reply(service.success())]
        service.answers[FILE] = [ranged(OBJ, 50)]
        return await client.image_to_3d(PICTURE, Request(), tmp_path / "mesh"), service

    return run


def test_a_server_that_cannot_go_on_starts_again(tmp_path):
    result, service = against_service(
        a_job(tmp_path, lambda s: s.success(), file=[Reply(OBJ, cut_after=40), Reply(OBJ)])
    )
    assert result.mesh.read_bytes().count(b"\nv ") == 4
    assert len(service.of(FILE)) == 2


def test_links_that_appear_late(tmp_path):
    result, service = against_service(
        a_job(tmp_path, lambda s: s.success(), file=[Reply(b"", 404), Reply(b"", 404), Reply(OBJ)])
    )
    assert result.mesh.exists()
    assert len(service.of(FILE)) == 3


def test_the_proxy_link_where_the_link_is_missing_or_fails(tmp_path):
    async def run(service: Service, client: ModelsLab) -> None:
        for links in ([], [f"{service.url}/files/gone.obj"]):
            service.answers[START] = [
                Reply(service.success(output=links, proxy_links=[f"{service.url}{FILE}"]))
            ]
            service.answers["/files/gone.obj"] = [Reply(b"", 403)]
            result = await client.image_to_3d(PICTURE, Request(), tmp_path / "m")
            assert result.mesh.exists()

    against_service(run)


def test_redirects_to_loopback_are_followed_only_where_loopback_is_allowed(tmp_path):
    async def run(service: Service, client: ModelsLab) -> None:
        service.answers["/files/moved.obj"] = [
            Reply(b"", 302, {"Location": f"{service.url}{FILE}"})
        ]
        service.answers[START] = [Reply(service.success("/files/moved.obj"))]
        assert (await client.image_to_3d(PICTURE, Request(), tmp_path / "m")).mesh.exists()
        service.answers["/files/moved.obj"] = [Reply(b"", 302, {"Location": "/files/moved.obj"})]
        with pytest.raises(BadAnswer, match="redirects"):
            await client.image_to_3d(PICTURE, Request(), tmp_path / "m")

    against_service(run)


def test_a_file_without_end_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "MAX_FILE", 2**20)
    for reply in (
        Reply(b"", length=10 * 2**30, endless=True),
        Reply(b"", headers={"Transfer-Encoding": "identity"}, length=2**19, endless=True),
    ):
        error = failure_of(a_job(tmp_path, lambda s: s.success(), file=[reply]))
        assert isinstance(error, (BadAnswer, ConnectionFailed)), error
    assert not list(tmp_path.iterdir())


def test_an_answer_without_end_is_left(tmp_path):
    error = failure_of(a_job(tmp_path, Reply(b"", length=10 * 2**30, endless=True)))
    assert isinstance(error, BadAnswer)
    assert "far larger" in str(error)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.obj", b"\x00\x01garbage"),
        ("a.obj", b"<html>404</html>"),
        ("a.obj", b"v 0 0\nf 1 2 3\n"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n"),
        ("a.glb", b"glTF" + (1).to_bytes(4, "little") + (12).to_bytes(4, "little")),
        ("a.glb", b"glTF" + (2).to_bytes(4, "little") + (99).to_bytes(4, "little")),
        ("a.zip", b"PK\x03\x04"),
        ("a.exe", b"MZ"),
        ("..%2f..%2fevil", b"v 0 0 0"),
    ],
)
def test_files_that_are_not_what_they_should_be_go_nowhere(tmp_path, name, content):
    async def run(service: Service, client: ModelsLab) -> None:
        service.answers[f"/files/{name}"] = [Reply(content)]
        service.answers[START] = [Reply(service.success(f"/files/{name}"))]
        await client.image_to_3d(PICTURE, Request(), tmp_path / "inside" / "m")

    assert isinstance(failure_of(run), BadAnswer)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_mesh_and_video_of_a_rendered_job(tmp_path):
    async def run(service: Service, client: ModelsLab) -> None:
        service.answers["/files/v.mp4"] = [Reply(b"\x00\x00\x00\x18ftypmp42")]
        service.answers[START] = [Reply(service.success("/files/v.mp4", "/files/a.obj"))]
        result = await client.image_to_3d(PICTURE, Request(render=True), tmp_path / "m")
        assert (result.mesh.name, result.video.name) == ("m.obj", "m.mp4")

    against_service(run)


def test_the_first_of_two_meshes_is_taken(tmp_path):
    async def run(service: Service, client: ModelsLab) -> None:
        service.answers["/files/b.obj"] = [Reply(OBJ.replace(b"v 0 2 0", b"v 0 9 0"))]
        service.answers[START] = [Reply(service.success("/files/a.obj", "/files/b.obj"))]
        result = await client.image_to_3d(PICTURE, Request(), tmp_path / "m")
        assert "v 0 2 0" in result.mesh.read_text()
        assert not service.of("/files/b.obj")

    against_service(run)
