"""An answer as it grows, and evidence drawn where it was measured."""

from itertools import pairwise

import numpy as np
import pytest

import g2vlm
from g2vlm.app.talk import draw_evidence, spoken
from g2vlm.pictures import Photo
from g2vlm.records import Answer, Mark, Statement

GREY = Photo("grey.png", np.full((100, 200, 3), 90, np.uint8))
MARKS = (Mark(0, 20, 30, "A"), Mark(0, 150, 60, "B"))


@pytest.fixture(scope="module")
def predictor():
    return g2vlm.load(device="cpu")


def test_words_come_one_after_the_other_and_the_answer_at_last(predictor):
    session = predictor.open([GREY, GREY])
    *growing, last = spoken(
        session,
        predictor.processor.tokenizer,
        "How large is the room?",
        marks=MARKS,
        reasoning="geometry",
        max_new_tokens=8,
    )
    assert isinstance(last, Answer)
    assert last.evidence
    assert growing[-1].strip() == last.text
    assert all(later.startswith(sooner) for sooner, later in pairwise(growing))
    assert last.text == session.ask("How large is the room?", marks=MARKS, reasoning="geometry", max_new_tokens=8).text


def test_a_question_that_cannot_be_answered_ends_with_its_error(predictor):
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        list(spoken(predictor.open([GREY]), predictor.processor.tokenizer, "Why?", max_new_tokens=0))


def test_evidence_is_drawn_into_the_views_that_it_came_from():
    said = [
        Statement("depth", "depth A 1.00 u", 1.0, "u", (1,), ((50.5, 25.5),)),
        Statement("motion", "motion 0 1", "", "u", (0, 1)),
    ]
    drawn = draw_evidence([GREY, GREY, GREY], said)
    assert [caption for _, caption in drawn] == ["view 0", "view 1"]
    (first, _), (second, _) = drawn
    factor = 480 / 100
    assert second.rgb[round(25.5 * factor), round(50.5 * factor)].tolist() == [255, 0, 0]
    assert (first.rgb[:480] == 90).all()
    assert first.rgb.shape[0] < second.rgb.shape[0]
    assert (GREY.rgb == 90).all()


def test_two_places_of_one_statement_are_joined_and_discs_on_discs_stay_seen():
    a, b = (20.0, 50.0), (180.0, 50.0)
    said = [
        Statement("depth", "depth A 1.00 u", 1.0, "u", (0,), (a,)),
        Statement("distance", "distance A B 1.00 u", 1.0, "u", (0, 0), (a, b)),
    ]
    ((photo, _),) = draw_evidence([GREY], said)
    middle, at_a = photo.rgb[240, 480].tolist(), photo.rgb[240, 96].tolist()
    assert middle == at_a == [0, 0, 255]
    beside = photo.rgb[240, 60:96].reshape(-1, 3).tolist()
    assert [255, 0, 0] in beside


def test_nothing_measured_is_nothing_drawn():
    assert draw_evidence([GREY], []) == []
