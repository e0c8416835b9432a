from pathlib import Path

import pytest
from published import figures_of, item_of, outcome_of, parquet

from g2vlm.eval.benchmarks.videomme import VIDEO_MME

RULES = ("corrected", "public_lmms_eval", "public_spatialstack", "public_official")


def row_of(
    answer: str = "D", *, id: str = "001-1", duration: str = "short", task: str = "Counting Problem"
) -> dict[str, object]:
    return {
        "video_id": "001",
        "videoID": "vid",
        "question_id": id,
        "duration": duration,
        "domain": "Knowledge",
        "sub_category": "Law",
        "task_type": task,
        "url": "",
        "question": "How many?",
        "answer": answer,
        "options": ["A. One.", "B. Two.", "C. Three.", "D. Four."],
    }


@pytest.mark.parametrize(
    ("reply", "extracted"),
    [
        *(
            ("D", ("D", "D", "D")),
            ("D.", ("D", "D", "D")),
            ("(D)", ("D", "D", "D")),
            ("The answer is D", ("D", "D", "D")),
        ),
        *(
            ("Best answer: D", ("D", "D", "B")),
            ("The best option is D", ("D", "D", "D")),
            ("Answer: D", ("D", "D", "A")),
        ),
        *(
            ("Four.", ("D", None, None)),
            ("d", ("D", None, None)),
            ("Because", (None, "B", "B")),
            ("", (None, None, None)),
        ),
        *(("B. Two, not D", ("B", "B", "B")), ("I choose D because A and B are few", ("D", "B", "D"))),
    ],
)
def test_letters_are_read_as_each_harness_reads_them(reply: str, extracted: tuple[str | None, ...]):
    # lmms-eval trusts a letter behind "i choose" most here, and of those the last to come: B, which stands behind D and A.
    found = [outcome_of(VIDEO_MME, row_of(), reply, rule).extracted or None for rule in RULES[:3]]
    assert tuple(found) == extracted


def test_lmms_eval_trusts_the_last_letter_more_than_a_phrase():
    # Behind the phrase, C is the letter whose first place is the last; the reply ends with D.
    assert outcome_of(VIDEO_MME, row_of(), "The answer is D, not C, but D", "public_lmms_eval").extracted == "D"


def test_the_authors_leave_what_they_cannot_read_out_of_the_mean():
    rows, replies = [row_of(id="1"), row_of(id="2"), row_of(id="3")], ["D", "A", "..."]
    means = {rule: figures_of(VIDEO_MME, rows, replies, rule)["overall"].value for rule in RULES}
    assert means["public_official"] == pytest.approx(50)
    assert [means[rule] for rule in RULES[:3]] == pytest.approx([100 / 3] * 3)


def test_scores_are_listed_by_duration_and_other_columns():
    rows = [row_of(id="1"), row_of(id="2", duration="long"), row_of(id="3", duration="long", task="OCR Problems")]
    figures = figures_of(VIDEO_MME, rows, ["D", "D", "A"])
    assert [figures[name].value for name in ("groups/short", "groups/long", "macro")] == [100, 50, 75]
    assert figures["groups/task_type/OCR Problems"].value == 0
    assert figures["groups/domain/Knowledge"].count == 3


def test_the_prompt_names_the_options_as_they_are_published():
    item = item_of(VIDEO_MME, row_of())
    lines = item.prompt.splitlines()
    assert lines[1:6] == ["How many?", "A. One.", "B. Two.", "C. Three.", "D. Four."]
    assert lines[6] == ""
    assert lines[7].startswith("Return exactly one uppercase option letter")
    assert item.max_new_tokens == 16


@pytest.mark.parametrize("suffix", [".mp4", ".MP4", ".mkv"])
def test_a_video_is_found_under_each_of_its_suffixes(tmp_path: Path, suffix: str):
    parquet(tmp_path / "videomme" / "test-00000-of-00001.parquet", [row_of()])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / f"vid{suffix}").touch()
    (item,) = VIDEO_MME.items(tmp_path)
    assert item.media == (tmp_path / "data" / f"vid{suffix}",)


def test_a_video_that_is_not_there_keeps_the_name_that_is_looked_for():
    assert item_of(VIDEO_MME, row_of()).media == (Path("nowhere/data/vid.mp4"),)


def test_rows_that_cannot_be_used_are_named(tmp_path: Path):
    file = tmp_path / "videomme" / "test-0.parquet"
    parquet(file, [row_of("E")])
    with pytest.raises(ValueError, match=r"test-0.parquet:1: answer is none of A, B, C, D \(E\)"):
        VIDEO_MME.items(tmp_path)
    parquet(file, [{("length" if key == "duration" else key): value for key, value in row_of().items()}])
    with pytest.raises(ValueError, match="has no column duration"):
        VIDEO_MME.items(tmp_path)
