"""Downloads of result files: retries, limits, and unusable files."""

from __future__ import annotations

import pytest

from pipelines.meshes.io import save_mesh
from pipelines.modelslab import downloads
from pipelines.modelslab.client import ModelsLab
from pipelines.modelslab.errors import BadAnswer, ConnectionFailed
from pipelines.modelslab.request import Request

from ..shapes import l_shape
from .jobs import FILE, IMAGE, START, a_job, against_service, failure_of
from .server import OBJ, Reply, Service


def test_cut_download_is_retried(tmp_path):
    result, service = against_service(
        a_job(tmp_path, lambda s: s.success(), file=[Reply(OBJ, cut_after=40), Reply(OBJ)])
    )
    assert result.path.read_bytes().count(b"\nv ") == 4
    assert len(service.of(FILE)) == 2


def test_missing_link_is_retried(tmp_path):
    result, service = against_service(
        a_job(tmp_path, lambda s: s.success(), file=[Reply(b"", 404), Reply(b"", 404), Reply(OBJ)])
    )
    assert result.path.exists()
    assert len(service.of(FILE)) == 3


def test_proxy_link_replaces_a_failing_link(tmp_path):
    async def run(service: Service, client: ModelsLab) -> None:
        for links in ([], [f"{service.url}/files/gone.obj"]):
            service.answers[START] = [
                Reply(service.success(output=links, proxy_links=[f"{service.url}{FILE}"]))
            ]
            service.answers["/files/gone.obj"] = [Reply(b"", 403)]
            result = await client.image_to_3d(IMAGE, Request(), tmp_path / "m")
            assert result.path.exists()

    against_service(run)


def test_redirects_are_followed_up_to_a_limit(tmp_path):
    async def run(service: Service, client: ModelsLab) -> None:
        service.answers["/files/moved.obj"] = [
            Reply(b"", 302, {"Location": f"{service.url}{FILE}"})
        ]
        service.answers[START] = [Reply(service.success("/files/moved.obj"))]
        assert (await client.image_to_3d(IMAGE, Request(), tmp_path / "m")).path.exists()
        service.answers["/files/moved.obj"] = [Reply(b"", 302, {"Location": "/files/moved.obj"})]
        with pytest.raises(BadAnswer, match="redirects"):
            await client.image_to_3d(IMAGE, Request(), tmp_path / "m")

    against_service(run)


def test_endless_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "MAX_FILE_BYTES", 2**20)
    for reply in (
        Reply(b"", length=10 * 2**30, endless=True),
        Reply(b"", headers={"Transfer-Encoding": "identity"}, length=2**19, endless=True),
    ):
        error = failure_of(a_job(tmp_path, lambda s: s.success(), file=[reply]))
        assert isinstance(error, (BadAnswer, ConnectionFailed)), error
    assert not list(tmp_path.iterdir())


def test_endless_answer_is_refused(tmp_path):
    error = failure_of(a_job(tmp_path, Reply(b"", length=10 * 2**30, endless=True)))
    assert isinstance(error, ConnectionFailed)
    assert "may have been started" in str(error)


@pytest.mark.parametrize("name", ["a.zip", "a.exe", "..%2f..%2fevil", "a"])
def test_other_suffixes_are_not_downloaded(tmp_path, name):
    error = failure_of(a_job(tmp_path, lambda s: s.success(f"/files/{name}")))
    assert isinstance(error, BadAnswer)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content", [b"\x00\x01garbage", b"v 0 0\nf 1 2 3\n", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n"]
)
def test_unreadable_mesh_is_kept(tmp_path, content):
    error = failure_of(a_job(tmp_path, lambda s: s.success(), file=[Reply(content)]))
    assert isinstance(error, BadAnswer)
    kept = tmp_path / "mesh-109655545.obj"
    assert str(kept) in str(error)
    assert kept.read_bytes() == content
    assert error.job_id == "109655545"


@pytest.mark.parametrize("page", [b"<html>404</html>", b"\n<!DOCTYPE html>", b""])
def test_web_page_instead_of_the_file_is_retried(tmp_path, page):
    result, _ = against_service(
        a_job(tmp_path, lambda s: s.success(), file=[Reply(page), Reply(OBJ)])
    )
    assert result.path.read_bytes() == OBJ
    error = failure_of(a_job(tmp_path, lambda s: s.success(), file=[Reply(page)]))
    assert isinstance(error, ConnectionFailed)
    assert "Put 109655545 into job_id" in str(error)


def test_obj_with_bom_and_comments_is_read(tmp_path):
    content = b"\xef\xbb\xbf" + OBJ + b"f 1 2 3 # the last one\n"
    result, _ = against_service(a_job(tmp_path, lambda s: s.success(), file=[Reply(content)]))
    assert len(result.mesh.faces) == 5


@pytest.mark.parametrize("suffix", ["glb", "stl", "ply"])
def test_every_mesh_format_is_downloaded(tmp_path, suffix):
    save_mesh(l_shape(), tmp_path / f"l.{suffix}")

    async def run(service: Service, client: ModelsLab) -> None:
        service.answers[f"/files/l.{suffix}"] = [Reply((tmp_path / f"l.{suffix}").read_bytes())]
        service.answers[START] = [Reply(service.success(f"/files/l.{suffix}"))]
        result = await client.image_to_3d(IMAGE, Request(output_format=suffix), tmp_path / "m")
        assert result.path.name == f"m-109655545.{suffix}"
        assert result.mesh.volume() == pytest.approx(l_shape().volume(), rel=1e-5)

    against_service(run)


def test_missing_video_does_not_fail_the_mesh(tmp_path):
    notices: list[str] = []

    async def run(service: Service, client: ModelsLab) -> None:
        service.answers["/files/v.mp4"] = [Reply(b"", 500)]
        service.answers[START] = [Reply(service.success("/files/v.mp4", "/files/a.obj"))]
        result = await client.image_to_3d(
            IMAGE, Request(render=True), tmp_path / "m", notice=notices.append
        )
        assert result.video is None
        assert result.path.exists()

    against_service(run)
    assert notices[-1].startswith("The video is missing")


def test_rendered_job_saves_mesh_and_video(tmp_path):
    async def run(service: Service, client: ModelsLab) -> None:
        service.answers["/files/v.mp4"] = [Reply(b"\x00\x00\x00\x18ftypmp42")]
        service.answers[START] = [Reply(service.success("/files/v.mp4", "/files/a.obj"))]
        result = await client.image_to_3d(IMAGE, Request(render=True), tmp_path / "m")
        assert result.path.name == "m-109655545.obj"
        assert result.video.name == "m-109655545.mp4"

    against_service(run)


def test_first_of_two_meshes_is_saved(tmp_path):
    async def run(service: Service, client: ModelsLab) -> None:
        service.answers["/files/b.obj"] = [Reply(OBJ.replace(b"v 0 2 0", b"v 0 9 0"))]
        service.answers[START] = [Reply(service.success("/files/a.obj", "/files/b.obj"))]
        result = await client.image_to_3d(IMAGE, Request(), tmp_path / "m")
        assert "v 0 2 0" in result.path.read_text()
        assert not service.of("/files/b.obj")

    against_service(run)
