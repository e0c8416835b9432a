import json

import pytest
from published import figures_of, item_of, outcome_of

from g2vlm.data.rows import BadRow
from g2vlm.eval.benchmarks.sqa3d import SQA3D, cleaned


def question(id: int = 7, asked: str = "What is behind me?", **more) -> dict:
    return {"scene_id": "room_1", "situation": "I sit on the sofa.", "question": asked, "question_id": id} | more


def annotation(id: int = 7, answer: str = "brown chair") -> dict:
    return {"question_id": id, "answers": [{"answer": answer}], "rotation": {"_x": 0}, "position": {"x": 0}}


def row(answer: str = "brown chair", **more) -> dict:
    return question(**more) | annotation(more.get("id", 7), answer)


def write(folder, questions: list[dict], annotations: list[dict]) -> None:
    for name, key, rows in (("questions", "questions", questions), ("sqa_annotations", "annotations", annotations)):
        (folder / f"v1_balanced_{name}_test_scannetv2.json").write_text(json.dumps({key: rows}))


def test_questions_and_answers_of_two_files_are_joined(tmp_path):
    write(tmp_path, [question(1), question(2, "Could I see it?")], [annotation(2, "yes"), annotation(1)])
    first, second = SQA3D.items(tmp_path)
    assert (first.id, first.kind, second.kind) == ("1", "what", "others")
    assert first.prompt.startswith("I sit on the sofa. What is behind me?\n")
    assert first.media == (tmp_path / "video" / "room_1.mp4",)
    assert SQA3D.score(second, "yes").scores["score"] == 1


def test_questions_without_answers_are_named(tmp_path):
    write(tmp_path, [question(1)], [])
    with pytest.raises(ValueError, match=r"has no answers .*beside the questions"):
        SQA3D.items(tmp_path)


@pytest.mark.parametrize("answers", ["left", ["left"], [{"answer": None}]])
def test_answers_in_another_form_are_named(answers: object):
    with pytest.raises(BadRow, match="answers is no list"):
        item_of(SQA3D, row() | {"answers": answers})


@pytest.mark.parametrize(
    ("reply", "clean"),
    [
        *(("  The Brown  chair.", "brown chair"), ("letf", "left"), ("let", "left"), ("tv", "TV"), ("3", "three"), ("21", "21")),
        *(("23", "twenty-three"), ("none", "zero"), ("3 o' clock", "three o'clock"), ("mat2", "mat"), ("backwards", "backward")),
        *(("the", "the"), ("yes\n", "yes\n"), ("größer ’ ç", "grer  "), ("a an the sofa", "sofa"), ("oclock", "o'clock")),
    ],
)  # fmt: skip
def test_replies_are_cleaned_as_published(reply: str, clean: str):
    assert cleaned(reply) == clean


@pytest.mark.parametrize(
    ("reply", "exact", "strip", "empty_only", "public"),
    [
        ("brown chair", 1, 1, 1, 1),
        ("The brown chair.", 1, 1, 1, 1),
        ("brown chair\n", 0, 1, 1, 1),
        ("", 0, 0, 0, 1),
        ("  ", 0, 0, 0, 1),
        ("!?", 0, 0, 0, 1),
        ("w", 0, 0, 1, 1),
        ("ownch", 0, 0, 1, 1),
        ("a red chair", 0, 0, 1, 1),
        ("brownchair", 0, 0, 1, 1),
        ("sofa", 0, 0, 0, 0),
        ("<think>sofa</think>brown chair", 1, 1, 1, 1),
    ],
)
def test_a_reply_by_each_rule(reply: str, exact: int, strip: int, empty_only: int, public: int):
    rules = ("corrected", "corrected_strip", "corrected_empty_only", "public_llm_eval")
    scores = [outcome_of(SQA3D, row(), reply, rule).scores["score"] for rule in rules]
    assert scores == [exact, strip, empty_only, public]


def test_the_same_question_counts_once_in_public_and_is_right_if_either_reply_is():
    rows = [row(id=1), row(id=2), row(id=3, asked="Which one?")]
    replies = ["sofa", "brown chair", "sofa"]
    public = figures_of(SQA3D, rows, replies, "public")
    assert (public["overall"].value, public["overall"].count) == (0.5, 2)
    ours = figures_of(SQA3D, rows, replies)
    assert ours["overall"].value == pytest.approx(1 / 3)
    assert ours["groups/what"].value == 0.5


def test_groups_are_first_words():
    words = {"What": "what", "Is": "is", "How": "how", "Can": "can", "Which": "which", "Are": "others"}
    assert {asked: item_of(SQA3D, row(asked=f"{asked} it?")).kind for asked in words} == words
