import pytest
import roma
import torch
from safetensors.torch import load_file

from g2vlm.geometry.pose import in_first_frame, invert, pose_from, relative_poses, transform
from g2vlm.geometry.rotation import rotation_from_nine


def random_poses(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    vectors, translation = torch.randn(2, *shape, 3, generator=generator, dtype=torch.float64)
    return pose_from(roma.rotvec_to_rotmat(vectors), translation)


def test_a_pose_is_made_of_rotation_and_translation(shared):
    recorded = load_file(shared / "goldens" / "unit" / "svd.safetensors")
    poses = pose_from(rotation_from_nine(recorded["in"]), recorded["t_in"])
    torch.testing.assert_close(poses, recorded["pose"], atol=1e-5, rtol=0)  # worst 9.5e-7


def test_the_inverse_equals_the_general_inverse():
    poses = random_poses(2, 5)
    torch.testing.assert_close(invert(poses), torch.linalg.inv(poses))


def test_points_of_a_camera_land_in_the_world():
    """A camera at (1, 2, 3) that looks along the world's x axis sees the point two units ahead at (3, 2, 3)."""
    x_right, y_down, z_forward = [0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]
    rotation = torch.tensor([x_right, y_down, z_forward]).T
    pose = pose_from(rotation, torch.tensor([1.0, 2.0, 3.0]))
    assert transform(pose, torch.tensor([0.0, 0.0, 2.0])).tolist() == [3.0, 2.0, 3.0]
    assert transform(pose, torch.tensor([1.0, 0.0, 0.0])).tolist() == [1.0, 1.0, 3.0]


@pytest.mark.parametrize("extra", [(), (7,), (4, 6)])
def test_every_pose_moves_all_points_of_its_own_entry(extra):
    poses, points = random_poses(2, 3), torch.randn(2, 3, *extra, 3, dtype=torch.float64)
    moved = transform(poses, points)
    for scene in range(2):
        for view in range(3):
            naive = points[scene, view] @ poses[scene, view, :3, :3].T + poses[scene, view, :3, 3]
            torch.testing.assert_close(moved[scene, view], naive)


def test_poses_and_points_with_too_few_dimensions_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 4, 4\) have 1 batch dimensions, but points \(3,\) have only 0"):
        transform(random_poses(3), torch.zeros(3, dtype=torch.float64))


def test_relative_poses_lead_from_the_second_camera_to_the_first():
    poses = random_poses(2, 4)
    relative = relative_poses(poses)
    for i in range(4):
        for j in range(4):
            torch.testing.assert_close(relative[:, i, j], torch.linalg.inv(poses[:, i]) @ poses[:, j])


def test_relative_poses_do_not_know_the_world_frame():
    poses, world = random_poses(4), random_poses(1, seed=1)
    torch.testing.assert_close(relative_poses(world @ poses), relative_poses(poses))


def test_the_first_frame_is_the_identity_and_the_others_keep_their_places():
    poses = random_poses(2, 4)
    moved = in_first_frame(poses)
    torch.testing.assert_close(moved[:, 0], torch.eye(4, dtype=torch.float64).expand(2, 4, 4))
    torch.testing.assert_close(relative_poses(moved), relative_poses(poses))
