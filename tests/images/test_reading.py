from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.errors import InvalidInput, UnreadableImage
from pipelines.files import free_or_own, is_own
from pipelines.images.background import remove_background
from pipelines.images.reading import png_bytes, read_image, save_image, to_pillow

CASES = Path(__file__).parents[1] / "data" / "cases"


def _saved(image: Image.Image, path, **options):
    image.save(path, **options)
    (read,) = read_image(path)
    return read


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
def test_read_image_every_mode_becomes_rgba(tmp_path, mode):
    image = Image.new("RGB", (24, 20), (255, 255, 255)).convert(mode)
    read = _saved(image, tmp_path / ("white.tif" if mode == "CMYK" else "white.png"))
    assert read.shape == (4, 20, 24)
    torch.testing.assert_close(read, torch.ones_like(read))


def test_read_image_keeps_straight_alpha(tmp_path):
    read = _saved(Image.new("RGBA", (16, 16), (255, 51, 0, 102)), tmp_path / "a.png")
    torch.testing.assert_close(read[:, 3, 4], torch.tensor([1.0, 0.2, 0.0, 0.4]))


def test_read_image_scales_sixteen_bits(tmp_path):
    levels = np.linspace(0, 65535, 16 * 16).astype(np.uint16).reshape(16, 16)
    read = _saved(Image.fromarray(levels), tmp_path / "deep.png")
    torch.testing.assert_close(
        read[0], torch.from_numpy(levels / 65535).float(), atol=0.003, rtol=0
    )


@pytest.mark.parametrize("name", ["float-0-1.tif", "float-0-1000.tif", "levels-12-bit.png"])
def test_read_image_scales_levels_by_the_bits_used(name):
    (read,) = read_image(CASES / "deep-grey-levels" / name)
    assert read[:3].amax() > 0.99
    assert read[:3].amin() == pytest.approx(0.2, abs=0.01)
    assert float(remove_background(read[None], "auto").mean()) == pytest.approx(0.14, abs=0.01)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (np.array([0, 200, 255], np.uint16), [0, 200 / 255, 1]),  # eight bits in sixteen
        (np.array([0, 512, 1023], np.uint16), [0, 512 / 1023, 1]),
        (np.array([0, 2**15, 2**16 - 1], np.uint16), [0, 0.5, 1]),
        (np.array([0, 0.25, 0.5], np.float32), [0, 0.25, 0.5]),
        (np.array([-1, 0, 1], np.float32), [0, 0.5, 1]),
        (np.array([0, 100, np.nan], np.float32), [0, 1, 0]),
        (np.array([0, 50, 200], np.float32), [0, 0.25, 1]),
    ],
)
def test_read_image_range_of_deep_grey(tmp_path, levels, expected):
    read = _saved(Image.fromarray(np.tile(levels, (16, 6))[:, :18]), tmp_path / "deep.tif")
    assert read[0, 3, :3].tolist() == pytest.approx(expected, abs=0.005)


def test_read_image_inverts_a_tiff_whose_white_is_zero(tmp_path):
    levels = np.tile(np.array([0, 2**16 - 1], np.uint16), (16, 9))
    read = _saved(Image.fromarray(levels), tmp_path / "white.tif", tiffinfo={262: 0})
    assert read[0, 0, :2].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("name", ["photo-AttributeError.jpg", "photo-error.jpg", "zz-next.png"])
def test_read_image_ignores_odd_exif_tags(name):
    (read,) = read_image(CASES / "exif-odd-tag" / name)
    assert read.shape[0] == 4
    if name.endswith("jpg"):
        with Image.open(CASES / "exif-odd-tag" / name) as image:
            assert read.shape[1:] == (image.width, image.height), "it lies on its side in the file"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_image_undoes_every_orientation(tmp_path, orientation):
    """Compare with Pillow's own function."""
    from PIL import ImageOps

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (18, 24, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = _saved(image, tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as opened:
        upright = np.array(ImageOps.exif_transpose(opened).convert("RGBA"))
    torch.testing.assert_close(read, torch.from_numpy(upright).permute(2, 0, 1).float() / 255)


def test_read_image_turns_a_photograph_upright(tmp_path):
    image = Image.new("RGB", (32, 16), "blue")
    image.paste((255, 0, 0), (0, 0, 16, 16))  # left
    exif = Image.Exif()
    exif[0x0112] = 6  # the image must be rotated by 90 degrees clockwise for display
    read = _saved(image, tmp_path / "turned.png", exif=exif)
    assert read.shape == (4, 32, 16)
    assert read[0, 4, 8] > 0.9  # the left side is now on top
    assert read[2, 28, 8] > 0.9


def test_read_image_shrinks_large_images(tmp_path):
    assert _saved(Image.new("RGB", (4000, 1000)), tmp_path / "large.png").shape == (4, 512, 2048)


def test_read_image_reads_the_first_frame(tmp_path):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    read = _saved(frames[0], tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    torch.testing.assert_close(read[:3, 8, 8], torch.tensor([1.0, 0.0, 0.0]))


def test_read_image_refuses_other_files(tmp_path):
    with pytest.raises(UnreadableImage, match="There is no file"):
        read_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UnreadableImage, match="cannot be read as an image"):
        read_image(tmp_path / "text.png")
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:1500])
    with pytest.raises(UnreadableImage, match="damaged"):
        read_image(tmp_path / "cut.png")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC: save it as JPEG"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "AVIF"),
        (b"DDS |\0\0\0", "damaged"),
    ],
)
def test_read_image_unsupported_format_names_the_remedy(tmp_path, head, said):
    (tmp_path / "x.png").write_bytes(head + bytes(200))
    with pytest.raises(UnreadableImage, match=said):
        read_image(tmp_path / "x.png")


@pytest.mark.skipif(
    ".avif" not in Image.registered_extensions(), reason="this Pillow reads no AVIF"
)
def test_read_image_reads_avif(tmp_path):
    read = _saved(Image.new("RGB", (24, 20), (255, 0, 0)), tmp_path / "x.avif")
    assert read[:3, 5, 5].tolist() == pytest.approx([1, 0, 0], abs=0.05)


def _encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((40, 30), 60).convert("P" if kind == "GIF" else "RGB").save(buffer, kind)
    return buffer.getvalue()


@settings(max_examples=100)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "ICO", "PPM", "TGA", "DDS"]
)
def test_read_image_any_bytes_are_read_or_refused(tmp_path, kind, data):
    content = bytearray(_ENCODED.setdefault(kind, _encoded(kind)))
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, min(300, len(content) - 1)))] = data.draw(
            st.integers(0, 255)
        )
    (tmp_path / "x").write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    read, said = torch.zeros(4, 1, 1), ""
    try:
        (read,) = read_image(tmp_path / "x")
    except InvalidInput as error:
        said = str(error)
    assert "\n" not in said
    assert read.shape[0] == 4
    assert 0 <= float(read.amin()) <= float(read.amax()) <= 1


_ENCODED: dict[str, bytes] = {}


def test_save_image_marks_files_and_overwrites_no_others(tmp_path):
    save_image(torch.rand(1, 3, 20, 20), tmp_path / "own.png")
    assert is_own(tmp_path / "own.png")
    assert png_bytes(torch.rand(1, 1, 5, 5)).startswith(b"\x89PNG")
    Image.new("RGB", (20, 20)).save(tmp_path / "theirs.png")
    (tmp_path / "theirs-2.png").write_text("Image to 3D is a name that a file may hold anywhere")
    assert not is_own(tmp_path / "theirs.png")
    assert not is_own(tmp_path / "theirs-2.png")
    assert not is_own(tmp_path / "nothing.png")
    assert free_or_own(tmp_path / "own.png").name == "own.png"
    assert free_or_own(tmp_path / "theirs.png").name == "theirs-3.png"
    assert free_or_own(tmp_path / "nothing.png").name == "nothing.png"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_read_image_refuses_sizes_out_of_range(tmp_path):
    Image.new("RGB", (200, 15)).save(tmp_path / "flat.png")
    with pytest.raises(InvalidInput, match="200 x 15"):
        read_image(tmp_path / "flat.png")
    Image.new("1", (10_001, 10_000)).save(tmp_path / "huge.png")
    with pytest.raises(InvalidInput, match="make it smaller"):
        read_image(tmp_path / "huge.png")


def test_to_pillow_keeps_the_channels():
    assert [
        to_pillow(torch.full((1, channels, 5, 7), 1.5)).getextrema() for channels in (1, 3)
    ] == [(255, 255), ((255, 255),) * 3]
    assert to_pillow(torch.zeros(1, 4, 5, 7)).size == (7, 5)
