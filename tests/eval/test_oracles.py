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
        ({"corrected_unheard_of": variant(0.0, kind="corrected")}, "no rule is named corrected_unheard_of"),
        ({"public_official": {"kind": "public", "items": {"around_1": {"score": None, "crash": "KeyError"}}}}, "crash"),
        ({"public_official": {"kind": "public", "items": {"around_1": {"score": 1.0, "status": "skipped"}}}}, "status"),
    ],
)
def test_what_differs_is_named(tmp_path, changed: dict, said: str):
    write(tmp_path / "mindcube", changed)
    assert any(said in fault for fault in faults(tmp_path))


def test_a_variant_of_another_name_is_known_by_the_repository_of_its_scorer(tmp_path):
    scored = variant() | {"scorer": {"repo": "mll-lab-nu/MindCube", "commit": "6d8fd9a"}}
    write(tmp_path / "mindcube", {"public": scored, "public_as_published": scored, "Public-LMMs-Eval": variant()})
    found = {comparison.name.split()[1]: comparison for comparison in oracles.compare_all(tmp_path)}
    assert [fault for comparison in found.values() for fault in comparison.faults] == []
    assert "compared with our rule public_official" in found["public_as_published"].notes
    assert "compared with our rule public_lmms_eval" in found["Public-LMMs-Eval"].notes


def test_a_corrected_variant_is_that_of_our_rules_which_its_sentence_describes(tmp_path):
    corrected = {"kind": "corrected", "items": {"q": {"score": 1.0}}, "aggregates": {"overall": 1.0}}
    write_rows(tmp_path / "sqa3d", {"q": SQA3D_ROW}, {"q": "to the left"}, {"corrected": corrected})
    found, *_ = oracles.compare_all(tmp_path)
    assert (found.faults, found.notes) == ([], ["compared with our rule corrected_empty_only"])


SQA3D_ROW = {"question_id": "q", "situation": "", "question": "Where?", "answers": [{"answer": "left"}]}

OST_ROW = {
    "scan_id": "s",
    "turn_id": 3,
    "type": "AO_direction(option1)",
    "answer": "left",
    "option": "['left', 'right']",
}

ROWS = {
    "spar_bench": ({"id": 1, "task": "position_matching", "answer": "B"}, "B"),
    "ost": (OST_ROW, "left"),
    "cv_bench_2d": ({"idx": 1, "task": "Count", "source": "COCO", "choices": ["1", "2"], "answer": "(B)"}, "(B)"),
    "MMSI-Bench": ({"id": 1, "question_type": "MSR", "answer": "B"}, "`B`"),
    "all_angles": ({"index": 1, "category": "counting", "A": "1", "B": "2", "C": None, "answer": "B"}, "B"),
    "video_mme": (
        {"question_id": "1", "duration": "short", "domain": "d", "sub_category": "s", "task_type": "t"}
        | {"answer": "B", "options": ["A. x", "B. y"]},
        "B",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_scored_without_what_is_shown_and_asked(tmp_path, name: str):
    row, reply = ROWS[name]
    items = {"r": {"score": 1.0}, "empty": {"score": 0.0}}
    found = {"kind": "corrected", "items": items}
    write_rows(tmp_path / name, {"r": row, "empty": row}, {"r": reply, "empty": ""}, {"corrected": found})
    assert faults(tmp_path) == []


def write_rows(folder: Path, rows: dict, replies: dict, variants: dict) -> None:
    folder.mkdir()
    lines = [json.dumps(row | {"_oracle_id": id}) for id, row in rows.items()]
    (folder / "annotations.jsonl").write_text("\n".join(lines))
    (folder / "predictions.jsonl").write_text(
        "\n".join(json.dumps({"id": id, "prediction": reply}) for id, reply in replies.items())
    )
    (folder / "expected.json").write_text(json.dumps({"variants": variants}))


def test_a_folder_of_another_form_is_a_fault_of_its_own(tmp_path):
    write(tmp_path / "mindcube", {"public_official": variant()})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "expected.json").write_text("[]")
    write(tmp_path / "mindcube_tiny", {"public_official": {"kind": "public"}}, benchmark="")
    found = {comparison.name.split()[0]: comparison.faults for comparison in oracles.compare_all(tmp_path)}
    assert found["mindcube"] == []
    assert "cannot be compared: AttributeError" in found["other"][0]
    assert found["mindcube_tiny"] == ["nothing to compare among kind"]


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


@pytest.mark.parametrize("place", ["variant", "scorer", "prediction"])
def test_the_tags_of_thoughts_are_found_where_they_are_named(tmp_path, place: str):
    tags = {"tag_pairs": '[["<t>", "</t>"]]' if place == "scorer" else [["<t>", "</t>"]]}
    named: dict = {"variant": tags, "scorer": {"scorer": tags}, "prediction": {}}[place]
    found = {"kind": "public", "items": {"around_1": {"stripped": "B"}}}
    write(tmp_path / "_thinking_strip", {"public": found | named})
    prediction = {"id": "around_1", "prediction": "<t>A</t> B"} | (tags if place == "prediction" else {})
    (tmp_path / "_thinking_strip" / "predictions.jsonl").write_text(json.dumps(prediction))
    assert faults(tmp_path) == []


NAMES = "vsi_bench VSI-Bench vsi blink BLINK-spatial mindcube Video-MME videomme video_mme all_angles allangles cv cv_bench mmsi"
MORE_NAMES = (
    "mmsibench mmsi_bench sparbench spar_bench spar-bench spar_bench_tiny ost_bench ostbench omni_spatial scan_qa"
)


@pytest.mark.parametrize("name", [*NAMES.split(), *MORE_NAMES.split(), "All-Angles Bench"])
def test_folders_may_write_a_name_in_several_ways(name: str):
    assert oracles.benchmark_of(name, {"variants": {}}) is not None


def test_recorded_scores_of_public_scorers_are_ours(monkeypatch):
    if not RECORDED.is_dir():
        pytest.skip(f"no recorded scores in {RECORDED}")
    for module in (captions, scanqa, oracles):  # METEOR takes a minute to start; the script itself compares it
        monkeypatch.setattr(module, "has_java", lambda: False)
    found = oracles.compare_all(RECORDED)
    assert [fault for comparison in found for fault in comparison.faults] == []
    assert [note for comparison in found for note in comparison.notes if "our rule" in note] == []
