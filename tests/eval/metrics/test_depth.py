import numpy as np
import pytest

from g2vlm.eval.metrics.depth import absrel, delta, depth_errors, rmse

ALIGNMENTS = ("none", "median", "weighted_l1", "scale_and_shift")


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
    assert delta(np.array([0.0, -2.0]), np.array([2.0, 2.0]), 3) == 0


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_perfect_prediction_has_no_error(alignment):
    _, truth, mask = maps()
    errors = depth_errors(truth, truth, mask, alignment=alignment)
    assert (errors.absrel, errors.rmse) == (pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))
    assert errors.delta1 == errors.delta2 == errors.delta3 == 1
    assert (errors.scale, errors.shift) == (pytest.approx(1), pytest.approx(0, abs=1e-12))
    assert errors.num_pixels == mask.sum()


@pytest.mark.parametrize("alignment", ALIGNMENTS[1:])
def test_an_alignment_takes_the_scale_out(alignment):
    prediction, truth, mask = maps()
    errors = depth_errors(prediction, truth, mask, alignment=alignment)
    scaled = depth_errors(0.05 * prediction, truth, mask, alignment=alignment)
    assert scaled.absrel == pytest.approx(errors.absrel)
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


@pytest.mark.parametrize("alignment", ALIGNMENTS)
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
    with pytest.raises(ValueError, match="no pixel to compare: of 84, 0 are in the mask"):
        depth_errors(prediction, truth, mask & False, alignment="none")
    with pytest.raises(ValueError, match="no pixel to compare"):
        depth_errors(prediction, 0 * truth, mask, alignment="none")


def test_a_prediction_that_is_not_finite_is_an_error_and_not_left_out():
    prediction, truth, mask = maps()
    prediction[mask] = np.where(np.arange(mask.sum()) < 2, [np.nan], prediction[mask])
    with pytest.raises(ValueError, match=f"2 of {mask.sum()} valid pixels is not finite"):
        depth_errors(prediction, truth, mask, alignment="median")


def test_single_precision_maps_are_compared_in_double():
    prediction, truth, mask = maps()
    prediction, truth = prediction.astype(np.float32), truth.astype(np.float32)
    exact = depth_errors(prediction.astype(np.float64), truth.astype(np.float64), mask, alignment="weighted_l1")
    assert depth_errors(prediction, truth, mask, alignment="weighted_l1") == exact
