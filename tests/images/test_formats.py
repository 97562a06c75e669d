"""Supported image formats are opened without starting a program."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from pipelines.errors import UnreadableImage
from pipelines.images.formats import PHOTO_FORMATS, TEXTURE_FORMATS, open_image
from pipelines.images.reading import read_image
from pipelines.meshes.io import load_mesh

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n{ } loop\n"


def _encode(format: str, **options) -> bytes:
    buffer = io.BytesIO()
    mode = "P" if format in ("GIF", "PCX") else "RGB"
    Image.new("RGB", (24, 20), "red").convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


def _readable(names: tuple[str, ...]) -> list[str]:
    Image.init()
    return [name for name in names if name in Image.SAVE]


@pytest.fixture
def ghostscript(tmp_path, monkeypatch) -> Path:
    """Return a file that exists as soon as the program `gs` was started."""
    if sys.platform == "win32":
        pytest.skip("the stand-in is a shell script")
    started, program = tmp_path / "started", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {started}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # Pillow looks for it once
    return started


def test_ghostscript_stand_in_is_started_by_pillow(ghostscript):
    with contextlib.suppress(Exception), Image.open(io.BytesIO(EPS)) as image:
        image.load()
    assert ghostscript.exists()


def test_read_image_eps_is_refused_without_starting_a_program(ghostscript, tmp_path):
    (tmp_path / "x.png").write_bytes(EPS)
    with pytest.raises(UnreadableImage, match="not one of PNG, JPEG"):
        read_image(tmp_path / "x.png")
    assert not ghostscript.exists()


@pytest.mark.parametrize("suffix", ["obj", "ply"])
def test_load_mesh_eps_as_texture_starts_no_program(ghostscript, tmp_path, suffix):
    (tmp_path / "t.png").write_bytes(EPS)
    (tmp_path / "m.mtl").write_text("newmtl a\nmap_Kd t.png\n")
    (tmp_path / "m.obj").write_text(
        "mtllib m.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl a\nf 1/1 2/2 3/3\n"
    )
    (tmp_path / "m.ply").write_text(
        "ply\nformat ascii 1.0\ncomment TextureFile t.png\nelement vertex 3\n"
        "property float x\nproperty float y\nproperty float z\nproperty float s\n"
        "property float t\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
        "0 0 0 0 0\n1 0 0 1 0\n0 1 0 0 1\n3 0 1 2\n"
    )
    mesh = load_mesh(tmp_path / f"m.{suffix}")
    assert len(mesh.faces) == 1
    assert not ghostscript.exists()


@pytest.mark.parametrize("name", _readable(PHOTO_FORMATS))
def test_open_image_reads_every_photo_format(name):
    with open_image(io.BytesIO(_encode(name))) as image:
        assert image.size == (24, 20)


@pytest.mark.parametrize("name", _readable(TEXTURE_FORMATS))
def test_open_image_reads_every_texture_format(name):
    with open_image(io.BytesIO(_encode(name)), TEXTURE_FORMATS) as image:
        assert image.size == (24, 20)


def test_open_image_reads_photos_of_phones_with_several_frames():
    frames = [Image.new("RGB", (24, 20), color) for color in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "MPO", save_all=True, append_images=frames[1:])
    with open_image(buffer) as image:
        assert image.size == (24, 20)


@pytest.mark.parametrize("name", ["PPM", "DDS", "PCX", "ICO", "JPEG2000", "EPS"])
def test_open_image_refuses_other_formats(name):
    if name not in Image.SAVE:
        pytest.skip("this Pillow does not write it")
    content = EPS if name == "EPS" else _encode(name)
    with pytest.raises(Exception, match="cannot identify"):
        open_image(io.BytesIO(content))


def test_open_image_skips_formats_that_this_pillow_does_not_read():
    with open_image(io.BytesIO(_encode("PNG")), ("AVIF-2", "PNG")) as image:
        assert image.size == (24, 20)
