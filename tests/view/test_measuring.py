"""Two picked points: which they are, and what is said of their distance."""

from dataclasses import replace

import numpy as np

from g2vlm.evidence import measurable_of
from g2vlm.view.measuring import picked, said_length

EYE = np.array([0.0, 0, -1])


def test_the_nearest_point_on_the_ray_is_picked():
    positions = np.array([[0.0, 0, 5], [0, 0.005, 2], [1, 0, 2], [0, 0, -3]])
    assert picked(positions, EYE, np.array([0, 0, 0.1])) == 1
    assert picked(positions, EYE, np.array([1.0, 0, 3])) == 2


def test_a_ray_that_meets_nothing_picks_nothing():
    assert picked(np.array([[0.0, 0, 5]]), EYE, np.array([0, 1.0, 0])) is None
    assert picked(np.array([[0.0, 0, -5]]), EYE, np.array([0, 0, 1.0])) is None


def test_metres_are_said_where_the_scale_is_known_and_nowhere_else(room):
    assert said_length(measurable_of(room), 1.23456) == "1.235 m"
    said = said_length(measurable_of(replace(room, scale="scale_free")), 1.0)
    assert "u, scale-free" in said
    assert "about 1." in said or "about 0." in said
    assert said.endswith("m if this is a room of usual height")


def test_a_scale_free_length_is_the_same_at_every_scale(room):
    def grown(factor: float):
        poses = room.poses.copy()
        poses[:, :3, 3] *= factor
        points = tuple(points * np.float32(factor) for points in room.points)
        depth = tuple(depth * np.float32(factor) for depth in room.depth)
        return replace(room, scale="scale_free", poses=poses, points=points, depth=depth)

    assert said_length(measurable_of(grown(1)), 0.5) == said_length(measurable_of(grown(8)), 4.0)


def test_nothing_is_said_of_a_scene_without_points(room):
    empty = tuple(np.zeros_like(mask) for mask in room.mask)
    said = said_length(measurable_of(replace(room, scale="scale_free", mask=empty)), 1.0)
    assert said == "unknown: no point of this scene is certain"
