"""Units and worlds of a reconstruction."""

import dataclasses

import numpy as np
import pytest
from builders import true_reconstruction
from scipy.spatial.transform import Rotation

from g2vlm.data.scenes import rooms
from g2vlm.worlds import find_floor, in_gravity_frame, moved, scaled

SEED = 5


def rigid(*euler: float, translation: tuple[float, float, float] = (1.0, -2.0, 0.5)) -> np.ndarray:
    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_euler("xyz", euler, degrees=True).as_matrix()
    transform[:3, 3] = translation
    return transform


def test_a_scale_moves_points_depth_and_cameras_and_leaves_the_rest():
    before = true_reconstruction()
    after = scaled(before, 2.5)
    for view in range(3):
        np.testing.assert_allclose(after.points[view], 2.5 * before.points[view], rtol=1e-6)
        np.testing.assert_allclose(after.depth[view], 2.5 * before.depth[view], rtol=1e-6)
        assert after.normals[view] is before.normals[view]
    np.testing.assert_allclose(after.poses[:, :3, 3], 2.5 * before.poses[:, :3, 3], rtol=1e-6)
    np.testing.assert_array_equal(after.poses[:, :3, :3], before.poses[:, :3, :3])
    assert after.points[0].dtype == np.float32


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(factor: float):
    with pytest.raises(ValueError, match="positive and finite"):
        scaled(true_reconstruction(), factor)


def test_another_world_keeps_every_point_in_front_of_its_camera():
    before = true_reconstruction()
    after = moved(before, rigid(20, -40, 70))
    for view in range(3):
        local = (after.points[view] - after.poses[view, :3, 3]) @ after.poses[view, :3, :3]
        np.testing.assert_allclose(local[..., 2], before.depth[view], rtol=1e-4)


def test_the_floor_lies_where_the_room_has_it():
    """The cameras' true height is that of the room, whose floor is at zero."""
    room = rooms([SEED], num_views=3, height=84, width=84)
    assert room.views.poses is not None
    reconstruction = true_reconstruction(SEED)
    floor = find_floor(reconstruction)
    world_up = room.views.poses[0, 0, :3, :3].numpy() @ floor.up
    assert abs(world_up).max() == pytest.approx(1, abs=1e-3)
    axis = int(abs(world_up).argmax())
    heights = np.sign(world_up[axis]) * room.views.poses[0, :, axis, 3].numpy()
    lowest = np.sign(world_up[axis]) * 0.0
    np.testing.assert_allclose(floor.above(reconstruction.poses[:, :3, 3]), heights - lowest, atol=0.02)


def test_in_the_frame_of_gravity_the_floor_is_level_and_at_zero():
    turned = moved(true_reconstruction(SEED), rigid(15, 120, -10))
    after = in_gravity_frame(turned)
    assert after.world == "gravity"
    floor = find_floor(after)
    np.testing.assert_allclose(floor.up, [0, -1, 0], atol=2e-3)
    assert floor.height == pytest.approx(0, abs=0.01)
    np.testing.assert_allclose(after.poses[0, [0, 2], 3], 0, atol=1e-5)
    assert after.poses[0, 1, 3] < 0
    assert abs(after.poses[0, 0, 2]) < 1e-5
    assert after.poses[0, 2, 2] > 0


def test_without_a_floor_there_is_no_frame_of_gravity():
    reconstruction = true_reconstruction(SEED)
    ceiling = tuple(np.zeros_like(mask) for mask in reconstruction.mask[1:])
    top = reconstruction.mask[0].copy()
    top[len(top) // 3 :] = False
    with pytest.raises(ValueError, match="no floor is seen: 0 of"):
        in_gravity_frame(dataclasses.replace(reconstruction, mask=(top, *ceiling)))
