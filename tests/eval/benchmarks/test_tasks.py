"""Scores worked out by hand, from a truth that is made up."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from perfect import perfect

from g2vlm.data.recon import pinhole
from g2vlm.eval.benchmarks.prediction import Prediction
from g2vlm.eval.benchmarks.rules import DEPTH, POINTS, POSES
from g2vlm.eval.benchmarks.tasks import (
    SCORERS,
    Truth,
    depth_scores,
    intrinsics_scores,
    normal_scores,
    point_scores,
    pose_scores,
    trajectory_scores,
    true_points,
)

CORRECTED, RELEASE = DEPTH["corrected"], DEPTH["g2vlm-release"]
SIZE = (20, 20)
CAMERA = pinhole(20, 20, 10, 10)


def standing_at(*places: tuple[float, float, float]) -> np.ndarray:
    poses = np.stack([np.eye(4)] * len(places))
    poses[:, :3, 3] = places
    return poses


def truth_of(*depths: np.ndarray, poses: np.ndarray | None = None, **rest) -> Truth:
    sizes = tuple((d.shape[0], d.shape[1]) for d in depths)
    return Truth(sizes, tuple(d.astype(np.float32) for d in depths), np.stack([CAMERA] * len(depths)), poses, **rest)


def wall(depth: float) -> np.ndarray:
    return np.full(SIZE, depth)


def corner(*depths: float) -> np.ndarray:
    """A wall that tells the four quarters of the picture apart."""
    return np.kron(np.reshape(depths, (2, 2)), np.ones((10, 10)))


def test_all_pictures_of_an_item_have_one_scale():
    truth = truth_of(wall(1), wall(3))
    scores = depth_scores(truth, Prediction(depth=[wall(2), wall(6)]), CORRECTED)
    assert scores == {"absrel": 0, "rmse": 0, "delta1": 1, "delta2": 1, "delta3": 1, "pixels": 800}
    # Half of the true depths are 1 and half 3, so that their median is 2: all become 2.
    scores = depth_scores(truth, Prediction(depth=[wall(1), wall(1)]), CORRECTED)
    assert scores["absrel"] == pytest.approx((1 / 1 + 1 / 3) / 2)
    assert scores["rmse"] == pytest.approx(1)
    assert scores["delta1"] == 0


def test_the_release_finds_another_scale_than_the_ratio_of_medians():
    truth = truth_of(corner(1, 1, 1, 1))
    said = Prediction(depth=[corner(1, 1, 0.5, 0.25)])
    # Medians: 1 / 0.75. Least absolute error: the weighted median of t / d, which is 1.
    assert depth_scores(truth, said, CORRECTED)["absrel"] == pytest.approx((1 / 3 + 1 / 3 + 1 / 3 + 2 / 3) / 4)
    assert depth_scores(truth, said, RELEASE)["absrel"] == pytest.approx((0.5 + 0.75) / 4, abs=1e-3)


def test_unknown_depth_is_not_compared_whatever_was_said_there():
    depth = corner(0, 2, 2, 2)
    said = np.where(depth > 0, depth, 77)
    scores = depth_scores(truth_of(depth), Prediction(depth=[said]), CORRECTED)
    assert (scores["absrel"], scores["pixels"]) == (0, 300)


def test_depth_that_is_too_far_is_not_compared():
    truth = truth_of(corner(1, 2, 3, 90), farthest=70.0)
    assert depth_scores(truth, Prediction(depth=[corner(1, 2, 3, 4)]), DEPTH["metric"])["pixels"] == 300


def test_not_a_number_is_a_failure_only_where_the_truth_is_known():
    depth = corner(0, 2, 2, 2)
    said = np.where(depth > 0, depth, np.nan)
    assert depth_scores(truth_of(depth), Prediction(depth=[said]), CORRECTED)["absrel"] == 0
    with pytest.raises(ValueError, match="depth is not finite in 100 of 400 pixels"):
        depth_scores(truth_of(wall(2)), Prediction(depth=[said]), CORRECTED)


SQUARE = standing_at((0, 0, 0), (1, 0, 0), (0, 1, 0))


def test_a_translation_the_other_way_is_forgiven_by_the_release_alone():
    truth = truth_of(wall(1), wall(1), wall(1), poses=SQUARE)
    said = Prediction(poses=standing_at((0, 0, 0), (-1, 0, 0), (0, -1, 0)))
    assert pose_scores(truth, said, POSES["g2vlm-release"])["rta5"] == 1
    scores = pose_scores(truth, said, POSES["corrected"])
    assert (scores["rra5"], scores["rta30"], scores["auc30"], scores["pairs"]) == (1, 0, 0, 3)


def test_the_area_has_bins_of_one_degree():
    truth = truth_of(wall(1), wall(1), poses=standing_at((0, 0, 0), (1, 0, 0)))
    angle = np.radians(10.5)
    said = Prediction(poses=standing_at((0, 0, 0), (np.cos(angle), np.sin(angle), 0)))
    scores = pose_scores(truth, said, POSES["corrected"])
    # An error of 10.5 lies in the eleventh bin: 20 of the 30 cumulative bins hold it, 5 of 15, none of 5.
    assert (scores["auc30"], scores["auc15"], scores["auc5"]) == pytest.approx((20 / 30, 5 / 15, 0))
    assert (scores["rta15"], scores["rta5"]) == (1, 0)


def test_two_cameras_at_one_place_count_as_ninety_degrees_in_the_release():
    truth = truth_of(wall(1), wall(1), wall(1), poses=standing_at((0, 0, 0), (0, 0, 0), (1, 0, 0)))
    said = Prediction(poses=truth.poses)
    assert pose_scores(truth, said, POSES["corrected"])["rta5"] == 1
    assert pose_scores(truth, said, POSES["g2vlm-release"])["rta30"] == pytest.approx(2 / 3)


def test_a_trajectory_is_compared_after_the_best_similarity():
    places = [(0, 0, 0), (2, 0, 0), (2, 2, 0), (0, 2, 0)]
    truth = truth_of(*[wall(1)] * 4, poses=standing_at(*places))
    turned = standing_at(*(tuple(3 * np.array([-y, x, 1.0])) for x, y, _ in places))
    turned[:, :3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    scores = trajectory_scores(truth, Prediction(poses=turned), POSES["corrected"])
    assert scores == pytest.approx({"ate": 0, "rpe_translation": 0, "rpe_rotation": 0}, abs=1e-5)
    lifted = standing_at((0, 0, 0.5), (2, 0, -0.5), (2, 2, 0.5), (0, 2, -0.5))
    # The square is bent by +-0.5, the scale falls to 4 / 4.5 x... : Umeyama keeps what is flat, s = 8 / 9.
    s = 8 / 9
    by_hand = np.sqrt(2 * (1 - s) ** 2 + (0.5 * s) ** 2)
    assert trajectory_scores(truth, Prediction(poses=lifted), POSES["corrected"])["ate"] == pytest.approx(by_hand)


def test_focal_lengths_are_compared_relative_and_as_angles():
    truth = truth_of(wall(1))
    said = Prediction(intrinsics=pinhole(22, 20, 10, 10)[None])
    scores = intrinsics_scores(truth, said, DEPTH["corrected"])
    assert scores["focal"] == pytest.approx(0.1 / 2)
    assert scores["fov"] == pytest.approx(np.degrees(2 * np.arctan(10 / 20) - 2 * np.arctan(10 / 22)) / 2)


def test_normals_are_those_of_the_depth_map():
    truth = truth_of(wall(2))
    angle = np.radians(20)
    towards, tilted = np.array([0, 0, -1.0]), np.array([np.sin(angle), 0, -np.cos(angle)])
    assert truth.normals[0][5, 5] == pytest.approx(towards)
    said = np.where(np.arange(20)[:, None, None] < 10, towards, tilted) * np.ones((*SIZE, 1))
    scores = normal_scores(truth, Prediction(normals=[said]), CORRECTED)
    assert scores["normals_mean"] == pytest.approx(10)
    assert (scores["normals_within_11"], scores["normals_within_22"]) == (0.5, 1)


@pytest.mark.parametrize("rule", ["corrected", "g2vlm-release"])
def test_the_true_point_map_at_any_scale_is_perfect(rule):
    depth = np.linspace(2, 3, 400).reshape(SIZE)
    truth = truth_of(depth, depth, poses=standing_at((0, 0, 0), (0.3, 0, 0)))
    scores = point_scores(truth, perfect(truth.depth, truth.intrinsics, truth.poses, scale=7), POINTS[rule])
    assert scores["chamfer"] == pytest.approx(0, abs={"corrected": 1e-6, "g2vlm-release": 0.02}[rule])
    assert scores["points"] == {"corrected": 800, "g2vlm-release": 2 * 70 * 70}[rule]


def test_a_bent_point_map_is_as_far_off_as_it_is_bent():
    depth = wall(2)
    truth = truth_of(depth, poses=standing_at((0, 0, 0)), reach=1e-9)
    said = perfect(truth.depth, truth.intrinsics, truth.poses).points[0]
    said[::2, :, 2] += 0.01
    said[1::2, :, 2] -= 0.01
    scores = point_scores(truth, Prediction(points=[said]), POINTS["corrected"])
    # Rows are 0.1 apart, so that the nearest point is the one that was moved along z.
    assert scores["accuracy_median"] == pytest.approx(0.01, rel=0.02)
    assert scores["completeness_median"] == pytest.approx(0.01, rel=0.02)


def test_true_points_of_the_release_have_one_focal_length_for_a_stretched_picture():
    depth = np.full((48, 64), 2.0)
    camera = pinhole(50, 50, 32, 24)
    truth = Truth(((48, 64),), (depth.astype(np.float32),), camera[None], standing_at((0, 0, 0)))
    points, mask = true_points(truth, 0, POINTS["g2vlm-release"])
    assert points.shape == (56, 70, 3)
    assert mask.all()
    factor = max(56 / 48, 70 / 64)
    assert points[10, 20] == pytest.approx(
        [2 * (20.5 - 32 * factor) / (50 * factor), 2 * (10.5 - 24 * factor) / (50 * factor), 2]
    )
    points, _ = true_points(truth, 0, POINTS["corrected"])
    assert points[10, 20] == pytest.approx([2 * (20.5 - 32) / 50, 2 * (10.5 - 24) / 50, 2])


@pytest.mark.parametrize("task", SCORERS)
def test_what_was_not_predicted_is_named(task):
    truth = truth_of(*[np.linspace(2, 2.4, 400).reshape(SIZE)] * 3, poses=SQUARE)
    assert truth.lacks(task) is None
    with pytest.raises(ValueError, match=r"no (depth|points|normals|poses|intrinsics) w(as|ere) predicted"):
        SCORERS[task](truth, Prediction(), CORRECTED)


@pytest.mark.parametrize(
    ("task", "truth", "reason"),
    [
        ("depth", truth_of(wall(0)), "no pixel has a known depth"),
        ("depth", truth_of(wall(80), farthest=70.0), "no pixel has a known depth"),
        ("points", truth_of(wall(1)), "not all poses are known"),
        ("poses", truth_of(wall(1), poses=SQUARE[:1]), "1 pictures, but 2 are needed"),
        ("poses", truth_of(wall(1), wall(1), poses=SQUARE[[1, 1]]), "all cameras stand at one place"),
        ("trajectory", truth_of(*[wall(1)] * 3, poses=standing_at((0, 0, 0), (1, 1, 0), (3, 3, 0))), "on one line"),
        ("intrinsics", replace(truth_of(wall(1)), intrinsics=None), "not all intrinsics are known"),
        ("normals", truth_of(np.eye(20)), "no pixel has a known normal"),
    ],
)
def test_what_the_truth_lacks_is_said(task, truth, reason):
    assert reason in truth.lacks(task)


def test_scores_do_not_change_the_truth():
    truth = truth_of(np.linspace(2, 3, 400).reshape(SIZE), poses=standing_at((0, 0, 0)))
    before = truth.depth[0].copy()
    said = Prediction(depth=[torch.ones(SIZE).numpy()])
    depth_scores(truth, said, CORRECTED)
    assert np.array_equal(truth.depth[0], before)
    assert (said.depth[0] == 1).all()
