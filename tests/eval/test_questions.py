from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from builders import small_config, small_model

from g2vlm import presets
from g2vlm.data.questions import KINDS, NUMERIC, Question
from g2vlm.data.scenes import TEST_SEEDS, TRAIN_SEEDS, VALIDATION_SEEDS
from g2vlm.eval.questions import (
    DIRECTIONS,
    Quiz,
    asking,
    asking_blindly,
    entries_of,
    evaluate,
    held_out,
    majority,
    score_of,
)
from g2vlm.pictures import Photo
from g2vlm.predictor import Predictor
from g2vlm.processor import Processor, byte_tokenizer
from g2vlm.records import Mark
from g2vlm.speaking import GeometryInput


@pytest.fixture(scope="module")
def quizzes() -> list[Quiz]:
    return held_out(72, size=56)


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


def quiz(*questions: Question) -> Quiz:
    return Quiz(0, (Photo("view_000", np.zeros((28, 28, 3), dtype=np.uint8)),), questions)


def choice(answer: str, *options: str, kind: str = "spatial_relation") -> Question:
    return Question(kind, "Where?", answer, options)


def number(answer: str, kind: str = "depth_prediction") -> Question:
    return Question(kind, "How far?", answer, unit="metres")


def truth(quiz: Quiz) -> list[str]:
    return [question.answer for question in quiz.questions]


def saying(text: str):
    return lambda quiz: [text] * len(quiz.questions)


def kinds_of(quizzes: Sequence[Quiz]) -> Counter[str]:
    return Counter(question.kind for quiz in quizzes for question in quiz.questions)


def test_every_kind_is_asked_equally_often(quizzes: list[Quiz]):
    assert kinds_of(quizzes) == dict.fromkeys(KINDS, 4)
    uneven = kinds_of(held_out(5, size=28, kinds=("room_size_estimation", "depth_comparison")))
    assert sorted(uneven.values()) == [2, 3]


def test_rooms_are_neither_for_training_nor_for_validation(quizzes: list[Quiz]):
    seeds = [quiz.seed for quiz in quizzes]
    assert all(seed in TEST_SEEDS and seed not in TRAIN_SEEDS and seed not in VALIDATION_SEEDS for seed in seeds)
    assert len({*seeds}) == len(seeds)


def test_the_same_seed_asks_the_same(quizzes: list[Quiz]):
    again = held_out(72, size=56)
    assert [quiz.questions for quiz in again] == [quiz.questions for quiz in quizzes]
    assert all(
        np.array_equal(one.photos[0].rgb, other.photos[0].rgb) for one, other in zip(again, quizzes, strict=True)
    )
    assert {quiz.seed for quiz in held_out(18, size=56, seed=1)}.isdisjoint(quiz.seed for quiz in quizzes)


def test_a_room_serves_several_questions_of_different_kinds(quizzes: list[Quiz]):
    assert len(quizzes) < 72 / 4
    for quiz in quizzes:
        assert len(quiz.questions) <= 16
        assert len({question.kind for question in quiz.questions}) == len(quiz.questions)


def test_marks_lie_in_the_photos_that_are_asked_about(quizzes: list[Quiz]):
    marks = [(mark, quiz) for quiz in quizzes for question in quiz.questions for mark in question.marks]
    assert marks
    for mark, quiz in marks:
        height, width = quiz.photos[mark.view].size
        assert 0 <= mark.x < width
        assert 0 <= mark.y < height


def test_what_cannot_be_asked_is_refused_with_a_cure():
    with pytest.raises(ValueError, match=r"camera_motion, .* cannot be asked about 1 views; give more"):
        held_out(72, num_views=1)
    with pytest.raises(ValueError, match="3 questions are too few for 18 kinds"):
        held_out(3)
    with pytest.raises(ValueError, match=r"1 rooms give too few questions, missing are {'room_size_estimation': 2}"):
        held_out(3, size=28, seeds=range(1), kinds=("room_size_estimation",))


def test_the_truth_scores_all_and_silence_nothing(quizzes: list[Quiz]):
    report = evaluate(truth, quizzes)
    assert report.overall == pytest.approx(1)
    assert {kind: row.count for kind, row in report.kinds.items()} == kinds_of(quizzes)
    silent = evaluate(saying(""), quizzes)
    assert silent.overall == 0
    assert silent.interval.low == 0


def test_choices_and_numbers_are_scored_in_their_own_way():
    questions = [choice("A", "left", "right"), choice("B", "left", "right"), number("2.0"), number("4.0")]
    report = evaluate(lambda quiz: ["left", "left", "2.2", "none"], [quiz(*questions)])
    assert report.kinds["spatial_relation"].score == 0.5
    assert report.kinds["depth_prediction"].score == pytest.approx(0.45)
    assert report.overall == pytest.approx(0.475)
    assert report.scores["depth_prediction"].tolist() == pytest.approx([0.9, 0])


def test_an_interval_surrounds_its_score(quizzes: list[Quiz]):
    report = evaluate(majority(quizzes), quizzes)
    for row in (*report.kinds.values(), report):
        score = row.overall if row is report else row.score
        assert 0 <= row.interval.low <= score <= row.interval.high <= 1


def test_the_directions_are_one_entry_of_sixteen():
    entries = entries_of(KINDS)
    assert len(entries) == 16
    assert list(DIRECTIONS) in entries


def test_an_answer_too_few_is_noticed(quizzes: list[Quiz]):
    with pytest.raises(ValueError, match="shorter"):
        evaluate(lambda quiz: truth(quiz)[1:], quizzes)


def test_the_majority_gives_one_letter_where_no_word_is_better():
    asked = quiz(*(choice(answer, "left", "right") for answer in "ABBAB"))
    assert majority([asked])(asked) == list("BBBBB")


def test_the_majority_follows_a_word_through_the_letters():
    asked = quiz(choice("A", "left", "right"), choice("B", "right", "left"), choice("B", "back", "right"))
    assert majority([asked])(asked) == ["A", "B", "B"]


def test_no_constant_number_beats_the_majority(quizzes: list[Quiz]):
    for kind in NUMERIC:
        truths = [question.answer for quiz in quizzes for question in quiz.questions if question.kind == kind]
        asked = quiz(*(number(truth, kind) for truth in truths))
        best = evaluate(majority([asked]), [asked]).overall
        for constant in (*truths, *np.geomspace(0.1, 500, 400)):
            assert best >= np.mean([score_of(f"{float(constant):.4f}", truth) for truth in truths]) - 1e-9


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    tokens = presets.tiny().tokens
    vision = small_config().vision_config.to_dict() | {"patch_size": 14}
    model = small_model(small_config(text={"vocab_size": 320}, vision_config=vision, tokens=tokens))
    with torch.no_grad():
        model.lm_head.weight[256:] = 0  # of all special tokens and unused ids, so that answers are text
    return Predictor(model, Processor(byte_tokenizer(tokens), tokens), source="", checkpoint_sha256="")


def test_a_blind_model_answers_many_questions_as_it_answers_one(predictor: Predictor, quizzes: list[Quiz]):
    first = Quiz(0, quizzes[0].photos, quizzes[0].questions[:3])
    together = asking_blindly(predictor)(first)
    alone = [asking_blindly(predictor)(Quiz(0, first.photos, (question,)))[0] for question in first.questions]
    assert together == alone
    assert len({*together}) > 1


def test_a_blind_model_is_told_where_the_marks_are(predictor: Predictor, quizzes: list[Quiz]):
    marked = next(question for quiz in quizzes for question in quiz.questions if question.marks)
    unmarked = Question(marked.kind, marked.text, marked.answer, marked.options)
    with_marks, without = (asking_blindly(predictor)(Quiz(0, quizzes[0].photos, (q,))) for q in (marked, unmarked))
    assert with_marks != without


def test_a_seeing_model_answers_each_question_as_if_it_were_the_only_one(predictor: Predictor, quizzes: list[Quiz]):
    photos = quizzes[0].photos[:2]
    marks = (Mark(1, 10.0, 20.0, "A"),)
    questions = (
        number("2.0"),
        Question("depth_prediction", "How far is A?", "2.0", marks=marks),
        choice("A", "left", "right"),
    )
    together = asking(predictor)(Quiz(0, photos, questions))
    alone = [predictor.answer(photos, q.text, marks=q.marks, max_new_tokens=24).text for q in questions]
    assert together == alone
    assert all(together)


def test_a_seeing_model_can_be_kept_from_its_geometry(predictor: Predictor, quizzes: list[Quiz]):
    asked = Quiz(0, quizzes[0].photos[:2], (number("2.0"),))
    inputs: tuple[GeometryInput, ...] = ("on", "off", "blank", "shuffled")
    answers = [asking(predictor, geometry=geometry)(asked)[0] for geometry in inputs]
    assert len({*answers}) > 1
