import json
from pathlib import Path

import pytest

from g2vlm.eval.benchmarks import scanqa
from g2vlm.eval.metrics import captions
from tests.eval import oracles

RECORDED = Path(__file__).parents[3] / "shared" / "oracles"

ROW = {
    "id": "around_1",
    "question": "Where? A. Left B. Right",
    "images": ["a.jpg"],
    "gt_answer": "B",
    "_oracle_id": "around_1",
}


def write(
    folder: Path, variants: dict, *, reply: str = "B", benchmark: str = "mindcube", crash_ids: tuple[str, ...] = ()
) -> None:
    folder.mkdir(parents=True)
    (folder / "annotations.jsonl").write_text(json.dumps(ROW))
    (folder / "predictions.jsonl").write_text(json.dumps({"id": "around_1", "prediction": reply}))
    expected = {"benchmark": benchmark, "aggregate_set": {"crash_ids": list(crash_ids)}, "variants": variants}
    (folder / "expected.json").write_text(json.dumps(expected))


def variant(score: float = 1.0, *, kind: str = "public", overall: float = 1.0) -> dict:
    item = {"score": score, "extracted": "B"}
    return {
        "kind": kind,
        "items": {"around_1": item},
        "aggregates": {"overall": overall, "groups": {"around": overall}},
    }


def faults(folder: Path) -> list[str]:
    return [fault for comparison in oracles.compare_all(folder) for fault in comparison.faults]


def test_what_agrees_has_no_fault(tmp_path):
    write(tmp_path / "mindcube", {"public_official": variant(), "intent": variant(kind="intent")})
    assert faults(tmp_path) == []
    assert faults(tmp_path / "mindcube") == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"public_official": variant(0.0)}, "around_1 score: ours 1.0, theirs 0.0"),
        ({"public_official": variant(overall=0.999998)}, "overall: ours 1.0"),
        ({"public_unheard_of": variant()}, "no rule is named public_unheard_of"),
        ({"public_official": {"kind": "public", "items": {"around_1": {"score": None, "crash": "KeyError"}}}}, "crash"),
        ({"public_official": {"kind": "public", "items": {"around_1": {"score": 1.0, "status": "skipped"}}}}, "status"),
    ],
)
def test_what_differs_is_named(tmp_path, changed: dict, said: str):
    write(tmp_path / "mindcube", changed)
    assert any(said in fault for fault in faults(tmp_path))


def test_a_difference_within_the_tolerance_is_none(tmp_path):
    write(tmp_path / "mindcube", {"public_official": variant(overall=1 - 1e-7)})
    assert faults(tmp_path) == []


def test_an_intent_that_is_missed_is_told_and_no_fault(tmp_path):
    write(tmp_path / "mindcube", {"intent": variant(kind="intent")}, reply="no idea")
    (comparison,) = oracles.compare_all(tmp_path)
    assert comparison.faults == []
    assert "0 of 1 replies" in comparison.notes[0]


def test_an_unknown_benchmark_is_a_fault(tmp_path):
    write(tmp_path / "other", {"public": variant()}, benchmark="otherbench")
    assert faults(tmp_path) == ["no benchmark of ours is named otherbench"]


def test_a_folder_without_recordings_is_a_fault(tmp_path):
    assert faults(tmp_path) == ["holds no expected.json"]


def test_a_missing_file_is_named(tmp_path):
    write(tmp_path / "mindcube", {"public_official": variant()})
    (tmp_path / "mindcube" / "predictions.jsonl").unlink()
    assert faults(tmp_path) == ["lacks predictions.jsonl"]


def test_items_that_crash_there_are_left_out_of_aggregates(tmp_path):
    write(tmp_path / "mindcube", {"public_official": variant(overall=float("nan"))}, crash_ids=("around_1",))
    (comparison,) = oracles.compare_all(tmp_path)
    assert [fault for fault in comparison.faults if "overall" in fault] == []


@pytest.mark.parametrize(("stripped", "is_right"), [("B", True), ("x B", False)])
def test_thoughts_are_stripped_before_scoring(tmp_path, stripped: str, is_right: bool):
    write(
        tmp_path / "_thinking_strip",
        {"public": {"kind": "public", "items": {"around_1": {"stripped": stripped}}}},
        reply="<think>x</think> B",
    )
    assert (faults(tmp_path) == []) == is_right


@pytest.mark.parametrize(
    "name", ["vsi_bench", "VSI-Bench", "vsi", "blink", "BLINK-spatial", "mindcube", "Video-MME", "all_angles", "cv"]
)
def test_folders_may_write_a_name_in_several_ways(name: str):
    assert oracles.benchmark_of(name, {"variants": {}}) is not None


def test_recorded_scores_of_public_scorers_are_ours(monkeypatch):
    if not RECORDED.is_dir():
        pytest.skip(f"no recorded scores in {RECORDED}")
    for module in (captions, scanqa, oracles):  # METEOR takes a minute to start; the script itself compares it
        monkeypatch.setattr(module, "has_java", lambda: False)
    assert faults(RECORDED) == []
