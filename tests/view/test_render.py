"""Points as pictures: the nearest shows, and a slow twin that goes point by point draws the same."""

import numpy as np

from g2vlm.view.render import WIDEST, Lens, render_points

LENS = Lens(40.0, (24, 32))


def slow_twin(positions, colours, lens, sides):
    height, width = lens.size
    picture, nearest = np.full((height, width, 3), 255, np.uint8), np.full((height, width), np.inf, np.float32)
    for (x, y, z), colour, side in zip(positions, colours, sides, strict=True):
        if z <= 0.01:
            continue
        wide = int(np.clip(np.round(lens.focal * side / np.float32(z)), 1, WIDEST))
        left = int(np.floor(lens.focal * x / z + width / 2 - (wide - 1) / 2))
        top = int(np.floor(lens.focal * y / z + height / 2 - (wide - 1) / 2))
        for row in range(top, top + wide):
            for column in range(left, left + wide):
                if 0 <= row < height and 0 <= column < width and z < nearest[row, column]:
                    nearest[row, column], picture[row, column] = z, colour
    return picture


def test_the_picture_is_that_of_a_slow_twin():
    random = np.random.default_rng(0)
    positions = random.uniform([-2, -2, -1], [2, 2, 6], (400, 3)).astype(np.float32)
    colours, sides = random.integers(0, 250, (400, 3), dtype=np.uint8), random.uniform(0, 0.4, 400)
    drawn = render_points(positions, colours, np.eye(4), LENS, sides=sides)
    assert (drawn != 255).any()
    np.testing.assert_array_equal(drawn, slow_twin(positions, colours, LENS, sides))


def test_a_near_point_hides_a_far_one_whichever_comes_first():
    positions, colours = np.array([[0.0, 0, 1], [0, 0, 2]]), np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    for order in ([0, 1], [1, 0]):
        drawn = render_points(positions[order], colours[order], np.eye(4), LENS, sides=np.zeros(2))
        assert drawn[12, 16].tolist() == [255, 0, 0]
        assert (drawn != 255).any(-1).sum() == 1


def test_a_moved_camera_sees_a_moved_point():
    pose = np.eye(4)
    pose[:3, 3] = 1, 0, 0
    drawn = render_points(np.array([[0.0, 0, 10]]), np.zeros((1, 3), np.uint8), pose, LENS, sides=np.zeros(1))
    assert np.argwhere((drawn == 0).all(-1)).tolist() == [[12, 12]]


def test_no_points_are_an_empty_picture():
    drawn = render_points(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.eye(4), LENS, sides=np.zeros(0))
    assert (drawn == 255).all()
