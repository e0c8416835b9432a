import builtins

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from g2vlm.eval.metrics.trajectories import absolute_errors, relative_errors

pytest.importorskip("evo.core.metrics")


def trajectory(count=12, seed=0):
    """A smooth path of camera-to-world poses that turn as they go."""
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, 3] = np.cumsum(rng.normal(size=(count, 3)), axis=0)
    poses[:, :3, :3] = Rotation.from_rotvec(np.cumsum(0.2 * rng.normal(size=(count, 3)), axis=0)).as_matrix()
    return poses


def noisy(poses, seed=1, size=0.1):
    rng = np.random.default_rng(seed)
    wrong = poses.copy()
    wrong[:, :3, 3] += size * rng.normal(size=(len(poses), 3))
    wrong[:, :3, :3] = poses[:, :3, :3] @ Rotation.from_rotvec(size * rng.normal(size=(len(poses), 3))).as_matrix()
    return wrong


def moved(poses, scale, seed=3):
    rotation, shift = Rotation.from_rotvec(np.random.default_rng(seed).normal(size=3)).as_matrix(), [5.0, -6.0, 7.0]
    other = poses.copy()
    other[:, :3, :3] = rotation @ poses[:, :3, :3]
    other[:, :3, 3] = scale * poses[:, :3, 3] @ rotation.T + shift
    return other


def aligned_by_hand(prediction, truth, alignment):
    """The naive twin: Umeyama's equations on the camera centres."""
    a, b = prediction[:, :3, 3], truth[:, :3, 3]
    u, d, vt = np.linalg.svd((b - b.mean(0)).T @ (a - a.mean(0)))
    signs = np.array([1, 1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * signs) @ vt
    scale = (d * signs).sum() / np.square(a - a.mean(0)).sum() if alignment != "se3" else 1.0
    other = prediction.copy()
    other[:, :3, 3] = scale * a
    if alignment != "scale":
        other[:, :3, :3] = rotation @ prediction[:, :3, :3]
        other[:, :3, 3] = scale * (a - a.mean(0)) @ rotation.T + b.mean(0)
    return other


def degrees(rotation):
    return np.degrees(np.linalg.norm(Rotation.from_matrix(rotation).as_rotvec()))


ALIGNMENTS = ["none", "scale", "se3", "sim3"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_absolute_errors_equal_their_naive_twin(alignment, seed):
    truth = trajectory(seed=seed)
    prediction = moved(noisy(truth), 0.4)
    ours = prediction if alignment == "none" else aligned_by_hand(prediction, truth, alignment)
    apart = np.linalg.norm(ours[:, :3, 3] - truth[:, :3, 3], axis=-1)
    turned = np.array([degrees(p[:3, :3].T @ t[:3, :3]) for p, t in zip(ours, truth, strict=True)])
    for part, values in (("translation", apart), ("rotation", turned)):
        errors = absolute_errors(prediction, truth, alignment=alignment, part=part)
        expected = np.sqrt(np.square(values).mean()), values.mean(), np.median(values), values.max()
        assert (errors.rmse, errors.mean, errors.median, errors.maximum) == pytest.approx(expected, abs=1e-6)
        assert errors.num_errors == 12


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("delta", [1, 2, 5])
@pytest.mark.parametrize("pairs", ["all", "consecutive"])
def test_relative_errors_equal_their_naive_twin(pairs, delta, seed):
    truth = trajectory(seed=seed)
    prediction = moved(noisy(truth), 0.4)
    ours = aligned_by_hand(prediction, truth, "sim3")
    inv = np.linalg.inv
    steps = []
    for i in range(0, 12 - delta, 1 if pairs == "all" else delta):
        true_step, our_step = inv(truth[i]) @ truth[i + delta], inv(ours[i]) @ ours[i + delta]
        steps.append(inv(true_step) @ our_step)
    for part, values in (
        ("translation", [np.linalg.norm(step[:3, 3]) for step in steps]),
        ("rotation", [degrees(step[:3, :3]) for step in steps]),
    ):
        errors = relative_errors(prediction, truth, part=part, delta=delta, pairs=pairs)
        expected = np.sqrt(np.square(values).mean()), np.mean(values), np.median(values)
        assert (errors.rmse, errors.mean, errors.median) == pytest.approx(expected, abs=1e-6)
        assert errors.num_errors == len(steps)


@pytest.mark.parametrize(("alignment", "ate"), [("none", 2), ("se3", 0), ("sim3", 0)])
def test_a_path_that_is_shifted_by_two_metres_is_two_metres_off_until_it_is_aligned(alignment, ate):
    truth = trajectory()
    prediction = truth.copy()
    prediction[:, 0, 3] += 2
    errors = absolute_errors(prediction, truth, alignment=alignment)
    assert (errors.rmse, errors.mean, errors.median, errors.maximum) == pytest.approx((ate,) * 4, abs=1e-9)


def test_only_an_alignment_with_scale_takes_a_scale_out():
    truth = trajectory()
    prediction = moved(truth, 0.25)
    assert absolute_errors(prediction, truth, alignment="sim3").rmse == pytest.approx(0, abs=1e-9)
    assert absolute_errors(prediction, truth, alignment="se3").rmse > 0.5
    assert relative_errors(prediction, truth, part="translation").rmse == pytest.approx(0, abs=1e-9)
    assert relative_errors(prediction, truth, part="translation", alignment="se3").rmse > 0.5


def test_the_scale_alone_makes_relative_motions_comparable():
    truth = trajectory()
    prediction = moved(truth, 0.25)
    assert relative_errors(prediction, truth, part="translation", alignment="scale").rmse == pytest.approx(0, abs=1e-9)
    assert absolute_errors(prediction, truth, alignment="scale").rmse > 1


def test_a_single_wrong_step_is_one_relative_error_and_many_absolute_ones():
    truth = trajectory()
    prediction = truth.copy()
    prediction[6:, 0, 3] += 3
    relative = relative_errors(prediction, truth, part="translation", alignment="none")
    assert (relative.maximum, relative.mean) == (pytest.approx(3), pytest.approx(3 / 11))
    assert absolute_errors(prediction, truth, alignment="none").mean == pytest.approx(3 / 2)


def test_a_constant_turn_of_all_cameras_about_themselves_is_seen_by_the_rotation_part():
    truth = trajectory()
    prediction = truth.copy()
    prediction[:, :3, :3] = truth[:, :3, :3] @ Rotation.from_euler("z", 10, degrees=True).as_matrix()
    errors = absolute_errors(prediction, truth, alignment="none", part="rotation")
    assert (errors.rmse, errors.mean, errors.median) == pytest.approx((10, 10, 10))


def test_the_inputs_are_left_as_they_were():
    truth = trajectory()
    prediction = moved(noisy(truth), 0.4)
    copies = prediction.copy(), truth.copy()
    absolute_errors(prediction, truth)
    relative_errors(prediction, truth, part="rotation")
    np.testing.assert_array_equal(prediction, copies[0])
    np.testing.assert_array_equal(truth, copies[1])


def test_cameras_on_a_line_cannot_be_aligned():
    truth = np.tile(np.eye(4), (5, 1, 1))
    truth[:, 0, 3] = range(5)
    with pytest.raises(ValueError, match="alignment 'sim3' needs camera centres that are not on one line"):
        absolute_errors(trajectory(5), truth)
    assert absolute_errors(truth, truth, alignment="none").rmse == 0


def test_a_prediction_that_is_not_finite_and_an_empty_path_are_errors():
    truth, prediction = trajectory(), trajectory()
    prediction[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match="12 frames, and 1 predicted poses are not finite"):
        absolute_errors(prediction, truth)
    with pytest.raises(ValueError, match="the trajectory has 0 frames"):
        absolute_errors(truth[:0], truth[:0])


@pytest.mark.parametrize("delta", [0, 12])
def test_a_step_that_no_pair_of_frames_makes_is_an_error(delta):
    with pytest.raises(ValueError, match=f"delta is {delta}, but the trajectory has 12 frames"):
        relative_errors(trajectory(), trajectory(), part="translation", delta=delta)


def test_without_evo_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without_evo(name, *args, **kwargs):
        if name.startswith("evo"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_evo)
    with pytest.raises(ValueError, match=r"need the package evo: pip install 'g2vlm\[eval\]'"):
        absolute_errors(trajectory(), trajectory())
