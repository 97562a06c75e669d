"""The API key of ModelsLab is sent to its own server only, and never shown."""

from __future__ import annotations

import logging
import os
import pickle
import traceback
from pathlib import Path

import pytest

from pipelines.errors import InvalidInput
from pipelines.modelslab.errors import AuthenticationFailed
from pipelines.modelslab.servers import ApiKey, find_server, server_names

from .jobs import a_job, against_service, failure_of
from .server import KEY, Reply

# The key


def test_key_is_only_in_requests_to_the_api(tmp_path, caplog, capsys):
    """The server echoes the key in errors, meta and text; all log levels are on."""
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "pipelines", "asyncio"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    result, service = against_service(
        a_job(tmp_path, lambda s: s.success(message=f"thanks, {KEY}"))
    )
    assert KEY not in repr(result)
    assert all(
        KEY.encode() not in r.body for r in service.received if not r.path.startswith("/api/")
    )
    assert all(KEY not in f"{r.path}{r.headers}" for r in service.received)
    for reply in (
        Reply({"status": "error", "message": f"key {KEY} is not welcome"}),
        Reply({"status": "error", "message": {KEY: [f"{KEY}"]}}, 401),
        Reply({"status": "failed", "message": f"{KEY}"}),
        Reply({"status": KEY}),
        Reply(
            b'{"status": "error", "message": "'
            + "".join(f"\\u{ord(c):04x}" for c in KEY).encode()
            + b'"}'
        ),
        Reply(f"<html>{KEY}".encode(), 500),
        Reply(b"", cut_after=0, length=50),
    ):
        error = failure_of(a_job(tmp_path, reply))
        assert KEY not in "".join(traceback.format_exception(error))
        seen: BaseException | None = error
        while seen is not None:
            assert KEY not in f"{seen!r}{seen.args}"
            seen = seen.__cause__ or seen.__context__
    assert "POST" in caplog.text, "the HTTP library logs requests"
    assert KEY not in caplog.text
    assert KEY not in "".join(capsys.readouterr())
    assert all(KEY.encode() not in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_key_is_never_shown():
    key = ApiKey(KEY)
    assert KEY not in f"{key} {key!r}"
    with pytest.raises(TypeError):
        pickle.dumps(key)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A user's folder, without variables in the environment."""
    monkeypatch.delenv("MODELSLAB_API_KEY", raising=False)
    monkeypatch.delenv("MODELSLAB_API_URL", raising=False)
    return tmp_path


def _secret(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def test_find_server_reads_the_key(folder, monkeypatch):
    with pytest.raises(AuthenticationFailed, match="MODELSLAB_API_KEY"):
        find_server("modelslab.com", folder)
    file = _secret(folder / "modelslab_api_key.txt", f"{KEY}\n".encode())
    assert find_server("modelslab.com", folder).key.reveal() == KEY
    monkeypatch.setenv("MODELSLAB_API_KEY", "another")
    assert find_server("modelslab.com", folder).key.reveal() == "another"
    monkeypatch.delenv("MODELSLAB_API_KEY")
    if os.name == "posix":
        file.chmod(0o644)
        with pytest.raises(AuthenticationFailed, match="chmod 600"):
            find_server("modelslab.com", folder)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_find_server_reads_a_key_file_of_any_editor(folder, encoding):
    _secret(folder / "modelslab_api_key.txt", f"{KEY}\r\n".encode(encoding))
    assert find_server("modelslab.com", folder).key.reveal() == KEY


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"two words", KEY.encode() + b"\xe4\n", b"\0"]
)
def test_find_server_error_does_not_show_the_file(folder, content):
    _secret(folder / "modelslab_api_key.txt", content)
    with pytest.raises(AuthenticationFailed) as caught:
        find_server("modelslab.com", folder)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_find_server_returns_the_key_of_each_server(folder, monkeypatch):
    assert server_names(folder) == ["modelslab.com"]
    _secret(
        folder / "modelslab_servers.txt",
        b"# mine\nhttp://192.168.1.20:8000/api/v6/ key-of-mine\nhttp://127.0.0.1:1/api/v6\n",
    )
    _secret(folder / "modelslab_api_key.txt", KEY.encode())
    mine = "http://192.168.1.20:8000/api/v6"
    assert server_names(folder) == ["modelslab.com", mine, "http://127.0.0.1:1/api/v6"]
    assert find_server(mine, folder).key.reveal() == "key-of-mine"
    assert find_server("http://127.0.0.1:1/api/v6", folder).key.reveal() == ""
    with pytest.raises(InvalidInput, match=r"not in .*modelslab_servers\.txt"):
        find_server("https://evil.example/api/v6", folder)
    monkeypatch.setenv("MODELSLAB_API_URL", "https://other.example/api/v6")
    other = find_server("modelslab.com", folder)
    assert (other.host, other.key.reveal()) == ("other.example", "")
    for wrong in ("file:///etc", "https://", "http://user:pass@host/", "http://[", "hello"):
        monkeypatch.setenv("MODELSLAB_API_URL", wrong)
        with pytest.raises(InvalidInput, match="MODELSLAB_API_URL"):
            find_server("modelslab.com", folder)
