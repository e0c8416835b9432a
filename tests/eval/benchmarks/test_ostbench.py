"""Scores by hand: an estimate within 50 % scores 0.1, and 0.1 more for each further 5 % that it is nearer, strictly."""

import math
from pathlib import Path

import pytest
from published import figures_of, item_of, json_list, outcome_of

from g2vlm.eval.benchmarks.ostbench import FORMS, OST_BENCH, OVERALL, PARTS, kind_named

OFFICIAL, KIT = "public_official", "public_vlmevalkit"

JUDGEMENT = "Agent_state-position(Judgement)"
ESTIMATE = "Agent_state-position(Estimation)"
COUNT = "Agent_visible_info-quantity(Counting)"
MOMENT = "Agent_object_spatial-distance(Temporal-loc)"

ALL_KINDS = [kind for entry in OVERALL for kind in entry]


def row_of(kind: str, answer: str, *, turn: int = 0, scan: str = "scan", **more: object) -> dict[str, object]:
    options = ["left", "right", "in front"] if "Judgement" in kind or "option" in kind else []
    return {
        "scan_id": scan,
        "turn_id": turn,
        "type": kind,
        "answer": answer,
        "option": options,
        "origin_question": "Where?",
        "system_prompt": "You walk.",
        "user_message": "Where is it?",
        "new_observations": [f"{scan}/{turn}.jpg"],
    } | more


def score(kind: str, answer: str, reply: str, rule: str = "corrected") -> float | None:
    return outcome_of(OST_BENCH, row_of(kind, answer), reply, rule).scores.get("score")


def test_there_are_eight_parts_and_four_forms_of_answers():
    assert (len(PARTS), len(FORMS), len(ALL_KINDS), len({*ALL_KINDS})) == (8, 4, 20, 20)
    assert {kind for entries in FORMS.values() for entry in entries for kind in entry} == {*ALL_KINDS}


def test_an_empty_reply_leaves_the_authors_denominator_and_becomes_nan_in_a_spreadsheet():
    row = row_of(JUDGEMENT, "left")
    assert outcome_of(OST_BENCH, row, "", OFFICIAL).status == "skipped"
    assert outcome_of(OST_BENCH, row, "", KIT).extracted == "nan"
    outcome = outcome_of(OST_BENCH, row, "")
    assert (outcome.status, outcome.scores["score"]) == ("unparsed", 0)


def test_a_failed_call_counts_nowhere_in_vlmevalkit():
    row = row_of(JUDGEMENT, "left")
    assert outcome_of(OST_BENCH, row, "Failed to obtain answer", KIT).status == "skipped"
    assert outcome_of(OST_BENCH, row, "Failed to obtain answer", OFFICIAL).status == "scored"


@pytest.mark.parametrize("reply", ["?", '{"answer": "", "reason": ""}', "reason without one, my answer"])
def test_a_reply_without_content_takes_the_first_option_in_public_only(reply: str):
    assert [score(JUDGEMENT, "left", reply, rule) for rule in (OFFICIAL, KIT)] == [1, 1]
    assert outcome_of(OST_BENCH, row_of(JUDGEMENT, "left"), reply).status == "unparsed"


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        *(("right", 1), ("Right.", 1), ("It is on the right side", 1), ('{"answer": "right", "reason": "left"}', 1)),
        *(("{'answer': 'right', 'reason': 'it'}", 1), ("answer: right\nreason: left", 1), ("left", 0), ("in front", 0)),
    ],
)
def test_the_option_that_is_most_like_the_reply_is_chosen(reply: str, value: float):
    assert [score(JUDGEMENT, "right", reply, rule) for rule in ("corrected", OFFICIAL, KIT)] == [value] * 3


def test_an_option_is_guessed_from_the_order_in_public_only():
    # "t" is common to left, right and in front: 1 letter each, and left stands first.
    assert score(JUDGEMENT, "left", "t", OFFICIAL) == 1
    assert outcome_of(OST_BENCH, row_of(JUDGEMENT, "left"), "t").status == "unparsed"


def test_a_truth_that_is_no_option_stops_the_public_scorer():
    outcome = outcome_of(OST_BENCH, row_of(JUDGEMENT, "behind"), "left", OFFICIAL)
    assert (outcome.status, outcome.note) == ("failed", "AssertionError: ")


@pytest.mark.parametrize(
    ("truth", "reply", "value"),
    [("10", "10", 1.0), ("10", "10.4", 1.0), ("10", "10.6", 0.9), ("10", "11.2", 0.8), ("10", "14.9", 0.1), ("10", "15", 0.0)],
)  # fmt: skip
def test_estimates_score_by_their_relative_error(truth: str, reply: str, value: float):
    for rule in ("corrected", OFFICIAL, KIT):
        assert score(ESTIMATE, truth, reply, rule) == pytest.approx(value, abs=1e-12), rule


def test_an_estimate_has_to_be_a_number_alone_in_public():
    assert [score(ESTIMATE, "3", "3 metres", rule) for rule in ("corrected", OFFICIAL)] == [pytest.approx(1), 0]
    assert outcome_of(OST_BENCH, row_of(ESTIMATE, "3"), "3 metres", OFFICIAL).status == "unparsed"


def test_a_truth_of_zero_stops_the_public_scorer_and_has_to_be_met_here():
    row = row_of(ESTIMATE, "0")
    assert outcome_of(OST_BENCH, row, "1", OFFICIAL).note == "ZeroDivisionError: float division by zero"
    assert [outcome_of(OST_BENCH, row, reply).scores["score"] for reply in ("0", "1")] == [1, 0]


@pytest.mark.parametrize(
    ("truth", "reply", "corrected", "official", "kit"),
    [
        *(("2", "2", 1, 1, 1), ("2", "two", 1, 1, 1), ("2", "There are two.", 1, 1, 1), ("2", "3", 0, 0, 0)),
        *(("2", "2.9", 0, 1, 0), ("3", "3.0", 1, 1, 0), ("1", "phone", 0, 1, 1), ("1", "none", 0, 1, 1), ("10", "often", 0, 1, 1)),
        *(("2", "2 chairs", 1, 0, 0), ("2", "inf", 0, 0, 0)),
    ],
)  # fmt: skip
def test_whole_numbers_are_read_as_each_harness_reads_them(
    truth: str, reply: str, corrected: int, official: int, kit: int
):
    for kind in (COUNT, MOMENT):
        assert [score(kind, truth, reply, rule) for rule in ("corrected", OFFICIAL, KIT)] == [corrected, official, kit]


def test_types_are_known_under_their_old_names():
    assert kind_named("AO_direction(option1)") == "Agent_object_spatial-direction(Judgement1)"
    assert kind_named("A_object-quantity(int)") == COUNT
    assert kind_named("A_object-existence(int2)") == "Agent_visible_info-existence(Temporal-loc2)"
    assert kind_named("A_position(float)") == ESTIMATE
    assert [kind_named(kind) for kind in ALL_KINDS] == ALL_KINDS


def test_room_sizes_are_not_asked():
    row = row_of("A_room-size(float)", "20")
    assert {outcome_of(OST_BENCH, row, "20", rule).status for rule in ("corrected", OFFICIAL, KIT)} == {"skipped"}


def answered(kinds: list[str], right: set[str], rule: str):
    rows = [row_of(kind, "left" if "Judgement" in kind else "2", turn=i) for i, kind in enumerate(kinds)]
    replies = [str(row["answer"]) if row["type"] in right else "9" if not row["option"] else "right" for row in rows]
    return figures_of(OST_BENCH, rows, replies, rule)


@pytest.mark.parametrize("rule", ["corrected", OFFICIAL, KIT])
def test_overall_is_the_mean_of_eight_parts_however_many_kinds_they_have(rule: str):
    one_of_six = "Agent_object_spatial-direction(Judgement2)"
    figures = answered(ALL_KINDS, {one_of_six, COUNT}, rule)
    assert figures["groups/AO(Judge)"].value == pytest.approx(1 / 6)
    assert figures["groups/Judgement"].value == pytest.approx(1 / 3 / 7)
    assert figures["groups/Counting"].value == 1
    assert figures["overall"].value == pytest.approx((1 / 6 + 1) / 8)
    assert figures["micro"].value == pytest.approx(2 / 20)


def test_a_kind_without_a_question_is_a_key_error_in_public_and_left_out_here():
    kinds = [kind for kind in ALL_KINDS if kind != COUNT]
    public, ours = (answered(kinds, {*kinds}, rule)["overall"] for rule in (OFFICIAL, "corrected"))
    assert math.isnan(public.value)
    assert public.note == f"not computed: KeyError: '{COUNT}'"
    assert ours.value == pytest.approx(1)


def test_a_question_is_about_all_that_was_seen_until_then(tmp_path: Path):
    rows = [row_of(COUNT, "2", turn=1), row_of(COUNT, "2", turn=0), row_of(COUNT, "2", scan="other")]
    json_list(tmp_path / "OST_bench.json", rows)
    late, early, other = OST_BENCH.items(tmp_path)
    images = tmp_path / "images"
    assert early.media == (images / "scan/0.jpg",)
    assert late.media == (images / "scan/0.jpg", images / "scan/1.jpg")
    assert other.media == (images / "other/0.jpg",)
    assert late.prompt == "You walk.\nWhere is it?"


def test_questions_about_few_pictures_have_their_own_mean():
    rows = [
        row_of(COUNT, "2", turn=0, new_observations=["a.jpg"] * 15),
        row_of(COUNT, "2", turn=1, new_observations=["a.jpg"] * 16),
    ]
    figures = figures_of(OST_BENCH, rows, ["2", "3"])
    assert figures["groups/up to 15 pictures"].value == 1
    assert figures["overall"].value == 0.5


def test_rows_that_cannot_be_used_are_named(tmp_path: Path):
    file = tmp_path / "OST_bench.json"
    json_list(file, [row_of(COUNT, "2"), row_of(MOMENT, "2")])
    with pytest.raises(ValueError, match=r"OST_bench.json:2: id scan_0 is there twice"):
        OST_BENCH.items(tmp_path)
    json_list(file, [row_of(JUDGEMENT, "left", option=[])])
    with pytest.raises(ValueError, match="option is empty"):
        OST_BENCH.items(tmp_path)
    json_list(file, [{("kind" if key == "type" else key): value for key, value in row_of(COUNT, "2").items()}])
    with pytest.raises(ValueError, match="has no column type"):
        OST_BENCH.items(tmp_path)


def test_the_scene_description_is_told_before_the_question():
    assert item_of(OST_BENCH, row_of(COUNT, "2")).max_new_tokens == 4096
