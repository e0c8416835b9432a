from typing import get_args

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from g2vlm.eval.metrics.depth import (
    Alignment,
    absrel,
    alignment_of,
    delta,
    depth_errors,
    lower_median_scale,
    mean_depth_errors,
    rmse,
)

ALIGNMENTS = ("none", "median", "weighted_l1", "scale_and_shift")
EVERY = get_args(Alignment)


def maps(seed=0, shape=(2, 6, 7)):
    """True depth in [1, 5], a prediction with 10 % noise, and a mask with holes."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(1, 5, shape)
    return truth * (1 + 0.1 * rng.standard_normal(shape)), truth, rng.uniform(size=shape) > 0.2


def test_known_answers():
    d, t = np.array([2.0, 3.0, 4.0, 10.0]), np.array([2.0, 2.0, 5.0, 5.0])
    assert absrel(d, t) == pytest.approx((0 + 1 / 2 + 1 / 5 + 1) / 4)
    assert rmse(d, t) == pytest.approx(((0 + 1 + 1 + 25) / 4) ** 0.5)
    assert [delta(d, t, n) for n in (1, 2, 3)] == [0.25, 0.75, 0.75]  # 4 to 5 is exactly 1.25, which is not below


def test_delta_punishes_too_near_and_too_far_alike():
    d, t = np.array([1.0, 1.3]), np.array([1.3, 1.0])
    assert delta(d, t, 1) == 0
    assert delta(d, t, 2) == 1


def test_a_depth_that_is_not_positive_is_never_within():
    assert delta(np.array([0.0, -2.0, 0.0, -0.5]), np.array([2.0, 2.0, 0.5, 0.5]), 3) == 0


@pytest.mark.parametrize("alignment", EVERY)
def test_a_perfect_prediction_has_no_error(alignment):
    _, truth, mask = maps()
    errors = depth_errors(truth, truth, mask, alignment=alignment)
    assert (errors.absrel, errors.rmse) == (pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))
    assert errors.delta1 == errors.delta2 == errors.delta3 == 1
    assert (errors.scale, errors.shift) == (pytest.approx(1), pytest.approx(0, abs=1e-12))
    assert (errors.num_pixels, errors.num_left_out) == (mask.sum(), (~mask).sum())


@pytest.mark.parametrize("alignment", [a for a in EVERY if a not in ("none", "release_bfgs_l1", "release_adam_l1")])
def test_an_alignment_takes_the_scale_out(alignment):
    prediction, truth, mask = maps()
    errors = depth_errors(prediction, truth, mask, alignment=alignment)
    scaled = depth_errors(0.05 * prediction, truth, mask, alignment=alignment)
    assert scaled.absrel == pytest.approx(errors.absrel)
    if alignment != "disparity_scale_and_shift":
        assert scaled.scale == pytest.approx(20 * errors.scale)
    assert depth_errors(0.05 * prediction, truth, mask, alignment="none").absrel > 0.9


def test_only_scale_and_shift_takes_a_shift_out():
    _, truth, mask = maps()
    absrels = {name: depth_errors(truth / 2 + 3, truth, mask, alignment=name).absrel for name in ALIGNMENTS}
    assert absrels.pop("scale_and_shift") == pytest.approx(0, abs=1e-12)
    assert min(absrels.values()) > 0.1


def test_weighted_l1_is_the_best_scale_for_absrel():
    prediction, truth, mask = maps()
    prediction = prediction**2  # far pixels ask for another scale than near ones
    best = depth_errors(prediction, truth, mask, alignment="weighted_l1")
    ratios = truth[mask] / prediction[mask]
    tried = [depth_errors(scale * prediction, truth, mask, alignment="none").absrel for scale in ratios]
    assert best.absrel == pytest.approx(min(tried))
    assert best.scale == pytest.approx(ratios[np.argmin(tried)])


def test_scale_and_shift_are_the_best_for_rmse():
    prediction, truth, mask = maps()
    best = depth_errors(prediction, truth, mask, alignment="scale_and_shift")
    for scale, shift in np.random.default_rng(0).normal((best.scale, best.shift), 0.1, (100, 2)):
        assert depth_errors(scale * prediction + shift, truth, mask, alignment="none").rmse >= best.rmse


def test_the_median_alignment_is_the_ratio_of_medians():
    prediction, truth, mask = maps()
    errors = depth_errors(prediction, truth, mask, alignment="median")
    assert errors.scale == pytest.approx(np.median(truth[mask]) / np.median(prediction[mask]))


@pytest.mark.parametrize("alignment", [a for a in EVERY if a != "release_adam_l1"])
def test_invalid_pixels_do_not_count_whatever_they_hold(alignment):
    prediction, truth, mask = maps()
    expected = depth_errors(prediction, truth, mask, alignment=alignment)
    prediction[~mask] = np.nan
    truth[~mask] = np.where(np.arange((~mask).sum()) % 3 == 0, np.nan, 1e6)
    assert depth_errors(prediction, truth, mask, alignment=alignment) == expected
    truth[~mask] = np.resize([0, np.inf, -1, np.nan], (~mask).sum())
    assert depth_errors(prediction, truth, np.ones_like(mask), alignment=alignment) == expected


def test_nothing_to_compare_is_an_error_and_not_an_average():
    prediction, truth, mask = maps()
    with pytest.raises(ValueError, match="no depth to compare: of 84, 0 are in the mask"):
        depth_errors(prediction, truth, mask & False, alignment="none")
    with pytest.raises(ValueError, match="no depth to compare"):
        depth_errors(prediction, 0 * truth, mask, alignment="none")


def test_a_prediction_that_is_not_finite_is_an_error_and_not_left_out():
    prediction, truth, mask = maps()
    prediction[mask] = np.where(np.arange(mask.sum()) < 2, [np.nan], prediction[mask])
    with pytest.raises(ValueError, match=f"not finite in 2 of {mask.sum()} pixels"):
        depth_errors(prediction, truth, mask, alignment="median")


def test_single_precision_maps_are_compared_in_double():
    prediction, truth, mask = maps()
    prediction, truth = prediction.astype(np.float32), truth.astype(np.float32)
    exact = depth_errors(prediction.astype(np.float64), truth.astype(np.float64), mask, alignment="weighted_l1")
    assert depth_errors(prediction, truth, mask, alignment="weighted_l1") == exact


FOUR = np.array([1.0, 2.0, 4.0, 8.0]), np.array([2.0, 2.0, 2.0, 40.0])


@pytest.mark.parametrize(
    ("alignment", "scale"),
    [
        ("none", 1),
        ("median", 2 / 3),  # medians 2 and (2 + 4) / 2
        ("lower_median", 1),  # 2 and 2
        ("median_of_ratios", 1.5),  # of 2, 1, 1/2, 5
        ("scale_l1", 5),  # ratios 1/2, 1, 2, 5 weigh 4, 2, 1, 8: half of 15 is reached at 5
        ("weighted_l1", 0.5),  # they weigh 2, 1, 1/2, 1/5: half of 3.7 is reached at 1/2
        ("scale_l2", 334 / 85),
    ],
)
def test_every_scale_of_four_pixels_is_the_one_found_by_hand(alignment, scale):
    assert alignment_of(*FOUR, alignment) == (pytest.approx(scale), 0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("alignment", "weight"), [("scale_and_shift", lambda t: 0 * t + 1), ("weighted_scale_and_shift", lambda t: 1 / t)]
)
def test_least_squares_with_a_shift_equal_those_of_numpy(alignment, weight, seed):
    prediction, truth, mask = maps(seed)
    d, t = prediction[mask], truth[mask]
    assert alignment_of(d, t, alignment) == pytest.approx(tuple(np.polyfit(d, t, 1, w=np.sqrt(weight(t)))))


@pytest.mark.parametrize("seed", range(4))
def test_the_weighted_l1_line_is_the_best_there_is_for_absrel(seed):
    """Against the linear program: minimise the sum of bounds, each above |s d + b - t| / t."""
    prediction, truth, mask = maps(seed)
    prediction[0] *= 3  # a half of outliers
    errors = depth_errors(prediction, truth, mask, alignment="weighted_l1_scale_and_shift")
    d, t = prediction[mask], truth[mask]
    line, identity = np.stack([d, np.ones_like(d)], -1) / t[:, None], np.eye(len(t))
    rows = np.block([[line, -identity], [-line, -identity]])
    limits = np.concatenate([np.ones_like(t), -np.ones_like(t)])
    bounds = [(None, None)] * 2 + [(0, None)] * len(t)
    best = linprog(np.concatenate([np.zeros(2), np.ones_like(t)]), A_ub=rows, b_ub=limits, bounds=bounds).fun
    assert errors.absrel == pytest.approx(best / len(t), rel=1e-9)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 100, 101])
def test_the_lower_median_is_that_of_torch(count):
    d, t = np.random.default_rng(count).uniform(1, 5, (2, count))
    expected = torch.from_numpy(t).median() / torch.from_numpy(d).median()
    assert lower_median_scale(d, t) == pytest.approx(expected.item(), rel=1e-15)


def test_the_two_medians_differ_for_an_even_number_of_pixels_only():
    d, t = np.array([1.0, 2.0, 4.0]), np.array([3.0, 5.0, 7.0])
    assert alignment_of(d, t, "median") == alignment_of(d, t, "lower_median") == (2.5, 0)
    assert alignment_of(d[:2], t[:2], "median") == (pytest.approx(4 / 1.5), 0)
    assert alignment_of(d[:2], t[:2], "lower_median") == (3, 0)


def release_l1_step_by_step(d, t):
    """The naive twin: pixel by pixel."""
    scale = sum(t) / sum(d)
    for _ in range(10):
        above = below = 0.0
        for x, y in zip(d.tolist(), t.tolist(), strict=True):
            weight = 1 / (abs(scale * x - y) + 1e-8)
            above, below = above + weight * x * y, below + weight * x * x
        scale = above / below
    return max(scale, 1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_the_release_scale_equals_its_naive_twin(seed):
    prediction, truth, mask = maps(seed)
    expected = release_l1_step_by_step(prediction[mask], truth[mask])
    assert alignment_of(prediction[mask], truth[mask], "release_l1") == (pytest.approx(expected, rel=1e-12), 0)


def test_ten_rounds_come_near_the_exact_l1_scale_but_do_not_reach_it():
    prediction, truth, mask = maps()
    exact, release = (alignment_of(prediction[mask], truth[mask], name)[0] for name in ("scale_l1", "release_l1"))
    assert release == pytest.approx(exact, rel=0.01)
    assert release != pytest.approx(exact, rel=1e-9)


def test_the_release_scale_is_at_least_a_thousandth():
    d, t = np.array([1e5, 2e5]), np.array([1.0, 2.0])
    assert alignment_of(d, t, "release_l1") == (1e-3, 0)


def test_the_release_scale_locks_onto_outliers_where_the_median_does_not():
    """15 % of the pixels are predicted far too far away: an L1 scale follows the largest predictions."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(1, 5, 1000)
    prediction = truth * (1 + 0.05 * rng.standard_normal(1000))
    prediction[:150] = rng.uniform(60, 200, 150)
    mask = np.ones(1000, dtype=bool)
    release, median = (depth_errors(prediction, truth, mask, alignment=a) for a in ("release_l1", "median"))
    assert release.delta1 < 0.05
    assert median.delta1 > 0.7


def test_adam_stays_near_its_start_however_far_the_minimum_is():
    d, t = np.array([1.0, 2.0, 3.0]), np.array([101.0, 102.0, 103.0])
    scale, shift = alignment_of(d, t, "release_adam_l1")
    assert abs(scale - 51) < 0.11
    assert abs(shift) < 0.11
    assert alignment_of(d, t, "weighted_l1_scale_and_shift") == (pytest.approx(1), pytest.approx(100))


def adam_by_hand(d, t):
    """The naive twin: Adam's published recurrences on the two numbers."""
    fit = np.array([lower_median_scale(d, t), 0.0])
    mean = square = np.zeros(2)
    before = np.inf
    for step in range(1, 1001):
        residual = fit[0] * d + fit[1] - t
        loss, slope = np.abs(residual).sum(), np.array([(np.sign(residual) * d).sum(), np.sign(residual).sum()])
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        fit = fit - 1e-4 * mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        if abs(before - loss) < 1e-6:
            break
        before = loss
    return tuple(fit)


@pytest.mark.parametrize("seed", range(2))
def test_the_release_scale_and_shift_by_adam_equal_their_naive_twin(seed):
    prediction, truth, mask = maps(seed)
    d, t = prediction[mask] + 0.3, truth[mask]
    assert alignment_of(d, t, "release_adam_l1") == pytest.approx(adam_by_hand(d, t), abs=1e-9)


def test_bfgs_comes_near_the_l1_line_where_the_data_are_many_and_is_not_dragged_away_by_outliers():
    rng = np.random.default_rng(0)
    d = rng.uniform(1, 5, 4000)
    t = 2 * d + 1 + rng.laplace(0, 0.2, 4000)
    t[d > 4.7] += 10
    scale, shift = alignment_of(d, t, "release_bfgs_l1")
    assert (scale, shift) == (pytest.approx(2, abs=0.1), pytest.approx(1, abs=0.2))
    assert alignment_of(d, t, "scale_and_shift")[0] > 2.5


def test_disparity_is_aligned_in_disparity():
    _, truth, mask = maps()
    prediction = 1 / (3 / truth + 0.2)
    errors = depth_errors(prediction, truth, mask, alignment="disparity_scale_and_shift")
    assert (errors.scale, errors.shift) == (pytest.approx(1 / 3), pytest.approx(-0.2 / 3))
    assert errors.absrel == pytest.approx(0, abs=1e-12)
    assert depth_errors(prediction, truth, mask, alignment="scale_and_shift").absrel > 0.01


def test_an_aligned_disparity_is_never_below_the_smallest_true_one():
    d, t = np.array([1.0, 2.0, 1e6]), np.array([1.0, 1.9, 2.0])
    scale, shift = np.polyfit(1 / d, 1 / t, 1)
    assert 1 / (scale / d[2] + shift) > 2.1
    errors = depth_errors(d, t, np.ones(3, dtype=bool), alignment="disparity_scale_and_shift")
    assert errors.absrel == pytest.approx(absrel(np.append(1 / (scale / d[:2] + shift), 2), t))


def test_the_protocol_of_sintel_leaves_out_what_is_far_and_clips_what_is_predicted_far():
    d, t = np.array([10.0, 90.0, 50.0, 3.0]), np.array([10.0, 60.0, 70.0, 1000.0])
    mask = np.ones(4, dtype=bool)
    errors = depth_errors(d, t, mask, alignment="none", truth_below=70, clip_to=(-np.inf, 70))
    assert (errors.num_pixels, errors.num_left_out) == (2, 2)  # 70 itself is not below 70
    assert errors.absrel == pytest.approx((0 + 10 / 60) / 2)
    assert depth_errors(d, t, mask, alignment="none", truth_below=70).absrel == pytest.approx((0 + 30 / 60) / 2)
    assert depth_errors(d, t, mask, alignment="none", truth_below=70, clip_to=(20, 70)).absrel == pytest.approx(
        (1 + 10 / 60) / 2
    )


def test_clipping_comes_after_the_alignment():
    d, t = np.array([1.0, 2.0, 3.0]), np.array([30.0, 60.0, 65.0])
    errors = depth_errors(d, t, np.ones(3, dtype=bool), alignment="median", clip_to=(-np.inf, 70))
    assert errors.scale == 30
    assert errors.absrel == pytest.approx((0 + 0 + 5 / 65) / 3)


def two_pictures():
    near, far = (np.full(shape, depth) for shape, depth in (((1, 1), 2.0), ((3, 1), 10.0)))
    return [
        depth_errors(near + 1, near, np.ones((1, 1), dtype=bool), alignment="none"),
        depth_errors(far + 4, far, np.ones((3, 1), dtype=bool), alignment="none"),
    ]


def test_a_mean_weighs_pictures_by_their_pixels_or_all_alike():
    pixels, images = (mean_depth_errors(two_pictures(), weighting=w, num_empty=2) for w in ("pixels", "images"))
    assert (pixels.absrel, images.absrel) == (pytest.approx((0.5 + 3 * 0.4) / 4), pytest.approx((0.5 + 0.4) / 2))
    assert (pixels.rmse, images.rmse) == (pytest.approx((1 + 3 * 4) / 4), pytest.approx((1 + 4) / 2))
    assert (pixels.num_images, pixels.num_pixels, pixels.num_empty) == (2, 4, 2)


def test_a_mean_of_rmse_over_pixels_is_not_the_rmse_of_all_pixels():
    assert mean_depth_errors(two_pictures(), weighting="pixels").rmse != pytest.approx(np.sqrt((1 + 3 * 16) / 4))


def test_a_mean_over_no_picture_is_an_error():
    with pytest.raises(ValueError, match="no picture has a depth error to average \\(3 had no pixel"):
        mean_depth_errors([], weighting="pixels", num_empty=3)


@pytest.mark.parametrize("alignment", ["median", "lower_median", "scale_l2", "release_l1", "disparity_scale_and_shift"])
def test_an_alignment_that_does_not_exist_is_an_error(alignment):
    with pytest.raises(ValueError, match=f"alignment '{alignment}' gives scale .*(nan|inf)"):
        depth_errors(np.zeros(4), np.ones(4), np.ones(4, dtype=bool), alignment=alignment)


def test_one_scale_for_a_scene_is_not_one_for_each_of_its_pictures():
    _, truth, mask = maps()
    prediction = truth * np.array([1.0, 2.0])[:, None, None]
    assert depth_errors(prediction, truth, mask, alignment="weighted_l1").absrel > 0.1
    for view in range(2):
        alone = depth_errors(prediction[view], truth[view], mask[view], alignment="weighted_l1")
        assert alone.absrel == pytest.approx(0, abs=1e-12)
