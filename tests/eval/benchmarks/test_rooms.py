from dataclasses import replace
from pathlib import Path

import pytest

from g2vlm.eval.benchmarks.asking import Reply
from g2vlm.eval.benchmarks.rooms import RoomItem, RoomQuestions

ROOMS = RoomQuestions(count=18, size=56)


@pytest.fixture(scope="module")
def items() -> list[RoomItem]:
    return [*ROOMS.items(Path())]


def test_rooms_are_the_same_every_time_and_need_no_file(items):
    again = ROOMS.items(Path("nowhere"))
    assert [(item.id, item.prompt, item.row) for item in again] == [(item.id, item.prompt, item.row) for item in items]
    assert len({item.id for item in items}) == len(items) == 18
    assert all(item.missing() is None for item in items)
    assert [photo.size for photo in items[0].seen(1)] == [(56, 56)] * 4


def test_right_answers_are_worth_everything_and_none_nothing(items):
    for item in items:
        assert ROOMS.score(item, item.row["answer"]).scores["score"] == 1
        assert ROOMS.score(item, Reply(item.row["answer"])).status == "scored"
        assert (ROOMS.score(item, "").status, ROOMS.score(item, "").scores["score"]) == ("unparsed", 0)


def test_null_is_a_failure(items):
    outcome = ROOMS.score(items[0], Reply(None))
    assert (outcome.status, outcome.scores, outcome.note) == (
        "failed",
        {"score": 0.0},
        "the prediction is null and no text",
    )


def test_figures_are_in_percent_and_directions_share_one_entry(items):
    outcomes = {item.id: ROOMS.score(item, item.row["answer"]) for item in items}
    figures = {figure.name: figure for figure in ROOMS.figures(items, outcomes)}
    assert [*figures][:3] == ["overall", "micro", "macro"]
    assert {figure.value for figure in figures.values()} == {100.0}
    directions = [entry for entry in figures["overall"].entries or () if len(entry) > 1]
    assert len(directions) == 1
    wrong = items[0]
    half = outcomes | {wrong.id: replace(outcomes[wrong.id], scores={"score": 0.0})}
    assert ROOMS.figures(items, half)[1].value == pytest.approx(100 * 17 / 18)
