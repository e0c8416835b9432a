from pathlib import Path

import pytest
from published import figures_of, item_of, outcome_of, parquet, png

from g2vlm.eval.benchmarks.mmsi import MMSI_BENCH

RULES = ("corrected", "public_official", "public_spatialstack", "public_lmms_eval", "public_vlmevalkit")


def row_of(answer: str = "B", *, id: int = 0, kind: str = "Motion (Cam.)") -> dict[str, object]:
    question = "Where to?\nOptions: A: left, B: right, C: up, D: down"
    return {"id": id, "question_type": kind, "question": question, "answer": answer, "thought": ""}


@pytest.mark.parametrize(
    ("reply", "corrected", "capital", "lmms", "kit"),
    [
        *(("``B``", "B", "B", "B", "B"), ("`B`", "B", "B", "B", "B"), ("B", "B", "B", "B", "B"), (r"\boxed{B}", "B", "B", "B", "B")),
        ("b", "B", None, "B", "B"),
        ("``b``", "B", None, "B", "B"),
        ("not A, but {B}", "B", "B", "B", None),
        ("A left turn: B", "B", "B", "B", None),
        ("E", None, None, "E", "E"),
        ("from view a: B", "B", "B", "A", "B"),
        ("Because of it", None, None, None, None),
        ("", None, None, None, None),
    ],
)  # fmt: skip
def test_letters_are_read_as_each_harness_reads_them(
    reply: str, corrected: str | None, capital: str | None, lmms: str | None, kit: str | None
):
    found = [outcome_of(MMSI_BENCH, row_of(), reply, rule) for rule in RULES]
    assert [outcome.extracted for outcome in found] == [corrected, capital, capital, lmms, kit]
    assert [outcome.scores["score"] for outcome in found] == [outcome.extracted == "B" for outcome in found]
    assert [outcome.status == "unparsed" for outcome in found] == [outcome.extracted is None for outcome in found]


def test_overall_is_the_mean_over_questions_and_macro_over_types():
    rows = [row_of(id=1), row_of(id=2), row_of(id=3, kind="MSR")]
    figures = figures_of(MMSI_BENCH, rows, ["B", "A", "B"])
    assert figures["overall"].value == figures["micro"].value == pytest.approx(2 / 3)
    assert figures["macro"].value == pytest.approx(3 / 4)
    assert (figures["groups/Motion (Cam.)"].value, figures["groups/MSR"].count) == (0.5, 1)


def test_types_written_with_a_hyphen_are_those_with_a_dash():
    item = item_of(MMSI_BENCH, row_of(kind="Positional Relationship (Cam.-Obj.)"))
    assert item.kind == "Positional Relationship (Cam.–Obj.)"


def test_the_prompt_asks_for_back_ticks():
    item = item_of(MMSI_BENCH, row_of())
    assert item.prompt.endswith("D: down\nAnswer with the option's letter from the given choices directly. "
                                "Enclose the option's letter within ``.")  # fmt: skip
    assert item.max_new_tokens == 2048


def test_the_parquet_file_holds_the_bytes_of_its_pictures(tmp_path: Path):
    parquet(tmp_path / "MMSI_Bench.parquet", [row_of(id=7) | {"images": [png(1), png(2)]}])
    (item,) = MMSI_BENCH.items(tmp_path)
    assert [path.read_bytes() for path in item.media] == [png(1), png(2)]


def test_rows_that_cannot_be_used_are_named(tmp_path: Path):
    parquet(tmp_path / "MMSI_Bench.parquet", [row_of("B or C")])
    with pytest.raises(ValueError, match=r"MMSI_Bench.parquet:1: answer is no letter \(B or C\)"):
        MMSI_BENCH.items(tmp_path)
