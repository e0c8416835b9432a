from pathlib import Path

import pytest
from inventions import SUMS, write_sums

from g2vlm.eval.benchmarks.base import Item, QuestionItem
from g2vlm.eval.shortcuts import Majority, Prior, middle, normalised, questions_of, truths_of


def asked(
    id: str, answer: object, scene: str, kind: str = "size", prompt: str = "How long is the chair?"
) -> QuestionItem:
    return QuestionItem(id, kind, (Path(scene),), {"answer": answer}, prompt)


def test_the_majority_is_the_constant_that_scores_best():
    items = [asked(str(i), answer, str(i)) for i, answer in enumerate(["3", "3", "9", "4"])]
    items += [asked("b", "2", "x", kind="count")]
    system = Majority(SUMS, items)
    assert system.answers == {"size": "3", "count": "2"}
    assert [system.answer(item) for item in items] == ["3", "3", "3", "3", "2"]


def test_the_prior_is_the_usual_answer_to_the_same_question_about_other_pictures():
    items = [asked("a", "80", "one"), asked("b", "90", "two"), asked("c", "100", "three")]
    items += [
        asked("d", "20", "one", prompt="How long is the cup?"),
        asked("e", "30", "two", prompt="how long is the Cup "),
    ]
    system = Prior(SUMS, items)
    assert system.answer(items[0]) == "90"  # the lower middle of 90 and 100, its own being left out
    assert system.answer(items[3]) == "30"
    lonely = asked("f", "5", "four", prompt="How long is the bed?")
    assert Prior(SUMS, [*items, lonely]).answer(lonely) == "80"  # of the kind


def test_nothing_is_usual_where_nothing_else_is_asked():
    with pytest.raises(ValueError, match="nothing is usual"):
        Prior(SUMS, [asked("a", "1", "one"), asked("b", "2", "one")]).answer(asked("a", "1", "one"))


def test_the_middle_of_numbers_and_of_words():
    assert middle(["3", "1", "10"]) == "3"
    assert middle(["B", "A", "B", "3"]) == "B"


def test_words_are_compared_without_case_punctuation_and_numbers():
    assert normalised("  How FAR is it, from 2 to 3?\n") == "how far is it from to"


def test_what_has_no_published_answer_is_refused(tmp_path):
    items = SUMS.items(write_sums(tmp_path / "data", 1))
    assert truths_of(items[0]) == ["0"]
    with pytest.raises(ValueError, match="a has no answer among reply"):
        truths_of(QuestionItem("a", "b", (), {"reply": 1}))
    with pytest.raises(ValueError, match="asks no questions"):
        questions_of(SUMS, [Item("a", "b", (), {})])
