import pytest
from published import json_list

from g2vlm.eval.benchmarks.asking import Reply
from g2vlm.eval.benchmarks.openeqa import OPENEQA, mark_of, published_mark, truncated

PUBLIC = "public_official_without_judge"


def row(id: str = "q1", answer: str = "On the wall", **more) -> dict:
    return (
        {"question_id": id, "question": "Where is it?", "answer": answer, "category": "spatial understanding"}
        | {"episode_history": "scans-v0/001-room"}
        | more
    )


@pytest.fixture
def item(tmp_path):
    json_list(tmp_path / "open-eqa-v0.json", [row()])
    return OPENEQA.items(tmp_path)[0]


def test_published_rows_become_items(item, tmp_path):
    assert (item.id, item.kind) == ("q1", "spatial understanding")
    assert item.media == (tmp_path / "frames" / "scans-v0" / "001-room",)


@pytest.mark.parametrize(
    ("answer", "cut"),
    [
        ("On it. I saw", "On it."),
        ("about 3.5 m", "about 3."),
        ("no stop", "no stop"),
        ("", ""),
        ("a.", "a."),
        (".x", "."),
    ],
)
def test_published_answers_end_with_their_last_stop(answer: str, cut: str):
    assert truncated(answer) == cut


@pytest.mark.parametrize(
    ("judgement", "mark"),
    [("5", 5), ("Your mark: 3\nBecause", 3), ("Sure. Your mark:  4 ", 4), ("10", 10), ("Your mark: -1", -1), ("５", 5)],
)
def test_published_marks(judgement: str, mark: int):
    assert published_mark(judgement) == mark


@pytest.mark.parametrize(
    "judgement", ["Your mark: 5.", "Your mark: 5/5", "²", "", " 5", "your mark: 5", "**Your mark:** 5", "four"]
)
def test_what_stops_the_public_run(item, judgement: str):
    outcome = OPENEQA.score(item, Reply("on it", judgement=judgement), PUBLIC)
    assert outcome.status == "failed"
    assert str(outcome.note).startswith("ValueError")


@pytest.mark.parametrize(
    ("judgement", "mark"),
    [
        *(("5", 5), ("Your mark: 5.", 5), ("5/5", 5), ("Your mark: 4 out of 5", 4), ("**Your mark:** 5", 5), (" 5", 5), ("your mark: 2", 2)),
        *(("Your mark: 2\n\nYour mark: 5", 5), ("Score: 3.0", 3), ("Your mark: 4.5", None), ("10", None), ("0", None), ("Your mark: -1", None), ("-1", None)),
        *(("I think it is good", None), ("", None), ("²", None), ("Your mark: four", None)),
    ],
)  # fmt: skip
def test_a_mark_is_read_however_it_is_written(judgement: str, mark: int | None):
    assert mark_of(judgement) == mark


@pytest.mark.parametrize(("mark", "score"), [("5", 1), ("1", 0), ("0", 0), ("3", 0.5), ("7", 1)])
def test_marks_are_clipped_in_public(item, mark: str, score: float):
    outcome = OPENEQA.score(item, Reply("on it", judgement=mark), PUBLIC)
    assert outcome.scores == {"score": score, "mark": int(mark)}


def test_no_answer_is_worth_nothing_whatever_the_judge_says(item):
    for rule in ("corrected", PUBLIC):
        outcome = OPENEQA.score(item, Reply(None, judgement="5"), rule)
        assert (outcome.status, outcome.scores["score"]) == ("unparsed", 0)
    assert OPENEQA.score(item, Reply("", judgement="5")).scores["score"] == 0
    assert OPENEQA.score(item, Reply("", judgement="5"), PUBLIC).scores["score"] == 1


def test_without_a_judge_nothing_is_scored_and_the_cure_is_named(item):
    for rule in ("corrected", PUBLIC):
        outcome = OPENEQA.score(item, "on the wall", rule)
        assert (outcome.status, outcome.scores) == ("failed", {})
        assert "exact_match" in str(outcome.note)
    assert OPENEQA.score(item, "on the wall.", "exact_match").scores["score"] == 1


def test_figures_count_to_a_hundred(item):
    outcomes = {item.id: OPENEQA.score(item, Reply("on it", judgement="4"))}
    assert OPENEQA.figures([item], outcomes)[0].value == 75
