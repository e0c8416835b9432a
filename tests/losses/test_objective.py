import math
from dataclasses import fields, replace

import pytest
import torch

from g2vlm.geometry.pose import in_first_frame, pose_from, transform
from g2vlm.losses.normalise import target_from_views, target_from_world_points
from g2vlm.losses.objective import LossWeights, Objective, Prediction

RELEASED = {"local_points", "global_points", "normals", "translation", "rotation"}
ALL = RELEASED | {"confidence", "normal_head"}


def changed(prediction, **parts):
    """The prediction with other heads, as fresh leaves."""
    tensors = {field.name: getattr(prediction, field.name) for field in fields(prediction)} | parts
    return replace(
        prediction, **{k: x if x is None else x.detach().clone().requires_grad_() for k, x in tensors.items()}
    )


def gradients(prediction, truth, objective=Objective(), **options):  # noqa: B008
    """Gradient of the total for each head, by the head's name; fails where one gets none."""
    prediction = changed(prediction)
    objective(prediction, truth, **options).total.backward()
    heads = {field.name: getattr(prediction, field.name) for field in fields(prediction)}
    assert all(head is None or head.grad is not None for head in heads.values())
    return {name: head.grad for name, head in heads.items() if head is not None}


def recorded_step(tensors):
    names = ("pred.local_points", "pred.camera_poses", "pred.global_points")
    prediction = changed(Prediction(*(tensors[name] for name in names)))
    names = ("gt.world_points", "gt.extrinsics", "gt.point_masks")
    return prediction, target_from_world_points(*(tensors[name] for name in names))


def test_parts_and_total_are_those_of_the_reference(recorded):
    """Measured: at most 1.4e-6 off (rotation), the total 3.1e-7."""
    tensors, meta = recorded("unit/pi3_loss")
    prediction, target = recorded_step(tensors)
    is_listed = torch.tensor([name in ("hypersim", "dl3dv") for name in meta["dataset_names"]])
    report = Objective(sine_offset=1e-12)(prediction, target, eligible_for_normals=is_listed)
    theirs = {
        "local_points": "local_pts_loss",
        "normals": "normal_loss",
        "global_points": "global_pts_loss",
        "translation": "trans_loss",
        "rotation": "rot_loss",
    }
    assert set(report.parts) == set(theirs)
    for name, key in theirs.items():
        assert report.parts[name].item() == pytest.approx(meta["details"][key], rel=1e-5), name
    assert report.total.item() == pytest.approx(meta["total"], rel=1e-5)

    cameras_and_local = Objective(replace(LossWeights.RELEASED_CODE, global_points=0.0))
    report = cameras_and_local(prediction, target, eligible_for_normals=torch.zeros(3, dtype=torch.bool))
    assert report.total.item() == pytest.approx(meta["no_normal_no_global"]["total"], rel=1e-5)


def test_gradients_are_those_of_the_reference(recorded):
    """Of a pose, what a rigid motion can follow: the reference inverts 4x4 matrices, we transpose rotations."""
    tensors, _ = recorded("unit/pi3_loss")
    prediction, target = recorded_step(tensors)
    is_listed = torch.tensor([True, False, True])
    ours = gradients(prediction, target, Objective(sine_offset=1e-12), eligible_for_normals=is_listed)
    for name in ("local_points", "global_points"):
        theirs = tensors[f"grad.{name}_stride3"]
        difference = (ours[name][:, :, ::3, ::3] - theirs).abs().max()
        assert difference < 1e-4 * theirs.abs().max(), name  # 1.4e-5 and 2.4e-7

    def turning(gradient):
        moment = tensors["pred.camera_poses"][..., :3, :3].mT @ gradient[..., :3, :3]
        return moment - moment.mT

    theirs = tensors["grad.camera_poses"]
    torch.testing.assert_close(ours["poses"][..., :3, 3], theirs[..., :3, 3], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(turning(ours["poses"]), turning(theirs), atol=1e-5, rtol=1e-4)


def test_the_presets_differ_as_paper_and_code_do():
    paper, code = LossWeights.PAPER, LossWeights.RELEASED_CODE
    assert (paper.translation, code.translation) == (200, 100)
    assert (paper.global_points, code.global_points) == (0, 1)
    assert replace(paper, translation=100.0, global_points=1.0) == code
    assert (code.camera, code.normals, code.local_points, code.confidence) == (0.2, 1, 1, 0.05)


def test_the_total_weighs_the_parts_by_name(toy):
    report = Objective()(*toy())
    assert set(report.parts) == ALL
    w, p = LossWeights.RELEASED_CODE, report.parts
    expected = (
        p["local_points"]
        + p["global_points"]
        + p["normals"]
        + 0.05 * p["confidence"]
        + w.normal_head * p["normal_head"]
    )
    expected = expected + 0.2 * (100 * p["translation"] + p["rotation"])
    torch.testing.assert_close(report.total.detach(), expected)
    assert not any(part.requires_grad for part in p.values())


def test_a_perfect_prediction_costs_nothing_but_the_floors(toy):
    truth = toy()[1]
    target = target_from_views(truth)
    local, poses = target.local_points, target.poses
    confident = torch.full_like(truth.depth, 20.0)
    world = transform(in_first_frame(poses), local)
    report = Objective()(Prediction(local, poses, world, confident, truth.normals), truth)
    for name in ("local_points", "global_points", "translation", "confidence", "normal_head"):
        assert report.parts[name].item() == pytest.approx(0, abs=1e-6), name
    assert report.parts["rotation"].item() == pytest.approx(math.acos(1 - 1e-6), rel=0.01)
    assert report.parts["normals"].item() <= math.radians(1) ** 2 / (2 * math.radians(3)) / 10 + 1e-9


@pytest.mark.parametrize("objective", [Objective(), Objective(sine_offset=1e-5)])
def test_the_scale_of_the_prediction_does_not_matter(toy, objective):
    prediction, truth = toy()
    scaled = changed(
        prediction,
        local_points=0.05 * prediction.local_points,
        global_points=0.05 * prediction.global_points,
        poses=pose_from(prediction.poses[..., :3, :3], 0.05 * prediction.poses[..., :3, 3]),
    )
    torch.testing.assert_close(objective(scaled, truth).parts, objective(prediction, truth).parts)


@pytest.mark.parametrize("objective", [Objective(), Objective(sine_offset=1e-5)])
def test_the_scale_of_the_truth_does_not_matter(toy, objective):
    prediction, truth = toy()
    poses = pose_from(truth.poses[..., :3, :3], 0.05 * truth.poses[..., :3, 3])
    scaled = replace(truth, depth=0.05 * truth.depth, poses=poses)
    torch.testing.assert_close(objective(prediction, scaled).parts, objective(prediction, truth).parts)


def test_both_world_frames_are_free(toy):
    prediction, truth = toy()
    motion = toy(seed=5)[1].poses[:, :1]
    expected = Objective()(prediction, truth).parts
    moved = replace(truth, poses=motion @ truth.poses)
    torch.testing.assert_close(Objective()(prediction, moved).parts, expected, atol=1e-5, rtol=1e-4)
    moved = changed(prediction, poses=motion @ prediction.poses)
    torch.testing.assert_close(Objective()(moved, truth).parts, expected, atol=1e-5, rtol=1e-4)


def test_the_order_of_the_other_views_does_not_matter(toy):
    """Not even through the scale: with every pixel valid, each is drawn equally often in any order."""
    prediction, truth = toy(views=4, height=16, width=16)
    truth = replace(truth, mask=torch.ones_like(truth.mask))
    order = [0, 2, 3, 1]

    def reorder(record):
        names = [field.name for field in fields(record) if getattr(record, field.name) is not None]
        return replace(record, **{name: getattr(record, name)[:, order] for name in names})

    expected = Objective()(prediction, truth).parts
    torch.testing.assert_close(Objective()(reorder(prediction), reorder(truth)).parts, expected)
    mixed = Objective()(reorder(prediction), truth).parts
    assert mixed["rotation"] > 2 * expected["rotation"]


def test_autocast_changes_nothing(toy):
    prediction, truth = toy()
    with torch.autocast("cpu", torch.bfloat16):
        inside = Objective()(prediction, truth)
        assert (prediction.poses @ prediction.poses).dtype == torch.bfloat16
    assert inside.total.dtype == torch.float32
    assert torch.equal(inside.total, Objective()(prediction, truth).total)


def test_half_precision_heads_are_compared_in_single_precision(toy):
    prediction, truth = toy()
    halves = Prediction(*(getattr(prediction, field.name).bfloat16() for field in fields(prediction)))
    singles = Prediction(*(getattr(halves, field.name).float() for field in fields(prediction)))
    assert Objective()(halves, truth).total.dtype == torch.float32
    assert torch.equal(Objective()(halves, truth).total, Objective()(singles, truth).total)


def test_the_truth_may_have_another_precision(toy):
    prediction, truth = toy()
    double = replace(truth, depth=truth.depth.double(), poses=truth.poses.double(), normals=truth.normals.double())
    assert Objective()(prediction, double).total.dtype == torch.float32
    torch.testing.assert_close(Objective()(prediction, double).parts, Objective()(prediction, truth).parts)


def test_a_random_part_of_the_pixels_estimates_the_whole(toy):
    prediction, truth = toy(height=32, width=32)
    whole = Objective()(prediction, truth).parts
    quarter = Objective(pixel_fraction=0.25)
    generator = torch.Generator().manual_seed(0)
    draws = [quarter(prediction, truth, generator=generator).parts for _ in range(20)]
    for name, value in whole.items():
        mean = torch.stack([draw[name] for draw in draws]).mean()
        assert mean.item() == pytest.approx(value.item(), rel=0.03), name
    assert len({draw["local_points"].item() for draw in draws}) == 20


def test_the_same_generator_draws_the_same_pixels(toy):
    prediction, truth = toy()
    objective = Objective(pixel_fraction=0.25)
    first, again = (objective(prediction, truth, generator=torch.Generator().manual_seed(3)).total for _ in range(2))
    assert torch.equal(first, again)


def test_only_drawn_pixels_get_a_gradient_and_in_time_all_of_them(toy):
    prediction, truth = toy()
    truth = replace(truth, mask=torch.ones_like(truth.mask))
    objective = Objective(pixel_fraction=0.25)
    generator = torch.Generator().manual_seed(0)
    reached = torch.zeros_like(truth.mask)
    for _ in range(40):
        hit = gradients(prediction, truth, objective, generator=generator)["global_points"].any(-1)
        assert hit.flatten(2).sum(-1).unique().tolist() == [20]
        reached |= hit
    assert reached.all()


def test_the_normal_loss_looks_at_a_part_of_the_cells(toy):
    prediction, truth = toy(height=20, width=20)
    nothing = dict.fromkeys(("local_points", "global_points", "camera", "confidence", "normal_head"), 0.0)
    objective = Objective(replace(LossWeights.RELEASED_CODE, **nothing), pixel_fraction=0.05)
    num_reached = gradients(prediction, truth, objective)["local_points"].any(-1).sum((2, 3))
    assert num_reached.min() > 0
    assert num_reached.max() <= 4 * 18 + 20  # the corners of 18 cells; 20 pixels set the unit of length


def test_scenes_without_depth_supervise_only_the_cameras(toy):
    prediction, truth = toy()
    bare = replace(truth, depth=None, mask=None)
    report = Objective(pixel_fraction=0.5)(prediction, bare, generator=torch.Generator().manual_seed(0))
    assert {name for name, part in report.parts.items() if part} == {"translation", "rotation"}
    for name, gradient in gradients(prediction, bare).items():
        assert gradient.isfinite().all()
        assert gradient.any() == (name == "poses"), name


def test_without_depth_the_baselines_give_the_scale(toy):
    prediction, truth = toy()
    scaled = pose_from(truth.poses[..., :3, :3], 7 * truth.poses[..., :3, 3])
    report = Objective()(changed(prediction, poses=scaled), replace(truth, depth=None, mask=None))
    assert report.parts["translation"].item() == pytest.approx(0, abs=1e-10)


def test_a_scene_without_depth_does_not_disturb_its_neighbours(toy):
    prediction, truth = toy()
    half = replace(truth, mask=truth.mask & torch.tensor([True, False])[:, None, None, None])
    first = changed(prediction, **{f.name: getattr(prediction, f.name)[:1] for f in fields(prediction)})
    alone = replace(truth, **{f.name: getattr(truth, f.name)[:1] for f in fields(truth)})
    together, expected = Objective()(prediction, half).parts, Objective()(first, alone).parts
    for name in ("local_points", "global_points", "confidence", "normal_head"):
        torch.testing.assert_close(together[name], expected[name])
    assert all(gradient.isfinite().all() for gradient in gradients(prediction, half).values())


def test_a_view_without_a_valid_pixel_gives_no_nan(toy):
    prediction, truth = toy()
    assert truth.mask is not None
    mask = truth.mask.clone()
    mask[0, 1] = False
    holes = replace(truth, mask=mask, depth=torch.where(mask, truth.depth, torch.nan))
    assert Objective()(prediction, holes).total.isfinite()
    slopes = gradients(prediction, holes)
    assert all(gradient.isfinite().all() for gradient in slopes.values())
    assert not slopes["global_points"][0, 1].any()


def test_maps_of_a_single_row_have_no_surface_but_all_the_rest(toy):
    prediction, truth = toy(height=1)
    for fraction in (1.0, 0.5):
        parts = Objective(pixel_fraction=fraction)(prediction, truth).parts
        assert {name for name, part in parts.items() if part == 0} == {"normals"}


@pytest.mark.parametrize("has_depth", [True, False])
def test_a_single_view_has_no_camera_loss(toy, has_depth):
    prediction, truth = toy(views=1)
    truth = truth if has_depth else replace(truth, depth=None, mask=None)
    report = Objective()(prediction, truth)
    assert (report.parts["translation"], report.parts["rotation"]) == (0, 0)
    assert all(gradient.isfinite().all() for gradient in gradients(prediction, truth).values())


def test_turning_on_the_spot_without_depth_teaches_rotations_only(toy):
    prediction, truth = toy()
    turning = pose_from(truth.poses[..., :3, :3], torch.zeros(2, 3, 3))
    bare = replace(truth, poses=turning, depth=None, mask=None)
    report = Objective()(prediction, bare)
    assert report.parts["translation"] == 0
    slope = gradients(prediction, bare)["poses"]
    assert not slope[..., :3, 3].any()
    assert slope[..., :3, :3].any()


def test_absent_heads_have_no_part_and_a_head_without_truth_gets_zeros(toy):
    prediction, truth = toy()
    bare = Prediction(prediction.local_points, prediction.poses)
    assert set(Objective()(bare, truth).parts) == RELEASED - {"global_points"}
    unknown = replace(truth, normals=None)
    assert Objective()(prediction, unknown).parts["normal_head"] == 0
    assert not gradients(prediction, unknown)["normals"].any()


def test_a_loss_of_weight_zero_is_reported_and_teaches_nothing(toy):
    prediction, truth = toy()
    objective = Objective(LossWeights.PAPER)
    assert objective(prediction, truth).parts["global_points"] > 0
    assert not gradients(prediction, truth, objective)["global_points"].any()


def test_following_the_gradient_finds_the_truth(toy):
    prediction, truth = toy(scenes=1, noise=0.2)
    prediction = changed(prediction, normals=None, confidence=None)
    leaves = [prediction.local_points, prediction.poses, prediction.global_points]
    objective, optimiser = Objective(pixel_fraction=0.5), torch.optim.Adam(leaves, lr=0.01)
    generator = torch.Generator().manual_seed(0)
    before = Objective()(prediction, truth).parts
    for _ in range(150):
        optimiser.zero_grad()
        objective(prediction, truth, generator=generator).total.backward()
        optimiser.step()
    after = Objective()(prediction, truth).parts
    for name in ("local_points", "global_points", "translation", "normals"):
        assert after[name] < 0.4 * before[name], name


def test_wrong_shapes_and_fractions_are_named(toy):
    prediction, truth = toy()
    with pytest.raises(ValueError, match=r"\(2, 3, 8, 10, 3\), true ones \(2, 3, 9, 10, 3\)"):
        Objective()(prediction, toy(height=9)[1])
    with pytest.raises(ValueError, match=r"\(0, 1\], but is 1.5"):
        Objective(pixel_fraction=1.5)
    with pytest.raises(ValueError, match="no poses"):
        Objective()(prediction, replace(truth, poses=None))
