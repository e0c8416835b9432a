from dataclasses import replace

import pytest
import torch

from g2vlm.geometry.pose import transform
from g2vlm.losses.normalise import (
    Cloud,
    length_unit,
    masked_mean,
    mean_baseline,
    normalised_prediction,
    normalised_truth,
    target_from_views,
    target_from_world_points,
)


def recorded_truth(tensors, meta):
    """The ground truth of a recorded training step, with its views grouped into scenes."""
    if "gt.world_points" in tensors:
        names = ("gt.world_points", "gt.extrinsics", "gt.point_masks")
        return target_from_world_points(*(tensors[name] for name in names))
    num_views = meta["img_per_seq_lens"][0]
    names = ("in.packed_world_points", "in.packed_extrinsics", "in.packed_point_masks")
    return target_from_world_points(*(tensors[name].unflatten(0, (-1, num_views)) for name in names))


@pytest.mark.parametrize(
    ("name", "prefix"), [("unit/pi3_loss", "prep"), ("seedA/train_pretrain", "ref.gt"), ("seedA/train_joint", "ref.gt")]
)
def test_the_prepared_truth_is_that_of_the_reference(recorded, name, prefix):
    tensors, meta = recorded(name)
    target = recorded_truth(tensors, meta)
    truth, _ = normalised_truth(target.local_points.flatten(2, 3), target.poses, target.mask.flatten(2, 3))

    def every_third(points):
        return points.view_as(target.local_points)[:, :, ::3, ::3]

    for ours, theirs in (
        (truth.poses, "camera_poses"),
        (every_third(truth.local_points), "local_points_stride3"),
        (every_third(truth.global_points), "global_points_stride3"),
    ):
        torch.testing.assert_close(ours, tensors[f"{prefix}.{theirs}"], atol=5e-6, rtol=1e-5)  # worst 9.5e-7


def test_the_normalised_prediction_is_that_of_the_reference(recorded):
    tensors, _ = recorded("unit/pi3_loss")
    mask = tensors["gt.point_masks"].flatten(2, 3)
    local, world = (tensors[f"pred.{name}"].flatten(2, 3) for name in ("local_points", "global_points"))
    cloud, _ = normalised_prediction(Cloud(local, tensors["pred.camera_poses"], world), mask)

    def every_third(points):
        return points.view_as(tensors["pred.local_points"])[:, :, ::3, ::3]

    for ours, theirs in (
        (cloud.poses, "camera_poses"),
        (every_third(cloud.local_points), "local_points_stride3"),
        (every_third(cloud.global_points), "global_points_stride3"),
    ):
        torch.testing.assert_close(ours, tensors[f"npred.{theirs}"], atol=5e-6, rtol=1e-5)  # worst 4.8e-7


def test_the_truth_is_seen_from_the_first_camera_at_mean_distance_one(toy):
    target = target_from_views(toy()[1])
    mask = target.mask.flatten(2, 3)
    truth, unit = normalised_truth(target.local_points.flatten(2, 3), target.poses, mask)
    torch.testing.assert_close(truth.poses[:, 0], torch.eye(4).expand(2, 4, 4), atol=1e-6, rtol=0)
    assert truth.global_points is not None
    distances = truth.global_points.norm(dim=-1)
    for scene in range(2):
        assert distances[scene][mask[scene]].mean().item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(truth.local_points * unit[:, None, None, None], target.local_points.flatten(2, 3))


def test_depth_and_world_points_make_the_same_target(toy):
    truth = toy()[1]
    from_depth = target_from_views(truth)
    world_points = transform(truth.poses, from_depth.local_points)
    world_points[~truth.mask] = torch.nan
    from_points = target_from_world_points(world_points, truth.poses, truth.mask)
    assert from_points.local_points.isfinite().all()
    torch.testing.assert_close(
        from_points.local_points[truth.mask], from_depth.local_points[truth.mask], atol=1e-5, rtol=1e-5
    )


def test_what_lies_under_a_false_mask_does_not_matter(toy):
    truth = toy()[1]
    dirty = replace(truth, depth=torch.where(truth.mask, truth.depth, torch.nan))
    assert target_from_views(dirty).local_points.isfinite().all()


def test_lengths_scale_with_the_factor_and_rotations_do_not(toy):
    prediction, _ = toy()
    cloud = Cloud(prediction.local_points.flatten(2, 3), prediction.poses)
    factor = torch.tensor([2.0, 0.5])
    scaled = cloud.scaled(factor)
    torch.testing.assert_close(scaled.local_points[0], 2 * cloud.local_points[0])
    torch.testing.assert_close(scaled.poses[1, :, :3, 3], 0.5 * cloud.poses[1, :, :3, 3])
    torch.testing.assert_close(scaled.poses[..., :3, :3], cloud.poses[..., :3, :3])
    torch.testing.assert_close(scaled.poses[..., 3, :], cloud.poses[..., 3, :])


def test_the_length_unit_is_the_mean_norm_of_valid_points_or_the_baseline_or_one():
    points = torch.tensor([[[3.0, 0.0, 4.0], [0.0, 0.0, 1.0], [100.0, 0.0, 0.0]]]).expand(3, 2, 3, 3)
    mask = torch.zeros(3, 2, 3, dtype=torch.bool)
    mask[0, 0, :2] = True
    poses = torch.eye(4).repeat(3, 2, 1, 1)
    poses[:2, 1, 0, 3] = 7
    torch.testing.assert_close(length_unit(points, poses, mask), torch.tensor([3.0, 7.0, 1.0]))


def test_the_baseline_is_the_mean_over_pairs_of_views():
    poses = torch.eye(4).repeat(1, 3, 1, 1)
    poses[0, :, 0, 3] = torch.tensor([0.0, 1.0, 5.0])
    assert mean_baseline(poses).item() == pytest.approx((1 + 4 + 5) / 3)
    assert mean_baseline(poses[:, :1]).item() == 0


def test_the_mean_of_nothing_is_zero_with_zero_gradient():
    values = torch.tensor([1.0, torch.nan], requires_grad=True)
    mean = masked_mean(values, torch.zeros(2, dtype=torch.bool))
    mean.backward()
    assert mean.item() == 0
    assert values.grad is not None
    assert values.grad.tolist() == [0, 0]


@pytest.mark.parametrize(("field", "message"), [("poses", "no poses"), ("mask", "no mask"), ("intrinsics", "no intr")])
def test_views_that_lack_something_say_what(toy, field, message):
    with pytest.raises(ValueError, match=message):
        target_from_views(replace(toy()[1], **{field: None}))
