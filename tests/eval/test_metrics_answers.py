import numpy as np
import pytest

from g2vlm.eval.metrics.answers import (
    Interval,
    macro_mean,
    mean_interval,
    mean_relative_accuracy,
    paired_difference,
    wilson,
)


def test_relative_accuracy_counts_the_thresholds_that_an_error_passes():
    predictions = np.array([2.0, 1.9, 2.2, 1.0, 3.0, 0.9, np.nan, np.inf])
    expected = [1.0, 1.0, 0.9, 0.1, 0.1, 0.0, 0.0, 0.0]
    assert mean_relative_accuracy(predictions, np.full(8, 2.0)).tolist() == expected


def test_ten_percent_off_keeps_the_bin_that_other_thresholds_lose():
    careless = 0.5 + 0.05 * np.arange(10)  # the ninth is a bit above 0.9, and an error of exactly 0.1 misses it
    assert np.mean(abs(4.5 - 5) / 5 <= 1 - careless) == 0.8
    assert mean_relative_accuracy(np.array([4.5]), np.array([5.0])).tolist() == [0.9]


def test_where_the_truth_is_zero_the_error_itself_is_compared():
    assert mean_relative_accuracy(np.array([0.0, 0.25, 1.0]), np.zeros(3)).tolist() == [1, 0.6, 0]


def test_the_sign_of_a_negative_truth_matters():
    assert mean_relative_accuracy(np.array([-2.0, 2.0]), np.array([-2.0, -2.0])).tolist() == [1, 0]


def test_wilsons_interval_is_the_published_one():
    # 81 of 263, a worked example of Newcombe (1998): 0.2553 to 0.3662.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_wilsons_interval_has_a_width_where_everything_is_right():
    low, high = wilson(50, 50)
    assert 0.92 < low < 0.93
    assert high == 1
    assert wilson(0, 0) == Interval(0, 1)


def test_the_interval_of_a_mean_holds_it_ninety_five_times_of_a_hundred():
    chance = np.random.default_rng(0)
    samples = chance.beta(2, 3, size=(1000, 60))
    holds = [low <= 0.4 <= high for low, high in map(mean_interval, samples)]
    assert 0.93 < np.mean(holds) < 0.97


def test_one_score_says_next_to_nothing():
    low, high = mean_interval(np.array([0.5]))
    assert (low, high) == (0, 1)


def test_kinds_that_share_an_entry_count_as_one():
    scores = {"size": np.array([1.0, 1.0]), "easy": np.array([0.0, 0.0, 0.0]), "hard": np.array([1.0])}
    mean, _ = macro_mean(scores, [["size"], ["easy", "hard"]])
    assert mean == pytest.approx(0.75)
    mean, _ = macro_mean(scores, [["size"], ["easy"], ["hard"]])
    assert mean == pytest.approx(2 / 3)


def test_a_macro_mean_is_as_sure_as_its_parts_together():
    chance = np.random.default_rng(0)
    holds = []
    for _ in range(1000):
        scores = {
            kind: chance.binomial(1, p, size=40).astype(float) for kind, p in [("a", 0.3), ("b", 0.5), ("c", 0.8)]
        }
        _, (low, high) = macro_mean(scores, [["a"], ["b", "c"]])
        holds.append(low <= (0.3 + 0.65) / 2 <= high)
    assert 0.93 < np.mean(holds) < 0.97


def test_a_paired_difference_is_surer_than_two_unpaired_means():
    chance = np.random.default_rng(0)
    theirs = chance.uniform(size=200)
    ours = np.minimum(theirs + chance.uniform(0, 0.1, size=200), 1)
    difference, (low, high) = paired_difference({"a": ours}, {"a": theirs}, [["a"]])
    assert difference == pytest.approx(ours.mean() - theirs.mean())
    assert 0.03 < low < difference < high < 0.07
    assert mean_interval(ours).low < mean_interval(theirs).high


def test_equal_answers_differ_by_nothing():
    scores = {"a": np.array([0.0, 1.0, 1.0])}
    assert paired_difference(scores, scores, [["a"]]) == (0, (0, 0))
