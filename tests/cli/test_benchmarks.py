"""`g2vlm eval BENCH` and its like, on an invented benchmark and, once, on rooms."""

import json
from pathlib import Path

import pytest
from inventions import SUMS, write_sums

from g2vlm.eval.benchmarks import catalogue, rooms


@pytest.fixture(autouse=True)
def sums(monkeypatch):
    monkeypatch.setitem(catalogue.BENCHMARKS, "sums", SUMS)


@pytest.fixture
def data(tmp_path) -> Path:
    return write_sums(tmp_path / "data")


def answers(file: Path, **changes: object) -> Path:
    """Right answers to all sums; changes: by id, None leaves one out."""
    said = {f"sum_{i}": str(i + i % 3) for i in range(12)} | changes
    rows = [{"id": id, "prediction": text} for id, text in said.items() if text is not None]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def test_a_benchmark_needs_no_word_before_it(run, data, tmp_path):
    outcome = run("eval", "sums", "--data", data, "--limit", 3, "--out", tmp_path / "out")
    assert outcome.code == 0
    assert "- sums: 3 of 12 items, by limit 3" in outcome.out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["system"]["source"] == "tiny"
    assert len((tmp_path / "out" / "sums" / "samples.jsonl").read_text().splitlines()) == 3
    again = run("eval", "run", "sums", "--data", data, "--limit", 3, "--out", tmp_path / "out")
    assert again.out == outcome.out
    other = run("eval", "sums", "--data", data, "--geometry", "blank", "--limit", 3, "--out", tmp_path / "out")
    assert "geometry is 'blank', but" in other.err


def test_rooms_need_no_data(run, monkeypatch, tmp_path):
    few = rooms.RoomQuestions(count=18, size=56)
    monkeypatch.setattr(rooms, "ROOMS", few)
    monkeypatch.setitem(catalogue.BENCHMARKS, "rooms", few)
    outcome = run("eval", "rooms", "--limit", 2, "--out", tmp_path)
    assert outcome.code == 0
    assert "2 of 18 items" in outcome.out


def test_recorded_answers_are_scored_under_either_rule(run, data, tmp_path):
    file = answers(tmp_path / "a.jsonl", sum_1="no idea")
    outcome = run("eval", "score", "sums", "--predictions", file, "--data", data, "--json")
    report = json.loads(outcome.out)
    assert report["complete"]
    overall = report["benchmarks"]["sums"]["figures"][0]
    assert (overall["value"], overall["count"]) == (pytest.approx(100 * 11 / 12), 12)
    assert report["benchmarks"]["sums"]["told"]["unparsed"] == {"sum_1": "no answer could be read"}
    public = run("eval", "score", "sums", "--predictions", file, "--data", data, "--variant", "public", "--json")
    assert json.loads(public.out)["benchmarks"]["sums"]["figures"][0]["value"] == 100


def test_the_file_of_questions_is_enough_to_score_answers(run, data, tmp_path):
    file = answers(tmp_path / "a.jsonl")
    outcomes = {}
    for name, place in {"folder": data, "file": data / "questions.jsonl"}.items():
        outcome = run("eval", "score", "sums", "--predictions", file, "--data", place, "--json")
        outcomes[name] = json.loads(outcome.out)["benchmarks"]
    assert outcomes["file"] == outcomes["folder"]  # with the same hash of the questions


def test_a_judges_words_are_scored_and_kept_in_the_log(run, tmp_path):
    row = {
        "question": "What?",
        "answer": "A chair",
        "category": "object recognition",
        "episode_history": "scannet-v0/1",
    }
    (tmp_path / "open-eqa-v0.json").write_text(json.dumps([row | {"question_id": id} for id in "abc"]))
    said = [
        {"id": "a", "prediction": "A stool.", "judge_reply": "Your mark: 4"},
        {"id": "b", "prediction": None, "judge_reply": "5"},
        {"id": "c", "prediction": "A chair."},
    ]
    (tmp_path / "said.jsonl").write_text(lines(*said))
    log = tmp_path / "out" / "openeqa" / "samples.jsonl"
    reports = []
    for file, more in ((tmp_path / "said.jsonl", ("--out", tmp_path / "out")), (log, ())):
        outcome = run("eval", "score", "openeqa", "--predictions", file, "--data", tmp_path, "--json", *more)
        reports.append(json.loads(outcome.out)["benchmarks"]["openeqa"])
    assert reports[0] == reports[1]
    assert reports[0]["scores"]["a"] == {"score": 0.75, "mark": 4}
    assert reports[0]["scores"]["b"]["score"] == 0  # null is no answer, by the rule
    assert "there is no judgement" in reports[0]["told"]["failed"]["c"]


def test_a_size_prior_answers_what_it_knows(run, tmp_path):
    asked = {"bed": "210", "chair": "45"}
    rows = [
        {
            "id": thing,
            "dataset": "d",
            "scene_name": "s",
            "question_type": "object_size_estimation",
            "ground_truth": truth,
        }
        | {"question": f"What is the length of the longest dimension of the {thing}, measured in centimeters?"}
        for thing, truth in asked.items()
    ]
    (tmp_path / "test.jsonl").write_text(lines(*rows))
    arguments = ("--system", "size-prior", "--data", tmp_path, "--out", tmp_path / "out", "--json")
    part = json.loads(run("eval", "vsibench", *arguments).out)["benchmarks"]["vsibench"]
    assert part["scores"] == {"bed": {"score": 1.0}, "chair": {"score": 0.0}}


def test_a_log_can_be_scored_again(run, data, tmp_path):
    file = answers(tmp_path / "a.jsonl")
    run("eval", "sums", "--system", "recorded", "--predictions", file, "--data", data, "--out", tmp_path / "out")
    log = tmp_path / "out" / "sums" / "samples.jsonl"
    outcome = run("eval", "score", "sums", "--predictions", log, "--data", data, "--json")
    assert json.loads(outcome.out)["benchmarks"]["sums"]["figures"][0]["value"] == 100


def test_what_is_wrong_with_predictions_is_named_and_counted(run, data, tmp_path):
    file = answers(tmp_path / "a.jsonl", sum_0=None, sum_2=float("nan"), sum_99="1")
    outcome = run("eval", "score", "sums", "--predictions", file, "--data", data)
    assert outcome.code == 0
    assert "**Not complete:**" in outcome.out
    assert "- sums: 1 of 12 items have no output: sum_0" in outcome.out
    assert "- sums: 1 of 12 items failed: sum_2" in outcome.out
    assert "- `sum_2`: the prediction is nan and no text" in outcome.out
    assert "1 outputs in" in outcome.out
    assert "are for no item, and were left out: sum_99" in outcome.out


def test_a_last_answer_without_an_end_of_line_counts(run, data, tmp_path):
    file = answers(tmp_path / "a.jsonl")
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    outcome = run("eval", "score", "sums", "--predictions", file, "--data", data)
    assert "Not complete" not in outcome.out


def lines(*rows: object) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no answer"),
        (lines({"id": "sum_0", "reply": "1"}), "no 'prediction' among id, reply; rename the column"),
        (lines(*[{"id": "sum_0", "prediction": "1"}] * 2), "1 ids occur more than once: sum_0"),
        (
            lines({"id": "0", "prediction": "1"}),
            "no output is for an item of sums: ids are 0, but items are sum_0, sum_1",
        ),
        ("{\n", "a.jsonl:1: is not JSON"),
        (lines({"id": "sum_0", "prediction": "1"}, 3), "a.jsonl:2: is no object but 3"),
    ],
)
def test_a_wrong_file_of_predictions_is_one_clear_line(run, data, tmp_path, text, message):
    (tmp_path / "a.jsonl").write_text(text)
    outcome = run("eval", "score", "sums", "--predictions", tmp_path / "a.jsonl", "--data", data)
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert message in outcome.err


@pytest.mark.parametrize(
    ("count", "changes", "message"),
    [
        (
            3,
            {"answer": None, "result": "1"},
            "questions.jsonl:1: has no column answer (it has id, kind, question, picture, result)",
        ),
        (3, {"id": "sum_1"}, "id sum_1 is there twice"),
        (0, {}, "no question of Sums"),
    ],
)
def test_a_wrong_data_folder_is_one_clear_line(run, tmp_path, count, changes, message):
    data = write_sums(tmp_path / "data", count, **changes)
    outcome = run("eval", "sums", "--data", data, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert message in outcome.err


def test_missing_media_are_named_before_the_work_and_counted_after_it(run, tmp_path):
    data = write_sums(tmp_path / "data", 3, picture="pictures/gone.png")
    outcome = run("eval", "sums", "--data", data, "--out", tmp_path / "out")
    assert outcome.code == 0
    assert "note: media of 1 of 3 items of sums are missing: a picture is not there" in outcome.err
    assert "- sums: 1 of 3 items have no output: sum_0" in outcome.out
    for picture in (data / "pictures").iterdir():
        picture.unlink()
    none = run("eval", "sums", "--data", data, "--out", tmp_path / "other")
    assert none.code == 2
    assert f"{data} holds no media of sums" in none.err


def test_a_picture_that_cannot_be_read_is_a_failure_of_its_item(run, tmp_path):
    data = write_sums(tmp_path / "data", 3)
    (data / "pictures" / "1.png").write_bytes(b"no picture")
    outcome = run("eval", "sums", "--data", data, "--out", tmp_path / "out")
    assert outcome.code == 0
    assert "- sums: 1 of 3 items failed: sum_1" in outcome.out
    assert "not a JPEG, PNG" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "nothing is no benchmark; there are rooms, "),
        (("nothing",), "Nor is it a command: run, benchmarks, score, compare"),
        (("sums",), "sums needs --data DIR, laid out like this:"),
        (("sums", "sums"), "a benchmark is named twice"),
        (("sums", "--system", "recorded"), "--system recorded with --predictions None"),
        (("sums", "--system", "majority", "--model", "tiny"), "--system majority has no model"),
        (("sums", "--system", "transformers"), "--system transformers needs --model"),
        (("sums", "--text-only", "--geometry", "blank"), "there is no geometric encoder to show it to"),
        (("sums", "--text-only", "--reasoning", "geometry"), "there is no geometry to measure in"),
        (("sums", "--typical-sizes"), "--typical-sizes: a model that looks is told nothing"),
        (("compare", "nowhere.json", "nowhere.json"), "nowhere.json: No such file"),
    ],
)
def test_wrong_options_are_one_clear_line(run, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    outcome = run("eval", *arguments)
    assert outcome.code == 2
    assert message in outcome.err


def test_benchmarks_are_listed_with_their_layout(run):
    outcome = run("eval", "--list")
    assert outcome.code == 0
    assert "rooms: Spatial questions about held-out procedural rooms" in outcome.out
    assert "    DATA/questions.jsonl, DATA/pictures/*.png" in outcome.out
    assert "  id of an item: the column id\n" in outcome.out
    assert "--rule public: everybody is right" in run("eval", "benchmarks", "sums").out


def test_reports_are_compared_question_by_question(run, data, tmp_path):
    for name, changes in {"a": {}, "b": {"sum_1": "0", "sum_3": "0", "sum_5": "0"}, "c": {"sum_1": "0"}}.items():
        file = answers(tmp_path / f"{name}.jsonl", **changes)
        run("eval", "score", "sums", "--predictions", file, "--data", data, "--out", tmp_path / name)
    outcome = run("eval", "compare", tmp_path / "a" / "report.json", tmp_path / "b")
    assert outcome.code == 0
    assert "| sums | overall | 12 | 100.00 | 75.00 | +25.00 | 0.00 .. 50.00 |" in outcome.out
    assert "| sums | groups/odd | 6 | 100.00 | 50.00 | **+50.00** | 16.67 .. 83.33 |" in outcome.out
    run(
        "eval", "score", "sums", "--predictions", file, "--data", data, "--rule", "public", "--out", tmp_path / "public"
    )
    refused = run("eval", "compare", tmp_path / "a", tmp_path / "public")
    assert refused.code == 2
    assert "rule is corrected in " in refused.err
    assert "but public in " in refused.err


def test_a_table_names_the_model_and_its_rule(run, data, tmp_path):
    run(
        "eval", "score", "sums", "--predictions", answers(tmp_path / "a.jsonl"), "--data", data, "--out", tmp_path / "a"
    )
    outcome = run("eval", "table", tmp_path / "a")
    assert f"| **{tmp_path / 'a.jsonl'}** | 100.00 | this report, rule corrected |" in outcome.out


def test_shortcuts_stand_beside_the_model(run, data, tmp_path):
    arguments = ("eval", "shortcuts", "sums", "--data", data, "--limit", 4, "--out", tmp_path / "out")
    outcome = run(*arguments)
    assert outcome.code == 0
    ways = ["geometry_on", "geometry_off", "geometry_blank", "geometry_shuffled", "text_only", "size_prompt"]
    ways += ["size_prior", "prior", "majority"]
    assert [line.split()[1] for line in outcome.out.splitlines()[4:]] == ways
    assert "| size_prior | answers none of them | - | - | - | 0 |" in outcome.out  # sums name no things
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == sorted(ways)


def test_overlap_with_training_is_counted(run, data, tmp_path):
    training = tmp_path / "train.jsonl"
    training.write_text(lines({"question": "What is 1 + 1?", "answer": "2"}, {"question": "Why?", "answer": "Thus."}))
    outcome = run("eval", "overlap", "sums", "--data", data, "--with", training, "--ids")
    assert outcome.code == 0
    found = outcome.out.splitlines()
    assert found[0] == f"12 items of sums, 2 rows of {training}"
    assert found[1].split() == ["words", "1", "8.3", "%"]
    assert found[2] == "  sum_1"
    assert found[3].split()[:2] == ["normalised", "12"]  # but for its numbers, it is one question
