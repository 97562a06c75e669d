"""Jobs on a Ray cluster of two nodes on this machine, one of which is lost in the middle."""

from __future__ import annotations

import functools
import importlib
import time

import pytest

from .conftest import START, image
from .makers import FAIL

ray = pytest.importorskip("ray", reason="Ray is not installed")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_server_on_ray_after_a_lost_node_finishes_all_jobs(tmp_path, serve, monkeypatch):
    from ray.cluster_utils import Cluster

    quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}
    head = {"num_cpus": 0, "_system_config": quick | {"health_check_initial_delay_ms": 0}}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=2)]
    makers = importlib.import_module("tests.server.makers")
    of_cluster = importlib.import_module("pipelines.server.cluster")
    maker = functools.partial(
        of_cluster.RayMaker, functools.partial(makers.patient, str(tmp_path)), cluster.address, 0.0
    )
    client = serve(workers=2, maker=maker, limit=120.0)
    try:
        jobs = [client.post(START, json={"image": image()}).json()["id"] for _ in range(6)]
        failing = client.post(START, json={"image": image(), "resolution": FAIL}).json()["id"]
        until = time.monotonic() + 90
        while len(list(tmp_path.glob("begun-*"))) < 2:
            assert time.monotonic() < until
            time.sleep(0.1)
        cluster.remove_node(nodes[0], allow_graceful=False)

        def state(id: int) -> dict:
            answer = client.post(f"/api/v6/3d/fetch/{id}", json={}).json()
            while answer["status"] == "processing" and time.monotonic() < until + 120:
                time.sleep(0.2)
                answer = client.post(f"/api/v6/3d/fetch/{id}", json={}).json()
            return answer

        assert [state(id).get("message", "done") for id in jobs] == ["done"] * 6
        assert state(failing)["message"] == "The image holds no object."
        assert client.get(state(jobs[0])["output"][0]).text.startswith("#")
    finally:
        cluster.shutdown()
