import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from published import json_list, parquet

from g2vlm.data.rows import BadRow
from g2vlm.eval.benchmarks.asking import (
    QuestionBenchmark,
    QuestionRule,
    Reply,
    choosing,
    comparing,
    failed,
    field_of,
    graded,
    mean_figure,
    means,
    named,
    recorded_reply,
    texts_of,
)
from g2vlm.eval.benchmarks.base import Outcome, QuestionItem


def item(id: str, kind: str = "k", truth: str = "B") -> QuestionItem:
    return QuestionItem(id, kind, (), {"answer": truth})


def truth_of(item) -> str:
    return item.row["answer"]


def asked(row, data: Path, index: int) -> QuestionItem | None:
    return None if field_of(row, "kind") == "other" else item(field_of(row, "id"), field_of(row, "kind"))


@pytest.fixture
def quiz() -> QuestionBenchmark:
    rules = [
        QuestionRule("corrected", "ours", score=choosing(lambda _: ["left", "right"], truth_of), figures=means),
        QuestionRule("public_x", "theirs", score=comparing(lambda reply: reply[:1], truth_of), figures=means),
    ]
    return QuestionBenchmark(
        "quiz",
        "Quiz",
        "",
        "",
        "DATA/quiz.json",
        "the column id",
        ("quiz.json", "*.jsonl", "*.parquet"),
        asked,
        named(*rules, public="public_x"),
    )


def test_rows_become_items_in_their_order_and_foreign_ones_are_left_out(quiz, tmp_path):
    json_list(
        tmp_path / "quiz.json", [{"id": "b", "kind": "k"}, {"id": "c", "kind": "other"}, {"id": "a", "kind": "k"}]
    )
    assert [each.id for each in quiz.items(tmp_path)] == ["b", "a"]


def test_the_first_pattern_that_matches_holds_the_rows(quiz, tmp_path):
    parquet(tmp_path / "one.parquet", [{"id": "a", "kind": "k"}])
    parquet(tmp_path / "two.parquet", [{"id": "b", "kind": "k"}])
    assert [each.id for each in quiz.items(tmp_path)] == ["a", "b"]
    json_list(tmp_path / "quiz.json", [{"id": "c", "kind": "k"}])
    assert [each.id for each in quiz.items(tmp_path)] == ["c"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": "a", "kind": "k"}, {"id": "a", "kind": "k"}], r"quiz\.json:2: id a is there twice"),
        ([{"id": "a", "type": "k"}], r"quiz\.json:1: has no column kind \(it has id, type\)"),
        ([{"id": 7, "kind": "k"}], "id is no str"),
        ([{"id": "a", "kind": "other"}], "no question of Quiz"),
    ],
)
def test_what_cannot_be_used_is_named(quiz, tmp_path, rows, said: str):
    json_list(tmp_path / "quiz.json", rows)
    with pytest.raises(ValueError, match=said):
        quiz.items(tmp_path)


def test_a_missing_file_is_named_with_the_layout(quiz, tmp_path):
    with pytest.raises(
        ValueError, match=r"holds none of quiz\.json, \*\.jsonl, \*\.parquet; wanted is\nDATA/quiz\.json"
    ):
        quiz.items(tmp_path)


def test_a_rule_has_a_name_and_public_is_another_name_of_one(quiz):
    assert list(quiz.rules) == ["corrected", "public_x", "public"]
    assert quiz.rules["public"].score is quiz.rules["public_x"].score
    assert quiz.rules["public"].name == "public"
    with pytest.raises(ValueError, match="rule 'best' is none of Quiz's; choose one of corrected, public_x, public"):
        quiz.score(item("a"), "B", "best")


def test_a_reply_may_be_text_a_record_or_empty(quiz):
    assert quiz.score(item("a"), "right").scores == {"score": 1}
    assert quiz.score(item("a"), Reply("B")).scores == {"score": 1}
    for nothing in ("", Reply("")):
        assert quiz.score(item("a"), nothing).status == "unparsed"
        assert quiz.score(item("a"), nothing).scores == {"score": 0}
        assert quiz.score(item("a"), nothing, "public").scores == {"score": 0}


def test_what_could_not_be_read_is_wrong_and_said_so():
    outcome = graded(item("a"), None, False)
    assert (outcome.status, outcome.scores["score"], outcome.note) == ("unparsed", 0, "no answer could be read")
    assert graded(item("a"), "", True).status == "scored"  # a public rule finds an empty answer right


def outcomes() -> dict[str, Outcome]:
    scores = {"a": 1, "b": 0, "c": 0.5}
    kinds = {"a": "near", "b": "near", "c": "far"}
    made = {id: graded(item(id, kinds[id]), "B", score) for id, score in scores.items()}
    return made | {"d": failed(item("d", "near"), "ZeroDivisionError"), "e": Outcome("far", "skipped", {})}


def test_a_question_about_no_picture_is_missing_its_media_and_is_not_asked_blind():
    assert item("a").missing() == "its row names no picture and no video"


def test_means_over_items_and_over_groups_leave_out_what_failed_or_was_skipped():
    items = [item(id, outcomes()[id].kind) for id in "abcde"] + [item("f", "unanswered")]
    found = {figure.name: figure for figure in means(items, outcomes(), overall="macro", scale=100)}
    assert {name: figure.value for name, figure in found.items()} == {
        "overall": 50,
        "micro": 50,
        "macro": 50,
        "groups/near": 50,
        "groups/far": 50,
    }
    assert found["overall"].entries == [[["a", "b"]], [["c"]]]
    assert found["micro"].entries == [[["a", "b", "c"]]]
    assert found["overall"].count == 3
    assert next(iter(found)) == "overall"


def test_a_mean_over_nothing_is_no_number():
    figure = means([], {})[0]
    assert math.isnan(figure.value)
    assert figure.note == "not computed: no outcome"


def test_a_figure_is_a_mean_over_entries_of_means_over_kinds():
    figure = mean_figure("x", outcomes(), [[["a"], ["b"]], [["c"]]])
    assert figure.value == pytest.approx(((1 + 0) / 2 + 0.5) / 2)


def test_a_column_of_another_type_is_named():
    with pytest.raises(BadRow, match=r"x is no str or int \(it is \[1\]\)"):
        field_of({"x": [1]}, "x", (str, int))


@pytest.mark.parametrize("value", [None, 3])
def test_a_list_of_anything_but_texts_is_named(value: object):
    assert texts_of({"x": ["a", "b"]}, "x") == ["a", "b"]
    with pytest.raises(BadRow, match=rf"x is no list of texts \({value} is among them\)"):
        texts_of({"x": ["a", value]}, "x")


def test_rows_of_json_lines_are_read_too(quiz, tmp_path):
    (tmp_path / "all.jsonl").write_text("\n".join(json.dumps({"id": id, "kind": "k"}) for id in "ab"))
    assert len(quiz.items(tmp_path)) == 2


def test_one_file_is_enough_and_its_media_lie_beside_it(quiz, tmp_path):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    json_list(tmp_path / "here" / "any name.json", [{"id": "b", "kind": "k"}])
    parquet(tmp_path / "there" / "test.parquet", [{"id": "c", "kind": "k"}])
    assert [each.id for each in quiz.items(tmp_path / "here" / "any name.json")] == ["b"]
    assert [each.id for each in quiz.items(tmp_path / "there" / "test.parquet")] == ["c"]
    seen = []
    watching = replace(quiz, item_of=lambda row, data, index: seen.append(data) or asked(row, data, index))
    watching.items(tmp_path / "here" / "any name.json")
    assert seen == [tmp_path / "here"]


def test_null_is_a_failure_unless_the_rule_says_what_it_is_worth(quiz):
    with pytest.raises(ValueError, match="the prediction is null, and rule corrected says nothing of that"):
        quiz.require_usable(None, "corrected")
    quiz.require_usable("a", "corrected")
    told = QuestionRule(
        "told", "", score=lambda item, reply: graded(item, None, 1.0), figures=means, is_null_scored=True
    )
    telling = replace(quiz, rules={"told": told})
    telling.require_usable(None, "told")
    assert telling.score(item("a"), None, "told").scores == {"score": 1.0}


@pytest.mark.parametrize("reply", [Reply("a"), Reply(None, judgement="5"), Reply("a", ("a", "b"))])
def test_a_reply_survives_its_record(reply):
    assert recorded_reply(reply.as_record()) == reply
    assert None not in [value for name, value in reply.as_record().items() if name != "prediction"]


def test_a_ranking_that_is_no_list_of_texts_is_refused():
    with pytest.raises(ValueError, match=r"answer_top10 is \[1\] and no list of texts"):
        recorded_reply({"prediction": "1", "answer_top10": [1]})
