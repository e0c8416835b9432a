import sys

import pytest

from g2vlm.eval.metrics import captions
from g2vlm.eval.metrics.captions import METEOR, WITHOUT_JAVA, caption_scores, f_value, has_java, tokenized, wordnet


def same(word: str) -> str:
    return word


@pytest.fixture
def without_java(monkeypatch):
    monkeypatch.setattr(captions, "has_java", lambda: False)


@pytest.mark.parametrize(
    ("candidate", "reference", "value"),
    [
        *(("brown chair", "brown chair", 1), ("a chair", "the table", 0), ("brown chair", "chair", 2 / 3)),
        *(("chair chair", "chair", 1), ("the big brown chair", "brown chair", 2 * 0.5 / 1.5), ("A", "a", 0)),
    ],
)
def test_the_f_value_counts_words_that_both_have(candidate: str, reference: str, value: float):
    assert f_value(candidate, reference, same) == pytest.approx(value)


def test_words_are_compared_in_their_dictionary_form():
    assert f_value("chairs", "chair", lambda word: word.removesuffix("s")) == 1


@pytest.mark.parametrize(("candidate", "reference"), [("", "chair"), ("chair", " ")])
def test_a_text_without_a_word_has_no_f_value(candidate: str, reference: str):
    with pytest.raises(ZeroDivisionError):
        f_value(candidate, reference, same)


def test_wordnet_is_a_function_or_said_to_be_missing():
    lemma = wordnet()
    assert lemma is None or lemma("chairs") == "chair"


@pytest.mark.usefixtures("without_java")
def test_equal_texts_score_full_and_meteor_is_left_out_without_java():
    pytest.importorskip("pycocoevalcap")
    texts = {"a": "a brown wooden chair", "b": "two white tables here"}
    scores = caption_scores(texts, {id: [text] for id, text in texts.items()})
    assert tuple(scores.overall) == WITHOUT_JAVA
    assert scores.overall == pytest.approx(
        {"Bleu_1": 1, "Bleu_2": 1, "Bleu_3": 1, "Bleu_4": 1, "ROUGE_L": 1, "CIDEr": 10}
    )
    assert scores.each["b"]["ROUGE_L"] == pytest.approx(1)


@pytest.mark.usefixtures("without_java")
def test_scores_by_hand():
    pytest.importorskip("pycocoevalcap")
    scores = caption_scores(
        {"a": "the chair", "b": "a red lamp"}, {"a": ["the big chair", "a seat"], "b": ["a red lamp"]}
    )
    # Five of five words are in the references, and the three lengths that are nearest sum to 5.
    assert scores.overall["Bleu_1"] == pytest.approx(1)
    assert scores.each["a"]["Bleu_1"] == pytest.approx(1)
    precision, recall, beta = 1, 2 / 3, 1.2
    assert scores.each["a"]["ROUGE_L"] == pytest.approx(
        (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    )


@pytest.mark.usefixtures("without_java")
def test_the_tokenizer_says_that_it_needs_java():
    with pytest.raises(ValueError, match="needs Java"):
        tokenized({"a": ["A chair."]})


def test_tokens_are_lower_case_words():
    pytest.importorskip("pycocoevalcap")
    if not has_java():
        pytest.skip("Java is missing")
    assert tokenized({"a": ["A chair, near the TV."], "b": ["", "x"]}) == {"a": ["a chair near the tv"], "b": ["", "x"]}


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    with pytest.raises(ValueError, match=r"g2vlm\[eval\]"):
        caption_scores({"a": "x"}, {"a": ["x"]})


def test_nothing_to_score_is_refused():
    with pytest.raises(ValueError, match="no text"):
        caption_scores({}, {})


@pytest.mark.slow
def test_meteor_of_a_set_is_not_the_mean_of_its_texts():
    pytest.importorskip("pycocoevalcap")
    if not has_java():
        pytest.skip("Java is missing")
    scores = caption_scores({"a": "a chair", "b": "x y"}, {"a": ["the chair", "a seat"], "b": ["x"]})
    assert scores.overall[METEOR] == pytest.approx(0.3757204, abs=1e-6)
    assert scores.each["a"][METEOR] == pytest.approx(0.6)
