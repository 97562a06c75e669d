from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import EnvironmentProblem, InvalidInput
from pipelines.files import atomic_path, expand_home, files_in, is_hidden, name_key, unique_names
from pipelines.streams import make_streams_safe


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("cup.png", False),
        ("../in/./cup.png", False),
        ("._cup.png", True),
        ("__MACOSX/cup.png", True),
        ("a/@eaDir/cup.png", True),
        (".git/cup.png", True),
        ("Thumbs.db", True),
        ("thumbs.png", False),
    ],
)
def test_is_hidden_recognises_hidden_and_system_names(path, hidden):
    assert is_hidden(Path(path)) == hidden


def test_files_in_skips_hidden_files_and_folders(tmp_path):
    for name in ("b.png", "a/c.png", "._b.png", "__MACOSX/b.png", "a/@eaDir/t.jpg", "z.png/y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in files_in(tmp_path)]
    assert found == ["a/c.png", "b.png", "z.png/y.png"]


def test_files_in_follows_linked_folders_once(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "outside"
    (inside / "real").mkdir(parents=True)
    outside.mkdir()
    for path in (inside / "real" / "a.png", outside / "b.png"):
        path.touch()
    links = {"again": inside / "real", "loop": inside, "other": outside, "other-2": outside}
    for name, target in links.items():
        (inside / name).symlink_to(target, target_is_directory=True)
    (inside / "gone").symlink_to(tmp_path / "nowhere")
    found = [path.relative_to(inside).as_posix() for path in files_in(inside)]
    assert found == ["other/b.png", "real/a.png"]


def test_files_in_warns_of_unreadable_folders(tmp_path, caplog):
    assert files_in(tmp_path / "nowhere") == []
    assert "skipped the folder" in caplog.text


@pytest.mark.parametrize(
    ("names", "unique"),
    [
        (["Cup", "cup"], ["Cup", "cup-2"]),
        (["a", "a", "a-2"], ["a", "a-2", "a-2-2"]),
        (["é", "é"], ["é", "é-2"]),
        (["straße", "STRASSE"], ["straße", "STRASSE-2"]),
        (["taken", "free"], ["taken-2", "free"]),
    ],
    ids=["case", "same", "unicode forms", "folding", "taken"],
)
def test_unique_names_differ_on_every_file_system(names, unique):
    assert unique_names(names, lambda name: name == "taken") == unique


@pytest.mark.parametrize("name", ["x" * 250, "Кружка" * 30, "\udce9" * 100])
def test_unique_names_of_long_names_fit_a_disk(name):
    first, second = unique_names([name, name])
    assert name_key(first) != name_key(second)
    for one in (first, second):
        assert len(f"{one}-preview.png".encode("utf-8", "surrogatepass")) <= 255


def test_atomic_path_without_a_written_file_raises(tmp_path):
    with (
        pytest.raises(
            EnvironmentProblem, match=r"mesh\.obj cannot be written: nothing was written"
        ),
        atomic_path(tmp_path / "mesh.obj"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_atomic_path_with_a_long_name_is_written(tmp_path):
    path = tmp_path / f"{'杯' * 80}.obj"
    with atomic_path(path) as partial:
        partial.write_text("v 0 0 0")
    assert path.read_text() == "v 0 0 0"


def test_expand_home_without_a_home_raises_one_sentence(monkeypatch):
    assert expand_home(Path("~/a")) == Path.home() / "a"

    def no_home(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(InvalidInput, match="could not find the home directory for"):
        expand_home(Path("~/a"))


def test_streams_escape_what_they_cannot_encode(monkeypatch):
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, "cp1252"))
    make_streams_safe()
    make_streams_safe()
    print("\u0416\udce9", flush=True)
    assert buffer.getvalue().split() == [rb"\u0416\udce9"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows reports closed pipes differently")
def test_streams_ignore_a_closed_pipe():
    code = (
        "import sys; from pipelines.streams import make_streams_safe; make_streams_safe()\n"
        "for i in range(20000): print(i)\n"
        "print('end', file=sys.stderr)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        env=os.environ,
    )
    process.stdout.readline()
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), error.strip()) == (0, b"end")
