import math
from pathlib import Path

import pytest
from published import figures_of, item_of, outcome_of, parquet, png

from g2vlm.eval.benchmarks.cvbench import CV_BENCH

RULES = ("corrected", "public_lmms_eval", "public_spatialstack")


def row_of(answer: str = "(B)", *, source: str = "COCO", task: str = "Relation", id: int = 0) -> dict[str, object]:
    return {
        "idx": id,
        "type": "2D",
        "task": task,
        "source": source,
        "question": "Where?",
        "prompt": "Where? (A) left",
        "choices": ["left", "right", "above"],
        "answer": answer,
    }


@pytest.mark.parametrize(
    ("reply", "corrected", "lmms", "spatialstack"),
    [
        *(("B", 1, 1, 1), ("(B)", 1, 1, 1), ("b", 1, 1, 0), ("(b) right", 1, 1, 0), ("right", 1, 0, 0)),
        *(("The answer is (B)", 1, 0, 1), ("Answer: B", 1, 0, 0), ("Best answer: B", 1, 1, 1), ("<s> B", 1, 0, 1)),
        *(("Because", 0, 1, 1), ("A or B", 0, 0, 0), ("", 0, 0, 0), ("D", 0, 0, 0), ("Right, not Above", 1, 0, 0)),
    ],
)
def test_letters_are_read_as_each_harness_reads_them(reply: str, corrected: int, lmms: int, spatialstack: int):
    # lmms-eval takes the first character; SpatialStack the first capital from A to F, once its phrases are cut.
    scores = [outcome_of(CV_BENCH, row_of(), reply, rule).scores["score"] for rule in RULES]
    assert scores == [corrected, lmms, spatialstack]


@pytest.mark.parametrize("reply", ["Answer: C", "The Best answer: C"])
def test_two_missing_commas_leave_a_phrase_whose_capitals_are_read(reply: str):
    assert outcome_of(CV_BENCH, row_of("(C)"), reply, "public_spatialstack").extracted in ("A", "B")
    assert outcome_of(CV_BENCH, row_of("(C)"), reply).extracted == "C"


def test_what_is_not_read_is_unparsed():
    assert {outcome_of(CV_BENCH, row_of(), "...", rule).status for rule in RULES} == {"unparsed"}


ROWS = [
    *(row_of(source="ADE20K", id=1), row_of(source="COCO", id=2), row_of(source="COCO", id=3, task="Count")),
    *(row_of(source="Omni3D", id=4, task="Depth"), row_of(source="Omni3D", id=5, task="Distance")),
]


def test_overall_is_the_mean_of_both_halves_and_in_lmms_eval_of_all_questions():
    # ADE20K 1, COCO 0 of 2, Omni3D 1 of 2: 2D is 0.5, 3D 0.5; by questions 2 of 5.
    replies = ["B", "A", "A", "B", "A"]
    ours, lmms, stack = (figures_of(CV_BENCH, ROWS, replies, rule) for rule in RULES)
    assert ours["overall"].value == stack["overall"].value == pytest.approx(50)
    assert lmms["overall"].value == pytest.approx(0.4)
    assert (stack["groups/accuracy_2d"].value, stack["groups/Count"].value) == (0.5, 0)
    assert ours["groups/accuracy_3d"].value == 50
    assert ours["micro"].value == pytest.approx(40)


def test_a_half_without_questions_is_left_out_and_in_public_there_is_no_number():
    ours, stack = (
        figures_of(CV_BENCH, ROWS[:3], ["B", "A", "A"], rule) for rule in ("corrected", "public_spatialstack")
    )
    assert ours["overall"].value == pytest.approx(50)
    assert math.isnan(stack["overall"].value)
    assert stack["overall"].note == "not computed: no question of Omni3D"


def test_the_prompt_calls_a_picture_frames_of_a_video():
    item = item_of(CV_BENCH, row_of())
    assert item.prompt.splitlines() == [
        *("These are frames of a video.", "Where?", "Options:", "A. left", "B. right", "C. above"),
        "Answer with the option's letter from the given choices directly.",
    ]
    assert (item.max_new_tokens, item.system) == (16, "You are a helpful assistant.")


def test_both_files_of_the_hub_are_read(tmp_path: Path):
    picture = {"image": {"bytes": png(), "path": "x.png"}}
    parquet(tmp_path / "test_2d.parquet", [row_of(id=1) | picture])
    parquet(tmp_path / "test_3d.parquet", [row_of(id=2, source="Omni3D") | picture])
    assert [(item.id, [path.name for path in item.media]) for item in CV_BENCH.items(tmp_path)] == [
        ("1", ["1_0.png"]),
        ("2", ["2_0.png"]),
    ]


def test_rows_that_cannot_be_used_are_named(tmp_path: Path):
    file = tmp_path / "test_2d.parquet"
    parquet(file, [row_of() | {"answer": "right"}])
    with pytest.raises(ValueError, match=r"test_2d.parquet:1: answer is no letter in brackets \(right\)"):
        CV_BENCH.items(tmp_path)
    parquet(file, [{key: value for key, value in row_of().items() if key != "source"}])
    with pytest.raises(ValueError, match="has no column source"):
        CV_BENCH.items(tmp_path)
