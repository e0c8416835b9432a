"""Numbers by hand: accuracy within 10 thresholds; 0.5 of 1 is the last that counts, 0.9 of 1 is within nine."""

import re
from pathlib import Path

import pytest
from published import figures_of, item_of, outcome_of, parquet, png

from g2vlm.data.rows import BadRow
from g2vlm.eval.benchmarks.sparbench import IMAGINED, LEVELS, MATCHES, MOVES, NUMBERS, SPAR_BENCH

PUBLIC = ("public_lmms_eval", "public_spatialstack")


def row_of(task: str, answer: str, id: int = 0) -> dict[str, object]:
    return {
        "id": id,
        "task": task,
        "question": "Which?",
        "answer": answer,
        "img_type": "",
        "format_type": "",
        "source": "",
    }


def score(task: str, answer: str, reply: str, rule: str = "corrected") -> float:
    return outcome_of(SPAR_BENCH, row_of(task, answer), reply, rule).scores["score"]


def test_there_are_twenty_tasks_on_three_levels():
    assert [len(tasks) for tasks in LEVELS.values()] == [8, 3, 9]


@pytest.mark.parametrize("rule", PUBLIC)
def test_public_rules_take_an_empty_reply_for_the_right_letter(rule: str):
    assert score("position_matching", "B", "", rule) == 1


@pytest.mark.parametrize("reply", ["", " ", "\n"])
def test_an_empty_reply_never_scores(reply: str):
    outcome = outcome_of(SPAR_BENCH, row_of("position_matching", "B"), reply)
    assert (outcome.status, outcome.scores["score"]) == ("unparsed", 0)


@pytest.mark.parametrize(
    ("reply", "public", "careful"),
    [
        ("B", 1, 1),
        ("b", 1, 1),
        ("B. left", 1, 1),
        ("Because", 1, 0),
        ("(B)", 0, 1),
        ("The answer is B", 0, 1),
        ("A", 0, 0),
    ],
)
def test_letters_count_by_their_first_character_unless_they_are_read_with_care(
    reply: str, public: float, careful: float
):
    assert [score(IMAGINED[0], "B", reply, rule) for rule in (*PUBLIC, "corrected", "careful")] == [
        *([public] * 3),
        careful,
    ]


@pytest.mark.parametrize(
    ("reply", "first", "last"),
    [("2.5", 2.5, 2.5), ("from 2 to 3", 2, 3), ("-3", 3, 3), ("10^2", 10, 10), ("1,200", 1, 200), ("2.5.7", 2.5, 7)],
)
def test_single_views_take_the_first_unsigned_number_and_several_the_last(reply: str, first: float, last: float):
    single, several = (
        outcome_of(SPAR_BENCH, row_of(task, "1"), reply, "public_lmms_eval").extracted
        for task in ("depth_prediction_oc", "depth_prediction_oc_mv")
    )
    assert single is not None
    assert several is not None
    assert (float(single), float(several)) == (first, last)


@pytest.mark.parametrize(
    ("truth", "reply", "value"),
    [
        *(("2", "2", 1.0), ("2", "2.2", 0.9), ("2", "2.1", 1.0), ("2", "1", 0.1), ("2", "3", 0.1), ("2", "3.01", 0.0)),
        *(("0", "0", 1.0), ("0", "0.3", 0.5), ("2", "two", 0.0), ("2", "", 0.0)),
    ],
)  # fmt: skip
def test_numbers_score_by_their_relative_error(truth: str, reply: str, value: float):
    # 0.3 off where the truth is 0: 1 - t >= 0.3 for t = 0.5 to 0.7, five of ten
    for rule in ("corrected", *PUBLIC):
        assert score("distance_prediction_oo", truth, reply, rule) == pytest.approx(value, abs=1e-12), rule


def test_no_number_over_several_views_is_minus_one_in_public_and_unparsed_all_the_same():
    outcome = outcome_of(SPAR_BENCH, row_of("depth_prediction_oo_mv", "0"), "far", "public_lmms_eval")
    assert (outcome.status, outcome.extracted, outcome.scores["score"]) == ("unparsed", "-1.0", 0)


def test_moves_are_measured_by_the_truth_and_in_public_by_what_was_said():
    # One axis of five is off, 1 said for 0.5: |1 - 0.5| / 0.5 = 1 is none of ten, |0.5 - 1| / 1 = 0.5 is one of ten.
    truth, reply = "move_right:0.5,move_up:0", "move_right:1"
    assert score(MOVES, truth, reply) == pytest.approx(4 / 5)
    assert score(MOVES, truth, reply, "public_lmms_eval") == pytest.approx((4 + 0.1) / 5)


def test_moves_back_are_negative_moves_there():
    assert score(MOVES, "move_left:2,rotate_down:5", "move_right:-2,rotate_up:-5") == 1


@pytest.mark.parametrize("reply", ["", "left", "move_right", "move_right:a", "move_right:1,", "move_right:1:2"])
def test_what_is_no_list_of_moves_scores_nothing(reply: str):
    for rule in ("corrected", *PUBLIC):
        outcome = outcome_of(SPAR_BENCH, row_of(MOVES, "move_right:1"), reply, rule)
        assert (outcome.status, outcome.scores["score"]) == ("unparsed", 0)


def test_only_a_careful_reader_finds_moves_among_words():
    reply = 'The answer is {"move_right": 1.0, "rotate_up": 5}.'
    assert score(MOVES, "move_right:1,rotate_up:5", reply) == 0
    assert score(MOVES, "move_right:1,rotate_up:5", reply, "careful") == 1


def test_middle_has_the_moves_and_in_public_it_has_lost_them():
    rows = [
        row_of(MOVES, "move_right:1", 1),
        row_of(MATCHES[0], "A", 2),
        row_of(MATCHES[1], "A", 3),
        row_of(NUMBERS[0], "2", 4),
    ]
    replies = ["no", "A", "A", "2"]
    ours, public = (figures_of(SPAR_BENCH, rows, replies, rule) for rule in ("corrected", "public_lmms_eval"))
    assert ours["groups/Middle"].value == pytest.approx(100 * 2 / 3)
    assert public["groups/Middle"].value == 1
    assert ours["overall"].value == public["overall"].value == pytest.approx(75)


def test_overall_is_the_mean_over_tasks_and_micro_over_questions():
    rows = [
        row_of(NUMBERS[0], "2", 1),
        row_of(NUMBERS[0], "2", 2),
        row_of(NUMBERS[0], "2", 3),
        row_of(IMAGINED[0], "A", 4),
    ]
    figures = figures_of(SPAR_BENCH, rows, ["2", "2", "9", "B"])
    assert figures["overall"].value == pytest.approx(100 * (2 / 3 + 0) / 2)
    assert figures["micro"].value == pytest.approx(100 * 2 / 4)
    assert figures["overall"].entries == [[["1", "2", "3"]], [["4"]]]


def test_a_reply_that_never_came_stops_the_public_scorer_and_is_wrong_here():
    row = row_of(IMAGINED[0], "A")
    assert outcome_of(SPAR_BENCH, row, None, "public_lmms_eval").status == "failed"
    assert outcome_of(SPAR_BENCH, row, None).scores["score"] == 0


def test_prompts_end_as_the_task_asks():
    number, box, choice = (
        item_of(SPAR_BENCH, row_of(task, "1")).prompt for task in (NUMBERS[0], MATCHES[0], IMAGINED[0])
    )
    assert number == "\nWhich?\nPlease answer the question using a single word or phrase."
    assert choice == "\nWhich?\n\nAnswer with the option's letter from the given choices directly."
    assert re.fullmatch(r"\nWhich\?\nThe values represent .* of the image\.\nAnswer with the option's .*", box)
    assert item_of(SPAR_BENCH, row_of(MOVES, "move_up:1")).prompt == "\nWhich?\n\n"


def test_parquet_files_of_the_hub_are_read_with_their_pictures(tmp_path: Path):
    pictures = [{"bytes": png(1), "path": "a.png"}, {"bytes": png(2), "path": None}]
    parquet(tmp_path / "data" / "test-00000-of-00002.parquet", [row_of(NUMBERS[0], "2", 5) | {"image": pictures}])
    parquet(tmp_path / "data" / "test-00001-of-00002.parquet", [row_of(MATCHES[0], "A", 6) | {"image": pictures[:1]}])
    first, second = SPAR_BENCH.items(tmp_path)
    assert [path.read_bytes() for path in first.media] == [png(1), png(2)]
    assert [path.name for path in (*first.media, *second.media)] == ["5_0.png", "5_1.png", "6_0.png"]
    assert "image" not in first.row


def test_what_cannot_be_used_is_one_line_that_names_it(tmp_path: Path):
    file = tmp_path / "test-0.parquet"
    row = row_of(NUMBERS[0], "2", 5)
    with pytest.raises(ValueError, match=r"holds none of .*; wanted is"):
        SPAR_BENCH.items(tmp_path)
    parquet(file, [{("query" if key == "question" else key): value for key, value in row.items()}])
    with pytest.raises(ValueError, match=r"test-0.parquet:1: has no column question \(it has id, task, query"):
        SPAR_BENCH.items(tmp_path)
    parquet(file, [row, row])
    with pytest.raises(ValueError, match=r"test-0.parquet:2: id 5 is there twice; keep one"):
        SPAR_BENCH.items(tmp_path)
    parquet(file, [row | {"task": "cooking"}])
    with pytest.raises(ValueError, match=r"its task is none of SPAR-Bench's \(cooking\)"):
        SPAR_BENCH.items(tmp_path)


def test_a_file_without_rows_is_no_benchmark(tmp_path: Path):
    (tmp_path / "test.jsonl").write_text("")
    with pytest.raises(ValueError, match="no question of SPAR-Bench"):
        SPAR_BENCH.items(tmp_path)


def test_a_picture_that_is_none_is_named():
    with pytest.raises(BadRow, match="image is not a list of paths"):
        item_of(SPAR_BENCH, row_of(NUMBERS[0], "2") | {"image": [3]})
