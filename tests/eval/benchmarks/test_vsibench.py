import json
import math
from pathlib import Path

import pytest
from published import figures_of, item_of, json_list, outcome_of, parquet

from g2vlm.eval.benchmarks.vsibench import CHOICES, DIRECTIONS, NUMBERS, VSIBENCH

PUBLIC = ("public_thinking_in_space", "public_spatialstack", "public_lmms_eval")


def row(kind: str = "object_counting", truth: str = "2", **more) -> dict:
    options = ["A. lamp", "B. sofa", "C. door"] if kind in CHOICES else None
    made = {"dataset": "scannet", "scene_name": "room_1", "question_type": kind, "question": "How many?"}
    return made | {"ground_truth": truth, "options": options} | more


def test_published_rows_become_items(tmp_path):
    parquet(tmp_path / "test-00000.parquet", [row(id=4), row("object_rel_distance", "B", id=9)])
    number, choice = VSIBENCH.items(tmp_path)
    assert (number.id, choice.id) == ("4", "9")
    assert number.media == (tmp_path / "scannet" / "room_1.mp4",)
    assert number.prompt == (
        "These are frames of a video.\nHow many?\nPlease answer the question using a single word or phrase."
    )
    assert choice.prompt.split("\n")[1:] == [
        "How many?",
        "Options:",
        "A. lamp",
        "B. sofa",
        "C. door",
        "Answer with the option's letter from the given choices directly.",
    ]
    assert number.max_new_tokens == 16


def test_rows_without_ids_are_numbered(tmp_path):
    (tmp_path / "test.jsonl").write_text("\n".join(json.dumps(row()) for _ in range(2)))
    assert [item.id for item in VSIBENCH.items(tmp_path)] == ["0", "1"]


def test_an_unknown_kind_is_named(tmp_path):
    json_list(tmp_path / "test.jsonl", [row("object_colour")])
    with pytest.raises(ValueError, match=r"question_type is unknown \(object_colour\)"):
        VSIBENCH.items(tmp_path)


@pytest.mark.parametrize(
    ("reply", "corrected", "public", "lmms", "kit"),
    [
        ("2", 1, 1, 1, 1),
        ("There are two.", 1, 0, 1, 1),
        ("1-2", 0, 0, 0.1, 0),
        ("2m", 1, 0, 1, 1),
        (" 2", 1, 0, 1, 1),
        ("", 0, 0, 0, 0),
        ("nan", 0, 0, 0, 0),
        ("1.8", 0.9, 0.9, 0.9, 0.9),
        ("2.2", 0.9, 0.9, 0.9, 0.9),
    ],
)
def test_a_number_by_each_rule(reply: str, corrected: float, public: float, lmms: float, kit: float):
    rules = ("corrected", *PUBLIC, "public_vlmevalkit")
    scores = [outcome_of(VSIBENCH, row(), reply, rule).scores["score"] for rule in rules]
    assert scores == pytest.approx([corrected, public, public, lmms, kit])


@pytest.mark.parametrize(
    ("reply", "corrected", "public", "kit"),
    [("B", 1, 1, 1), ("(B)", 1, 0, 1), ("b.", 1, 1, 0), ("sofa", 1, 0, 0), ("A or B", 0, 0, 0), ("B\nsofa", 1, 0, 1)],
)
def test_a_choice_by_each_rule(reply: str, corrected: float, public: float, kit: float):
    rules = ("corrected", *PUBLIC, "public_vlmevalkit")
    scores = [outcome_of(VSIBENCH, row("route_planning", "B"), reply, rule).scores["score"] for rule in rules]
    assert scores == [corrected, public, public, public, kit]


@pytest.mark.parametrize("rule", PUBLIC)
def test_a_truth_of_zero_stops_public_runs(rule: str):
    outcome = outcome_of(VSIBENCH, row(truth="0"), "1", rule)
    assert (outcome.status, outcome.scores) == ("failed", {})
    assert outcome.note == "ZeroDivisionError: float division by zero"
    assert outcome_of(VSIBENCH, row(truth="0"), "no number", rule).scores == {"score": 0}


def test_a_truth_of_zero_is_compared_by_the_error_itself():
    assert outcome_of(VSIBENCH, row(truth="0.0"), "0").scores["score"] == 1
    assert outcome_of(VSIBENCH, row(truth="0.0"), "0.25").scores["score"] == pytest.approx(0.6)


def test_an_answer_five_percent_off_is_inside_by_its_digits():
    off = row(truth="15.1")
    assert outcome_of(VSIBENCH, off, "15.855", "corrected_exact_boundary").scores["score"] == 1
    assert outcome_of(VSIBENCH, off, "15.855").scores["score"] == pytest.approx(0.9)  # by the bits, outside
    assert outcome_of(VSIBENCH, off, "15.8551", "corrected_exact_boundary").scores["score"] == 0.9
    assert outcome_of(VSIBENCH, row("route_planning", "B"), "B", "corrected_exact_boundary").scores["score"] == 1


def everything() -> tuple[list[dict], list[str]]:
    """One question of each kind, right but for one direction and the room's size; and a second count, which is wrong."""
    rows = [row(kind, "2") for kind in NUMBERS] + [row(kind, "B") for kind in CHOICES] + [row("object_counting", "7")]
    replies = ["2" if each["options"] is None else "B" for each in rows]
    replies[NUMBERS.index("room_size_estimation")] = "no idea"
    replies[len(NUMBERS) + CHOICES.index("object_rel_direction_hard")] = "A"
    return [each | {"id": i} for i, each in enumerate(rows)], replies


def test_directions_are_one_of_eight_entries():
    rows, replies = everything()
    found = figures_of(VSIBENCH, rows, replies)
    assert found["overall"].value == pytest.approx((1 + 0.5 + 1 + 0 + 2 / 3 + 1 + 1 + 1) / 8)
    assert found["groups/object_rel_direction"].value == pytest.approx(2 / 3)
    assert found["micro"].value == pytest.approx(8 / 11)
    assert found["macro"].value == pytest.approx((1 + 0.5 + 1 + 0 + 1 + 1 + 0 + 1 + 1 + 1) / 10)
    assert sum(name.startswith("groups/") for name in found) == 8
    assert found["types/object_rel_direction_hard"].value == 0


@pytest.mark.parametrize("rule", ["public_thinking_in_space", "public_spatialstack"])
def test_forks_of_lmms_eval_count_to_a_hundred(rule: str):
    rows, replies = everything()
    assert figures_of(VSIBENCH, rows, replies, rule)["overall"].value == pytest.approx(100 * (5.5 + 2 / 3) / 8)
    assert figures_of(VSIBENCH, rows, replies, "public_lmms_eval")["overall"].value == pytest.approx((5.5 + 2 / 3) / 8)


@pytest.mark.parametrize(("missing", "official", "fork"), [("easy", (1 + 0) / 2, 0.5), ("medium", None, 0.5)])
def test_a_missing_direction_stops_some_and_not_others(missing: str, official: float | None, fork: float):
    rows, replies = everything()
    kept = [i for i, each in enumerate(rows) if each["question_type"] != f"object_rel_direction_{missing}"]
    rows, replies = [rows[i] for i in kept], [replies[i] for i in kept]
    assert figures_of(VSIBENCH, rows, replies)["overall"].value == pytest.approx((5.5 + fork) / 8)
    assert figures_of(VSIBENCH, rows, replies, "public_spatialstack")["overall"].value == pytest.approx(
        100 * (5.5 + fork) / 8
    )
    stopped = figures_of(VSIBENCH, rows, replies, "public_lmms_eval")["overall"]
    assert math.isnan(stopped.value)
    assert f"KeyError: the harness stops without object_rel_direction_{missing}" in str(stopped.note)
    theirs = figures_of(VSIBENCH, rows, replies, "public_thinking_in_space")["overall"].value
    if official is None:
        assert math.isnan(theirs)
    else:  # both directions that are left are entries of their own
        assert theirs == pytest.approx(100 * (5.5 + 1 + 0) / 9)


def test_without_any_direction_seven_entries_are_left():
    rows, replies = everything()
    kept = [i for i, each in enumerate(rows) if each["question_type"] not in DIRECTIONS]
    rows, replies = [rows[i] for i in kept], [replies[i] for i in kept]
    for rule in ("corrected", "public_thinking_in_space"):
        figure = figures_of(VSIBENCH, rows, replies, rule)["overall"]
        assert figure.value / figure.scale == pytest.approx(5.5 / 7)


def test_media_are_videos_by_scene():
    assert item_of(VSIBENCH, row()).media == (Path("nowhere/scannet/room_1.mp4"),)


@pytest.mark.parametrize("rule", ["corrected", "corrected_exact_boundary"])
@pytest.mark.parametrize("truth", ["", "two", "nan"])
def test_a_published_answer_that_is_no_number_is_a_failure_of_its_item(rule: str, truth: str):
    outcome = outcome_of(VSIBENCH, row(truth=truth), "2", rule)
    assert (outcome.status, outcome.scores) == ("failed", {})
    assert f"its answer is no number: {truth!r}" in str(outcome.note)
