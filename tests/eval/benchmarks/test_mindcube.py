import json

import pytest
from published import figures_of, item_of, outcome_of

from g2vlm.eval.benchmarks.mindcube import MINDCUBE, options_of

QUESTION = "From view 1 to view 2, where did I go? A. Left B. Forward and right C. To the sofa. D. Back"


def row(id: str = "among_group1_q0", answer: str = "B", question: str = QUESTION) -> dict:
    return {"id": id, "question": question, "images": ["other_all_image/a/front.jpg"], "gt_answer": answer}


def test_published_rows_become_items(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "MindCube_tinybench.jsonl").write_text(json.dumps(row()))
    (item,) = MINDCUBE.items(tmp_path)
    assert (item.id, item.kind, item.max_new_tokens) == ("among_group1_q0", "among", 4096)
    assert item.media == (tmp_path / "other_all_image" / "a" / "front.jpg",)
    assert item.prompt.startswith(QUESTION + "\n")


def test_options_are_found_in_the_question():
    assert options_of(item_of(MINDCUBE, row())) == ["Left", "Forward and right", "To the sofa.", "Back"]
    assert options_of(item_of(MINDCUBE, row(question="Where is it?"))) == []


@pytest.mark.parametrize(
    ("reply", "corrected", "public", "kit"),
    [
        ("B", 1, 1, 1),
        ("b", 1, 0, 1),
        ("forward and right", 1, 0, 0),
        ("A. is wrong, I say B", 0, 0, 0),
        ("Not A, it is B", 1, 0, 0),
        ("Answer: B", 1, 1, 1),
        ("<answer>B. Forward and right</answer>", 1, 1, 1),
        ("", 0, 0, 0),
    ],
)
def test_a_reply_by_each_rule(reply: str, corrected: int, public: int, kit: int):
    rules = ("corrected", "public_official", "public_lmms_eval", "public_vlmevalkit")
    scores = [outcome_of(MINDCUBE, row(), reply, rule).scores["score"] for rule in rules]
    assert scores == [corrected, public, public, kit]


def test_translation_is_left_out_of_the_authors_overall_figure():
    rows = [row("among_1"), row("Translation_1"), row("aroundnew_1"), row("group_around_2"), row("other_1")]
    replies = ["B", "A", "B", "A", "B"]
    official = figures_of(MINDCUBE, rows, replies, "public_official")
    assert official["overall"].value == 0.75
    assert official["micro"].value == 0.6
    assert official["groups/around"].value == 0.5
    assert official["groups/translation"].value == 0
    lmms = figures_of(MINDCUBE, rows, replies, "public_lmms_eval")
    assert lmms["overall"].value == 0.6
    assert lmms["groups/around"].value == 1  # by what stands before the first underscore
    assert lmms["groups/other"].count == 3


def test_a_renamed_column_is_named(tmp_path):
    (tmp_path / "MindCube.jsonl").write_text(json.dumps(row() | {"gt_answer": None}))
    with pytest.raises(ValueError, match=r"MindCube\.jsonl:1: gt_answer is no str"):
        MINDCUBE.items(tmp_path)
