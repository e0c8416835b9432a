import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from g2vlm.eval.metrics.points import (
    NUM_NEIGHBOURS,
    aligned_point_errors,
    estimate_normals,
    f_score,
    icp,
    matched_point_errors,
    point_errors,
    umeyama,
)


def cloud(count=60, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3))


def surface(count=400, seed=0):
    points = np.random.default_rng(seed).uniform(-1, 1, (count, 3))
    points[:, 2] = np.sin(2 * points[:, 0]) + 0.5 * points[:, 1]
    return points


def turn(seed, size=1.0):
    return Rotation.from_rotvec(size * np.random.default_rng(seed).normal(size=3)).as_matrix()


def umeyama_by_the_book(source, target):
    """The naive twin: equations 34 to 42 of the paper, with variances over n."""
    n = len(source)
    from_mean, to_mean = source - source.mean(0), target - target.mean(0)
    u, d, vt = np.linalg.svd(to_mean.T @ from_mean / n)
    signs = np.array([1, 1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * signs) @ vt
    scale = (d * signs).sum() / (np.square(from_mean).sum() / n)
    return scale, rotation, target.mean(0) - scale * rotation @ source.mean(0)


@pytest.mark.parametrize("seed", range(5))
def test_a_similarity_is_found_again(seed):
    source, rotation, scale, shift = cloud(seed=seed), turn(seed), 0.1 + seed, np.array([1.0, -2.0, 30.0])
    found = umeyama(source, scale * source @ rotation.T + shift)
    assert found.scale == pytest.approx(scale)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-12)
    np.testing.assert_allclose(found.translation, shift, atol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_the_similarity_of_noisy_points_equals_that_of_the_paper_of_evo_and_of_scikit_image(seed):
    evo = pytest.importorskip("evo.core.geometry")
    skimage = pytest.importorskip("skimage.transform")
    source = cloud(seed=seed)
    target = 3 * source @ turn(seed).T + 1 + 0.5 * cloud(seed=seed + 100)
    found = umeyama(source, target)
    rotation, translation, scale = evo.umeyama_alignment(source.T, target.T, with_scale=True)
    matrix = skimage.SimilarityTransform.from_estimate(source, target).params
    twins = [umeyama_by_the_book(source, target), (scale, rotation, translation)]
    for scale, rotation, translation in [*twins, (np.cbrt(np.linalg.det(matrix[:3, :3])), None, matrix[:3, 3])]:
        assert found.scale == pytest.approx(scale, rel=1e-12)
        np.testing.assert_allclose(found.translation, translation, atol=1e-12)
        if rotation is not None:
            np.testing.assert_allclose(found.rotation, rotation, atol=1e-12)
    np.testing.assert_allclose(found.scale * found.rotation, matrix[:3, :3], atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_mirrored_points_get_a_proper_rotation_with_the_scale_that_fits_it(seed):
    source = cloud(seed=seed)
    target = 2 * source * [-1, 1, 1]
    found = umeyama(source, target)
    scale, rotation, translation = umeyama_by_the_book(source, target)
    assert np.linalg.det(found.rotation) == pytest.approx(1)
    assert found.scale == pytest.approx(scale)
    assert found.scale < 2
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-12)
    np.testing.assert_allclose(found.translation, translation, atol=1e-12)


def test_a_rigid_fit_keeps_the_scale():
    source = cloud()
    found = umeyama(source, 3 * source @ turn(0).T + 1, has_scale=False)
    assert found.scale == 1
    np.testing.assert_allclose(found.rotation, turn(0), atol=1e-12)


def test_points_in_a_plane_determine_a_similarity_and_points_on_a_line_all_but_the_turn_about_it():
    plane = cloud() * [1, 1, 0]
    found = umeyama(plane, 2 * plane @ turn(0).T)
    np.testing.assert_allclose(found.rotation, turn(0), atol=1e-12)
    line = cloud() * [1, 0, 0]
    target = 2 * line @ turn(0).T + 5
    np.testing.assert_allclose(umeyama(line, target).of(line), target, atol=1e-12)


def test_too_few_points_and_points_at_one_place_are_refused():
    with pytest.raises(ValueError, match="at least 3 points with weight, but got 2"):
        umeyama(cloud(2), cloud(2))
    with pytest.raises(ValueError, match="all 5 coincide"):
        umeyama(np.ones((5, 3)), cloud(5))


def icp_step_by_step(source, target, threshold):
    """The naive twin: all distances, the paper's rigid fit, the rules of open3d."""
    moved, before = source.copy(), None
    for step in range(31):
        distance = cdist(moved, target)
        nearest, least = distance.argmin(1), distance.min(1)
        near = least < threshold
        state = near.mean(), np.sqrt(np.square(least[near]).mean())
        if step == 30 or (before and all(abs(a - b) < 1e-6 for a, b in zip(state, before, strict=True))):
            return moved, int(near.sum()), state[1]
        before = state
        a, b = moved[near], target[nearest[near]]
        _, rotation, _ = umeyama_by_the_book(a, b)
        moved = (moved - a.mean(0)) @ rotation.T + b.mean(0)
    raise AssertionError


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.3, 100])
@pytest.mark.parametrize("seed", range(3))
def test_icp_equals_its_naive_twin(seed, threshold):
    target = surface(seed=seed)
    source = target[:300] @ turn(seed, 0.2).T + 0.1 + 0.01 * cloud(300, seed + 9)
    fit = icp(source, target, threshold=threshold)
    moved, num_matched, rmse = icp_step_by_step(source, target, threshold)
    np.testing.assert_allclose(fit.motion.of(source), moved, atol=1e-10)
    assert (fit.num_matched, fit.motion.scale) == (num_matched, 1)
    assert fit.rmse == pytest.approx(rmse, rel=1e-9)


def test_icp_takes_as_many_steps_as_it_is_given():
    target = surface()
    source = target[:300] @ turn(1, 0.2).T + 0.1
    rmses = [icp(source, target, threshold=100, num_steps=n).rmse for n in (0, 1, 5, 30)]
    assert rmses == sorted(rmses, reverse=True)
    assert len(set(rmses)) == 4
    assert icp(source, target, threshold=100).rmse == rmses[-1]


def test_icp_brings_a_cloud_that_is_a_little_off_back():
    target = surface(2000)
    fit = icp(target[::3] @ turn(1, 0.01).T + 0.005, target, threshold=0.1)
    np.testing.assert_allclose(fit.motion.of(target[::3] @ turn(1, 0.01).T + 0.005), target[::3], atol=1e-12)
    assert fit.rmse == pytest.approx(0, abs=1e-12)


def test_icp_without_a_match_moves_nothing_and_says_so():
    fit = icp(cloud() + 100, cloud(), threshold=0.1)
    assert (fit.num_matched, fit.rmse) == (0, 0)
    np.testing.assert_array_equal(fit.motion.of(cloud()), cloud())


def test_normals_of_a_plane_stand_on_it():
    normal = turn(2) @ [0, 0, 1]
    points = (cloud(200) * [1, 1, 0]) @ turn(2).T + 7
    np.testing.assert_allclose(np.abs(estimate_normals(points) @ normal), 1, atol=1e-12)


@pytest.mark.parametrize("num_neighbours", [3, 8, NUM_NEIGHBOURS])
def test_normals_are_fitted_to_the_point_and_its_nearest_neighbours(num_neighbours):
    points = surface(120)
    normals = estimate_normals(points, num_neighbours=num_neighbours)
    for i in range(0, 120, 17):
        near = points[cdist(points[i : i + 1], points)[0].argsort()[:num_neighbours]]
        expected = np.linalg.svd(near - near.mean(0))[2][-1]
        assert abs(normals[i] @ expected) == pytest.approx(1)


def test_a_cloud_of_fewer_points_than_neighbours_is_one_neighbourhood_and_of_two_points_has_the_normal_of_open3d():
    normals = estimate_normals(cloud(7))
    np.testing.assert_allclose(np.abs(normals @ normals[0]), 1)
    np.testing.assert_array_equal(estimate_normals(cloud(2)), [[0, 0, 1], [0, 0, 1]])


def test_the_distances_of_two_small_clouds_are_known():
    prediction, truth = np.array([[0.0, 0, 0], [0, 0, 3], [1, 0, 0]]), np.array([[0.0, 0, 0], [5, 0, 0]])
    errors = point_errors(prediction, truth, num_neighbours=None)
    assert (errors.accuracy_mean, errors.accuracy_median) == (pytest.approx(4 / 3), 1)
    assert (errors.completeness_mean, errors.completeness_median) == (2, 2)
    assert errors.chamfer == pytest.approx((4 / 3 + 2) / 2)
    assert (errors.num_predicted, errors.num_true) == (3, 2)
    assert np.isnan([errors.nc1_mean, errors.nc_mean, errors.nc_median]).all()


@pytest.mark.parametrize("seed", range(4))
def test_cloud_errors_equal_their_naive_twin(seed):
    prediction, truth = surface(150, seed), surface(200, seed + 50) + 0.05
    errors = point_errors(prediction, truth, num_neighbours=10)
    distance = cdist(prediction, truth)
    ours, theirs = (estimate_normals(points, num_neighbours=10) for points in (prediction, truth))
    nc1 = [abs(ours[i] @ theirs[distance[i].argmin()]) for i in range(150)]
    nc2 = [abs(theirs[j] @ ours[distance[:, j].argmin()]) for j in range(200)]
    expected = (
        *(f(values) for values in (distance.min(1), distance.min(0), nc1, nc2) for f in (np.mean, np.median)),
        (np.mean(nc1) + np.mean(nc2)) / 2,
        (np.median(nc1) + np.median(nc2)) / 2,
    )
    found = (
        *(errors.accuracy_mean, errors.accuracy_median, errors.completeness_mean, errors.completeness_median),
        *(errors.nc1_mean, errors.nc1_median, errors.nc2_mean, errors.nc2_median, errors.nc_mean, errors.nc_median),
    )
    assert found == pytest.approx(expected)


def test_normals_agree_whatever_their_sign():
    plane = cloud(100) * [1, 1, 0]
    errors = point_errors(plane, plane[::-1] + np.array([0, 0, 0.1]))
    assert (errors.nc1_mean, errors.nc2_mean, errors.nc_mean) == pytest.approx((1, 1, 1))
    across = point_errors(plane, plane[:, [0, 2, 1]])
    assert across.nc_mean == pytest.approx(0, abs=1e-12)


def test_a_prediction_of_half_a_scene_is_accurate_and_not_complete():
    truth = surface(600)
    errors = point_errors(truth[truth[:, 0] < 0], truth, num_neighbours=None)
    assert errors.accuracy_mean == 0
    assert errors.completeness_mean > 0.1


@pytest.mark.parametrize(
    ("threshold", "precision", "recall"),
    [(1, 1 / 3, 1 / 2), (1.5, 2 / 3, 1 / 2), (4, 1, 1 / 2), (4.5, 1, 1), (1e-9, 1 / 3, 1 / 2)],
)
def test_the_f_score_of_two_small_clouds_is_known_and_its_threshold_is_not_within(threshold, precision, recall):
    prediction, truth = np.array([[0.0, 0, 0], [0, 0, 3], [1, 0, 0]]), np.array([[0.0, 0, 0], [5, 0, 0]])
    score = f_score(prediction, truth, threshold=threshold)
    assert score.precision == pytest.approx(precision)
    assert score.recall == pytest.approx(recall)
    assert score.fscore == pytest.approx(2 * precision * recall / (precision + recall))


def test_the_f_score_of_clouds_that_do_not_meet_is_zero():
    assert f_score(cloud(), cloud() + 100, threshold=1).fscore == 0


def test_the_published_protocol_takes_out_a_similarity():
    truth = surface(300).reshape(3, 10, 10, 3)
    mask = np.random.default_rng(0).uniform(size=(3, 10, 10)) > 0.2
    prediction = 0.2 * truth @ turn(3).T + 4
    prediction[~mask] = np.nan
    errors = aligned_point_errors(prediction, truth, mask, icp_threshold=0.1)
    assert (errors.accuracy_mean, errors.completeness_mean) == pytest.approx((0, 0), abs=1e-12)
    assert errors.nc_mean == pytest.approx(1)
    assert errors.num_true == mask.sum()


def test_icp_after_the_similarity_changes_the_errors_of_a_bent_map():
    truth = surface(600)
    prediction = truth + 0.1 * np.sin(3 * truth[:, [1, 0, 0]])
    mask = np.ones(600, dtype=bool)
    only_similar = umeyama(prediction, truth).of(prediction)
    with_icp = aligned_point_errors(prediction, truth, mask, icp_threshold=0.1, num_neighbours=None)
    assert with_icp.accuracy_mean != pytest.approx(point_errors(only_similar, truth).accuracy_mean, rel=1e-3)
    far = aligned_point_errors(prediction, truth, mask, icp_threshold=1e-6, num_neighbours=None)
    assert far.accuracy_mean == pytest.approx(point_errors(only_similar, truth).accuracy_mean)


def test_empty_clouds_masks_and_points_that_are_not_finite_are_errors():
    nothing, holed = np.zeros((0, 3)), cloud()
    holed[2, 1] = np.nan
    with pytest.raises(ValueError, match="the predicted cloud has 0 points"):
        point_errors(nothing, cloud())
    with pytest.raises(ValueError, match="the true cloud has 60 points, 1 of them not finite"):
        f_score(cloud(), holed, threshold=1)
    with pytest.raises(ValueError, match="no point to compare: of 60, 0"):
        aligned_point_errors(cloud(), cloud(), np.zeros(60, dtype=bool), icp_threshold=0.1)
    with pytest.raises(ValueError, match="predicted point is not finite in 1 of 60 pixels"):
        aligned_point_errors(holed, cloud(), np.ones(60, dtype=bool), icp_threshold=0.1)


def in_front(count=80, seed=0):
    return cloud(count, seed) + np.array([0, 0, 6])


EVERYWHERE = np.ones(80, dtype=bool)


def test_the_errors_of_matched_points_are_known():
    truth = np.array([[0.0, 0, 4], [0, 3, 4], [0, 0, 10], [0, 0, 0]])
    prediction = np.array([[0.0, 1, 4], [0, 3, 4], [0, 0, 4], [9, 9, 9]])
    errors = matched_point_errors(prediction, truth, np.ones(4, dtype=bool), alignment="none")
    assert errors.relative == pytest.approx((1 / 4 + 0 + 6 / 10) / 3)
    assert errors.delta1 == pytest.approx(1 / 3)  # 1 is not below a quarter of 4
    assert (errors.num_points, errors.num_left_out) == (3, 1)


@pytest.mark.parametrize(
    ("alignment", "scale", "shift"),
    [
        ("shift", 1, (1, -2, 0.5)),
        ("scale", 0.3, (0, 0, 0)),
        ("scale_and_z_shift", 0.3, (0, 0, 2)),
        ("scale_and_shift", 0.3, (1, -2, 0.5)),
        ("anchored_scale_and_shift", 0.3, (1, -2, 0.5)),
    ],
)
def test_a_robust_alignment_finds_its_motion_again_under_a_quarter_of_outliers(alignment, scale, shift):
    prediction = in_front()
    truth = scale * prediction + shift + np.where(np.arange(80) % 4 == 0, 3, 0)[:, None] * cloud(80, 1)
    errors = matched_point_errors(prediction, truth, EVERYWHERE, alignment=alignment)
    assert errors.scale == pytest.approx(scale)
    assert errors.shift == pytest.approx(shift, abs=1e-9)
    assert errors.delta1 >= 60 / 80


def weighted_sum(prediction, truth, scale, shift):
    error = np.abs(scale * prediction + shift - truth).sum(-1)
    return (error / np.linalg.norm(truth, axis=-1)).sum()


@pytest.mark.parametrize("alignment", ["shift", "scale", "scale_and_z_shift", "scale_and_shift"])
@pytest.mark.parametrize("seed", range(3))
def test_no_search_finds_a_better_robust_alignment(alignment, seed):
    prediction = in_front(seed=seed)
    truth = 0.5 * prediction + 1 + 0.3 * cloud(80, seed + 20)
    errors = matched_point_errors(prediction, truth, EVERYWHERE, alignment=alignment)
    found = np.array([errors.scale, *errors.shift])
    free = {
        "shift": [False, True, True, True],
        "scale": [True, False, False, False],
        "scale_and_z_shift": [True, False, False, True],
        "scale_and_shift": [True] * 4,
    }[alignment]
    assert [number for number, is_free in zip(found - [1, 0, 0, 0], free, strict=True) if not is_free] == [
        0
    ] * free.count(False)

    def objective(numbers):
        fit = found.copy()
        fit[free] = numbers
        return weighted_sum(prediction, truth, fit[0], fit[1:])

    reached = objective(found[free])
    for start in (found[free], np.array([0.5, 1, 1, 1])[free]):
        searched = minimize(
            objective, start, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 4000}
        )
        assert searched.fun >= reached - 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_the_anchored_search_is_worse_than_the_exact_minimum_where_three_axes_shift(seed):
    prediction = in_front(seed=seed)
    truth = 0.5 * prediction + 1 + 0.3 * cloud(80, seed + 20)
    sums = {}
    for alignment in ("scale_and_shift", "anchored_scale_and_shift"):
        errors = matched_point_errors(prediction, truth, EVERYWHERE, alignment=alignment)
        sums[alignment] = weighted_sum(prediction, truth, errors.scale, errors.shift)
    assert sums["scale_and_shift"] * 1.001 < sums["anchored_scale_and_shift"] < sums["scale_and_shift"] * 1.2


def test_an_alignment_can_be_fitted_to_a_part_of_the_points():
    prediction = in_front()
    part = np.arange(80) < 20
    truth = np.where(part[:, None], 2 * prediction, 3 * prediction)
    errors = matched_point_errors(prediction, truth, EVERYWHERE, alignment="scale", fitted_to=part)
    assert errors.scale == pytest.approx(2)
    assert errors.relative == pytest.approx(60 / 80 / 3)
    assert errors.num_points == 80
