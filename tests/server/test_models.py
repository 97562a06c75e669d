"""Models that jobs may use, and downloads of their weights while other jobs run."""

from __future__ import annotations

import threading
import time

import pytest

from pipelines.errors import EnvironmentProblem
from pipelines.job import views_model_of
from pipelines.server import models
from pipelines.server.jobs import Jobs
from pipelines.server.models import Models
from pipelines.server.protocol import JobRequest
from pipelines.server.work import job_settings
from pipelines.settings import ServerSettings

from .conftest import START, ended, fake, image


@pytest.fixture
def here(monkeypatch):
    """Names of the models whose weights count as downloaded; tests may add some."""
    names = {"photo"}

    def missing(name, folders):
        return [] if name in names else ["a file"]

    monkeypatch.setattr(models.inventory, "missing", missing)
    return names


class Hub:
    """A download that lasts until the event `end` is set."""

    failure = None

    def __init__(self, here):
        self.here = here
        self.asked, self.begun, self.end = [], threading.Event(), threading.Event()

    def __call__(self, name, folders, progress):
        self.asked.append(name)
        progress(0, 10**9)
        progress(25 * 10**7, 10**9)
        self.begun.set()
        assert self.end.wait(20)
        if self.failure:
            raise self.failure
        self.here.add(name)
        return 1


@pytest.fixture
def hub(here, monkeypatch):
    hub = Hub(here)
    monkeypatch.setattr(models.inventory, "download", hub)
    yield hub
    hub.end.set()


@pytest.mark.parametrize("model", ["triposr", "instantmesh", "huge"])
def test_model_without_weights_is_refused_with_the_option(serve, here, model):
    answer = serve().post(START, json={"image": image(), "model_id": model})
    assert answer.status_code == 400
    assert "choose one of photo." in answer.json()["message"]
    assert "--allow-models" in answer.json()["message"]


def test_model_with_weights_is_allowed_by_default(serve, here):
    here.add("triposr")
    client = serve(wait=20.0)
    answer = client.post(START, json={"image": image(), "model_id": "triposr"}).json()
    assert answer["status"] == "success"


def test_model_with_weights_is_refused_if_only_others_are_allowed(serve, here):
    here.add("triposr")
    client = serve(allow_models=["instant-mesh-large"])
    body = {"image": image(), "model_id": "triposr"}
    assert client.post(START, json=body).status_code == 400


def test_license_commercial_refuses_models_that_forbid_it(serve, here):
    here.update({"triposr", "instant-mesh-large"})
    client = serve(license="commercial")
    answers = [
        client.post(START, json={"image": image(), "model_id": model})
        for model in ("triposr", "instantmesh")
    ]
    assert [answer.status_code for answer in answers] == [200, 400]
    assert answers[0].json()["meta"]["licenses"] == {"triposr": "MIT"}
    assert "choose one of photo, triposr." in answers[1].json()["message"]


VIEWS = {"image": image(), "model_id": "triposg", "texture_from": "views"}


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ({}, "zero123plus-instantmesh is not available here; choose pictures. The server's"),
        ({"license": "commercial"}, "only models that allow commercial use; choose pictures"),
    ],
    ids=["missing", "license"],
)
def test_texture_from_views_is_refused_without_a_multiview_model(serve, here, server, message):
    here.add("triposg")
    answer = serve(**server).post(START, json=VIEWS)
    assert answer.status_code == 400
    assert message in answer.json()["message"]


def test_texture_from_views_runs_and_names_the_licence_of_the_multiview_model(serve, here):
    here.update({"triposg", "zero123plus-instantmesh"})
    answer = serve(wait=20.0).post(START, json=VIEWS).json()
    assert answer["status"] == "success"
    assert answer["meta"]["texture_from"] == "views"
    assert answer["meta"]["licenses"].keys() == {"triposg", "zero123plus-instantmesh"}


def test_texture_from_views_reaches_the_job():
    settings = job_settings(JobRequest(model_id="triposg", texture_from="views"), 5, [])
    assert views_model_of(settings) == "zero123plus-instantmesh"


def test_job_without_a_model_takes_the_default(serve, here):
    here.add("triposr")
    client = serve(wait=20.0, model="triposr")
    for body in ({}, {"model_id": None}, {"model_id": ""}):
        answer = client.post(START, json={"image": image()} | body).json()
        assert answer["meta"]["model_id"] == "triposr"


def test_download_shows_in_the_status_and_blocks_no_other_job(serve, hub):
    client = serve(allow_models=["instant-mesh-large"])
    waiting = client.post(START, json={"image": image(), "model_id": "instantmesh"}).json()
    assert hub.begun.wait(10)
    other = client.post(START, json={"image": image()}).json()
    assert ended(client, other["id"])["status"] == "success"
    for _ in range(2):
        again = client.post(START, json={"image": image(), "model_id": "instantmesh"}).json()
    assert "instant-mesh-large are being downloaded (250 of 1,000 MB)" in again["message"]
    hub.end.set()
    for job in (waiting, again):
        assert ended(client, job["id"])["status"] == "success"
    assert hub.asked == ["instant-mesh-large"]


def test_failed_download_fails_its_jobs_and_names_no_path(serve, hub, caplog):
    hub.failure = EnvironmentProblem("put model.ckpt into /srv/models/TripoSR.")
    client = serve(allow_models=["triposr"])
    job = client.post(START, json={"image": image(), "model_id": "triposr"}).json()
    hub.end.set()
    answer = ended(client, job["id"])
    assert answer["status"] == "failed"
    assert "triposr could not be downloaded" in answer["message"]
    assert "/srv" not in answer["message"]
    assert "/srv/models/TripoSR" in caplog.text
    other = client.post(START, json={"image": image()}).json()
    assert ended(client, other["id"])["status"] == "success"


def test_download_continues_after_a_restart(serve, hub, tmp_path):
    jobs = Jobs(tmp_path / "server")
    id = jobs.submit(JobRequest(model_id="triposr"), [b"image"]).id
    jobs.close()
    client = serve(allow_models=["triposr"], maker=fake)
    assert hub.begun.wait(10)
    hub.end.set()
    assert ended(client, id)["status"] == "success"


def test_download_stops_with_the_server(tmp_path, here, monkeypatch):
    jobs, closing, stopped = Jobs(tmp_path), threading.Event(), threading.Event()

    def download(name, folders, progress):
        try:
            while True:
                progress(1, 100)
                time.sleep(0.01)
        finally:
            stopped.set()

    monkeypatch.setattr(models.inventory, "download", download)
    Models(jobs, ServerSettings(model="triposr"), (), closing).want("triposr")
    closing.set()
    assert stopped.wait(10)
    jobs.close()
