import pytest
import torch

from g2vlm.losses.normalise import Cloud, normalised_prediction, normalised_truth, target_from_world_points
from g2vlm.losses.points import align_scale, inverse_depth_weight, point_error


def test_the_scale_is_that_of_the_reference(recorded):
    tensors, _ = recorded("unit/pi3_loss")
    target = target_from_world_points(tensors["gt.world_points"], tensors["gt.extrinsics"], tensors["gt.point_masks"])
    mask = target.mask.flatten(2, 3)
    truth, _ = normalised_truth(target.local_points.flatten(2, 3), target.poses, mask)
    cloud = Cloud(tensors["pred.local_points"].flatten(2, 3), tensors["pred.camera_poses"])
    cloud, _ = normalised_prediction(cloud, mask)
    weight = inverse_depth_weight(truth.local_points[..., 2], mask)
    scale = align_scale(cloud.local_points, truth.local_points, weight, mask)
    torch.testing.assert_close(scale, tensors["align_scale"], atol=0, rtol=1e-5)  # worst 1.2e-7


def test_near_points_weigh_more_but_not_without_bound():
    depth = torch.tensor([[[1.0, 4.0, 0.001, 7.999, 1e6], [1.0, 1.0, 1.0, 1.0, 1.0]]])
    mask = torch.tensor([[[True, True, True, True, False], [False] * 5]])
    weight = inverse_depth_weight(depth, mask)
    mean = 13 / 4
    expected = torch.tensor([1.0, 0.25, 1 / (0.1 * mean), 1 / 7.999, 0.0])
    torch.testing.assert_close(weight[0, 0], expected, rtol=1e-5, atol=0)
    assert not weight[0, 1].any()


def random_points(*, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 40, 3, generator=generator), torch.rand(2, 3, 40, generator=generator) + 0.1


def test_a_scaled_copy_gets_the_inverse_scale():
    points, weight = random_points()
    mask = torch.rand(2, 3, 40) > 0.3
    target = torch.where(mask[..., None], points * torch.tensor([2.5, 0.4])[:, None, None, None], 1e3)
    torch.testing.assert_close(align_scale(points, target, weight, mask), torch.tensor([2.5, 0.4]))


def test_a_negative_scale_is_flipped():
    points, weight = random_points()
    mask = torch.ones(2, 3, 40, dtype=torch.bool)
    torch.testing.assert_close(align_scale(points, -2 * points, weight, mask), torch.tensor([2.0, 2.0]))


def test_a_scene_without_points_keeps_its_scale():
    points, weight = random_points()
    mask = torch.ones(2, 3, 40, dtype=torch.bool)
    mask[1] = False
    torch.testing.assert_close(align_scale(points, 3 * points, weight, mask), torch.tensor([3.0, 1.0]))


def test_the_scale_resists_outliers_that_move_a_least_squares_fit():
    points, weight = random_points()
    target = 2 * points
    target[:, :, ::4] += 50
    mask = torch.ones(2, 3, 40, dtype=torch.bool)
    torch.testing.assert_close(align_scale(points, target, weight, mask), torch.tensor([2.0, 2.0]), atol=1e-4, rtol=0)


def test_no_gradient_flows_through_the_scale():
    points, weight = random_points()
    mask = torch.ones(2, 3, 40, dtype=torch.bool)
    assert not align_scale(points.requires_grad_(), 2 * points, weight, mask).requires_grad


def test_the_error_is_the_weighted_mean_of_three_differences():
    points, target = torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([[[[2.0, 2.0, 5.0]]]])
    assert point_error(points, target, torch.tensor([[[0.5]]])).item() == pytest.approx(0.5 * (1 + 0 + 2) / 3)


def test_the_error_has_the_right_gradient():
    points, weight = random_points()
    points, weight = points[:1, :1, :4].double().requires_grad_(), weight[:1, :1, :4].double()
    target = torch.zeros_like(points)
    assert torch.autograd.gradcheck(lambda p: point_error(p, target, weight), points)
