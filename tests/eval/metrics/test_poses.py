import itertools

import numpy as np
import pytest
import roma
import torch

from g2vlm.eval.metrics.poses import (
    PairErrors,
    pair_errors,
    pooled,
    pose_auc,
    rotation_accuracy,
    translation_accuracy,
)


def turn(axis, degrees):
    return roma.rotvec_to_rotmat(
        torch.deg2rad(torch.tensor(degrees, dtype=torch.float64)) * torch.eye(3).double()[axis]
    ).numpy()


def pose(rotation=None, translation=(0.0, 0.0, 0.0)):
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3) if rotation is None else rotation
    matrix[:3, 3] = translation
    return matrix


def random_poses(n=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    vectors, translations = torch.randn(2, n, 3, generator=generator, dtype=torch.float64)
    rotations = roma.rotvec_to_rotmat(vectors).numpy()
    return np.stack([pose(*parts) for parts in zip(rotations, translations.numpy(), strict=True)])


def angle_of(matrix):
    return np.degrees(np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1)))


def pair_errors_one_by_one(prediction, truth, frame):
    """The naive twin: general inverses, arccosines, a loop over pairs."""
    rotation, translation = [], []
    for i in range(len(truth)):
        for j in range(i + 1, len(truth)):
            a, b = (i, j) if frame == "first" else (j, i)
            p, t = (np.linalg.inv(poses[a]) @ poses[b] for poses in (prediction, truth))
            rotation.append(angle_of(p[:3, :3].T @ t[:3, :3]))
            cosine = p[:3, 3] @ t[:3, 3] / np.linalg.norm(p[:3, 3]) / np.linalg.norm(t[:3, 3])
            translation.append(np.degrees(np.arccos(cosine)))
    return rotation, translation


@pytest.mark.parametrize("frame", ["first", "second"])
def test_pair_errors_equal_their_naive_twin(frame):
    prediction, truth = random_poses(seed=1), random_poses()
    errors = pair_errors(prediction, truth, frame=frame)
    rotation, translation = pair_errors_one_by_one(prediction, truth, frame)
    np.testing.assert_allclose(errors.rotation, rotation, atol=1e-9)
    np.testing.assert_allclose(errors.translation, translation, atol=1e-9)
    assert len(errors.rotation) == 6 * 5 / 2


def test_a_turned_camera_has_the_known_error():
    """Camera 1 stands one unit to the right of camera 0; it is predicted 10 degrees turned and 20 degrees off its course."""
    truth = np.stack([pose(), pose(translation=(1, 0, 0))])
    prediction = np.stack([pose(), pose(turn(1, 10.0), turn(2, 20.0) @ [5, 0, 0])])
    errors = pair_errors(prediction, truth)
    assert errors.rotation.item() == pytest.approx(10)
    assert errors.translation.item() == pytest.approx(20)


@pytest.mark.parametrize("degrees", [1e-6, 179.999999])
def test_angles_keep_their_digits_near_zero_and_near_half_a_turn(degrees):
    truth = np.stack([pose(), pose(translation=(1, 0, 0))])
    prediction = np.stack([pose(), pose(turn(1, degrees), turn(2, degrees) @ [1, 0, 0])])
    errors = pair_errors(prediction, truth)
    assert errors.rotation.item() == pytest.approx(degrees, abs=1e-9)
    assert errors.translation.item() == pytest.approx(degrees, abs=1e-9)


def test_the_frame_of_the_baseline_matters_when_a_rotation_is_wrong():
    """Seen from camera 0 the place of camera 1 is right; seen from camera 1, which is turned, camera 0 is elsewhere."""
    truth = np.stack([pose(), pose(translation=(1, 0, 0))])
    prediction = np.stack([pose(), pose(turn(1, 10.0), (1, 0, 0))])
    assert pair_errors(prediction, truth, frame="first").translation.item() == pytest.approx(0, abs=1e-9)
    assert pair_errors(prediction, truth, frame="second").translation.item() == pytest.approx(10)


def test_the_world_frame_and_the_scale_of_a_prediction_do_not_matter():
    prediction, truth = random_poses(seed=1), random_poses()
    moved = random_poses(1, seed=2) @ prediction
    moved[:, :3, 3] *= 7
    expected, errors = pair_errors(prediction, truth), pair_errors(moved, random_poses(1, seed=3) @ truth)
    np.testing.assert_allclose(errors.rotation, expected.rotation, atol=1e-9)
    np.testing.assert_allclose(errors.translation, expected.translation, atol=1e-9)


def test_perfect_single_precision_poses_have_tiny_errors():
    truth = random_poses().astype(np.float32)
    errors = pair_errors(truth, truth)
    assert errors.rotation.max() < 1e-4
    assert errors.translation.max() < 1e-4
    assert pose_auc(errors, 30) == rotation_accuracy(errors, 5) == translation_accuracy(errors, 5) == 1


def test_an_opposite_direction_is_forgiven_only_when_asked():
    truth = np.stack([pose(), pose(translation=(1, 0, 0))])
    prediction = np.stack([pose(), pose(translation=turn(2, 20.0) @ [-1, 0, 0])])
    assert pair_errors(prediction, truth).translation.item() == pytest.approx(160)
    assert pair_errors(prediction, truth, is_sign_blind=True).translation.item() == pytest.approx(20)


def test_degenerate_baselines_are_counted_apart():
    """Views 0 and 1 share their place: that pair says nothing about directions, but it does about rotations."""
    truth = np.stack([pose(), pose(turn(0, 30.0), (1e-9, 0, 0)), pose(translation=(1, 0, 0))])
    prediction = truth.copy()
    prediction[1, :3, 3] = (0, 0.3, 0)
    prediction[1, :3, :3] = turn(0, 33.0)
    errors = pair_errors(prediction, truth)
    assert errors.num_degenerate == 1
    assert np.isnan(errors.translation).tolist() == [True, False, False]
    np.testing.assert_allclose(errors.rotation, [3, 0, 3], atol=1e-9)
    assert rotation_accuracy(errors, 2) == pytest.approx(1 / 3)
    assert translation_accuracy(errors, 1) == 1 / 2
    assert pose_auc(errors, 1) == 1 / 2


def test_cameras_at_one_place_can_only_be_compared_by_their_rotations():
    truth = np.stack([pose(), pose(turn(0, 30.0)), pose(turn(1, 30.0))])
    errors = pair_errors(truth, truth)
    assert errors.num_degenerate == 3
    assert rotation_accuracy(errors, 1) == 1
    for metric in (translation_accuracy, pose_auc):
        with pytest.raises(ValueError, match="none of the 3 pairs has a true baseline"):
            metric(errors, 30)


def test_cameras_predicted_at_one_place_are_ninety_degrees_off():
    errors = pair_errors(np.tile(np.eye(4), (6, 1, 1)), random_poses())
    assert (errors.translation == 90).all()
    assert pose_auc(errors, 30) == 0


def test_auc_is_the_mean_over_whole_degrees():
    """Larger errors 0.5, 2.5 and 40 degrees: below 1 and 2 degrees lies one of three, below 3 and more lie two."""
    errors = PairErrors(np.array([0.5, 2.5, 1.0]), np.array([0.1, 0.0, 40.0]))
    assert pose_auc(errors, 2) == pytest.approx(1 / 3)
    assert pose_auc(errors, 5) == pytest.approx((1 + 1 + 2 + 2 + 2) / 3 / 5)
    assert pose_auc(errors, 30) == pytest.approx((2 * 1 + 28 * 2) / 3 / 30)


def test_auc_equals_the_cumulative_histogram_with_one_degree_bins():
    errors = pair_errors(random_poses(30, seed=1), random_poses(30), is_sign_blind=True)
    worse = np.maximum(errors.rotation, errors.translation)
    histogram, _ = np.histogram(worse, bins=np.arange(91))
    assert pose_auc(errors, 90) == pytest.approx((histogram.cumsum() / len(worse)).mean())


def test_an_error_equal_to_the_threshold_is_not_below_it():
    errors = PairErrors(np.array([5.0, 4.9]), np.array([5.0, 4.9]))
    assert rotation_accuracy(errors, 5) == translation_accuracy(errors, 5) == 0.5


def test_a_single_view_and_a_pose_that_is_not_finite_are_refused():
    with pytest.raises(ValueError, match="at least 2 views, but there is 1"):
        pair_errors(np.eye(4)[None], np.eye(4)[None])
    truth = random_poses()
    with pytest.raises(ValueError, match="not finite"):
        pair_errors(truth * np.nan, truth)


THREE = PairErrors(np.array([0.5, 2.5, 1.0]), np.array([0.1, 0.0, 40.0]))
"""The larger errors are 0.5, 2.5 and 40 degrees."""


@pytest.mark.parametrize(
    ("bins", "threshold", "auc"),
    [
        ("histogram", 2, (1 + 1) / 3 / 2),
        ("histogram", 5, (1 + 1 + 2 + 2 + 2) / 3 / 5),
        ("histogram", 40, (2 * 1 + 37 * 2 + 3) / 3 / 40),  # the last bin holds its upper edge
        ("histogram", 41, (2 * 1 + 38 * 2 + 3) / 3 / 41),
        ("histc", 2, 1 / 3),  # three bins of 2/3 of a degree; 0.5 lies in the first
        ("histc", 5, (1 + 1 + 4 * 2) / 3 / 6),  # six bins of 5/6 of a degree; 2.5 begins the fourth
        ("area", 2, (2 - 0.5) / 2 / 3),
        ("area", 5, (4.5 + 2.5) / 5 / 3),
        ("area", 2.5, 2 / 2.5 / 3),
        ("area", 80, (79.5 + 77.5 + 40) / 80 / 3),
    ],
)
def test_every_bin_rule_gives_what_is_counted_by_hand(bins, threshold, auc):
    if bins == "histc" and threshold == 5:
        auc = (1 + 1 + 1 + 3 * 2) / 3 / 6  # 0.5 in the first bin, 2.5 in the fourth
    assert pose_auc(THREE, threshold, bins=bins) == pytest.approx(auc, abs=1e-12)


def histc_by_hand(worse, threshold):
    """The naive twin of threshold + 1 bins from 0 to the threshold, the last one closed."""
    width = threshold / (threshold + 1)
    counts = [
        np.mean([e <= threshold and int(min(e / width, threshold)) <= k for e in worse]) for k in range(threshold + 1)
    ]
    return np.mean(counts)


@pytest.mark.parametrize("threshold", [3, 5, 15, 30])
def test_the_torch_histogram_has_one_bin_more(threshold):
    worse = np.random.default_rng(threshold).uniform(0, 40, 200)
    errors = PairErrors(worse, 0 * worse)
    assert pose_auc(errors, threshold, bins="histc") == pytest.approx(histc_by_hand(worse, threshold), abs=1e-12)


def test_the_bin_rules_differ_by_several_points_at_a_low_threshold():
    worse = np.random.default_rng(0).uniform(0, 1.2, 300)
    histogram, histc, area = (pose_auc(PairErrors(worse, worse), 5, bins=b) for b in ("histogram", "histc", "area"))
    assert histogram > histc + 0.01
    assert histogram > area + 0.07


def test_bins_of_a_degree_need_a_whole_threshold():
    with pytest.raises(ValueError, match=r"counted in whole degrees, but the threshold is 2\.5"):
        pose_auc(THREE, 2.5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("frame", ["first", "second", "world"])
def test_the_three_relative_poses_are_the_published_matrix_products(frame, seed):
    """E are world-to-camera matrices, as the public code has them; `world` takes view 0 as the world before."""
    prediction, truth = random_poses(seed=seed + 10), random_poses(seed=seed)
    e = [np.linalg.inv(poses) for poses in (prediction, truth)]
    if frame == "world":
        e = [side @ np.linalg.inv(side[0]) for side in e]
    inv = np.linalg.inv
    relative = {
        "first": lambda m, i, j: m[i] @ inv(m[j]),
        "second": lambda m, i, j: m[j] @ inv(m[i]),
        "world": lambda m, i, j: inv(m[i]) @ m[j],
    }[frame]
    errors = pair_errors(prediction, truth, frame=frame)
    for k, (i, j) in enumerate(itertools.combinations(range(6), 2)):
        p, t = (relative(side, i, j) for side in e)
        assert errors.rotation[k] == pytest.approx(angle_of(p[:3, :3].T @ t[:3, :3]), abs=1e-5)
        cosine = p[:3, 3] @ t[:3, 3] / np.linalg.norm(p[:3, 3]) / np.linalg.norm(t[:3, 3])
        assert errors.translation[k] == pytest.approx(np.degrees(np.arccos(np.clip(cosine, -1, 1))), abs=1e-5)


def drifting(poses, degrees):
    """Every camera turned about its own x axis, from not at all to `degrees`."""
    wrong = poses.copy()
    wrong[:, :3, :3] = poses[:, :3, :3] @ np.stack([turn(0, x) for x in np.linspace(0, degrees, len(poses))])
    return wrong


def test_the_conventions_of_relative_poses_give_other_scores_for_the_same_poses():
    truth = random_poses(20)
    prediction = drifting(truth, 40)
    aucs = [pose_auc(pair_errors(prediction, truth, frame=frame), 30) for frame in ("first", "second", "world")]
    assert np.diff(sorted(aucs)).min() > 0.005


def test_only_the_world_convention_depends_on_which_view_comes_first():
    truth = random_poses(8)
    prediction = drifting(truth, 15)
    other_world = random_poses(1, seed=5)
    for frame in ("first", "second"):
        there, back = (
            pair_errors(p, t, frame=frame).rotation.sum()
            for p, t in ((prediction, truth), (prediction[::-1], truth[::-1]))
        )
        assert there == pytest.approx(back)
    for frame in ("first", "second", "world"):
        moved = pair_errors(other_world @ prediction, other_world @ truth, frame=frame)
        np.testing.assert_allclose(
            moved.translation, pair_errors(prediction, truth, frame=frame).translation, atol=1e-8
        )
    order = [3, 0, 1, 2, 4, 5, 6, 7]
    sums = [
        pair_errors(p, t, frame="world").translation.sum()
        for p, t in ((prediction, truth), (prediction[order], truth[order]))
    ]
    assert abs(sums[0] - sums[1]) > 1


def test_a_pair_without_a_true_baseline_is_left_out_or_counts_as_ninety_degrees():
    truth = np.stack([pose(), pose(turn(0, 30.0)), pose(translation=(1, 0, 0))])
    prediction = truth.copy()
    prediction[1, :3, 3] = (0, 0.001, 0)
    left_out, ninety = (pair_errors(prediction, truth, degenerate=d) for d in ("left_out", "ninety"))
    assert np.isnan(left_out.translation[0])
    assert ninety.translation[0] == 90
    assert left_out.num_degenerate == ninety.num_degenerate == 1
    assert (translation_accuracy(left_out, 5), translation_accuracy(ninety, 5)) == (1, pytest.approx(2 / 3))


def test_a_short_baseline_is_a_baseline_to_the_published_rule():
    truth = np.stack([pose(), pose(translation=(1e-9, 0, 0)), pose(translation=(1, 0, 0))])
    assert pair_errors(truth, truth, degenerate="ninety").translation[0] == pytest.approx(0)


@pytest.mark.parametrize("frame", ["first", "second"])
def test_cameras_predicted_at_one_place_away_from_the_origin_are_exactly_ninety_degrees_off(frame):
    prediction = random_poses(seed=3)
    prediction[:, :3, 3] = (0.1, 0.7, -3.3)
    assert (pair_errors(prediction, random_poses(), frame=frame).translation == 90).all()


def test_no_sign_blind_error_exceeds_ninety_degrees():
    prediction, truth = random_poses(10, seed=1), random_poses(10)
    sighted, blind = (pair_errors(prediction, truth, is_sign_blind=b).translation for b in (False, True))
    assert sighted.max() > 90 >= blind.max()
    np.testing.assert_allclose(blind, np.minimum(sighted, 180 - sighted))


def test_pooled_pairs_weigh_a_scene_by_its_pairs():
    small, large = (
        PairErrors(np.array([1.0]), np.array([1.0])),
        PairErrors(np.array([9.0] * 3), np.array([9.0, 9, np.nan]), 1),
    )
    both = pooled([small, large])
    assert (rotation_accuracy(both, 5), translation_accuracy(both, 5)) == (0.25, pytest.approx(1 / 3))
    assert both.num_degenerate == 1
    assert np.mean([rotation_accuracy(small, 5), rotation_accuracy(large, 5)]) == 0.5
    with pytest.raises(ValueError, match="no scenes"):
        pooled([])
