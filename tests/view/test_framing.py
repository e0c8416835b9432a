"""Where a reconstruction lies: up is up, and a camera that goes around it looks at its middle."""

from dataclasses import replace

import numpy as np
import pytest

from g2vlm.export.cloud import Selection, cloud_of, selected_pixels
from g2vlm.view.framing import frame_of, spacing


@pytest.fixture
def cloud(room):
    return cloud_of(room, selected_pixels(room, Selection()))


def test_up_is_where_the_cameras_have_it_and_the_front_is_level(room, cloud):
    frame = frame_of(room, cloud)
    assert frame.up @ -room.poses[:, :3, 1].mean(0) > 0.99
    assert abs(frame.front @ frame.up) < 1e-6
    assert np.linalg.norm(frame.front) == pytest.approx(1)


def test_a_camera_that_goes_around_looks_at_the_middle_and_stands_upright(room, cloud):
    frame = frame_of(room, cloud)
    for turn in (0.0, 1.0, 4.0):
        pose = frame.around(turn, 0.4, 7.0)
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
        np.testing.assert_allclose(pose[:3, 3] + 7 * pose[:3, 2], frame.middle, atol=1e-6)
        assert abs(pose[:3, 0] @ frame.up) < 1e-9
        assert -pose[:3, 1] @ frame.up > 0.8


def test_a_camera_in_the_middle_of_what_it_sees_has_a_front_all_the_same(room, cloud):
    poses = room.poses.copy()
    poses[:, :3, 3] = np.median(cloud.positions, axis=0)
    frame = frame_of(replace(room, poses=poses), cloud)
    assert np.linalg.norm(frame.front) == pytest.approx(1)
    assert abs(frame.front @ frame.up) < 1e-6


def test_fewer_points_are_spaced_wider(room, cloud):
    assert spacing(room, len(cloud) // 4) == pytest.approx(2 * spacing(room, len(cloud)), rel=0.01)
