from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.errors import InvalidInput, UnreadablePicture
from pipelines.pictures import parse_color, read_picture, to_pillow


def _saved(picture: Image.Image, path, **options):
    picture.save(path, **options)
    return read_picture(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb_and_alpha(tmp_path, mode):
    picture = Image.new("RGB", (24, 20), (255, 255, 255)).convert(mode)
    read = _saved(picture, tmp_path / ("white.tif" if mode == "CMYK" else "white.png"))
    assert read.shape == (4, 20, 24)
    torch.testing.assert_close(read, torch.ones_like(read))


def test_straight_alpha_is_kept(tmp_path):
    read = _saved(Image.new("RGBA", (16, 16), (255, 51, 0, 102)), tmp_path / "a.png")
    torch.testing.assert_close(read[:, 3, 4], torch.tensor([1.0, 0.2, 0.0, 0.4]))


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    levels = np.linspace(0, 65535, 16 * 16).astype(np.uint16).reshape(16, 16)
    read = _saved(Image.fromarray(levels), tmp_path / "deep.png")
    torch.testing.assert_close(read[0], torch.from_numpy(levels / 65535).float(), atol=0.003, rtol=0)


def test_a_photograph_taken_on_its_side_is_upright(tmp_path):
    picture = Image.new("RGB", (32, 16), "blue")
    picture.paste((255, 0, 0), (0, 0, 16, 16))  # left
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to show
    read = _saved(picture, tmp_path / "turned.png", exif=exif)
    assert read.shape == (4, 32, 16)
    assert read[0, 4, 8] > 0.9  # what was left is on top
    assert read[2, 28, 8] > 0.9


def test_large_pictures_are_made_smaller_and_keep_their_shape(tmp_path):
    assert _saved(Image.new("RGB", (4000, 1000)), tmp_path / "large.png").shape == (4, 512, 2048)


def test_the_first_frame_of_an_animation_is_read(tmp_path):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    read = _saved(frames[0], tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    torch.testing.assert_close(read[:3, 8, 8], torch.tensor([1.0, 0.0, 0.0]))


def test_what_is_no_picture_is_said(tmp_path):
    with pytest.raises(UnreadablePicture, match="There is no file"):
        read_picture(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UnreadablePicture, match="cannot be read as a picture"):
        read_picture(tmp_path / "text.png")
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:1500])
    with pytest.raises(UnreadablePicture, match="damaged"):
        read_picture(tmp_path / "cut.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_sizes_out_of_range_are_said(tmp_path):
    Image.new("RGB", (200, 15)).save(tmp_path / "flat.png")
    with pytest.raises(InvalidInput, match="200 x 15"):
        read_picture(tmp_path / "flat.png")
    Image.new("1", (10_001, 10_000)).save(tmp_path / "huge.png")
    with pytest.raises(InvalidInput, match="make it smaller"):
        read_picture(tmp_path / "huge.png")


def test_colors_are_read_as_css_writes_them():
    for text in ("#ff8000", " #FF8000 ", "rgb(255, 128, 0)"):
        assert parse_color(text) == pytest.approx((1.0, 128 / 255, 0.0))
    with pytest.raises(InvalidInput, match="'nocolour'"):
        parse_color("nocolour")


def test_arrays_become_pictures_of_as_many_channels():
    assert [to_pillow(torch.full((channels, 5, 7), 1.5)).getextrema() for channels in (1, 3)] == [(255, 255), ((255, 255),) * 3]
    assert to_pillow(torch.zeros(4, 5, 7)).size == (7, 5)
