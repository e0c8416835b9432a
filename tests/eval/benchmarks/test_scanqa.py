import math

import pytest
from published import json_list

from g2vlm.eval.benchmarks import scanqa as module
from g2vlm.eval.benchmarks.asking import Reply
from g2vlm.eval.benchmarks.scanqa import SCANQA, class_of, scanqa
from g2vlm.eval.metrics import captions

NO_LEMMA = scanqa(lambda word: word.removesuffix("s"))


def row(
    id: str = "val-room1-0", answers: tuple[str, ...] = ("brown chair", "a chair"), question: str = "What is it?"
) -> dict:
    return {"question_id": id, "question": question, "answers": list(answers), "scene_id": "room_1"}


def item(**more):
    made = NO_LEMMA.item_of(row(**more), module.Path("nowhere"), 0)
    assert made is not None
    return made


@pytest.fixture
def without_java(monkeypatch):
    for each in (captions, module):
        monkeypatch.setattr(each, "has_java", lambda: False)


def test_published_rows_become_items(tmp_path):
    json_list(tmp_path / "ScanQA_v1.0_val.json", [row(question="Where is the lamp?")])
    (read,) = SCANQA.items(tmp_path)
    assert (read.id, read.kind) == ("val-room1-0", "Place")
    assert read.media == (tmp_path / "video" / "room_1.mp4",)
    assert read.prompt == "Where is the lamp?\nPlease answer the question using a single word or phrase."


def test_the_test_split_has_no_answers(tmp_path):
    json_list(tmp_path / "ScanQA_v1.0_val.json", [row(answers=())])
    with pytest.raises(ValueError, match=r":1: has no answers"):
        SCANQA.items(tmp_path)


@pytest.mark.parametrize(
    ("question", "name"),
    [
        *(("Where is what is the color?", "Place"), ("How many?", "Number"), ("What is the color of it?", "Color")),
        *(
            ("What color is it?", "Color"),
            ("What shape is it?", "Object nature"),
            ("What is it?", "Object"),
            ("what is it", "Other"),
        ),
    ],
)
def test_questions_have_classes_by_words_in_them(question: str, name: str):
    assert class_of(question) == name


@pytest.mark.parametrize("rule", ["corrected", "public_official"])
def test_exact_match_and_f_value(rule: str):
    def scores(reply):
        return NO_LEMMA.score(item(), reply, rule).scores

    assert scores("a chair") == {"score": 1, "f_value": 1}
    assert scores("A chair")["score"] == 0
    assert scores("chairs") == pytest.approx({"score": 0, "f_value": 2 / 3})
    assert scores("lamp") == {"score": 0, "f_value": 0}
    assert scores(Reply("lamp", ranked=("lamp", "a chair"))) == {"score": 0, "f_value": 0, "em10": 1}


@pytest.mark.parametrize("reply", ["", " ", "\n"])
def test_a_reply_without_a_word_stops_the_public_run_only(reply: str):
    public = NO_LEMMA.score(item(), reply, "public_official")
    assert (public.status, public.note) == ("failed", "ZeroDivisionError: division by zero")
    ours = NO_LEMMA.score(item(), Reply(reply, ranked=(reply, "a chair")))
    assert (ours.status, ours.scores) == ("unparsed", {"score": 0, "f_value": 0, "em10": 1})


def test_thoughts_are_cut_by_the_corrected_rule():
    reply = "<think>a lamp?</think>a chair"
    assert NO_LEMMA.score(item(), reply).scores["score"] == 1
    assert NO_LEMMA.score(item(), reply, "public").scores["score"] == 0


def test_the_normalised_match_sees_letters_and_digits():
    assert NO_LEMMA.score(item(), "A  Chair!", "normalised_em").scores == {"score": 1}
    assert NO_LEMMA.score(item(), "?!", "normalised_em").status == "unparsed"


@pytest.mark.usefixtures("without_java")
def test_figures_say_what_is_not_computed():
    items = [item(id=f"q{i}") for i in range(2)]
    outcomes = {each.id: NO_LEMMA.score(each, said) for each, said in zip(items, ["a chair", "chair"], strict=True)}
    found = {figure.name: figure for figure in NO_LEMMA.figures(items, outcomes)}
    assert found["overall"].value == 50
    assert found["f_value"].value == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert found["groups/Object/f_value"].value == found["f_value"].value
    for name in ("em10", "Bleu_4", "METEOR", "CIDEr"):
        assert math.isnan(found[name].value)
        assert str(found[name].note).startswith("not computed: ")
    assert "Java" in str(found["METEOR"].note)


def test_saying_nothing_is_not_right_even_where_an_answer_is_published_empty():
    asked = item(answers=("", "chair"))
    assert NO_LEMMA.score(asked, "").scores["score"] == 0
    assert NO_LEMMA.score(asked, "", "public_official").scores["score"] == 1


def test_without_wordnet_there_is_no_f_value(monkeypatch):
    monkeypatch.setattr(module, "wordnet", lambda: None)
    outcome = SCANQA.score(item(), "chair")
    assert outcome.scores == {"score": 0}


@pytest.mark.slow
def test_texts_are_scored_as_captions_with_java():
    pytest.importorskip("pycocoevalcap")
    if not captions.has_java():
        pytest.skip("Java is missing")
    items = [item(id="q0", answers=("a brown wooden chair",)), item(id="q1", answers=("two white tables here",))]
    outcomes = {each.id: NO_LEMMA.score(each, f"{each.row['answers'][0].capitalize()}.") for each in items}
    found = {figure.name: figure for figure in NO_LEMMA.figures(items, outcomes)}
    assert found["Bleu_4"].value == pytest.approx(100)
    assert found["METEOR"].value == pytest.approx(100)
    assert found["groups/Object/CIDEr"].value == pytest.approx(1000)
    assert found["overall"].value == 0
