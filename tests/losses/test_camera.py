import math

import pytest
import roma
import torch

from g2vlm.geometry.pose import pose_from
from g2vlm.losses.camera import camera_loss, rotation_angle


def random_poses(scenes=2, views=4, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    vectors, translation = torch.randn(2, scenes, views, 3, generator=generator, dtype=torch.float64)
    return pose_from(roma.rotvec_to_rotmat(vectors), translation)


@pytest.mark.parametrize("case", ["far", "near"])
def test_the_camera_loss_is_that_of_the_reference(recorded, case):
    tensors, meta = recorded("unit/loss_parts")
    poses = tensors["cam.pred"]
    poses = pose_from(poses[..., :3, :3], poses[..., :3, 3] * tensors["cam.scale"][:, None, None])
    loss, expected = camera_loss(poses, tensors[f"cam.{case}.gt"]), meta[f"cam.{case}"]
    assert loss.translation.item() == pytest.approx(expected["trans_loss"], rel=1e-5)  # equal
    assert loss.rotation.item() == pytest.approx(expected["rot_loss"], rel=1e-5)  # off by 2.3e-6
    assert (100 * loss.translation + loss.rotation).item() == pytest.approx(expected["total"], rel=1e-5)


def test_the_angle_is_that_of_the_reference(recorded):
    tensors, meta = recorded("unit/loss_parts")
    angles = rotation_angle(tensors["rot.pred"], tensors["rot.gt"])
    torch.testing.assert_close(angles, tensors["rot.per_pair"], atol=1e-5, rtol=1e-5)  # worst 1.8e-7
    assert angles.mean().item() == pytest.approx(meta["rot.loss"], rel=1e-5)


def test_two_cameras_by_hand():
    """The second camera is turned by 90 degrees too far and lies 0.05 and 2 units off in x and y."""
    truth = torch.eye(4, dtype=torch.float64).repeat(1, 2, 1, 1)
    poses = truth.clone()
    poses[0, 1, :3, 3] = torch.tensor([0.05, 2.0, 0.0])
    poses[0, 1, :3, :3] = roma.rotvec_to_rotmat(torch.tensor([0.0, 0.0, math.pi / 2], dtype=torch.float64))
    loss = camera_loss(poses, truth)
    assert loss.rotation.item() == pytest.approx(math.pi / 2)
    small, large = 0.05**2 / 2, 0.1 * (2 - 0.1 / 2)
    assert loss.translation.item() == pytest.approx((small + large) / 3)  # both directions see both offsets


def test_the_world_frame_is_free():
    poses, truth = random_poses(seed=0), random_poses(seed=1)
    motions = random_poses(views=1, seed=2)
    for moved in (camera_loss(motions @ poses, truth), camera_loss(poses, motions @ truth)):
        torch.testing.assert_close(moved, camera_loss(poses, truth))


def test_the_order_of_views_does_not_matter():
    poses, truth = random_poses(seed=0), random_poses(seed=1)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(camera_loss(poses[:, order], truth[:, order]), camera_loss(poses, truth))
    assert not torch.isclose(camera_loss(poses[:, order], truth).rotation, camera_loss(poses, truth).rotation)


def test_a_single_view_has_no_loss_and_no_gradient():
    poses = random_poses(views=1).requires_grad_()
    loss = camera_loss(poses, random_poses(views=1, seed=1))
    (loss.translation + loss.rotation).backward()
    assert (loss.translation.item(), loss.rotation.item()) == (0, 0)
    assert poses.grad is not None
    assert not poses.grad.any()


def test_equal_poses_have_a_finite_gradient():
    poses = random_poses().requires_grad_()
    loss = camera_loss(poses, poses.detach())
    (loss.translation + loss.rotation).backward()
    assert loss.rotation.item() < 1.5e-3
    assert poses.grad is not None
    assert poses.grad.isfinite().all()


def test_the_gradient_is_right():
    poses, truth = random_poses(1, 3, seed=0).requires_grad_(), random_poses(1, 3, seed=1)
    assert torch.autograd.gradcheck(lambda p: tuple(camera_loss(p, truth)), poses)
