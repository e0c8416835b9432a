import numpy as np
import pytest

from g2vlm.eval.geometry import SceneScores, blind, score, summarise

TRUE_DEPTH = [np.linspace(1, 3, 12).reshape(3, 4), np.linspace(2, 5, 12).reshape(3, 4)]
MASKS = [np.ones((3, 4), dtype=bool)] * 2


def turned(degrees: float, x: float = 0.0) -> np.ndarray:
    angle = np.radians(degrees)
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[0, 3] = x
    return pose


def test_the_truth_scores_perfectly_at_any_scale():
    poses = np.stack([turned(0), turned(20, x=1)])
    scaled = poses.copy()
    scaled[:, :3, 3] *= 7
    scores = score([7 * depth for depth in TRUE_DEPTH], scaled, TRUE_DEPTH, MASKS, poses)
    assert scores.absrel == pytest.approx(0, abs=1e-9)
    assert scores.delta1 == 1
    assert scores.rotation_deg == pytest.approx([0], abs=1e-5)
    assert scores.auc30 == 1


def test_one_scale_serves_all_views_of_a_scene():
    depth = [TRUE_DEPTH[0], 2 * TRUE_DEPTH[1]]
    assert score(depth, np.stack([np.eye(4)] * 2), TRUE_DEPTH, MASKS, None).absrel > 0.2


def test_identity_poses_err_by_the_whole_rotation():
    poses = np.stack([turned(0), turned(20, x=1)])
    depth, standing = blind(TRUE_DEPTH, 2)
    scores = score(depth, standing, TRUE_DEPTH, MASKS, poses)
    assert scores.rotation_deg == pytest.approx([20])
    assert scores.auc30 == 0
    assert 0.2 < scores.absrel < 0.4


def test_what_the_truth_does_not_say_is_not_scored():
    scores = score([], np.stack([np.eye(4)] * 2), None, None, None)
    assert np.isnan(scores.absrel)
    assert np.isnan(scores.auc30)
    assert scores.rotation_deg == ()


def test_scenes_without_truth_are_counted_and_left_out_of_means():
    nan = float("nan")
    summary = summarise([SceneScores(0.2, 0.8, (4.0, 6.0, 20.0), 0.5), SceneScores(nan, nan, (), nan)])
    assert (summary.absrel, summary.delta1, summary.rotation_deg_median) == (0.2, 0.8, 6.0)
    assert summary.auc30 == 50
    assert (summary.scenes_with_depth, summary.scenes_with_poses) == (1, 1)
