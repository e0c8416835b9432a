import hashlib
from pathlib import Path

import pytest
from published import figures_of, item_of, json_list, outcome_of, parquet, png

from g2vlm.eval.benchmarks.blink import BLINK_SPATIAL, TASKS


def row(task: str = "Relative_Depth", number: int = 1, answer: str = "(B)", **more) -> dict:
    made = {"idx": f"val_{task}_{number}", "sub_task": task, "choices": ["left", "right"], "answer": answer}
    return made | {"prompt": "Which?\n(A) left\n(B) right"} | more


def test_pictures_inside_of_parquet_files_become_files(tmp_path):
    picture = {"bytes": png(9), "path": "x.png"}
    for task in (*TASKS, "Counting"):
        parquet(
            tmp_path / task / "val-00000-of-00001.parquet", [row(task, image_1=picture, image_2=picture, image_3=None)]
        )
    items = BLINK_SPATIAL.items(tmp_path)
    assert [item.kind for item in items] == sorted(TASKS)
    first = items[0]
    assert [path.name for path in first.media] == [f"{first.id}_image_1_0.png", f"{first.id}_image_2_0.png"]
    assert first.media[0].read_bytes() == png(9)
    assert "image_1" not in first.row


def test_pictures_may_be_paths(tmp_path):
    json_list(tmp_path / "val.jsonl", [row(image_1="a/b.jpg")])
    assert BLINK_SPATIAL.items(tmp_path)[0].media == (tmp_path / "a" / "b.jpg",)


def test_the_prompt_names_the_letters_and_then_asks():
    prompt = item_of(BLINK_SPATIAL, row()).prompt
    assert prompt.endswith("text.\nWhich?\n(A) left\n(B) right")
    assert "(A, B)" in prompt
    template = prompt.removesuffix(row()["prompt"]).replace("A, B", "{}")
    assert hashlib.sha256(template.encode()).hexdigest()[:16] == "12e3904b4976f4d3"


def test_an_answer_beyond_the_choices_is_named(tmp_path):
    json_list(tmp_path / "val.jsonl", [row(answer="(D)")])
    with pytest.raises(ValueError, match=r"answer is none of the choices \(\(D\) of 2\)"):
        BLINK_SPATIAL.items(tmp_path)


@pytest.mark.parametrize(
    ("reply", "corrected", "first", "capital", "official"),
    [
        ("(B)", 1, 1, 1, 1),
        ("The answer is (B).", 1, 0, 1, 0),
        ("Answer: B", 1, 0, 0, 0),
        ("<s> B", 1, 0, 1, 0),
        ("right", 1, 0, 0, 0),
        ("big", 0, 1, 0, 0),
        ("", 0, 0, 0, 0),
        ("A or B", 0, 0, 0, 0),
    ],
)
def test_a_reply_by_each_rule(reply: str, corrected: int, first: int, capital: int, official: int):
    rules = ("corrected", "public_lmms_eval", "public_spatialstack", "public_vg_llm", "public_official")
    scores = [outcome_of(BLINK_SPATIAL, row(), reply, rule).scores["score"] for rule in rules]
    assert scores == [corrected, first, first, capital, official]


def test_tasks_weigh_the_same():
    rows = [row(TASKS[0], 1), row(TASKS[1], 1), row(TASKS[1], 2), row(TASKS[1], 3)]
    found = figures_of(BLINK_SPATIAL, rows, ["B", "A", "A", "B"])
    assert found["overall"].value == pytest.approx((1 + 1 / 3) / 2)
    assert found["micro"].value == 0.5
    assert figures_of(BLINK_SPATIAL, rows, ["B", "A", "A", "B"], "public_vg_llm")["overall"].value == pytest.approx(
        200 / 3
    )


def test_the_authors_count_a_missing_reply_as_wrong():
    items = [item_of(BLINK_SPATIAL, row(number=i)) for i in range(2)]
    outcomes = {items[0].id: BLINK_SPATIAL.score(items[0], "(B)", "public_official")}
    assert BLINK_SPATIAL.figures(items, outcomes, "public_official")[0].value == 0.5
    assert BLINK_SPATIAL.figures(items, outcomes, "public_lmms_eval")[0].value == 1


def test_media_are_as_many_as_there_are():
    assert item_of(BLINK_SPATIAL, row(image_2="b.jpg")).media == (Path("nowhere/b.jpg"),)
