"""A catalogue on a Ray cluster of two nodes on this machine, one of which is lost in the middle."""

from __future__ import annotations

import functools
import importlib
import threading
import time

import pytest

from .conftest import items, recipe

ray = pytest.importorskip("ray", reason="Ray is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
makers = importlib.import_module("tests.catalogue.makers")
engine = importlib.import_module("pipelines.catalogue.ray_engine")


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster

    quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}
    head = {"num_cpus": 0, "_system_config": quick | {"health_check_initial_delay_ms": 0}}
    made = Cluster(initialize_head=True, head_node_args=head)
    yield made
    ray.shutdown()
    made.shutdown()


def test_run_on_ray_after_a_lost_node_finishes_all_items(cluster, tmp_path):
    nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=2)]
    made = recipe()
    ids = [f"i{n}" for n in range(40)] + ["bad", "crash"]
    tasks = [made.task(item, item.id) for item in items(ids)]

    def maker(parts):
        assert parts == ("prepare", "reconstruct", "finish")
        return functools.partial(makers.stub, tmp_path, 0.3)

    def lose():
        while not (tmp_path / "begun.txt").exists():
            time.sleep(0.1)
        time.sleep(1)
        cluster.remove_node(nodes[0], allow_graceful=False)

    losing = threading.Thread(target=lose)
    losing.start()
    rows = {
        row.id: row.error_kind or row.status
        for row in engine.run_on_ray(tasks, maker, 60.0, address=cluster.address)
    }
    losing.join()
    assert rows == {f"i{n}": "done" for n in range(40)} | {
        "bad": "NothingInPicture",
        "crash": "WorkerDied",
    }


def test_run_on_ray_gives_gpus_to_the_models_only(cluster, tmp_path):
    """Each item passes three actors, one of which reserves a simulated GPU."""
    cluster.add_node(num_cpus=2, num_gpus=1)
    made = recipe()
    tasks = [made.task(item, item.id) for item in items(["a", "b", "c"])]
    asked = []

    def maker(parts):
        asked.append(parts)
        return functools.partial(makers.part_of, parts, tmp_path)

    rows = list(engine.run_on_ray(tasks, maker, 60.0, address=cluster.address))
    assert asked == [("prepare",), ("reconstruct",), ("finish",)]
    assert sorted(row.id for row in rows) == ["a", "b", "c"]
    assert all(list(row.seconds) == ["prepare", "reconstruct", "finish"] for row in rows)


def test_run_on_ray_without_a_usable_cluster_raises(cluster, tmp_path):
    from pipelines.errors import EnvironmentProblem

    cluster.add_node(num_cpus=1)
    made = recipe()
    tasks = [made.task(item, item.id) for item in items(["a", "b", "c"])]

    def maker(parts):
        return functools.partial(makers.unready, tmp_path)

    with pytest.raises(EnvironmentProblem, match="has room for 1 workers, not for 3"):
        list(engine.run_on_ray(tasks, maker, 60, address=cluster.address, workers=3))
    with pytest.raises(EnvironmentProblem, match="The weights are not there"):
        list(engine.run_on_ray(tasks, maker, 60, address=cluster.address))
    with pytest.raises(EnvironmentProblem, match="could not reach a Ray cluster at"):
        list(engine.run_on_ray(tasks, maker, 60, address="127.0.0.1:1"))
