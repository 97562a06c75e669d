from __future__ import annotations

import math

import pytest
import torch

from pipelines.errors import InvalidInput, NothingInImage
from pipelines.images.framing import (
    composite,
    cut_out,
    frame_foreground,
    frame_together,
    framed_side,
)


def _rectangle(
    height: int, width: int, top: int, bottom: int, left: int, right: int
) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.zeros(1, 1, height, width)
    mask[..., top:bottom, left:right] = 1
    image = torch.zeros(1, 3, height, width)
    image[:, 0] = 1.0
    return image, mask


def _extent(mask: torch.Tensor) -> tuple[int, int, int, int]:
    rows, columns = (mask > 0.5).any(dim=1).nonzero(), (mask > 0.5).any(dim=0).nonzero()
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


@pytest.mark.parametrize(
    "box", [(10, 50, 20, 180), (0, 100, 150, 170), (95, 100, 195, 200), (0, 100, 0, 200)]
)
@pytest.mark.parametrize("ratio", [0.5, 0.85, 1.0])
def test_frame_foreground_centres_the_object_at_its_size(box, ratio):
    framed, mask = frame_foreground(*_rectangle(100, 200, *box), foreground_ratio=ratio, size=400)
    assert framed.shape == (1, 3, 400, 400)
    top, bottom, left, right = _extent(mask[0, 0])
    pixel = 400 * ratio / max(box[1] - box[0], box[3] - box[2])  # of the source, in the result
    assert max(bottom - top, right - left) == pytest.approx(400 * ratio, abs=pixel + 1)
    assert (top + bottom) / 2 == pytest.approx(200, abs=pixel)
    assert (left + right) / 2 == pytest.approx(200, abs=pixel)


def test_frame_foreground_keeps_the_last_row_and_column():
    image, mask = _rectangle(40, 40, 0, 40, 0, 40)
    image[..., -1, :] = image[..., :, -1] = torch.tensor([0.0, 0, 1])[:, None]
    framed, _ = frame_foreground(image, mask, foreground_ratio=1.0, size=40)
    torch.testing.assert_close(framed[0, :, -1, 20], torch.tensor([0.0, 0, 1]), atol=0.02, rtol=0)
    torch.testing.assert_close(framed[0, :, 20, -1], torch.tensor([0.0, 0, 1]), atol=0.02, rtol=0)


def test_frame_foreground_same_size_keeps_every_pixel():
    image = torch.rand(1, 3, 60, 80)
    mask = torch.zeros(1, 1, 60, 80)
    mask[..., 20:40, 30:50] = 1
    side = framed_side(mask, 0.5)
    framed, framed_mask = frame_foreground(image, mask, size=side, foreground_ratio=0.5)
    assert side == 40
    torch.testing.assert_close(framed[..., 10:30, 10:30], image[..., 20:40, 30:50])
    assert float(framed_mask.sum()) == 400


def test_frame_foreground_ignores_specks():
    clean = _rectangle(200, 200, 80, 120, 80, 120)
    dirty = (clean[0], clean[1].clone())
    dirty[1][..., 3, 3] = 1.0
    dirty[1][..., 150:190, 20:60] = 0.05
    torch.testing.assert_close(
        _extent(frame_foreground(*dirty)[1][0, 0]), _extent(frame_foreground(*clean)[1][0, 0])
    )


def test_frame_foreground_background_has_the_given_colour():
    framed, _ = frame_foreground(*_rectangle(50, 50, 20, 30, 20, 30), background=(0.0, 1.0, 0.5))
    torch.testing.assert_close(framed[0, :, 5, 5], torch.tensor([0.0, 1.0, 0.5]), atol=0.02, rtol=0)


def test_frame_foreground_boxes_each_image_of_a_batch():
    image, first = _rectangle(60, 60, 0, 20, 0, 20)
    _, second = _rectangle(60, 60, 30, 60, 30, 60)
    _, masks = frame_foreground(image.repeat(2, 1, 1, 1), torch.cat([first, second]), size=100)
    assert _extent(masks[0, 0])[1] - _extent(masks[0, 0])[0] == pytest.approx(85, abs=4)
    assert _extent(masks[1, 0])[1] - _extent(masks[1, 0])[0] == pytest.approx(85, abs=4)


@pytest.mark.parametrize(("ratio", "size"), [(0.3, 50), (0.85, 97), (1.0, 33), (0.5, 300)])
def test_frame_foreground_matches_a_resize_of_the_square(ratio, size):
    """Compare with torch's resize of the whole square.

    The library avoids that square: for a small object in a large image, it is too large.
    """
    image = torch.rand(1, 3, 70, 90, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 70, 90)
    mask[..., 25:60, 5:31] = (
        torch.rand(35, 26, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.6
    )
    side = round(35 / ratio)
    first_row, first_column = 25 - (side - 35) // 2, 5 - (side - 26) // 2
    padding = (-first_column, first_column + side - 90, -first_row, first_row + side - 70)
    on_white = torch.nn.functional.pad(composite(image, mask) - 1, padding) + 1
    expected = torch.nn.functional.interpolate(
        on_white, size=(size, size), mode="bicubic", antialias=True
    ).clamp(0, 1)
    framed, _ = frame_foreground(image, mask, foreground_ratio=ratio, size=size)
    torch.testing.assert_close(framed, expected, atol=1e-4, rtol=0)


def test_frame_foreground_large_square_takes_little_memory():
    image, mask = torch.rand(1, 3, 2000, 2000), torch.zeros(1, 1, 2000, 2000)
    mask[..., 2:1998, 2:1998] = 1.0
    # The square would have a side of two million pixels.
    framed, _ = frame_foreground(image, mask, foreground_ratio=0.001, size=64)
    assert framed.shape == (1, 3, 64, 64)


def test_cut_out_is_framed_as_the_image_itself():
    image = torch.rand(1, 3, 60, 60, generator=torch.Generator().manual_seed(0))
    mask = torch.nn.functional.avg_pool2d(
        _rectangle(60, 60, 10, 40, 20, 50)[1], 9, stride=1, padding=4
    )
    cut = cut_out(image, mask)
    assert float(cut[..., 0, 0].amin()) == 1.0
    for a, b in zip(frame_foreground(cut, mask), frame_foreground(image, mask), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    torch.testing.assert_close(composite(cut, mask), composite(image, mask))


def test_frame_foreground_refuses_empty_and_single_pixel_masks():
    image, mask = _rectangle(30, 30, 0, 0, 0, 0)
    with pytest.raises(NothingInImage, match="no object"):
        frame_foreground(image, mask)
    mask[..., 4, 4] = 1
    with pytest.raises(NothingInImage, match="single pixel"):
        frame_foreground(image, mask)


@pytest.mark.parametrize(
    "numbers", [{"foreground_ratio": 0.0}, {"foreground_ratio": 1.1}, {"size": 0}]
)
def test_frame_foreground_refuses_numbers_out_of_range(numbers):
    with pytest.raises(InvalidInput):
        frame_foreground(*_rectangle(30, 30, 5, 20, 5, 20), **numbers)


def test_frame_foreground_refuses_other_shapes():
    image, mask = _rectangle(30, 30, 5, 20, 5, 20)
    with pytest.raises(InvalidInput, match=r"\(1, 1, 29, 30\)"):
        frame_foreground(image, mask[..., 1:, :])


def test_frame_foreground_clips_colours_before_blending():
    image, mask = torch.full((1, 3, 40, 40), 1.5), torch.zeros(1, 1, 40, 40)
    mask[..., 10:30, 10:30] = 0.5
    mask[..., 15:25, 15:25] = 1.0
    bright, white = (
        frame_foreground(x, mask, size=32, background=(0, 0, 0))[0]
        for x in (image, image.clamp(0, 1))
    )
    torch.testing.assert_close(bright, white)


def test_frame_foreground_to_one_pixel_averages():
    image, mask = torch.full((1, 3, 20, 20), 0.25), torch.ones(1, 1, 20, 20)
    framed, _ = frame_foreground(image, mask, foreground_ratio=1.0, size=1)
    assert framed.flatten().tolist() == pytest.approx([0.25] * 3, abs=1e-4)


@pytest.mark.parametrize("elevation", [0.0, 20.0, -40.0])
def test_frame_together_gives_a_box_one_scale_from_all_sides(elevation):
    """In parallel projection, a box's silhouette is a rectangle from the front and the side."""
    slope, upright = abs(math.sin(math.radians(elevation))), math.cos(math.radians(elevation))
    width, depth, height, photographs = 40, 90, 60, []
    for zoom, (across, along) in ((2.0, (width, depth)), (3.5, (depth, width))):
        rows, columns = (round(zoom * s) for s in (height * upright + along * slope, across))
        photographs.append(_rectangle(400, 500, 20, 20 + rows, 30, 30 + columns))
    images, masks = zip(*photographs, strict=True)
    framed, framed_masks = frame_together(images, masks, elevation_deg=elevation, size=400)
    boxes = [_extent(mask[0]) for mask in framed_masks]
    assert framed.shape == (2, 3, 400, 400)
    for top, bottom, left, right in boxes:
        assert (top + bottom) / 2 == pytest.approx(200, abs=3)
        assert (left + right) / 2 == pytest.approx(200, abs=3)
    widths = [right - left for _, _, left, right in boxes]
    assert widths[1] / widths[0] == pytest.approx(depth / width, rel=0.03)
    assert max(max(b - t, r - le) for t, b, le, r in boxes) == pytest.approx(0.85 * 400, abs=6)


def test_frame_together_of_one_image_frames_it_alone():
    image, mask = _rectangle(100, 200, 10, 50, 20, 180)
    together = frame_together([image], [mask], size=64)
    torch.testing.assert_close(together, frame_foreground(image, mask, size=64))
