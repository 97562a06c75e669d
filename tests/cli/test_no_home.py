"""Users without a home directory, as in containers that run as a numeric user id."""

from __future__ import annotations

import pytest

from pipelines.cli import COMMANDS, main

pwd = pytest.importorskip("pwd", reason="only POSIX has a list of users")


@pytest.fixture(params=["unset", "missing"], autouse=True)
def no_home(request, monkeypatch):
    def unknown(number: int):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setenv("HOME", "/nonexistent")
    if request.param == "unset":
        monkeypatch.delenv("HOME")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_without_a_home_is_printed(command, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main([command, "--help"])
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["doctor", "models"])
def test_report_without_a_home_is_printed(command, capsys):
    assert main([command]) == 0
    assert "triposr" in capsys.readouterr().out
