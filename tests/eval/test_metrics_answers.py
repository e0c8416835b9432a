import numpy as np
import pytest

from g2vlm.eval.metrics.answers import (
    Interval,
    choice_of,
    letter_of,
    macro_mean,
    mean_interval,
    mean_relative_accuracy,
    number_of,
    paired_difference,
    score_of,
    wilson,
)


@pytest.mark.parametrize(
    "text", ["B", "B.", " B", "(B) left", "[B]", "B) left", "B: left", "B. left", "B\nbecause it is"]
)
def test_a_letter_that_stands_alone_at_the_start_is_the_choice(text: str):
    assert letter_of(text, 3) == "B"


@pytest.mark.parametrize(
    "text", ["", " ", ".", "b", "Because", "B's", "A-frame", "A chair", "A or B", "the B", "not A", "D", "BB", "left"]
)
def test_anything_else_chooses_nothing(text: str):
    assert letter_of(text, 3) is None


@pytest.mark.parametrize(
    ("text", "letter"),
    [("B", "B"), ("(B) left", "B"), ("left", "A"), ("Left.", "A"), (" straight ahead ", "C"), ("A. right", "A")],
)
def test_an_option_is_chosen_by_its_letter_or_by_all_its_words(text: str, letter: str):
    assert choice_of(text, ["left", "right", "straight ahead"]) == letter


@pytest.mark.parametrize("text", ["", ".", "ahead", "to the left", "left right", "lef", "D", "straight"])
def test_some_of_the_words_choose_nothing(text: str):
    assert choice_of(text, ["left", "right", "straight ahead"]) is None


@pytest.mark.parametrize("truth", ["A", "B", "C"])
def test_an_empty_answer_is_wrong_whatever_is_asked(truth: str):
    assert score_of("", truth, ["left", "right", "ahead"]) == 0
    assert score_of("", "2.4") == 0


def test_a_choice_is_right_or_wrong_and_a_number_near_or_far():
    assert score_of("right", "B", ["left", "right"]) == 1
    assert score_of("A", "B", ["left", "right"]) == 0
    assert score_of("AB", "A", ["left", "right"]) == 0
    assert score_of("about 2 metres", "2.1") == 1
    assert score_of("three", "2") == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2.4", 2.4),
        ("It is 2.4 m, not 3", 2.4),
        ("2m", 2),
        (".5", 0.5),
        ("-3", -3),
        ("−3", -3),
        ("2-3", 2),
        ("1,200.5", 1200.5),
        ("1,2", 1),
        ("2.", 2),
        ("There are three.", 3),
        ("Ten", 10),
        ("zero", 0),
        ("two or 5", 2),
        ("view2 is 3 m away", 3),
        ("9" * 400, np.inf),
    ],
)
def test_the_first_number_counts_in_digits_or_as_a_word(text: str, number: float):
    assert number_of(text) == number


@pytest.mark.parametrize("text", ["", "none", "someone", "v1.5", "B", "eleven", "nan", "inf"])
def test_a_text_without_a_number_has_none(text: str):
    assert number_of(text) is None


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
