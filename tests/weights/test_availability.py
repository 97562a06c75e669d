"""Missing weights without a network."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from pipelines.errors import EnvironmentProblem
from pipelines.reachability import is_reachable
from pipelines.weights import inventory
from pipelines.weights.inventory import check_available


@pytest.fixture
def closed_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection goes to a proxy that refuses it immediately."""
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")


def test_is_reachable_of_an_open_port_is_true(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert is_reachable(f"http://127.0.0.1:{server.getsockname()[1]}/path")


def test_is_reachable_of_a_closed_port_is_false(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    assert not is_reachable("http://127.0.0.1:9")


def test_is_reachable_with_a_proxy_checks_the_proxy(closed_proxy, monkeypatch):
    assert not is_reachable("https://huggingface.co")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{server.getsockname()[1]}")
        assert is_reachable("https://huggingface.co")


def test_is_reachable_does_not_wait_for_a_resolver_that_hangs(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")

    def hang(*_: object, **__: object) -> None:
        time.sleep(3)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", hang)
    start = time.monotonic()
    assert not is_reachable("https://huggingface.co", timeout_s=0.2)
    assert time.monotonic() - start < 2


def test_check_available_without_a_network_names_one_file_with_its_address(closed_proxy, tmp_path):
    with pytest.raises(EnvironmentProblem) as caught:
        check_available(["triposr"], [tmp_path])
    message = str(caught.value)
    assert f"put it at {tmp_path}/TripoSR/model.ckpt" in message
    assert "https://huggingface.co/stabilityai/TripoSR/resolve/" in message
    assert "photo needs no download" in message
    assert "\n" not in message


def test_check_available_without_a_network_names_all_files_within_3_seconds(closed_proxy, tmp_path):
    start = time.monotonic()
    with pytest.raises(EnvironmentProblem) as caught:
        check_available(["instant-mesh-large", "zero123plus-instantmesh"], [tmp_path])
    assert time.monotonic() - start < 3
    lines = str(caught.value).splitlines()
    wanted = inventory.missing("instant-mesh-large", [tmp_path])
    assert len(lines) == 1 + len(wanted)
    for file in wanted:
        assert any(f"/{file.names[0]} : put it at {tmp_path}/" in line for line in lines)


@pytest.mark.parametrize("name", ["photo"])
def test_check_available_of_an_embedded_model_needs_no_network(monkeypatch, name):
    monkeypatch.setattr(inventory, "hub_is_reachable", lambda: pytest.fail("asked the network"))
    check_available([name], [Path("/nowhere")])


def test_check_available_with_a_network_downloads_nothing(monkeypatch, tmp_path):
    asked: list[bool] = []
    monkeypatch.setattr(inventory, "hub_is_reachable", lambda: asked.append(True) or True)
    check_available(["triposr"], [tmp_path])
    assert (asked, list(tmp_path.iterdir())) == ([True], [])
