"""Colours say how much, also without colour; what is unknown is grey."""

import numpy as np

from g2vlm.drawing import INVALID, DepthRange, depth_colours, depth_range, even_colours, panel


def test_colours_grow_lighter_evenly():
    colours = even_colours(np.linspace(0, 1, 65)) / 255
    linear = np.where(colours > 0.04045, ((colours + 0.055) / 1.055) ** 2.4, colours / 12.92)
    steps = np.diff(np.cbrt(linear @ [0.2126, 0.7152, 0.0722]))
    assert steps.min() > 0
    assert steps.max() < 2.5 * steps.mean()


def test_near_is_bright_far_is_dark_and_unknown_is_grey():
    depth = np.array([[1.0, 2.0, 4.0, np.nan]])
    inside = np.isfinite(depth)
    colours = depth_colours(depth, inside, DepthRange(1.0, 4.0)).astype(int).sum(-1)[0]
    assert colours[0] > colours[1] > colours[2]
    assert colours[3] == 3 * INVALID


def test_the_range_leaves_out_what_is_unknown_and_the_outermost_pixels():
    depth = np.linspace(1, 3, 1000).reshape(20, 50)
    depth[0, 0], depth[0, 1] = 1e6, 0
    found = depth_range([depth], [depth > 0])
    assert 1 < found.near < 1.1
    assert 2.9 < found.far < 3
    assert depth_range([depth], [depth < 0]) == DepthRange(1.0, 1.0)


def test_an_enlarged_map_shows_its_true_pixels():
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[0, 0] = 255
    image = panel(pixels, 40)
    assert image.size == (40, 20)
    assert set(np.unique(np.array(image))) == {0, 255}
