"""The command line's flags are frozen: scripts use them. flags.json has those of version 0.2.0."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli import COMMANDS, main
from pipelines.settings import JobSettings, LoadSettings, declared

FROZEN = json.loads((Path(__file__).parent / "flags.json").read_text())
ROOT = Path(__file__).parents[2]
HEAVY = (
    *("torch", "numpy", "scipy", "PIL", "trimesh", "diffusers", "transformers"),
    *("huggingface_hub", "httpx", "fastapi", "mcp", "ray"),
)
#: Flags that differ from 0.2.0 on purpose, see the changelog.
CHANGED = {
    ("serve", "workers"): "a number; --engine chooses between local processes and Ray",
    ("make", "no_half_copy"): "half-precision copies are no longer saved",
    ("catalogue", "no_half_copy"): "half-precision copies are no longer saved",
}


def parser_of(command: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = importlib.import_module(
        f"pipelines.cli.{command}"
    ).make_parser()
    return made


@pytest.mark.parametrize("command", FROZEN)
def test_flags_of_0_2_0_keep_their_meaning(command):
    actions = {
        flag: action for action in parser_of(command)._actions for flag in action.option_strings
    }
    for name, old in FROZEN[command].items():
        for flag in old.get("flags", ()):
            assert flag in actions, f"{flag} is gone"
            action = actions[flag]
            if (command, name) in CHANGED:
                continue
            assert (action.nargs != 0) == old["value"], flag
            if flag == old["flags"][0] and "default" in old:
                assert str(action.default) == str(old["default"]), flag
            assert set(old.get("choices", ())) <= set(action.choices or old.get("choices", ()))
            repeats = isinstance(action, argparse._AppendAction)
            assert repeats == old.get("repeats", False), flag


def test_make_has_a_flag_for_every_setting():
    """`make` itself sets the three settings that have no flag."""
    flags = {action.dest for action in parser_of("make")._actions}
    assert declared(JobSettings, LoadSettings).keys() - flags == {"colors", "previews", "video"}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_refuse_abbreviated_flags(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "x", "--hel"])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    "words",
    [["--model", "nope"], ["--dtype", "float99"], ["--device", "nonsense"]],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("command", ["make", "catalogue", "serve"])
def test_commands_refuse_invalid_choices_in_one_line(command, words, capsys):
    inputs = {"make": ["x.png"], "catalogue": ["x.png", "-o", "out"], "serve": []}
    with pytest.raises(SystemExit) as ended:
        main([command, *inputs[command], *words])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert words[1] in error
    assert len(error.splitlines()) == 1


def test_help_lists_commands_and_ten_common_options(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {command} " in printed for command in COMMANDS)
    assert printed.count("\n  -") == 10
    assert main([]) == 2
    assert "usage:" in capsys.readouterr().err


def test_make_help_is_grouped_and_hides_deprecated_flags(capsys):
    with pytest.raises(SystemExit):
        main(["make", "--help"])
    printed = capsys.readouterr().out
    for heading in ("model:", "surface:", "mesh:", "texture:", "precision and memory:"):
        assert f"\n{heading}\n" in printed
    assert "--no-half-copy" not in printed
    assert "--views " not in printed


@pytest.mark.parametrize("words", [["./serve"], ["make", "serve"]], ids=" ".join)
def test_make_accepts_an_image_named_like_a_command(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main([*words, "--model", "photo"])
    assert "There is no file or folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (["--help"], ()),
        *(([command, "--help"], ()) for command in COMMANDS),
        (["models"], ("huggingface_hub", "httpx")),
    ],
    ids=str,
)
def test_help_and_models_do_not_import_heavy_packages(words, needed):
    code = (
        "import sys\n"
        "from pipelines.cli import main\n"
        f"try: main({words!r})\n"
        "except SystemExit: pass\n"
        f"print(*(set(sys.modules) & set({HEAVY!r}) - set({needed!r})), file=sys.stderr, end='')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "usage:" in done.stdout or "photo" in done.stdout
    assert done.stderr == ""
