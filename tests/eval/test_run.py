import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from inventions import SUMS, Reckoner, write_sums

from g2vlm.eval.adapters import Model
from g2vlm.eval.benchmarks.asking import QuestionBenchmark
from g2vlm.eval.benchmarks.base import Outcome, QuestionItem
from g2vlm.eval.benchmarks.rooms import RoomQuestions
from g2vlm.eval.protocol import About, Absent
from g2vlm.eval.questions import asking, held_out
from g2vlm.eval.questions import evaluate as evaluate_rooms
from g2vlm.eval.report import write_report
from g2vlm.eval.run import LOG, MISSING, chosen, evaluate, question_set_sha256
from g2vlm.hub import load

TESTS = Path(__file__).resolve().parents[1]


def run(data: Path, out: Path, system=None, **options):
    system = Reckoner() if system is None else system
    found = evaluate(SUMS, SUMS.items(data), system, out / "sums", data=data, **options)
    return write_report(out, [found], system.about.source, limit=options.get("limit"))


def lasting(report: dict) -> dict:
    """All but what it cost."""
    return {name: value for name, value in report.items() if name != "cost"}


@pytest.fixture
def data(tmp_path) -> Path:
    return write_sums(tmp_path / "data")


def test_a_run_that_was_killed_goes_on_and_gives_the_same_report(data, tmp_path):
    whole = run(data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "killed", Reckoner(kill_at=5))
    rest = Reckoner()
    assert lasting(run(data, tmp_path / "killed", rest)) == lasting(whole)
    assert rest.asked == [f"sum_{i}" for i in range(5, 12)]
    again = Reckoner()
    first = (tmp_path / "killed" / "report.json").read_bytes()
    run(data, tmp_path / "killed", again)
    assert again.asked == []
    assert (tmp_path / "killed" / "report.json").read_bytes() == first  # times come from the log


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_last_line_that_was_cut_off_is_asked_again(data, tmp_path, cut):
    whole = run(data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "killed", Reckoner(kill_at=7))
    shard = tmp_path / "killed" / "sums" / "samples.0.jsonl"
    shard.write_bytes(shard.read_bytes()[:-cut])
    rest = Reckoner()
    assert lasting(run(data, tmp_path / "killed", rest)) == lasting(whole)
    assert rest.asked[0] == "sum_6"


def test_the_log_says_everything_about_an_item(data, tmp_path):
    run(data, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "sums" / LOG).read_text().splitlines()]
    wrong = {
        name: rows[4][name] for name in ("id", "kind", "prompt", "prediction", "parsed", "truth", "scores", "status")
    }
    assert wrong == {
        "id": "sum_4",
        "kind": "even",
        "prompt": "What is 4 + 1?",
        "prediction": "6",
        "parsed": "6",
        "truth": "5",
        "scores": {"score": 0.0},
        "status": "scored",
    }
    assert (rows[6]["status"], rows[6]["prediction"]) == ("unparsed", "Höchst ungewiß")
    assert all(row["seconds"] >= 0 and row["memory"] > 0 for row in rows)


def test_results_on_other_terms_are_refused_with_both_values(data, tmp_path):
    run(data, tmp_path / "out")
    other = Reckoner(about=About("invented", "reckoner", "0" * 64, {"skill": 2}))
    with pytest.raises(
        ValueError, match=r"system.settings.skill is 2, but .*sums holds results with 1; choose another"
    ):
        run(data, tmp_path / "out", other)
    with pytest.raises(ValueError, match=r"rule is 'public', but .* holds results with 'corrected'"):
        run(data, tmp_path / "out", rule="public")
    changed = write_sums(tmp_path / "changed", answer="7")
    with pytest.raises(ValueError, match="question_set_sha256 is"):
        run(changed, tmp_path / "out")


def test_a_rule_that_there_is_not_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="sums has no rule 'lenient'; there are corrected, public"):
        run(data, tmp_path, rule="lenient")


def test_a_limit_takes_the_same_items_whatever_else_there_is(data, tmp_path):
    items = SUMS.items(data)
    few, more = chosen(items, 4, 0), chosen(items, 8, 0)
    assert len(few) == 4
    assert few < more
    assert chosen(items[::-1], 4, 0) == few
    assert chosen(items, 4, 1) != few
    report = run(data, tmp_path / "out", limit=4)
    assert (report["complete"], report["incomplete"]) == (False, ["sums: 4 of 12 items, by limit 4"])
    rest = Reckoner()
    assert lasting(run(data, tmp_path / "out", rest)) == lasting(run(data, tmp_path / "whole"))
    assert len(rest.asked) == 8  # the first four were there


def test_lines_of_several_processes_become_one_log(data, tmp_path):
    whole = run(data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "shared", Reckoner(kill_at=6))
    shard = tmp_path / "shared" / "sums" / "samples.0.jsonl"
    lines = shard.read_bytes().splitlines(keepends=True)
    shard.write_bytes(b"".join(lines[3:]))
    (shard.parent / "samples.1.jsonl").write_bytes(b"".join(lines[:4]))  # one of them twice
    rest = Reckoner()
    assert lasting(run(data, tmp_path / "shared", rest)) == lasting(whole)
    assert len(rest.asked) == 6
    assert sorted(path.name for path in shard.parent.iterdir()) == [LOG, "terms.json"]


TWO = """
import sys
from dataclasses import fields
from pathlib import Path
from inventions import SUMS, Reckoner
from g2vlm.eval.report import write_report
from g2vlm.crew import join
from g2vlm.eval.run import evaluate
data, out = map(Path, sys.argv[1:])
crew, system = join(), Reckoner()
found = evaluate(SUMS, SUMS.items(data), system, out / "sums", data=data, crew=crew)
print("asked", crew.rank, len(system.asked), flush=True)
if crew.is_first:
    write_report(out, [found], system.about.source)
"""


@pytest.mark.slow
def test_two_processes_give_the_report_of_one(data, tmp_path):
    (tmp_path / "two.py").write_text(TWO)
    search = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, str(tmp_path / "two.py"), str(data), str(tmp_path / "two")],
        env=os.environ | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(line for line in done.stdout.splitlines() if "asked" in line) == ["asked 0 6", "asked 1 6"]
    one = run(data, tmp_path / "one")
    two = json.loads((tmp_path / "two" / "report.json").read_text())
    assert lasting(two) == json.loads(json.dumps(lasting(one)))


class Faulty(Reckoner):
    """Has nothing for one, something unusable for another, and is wrong about a third."""

    def answer(self, item: QuestionItem) -> str:
        if item.id == "sum_1":
            raise Absent("no such answer")
        if item.id == "sum_2":
            raise ValueError("the prediction is nan and no text")
        return super().answer(item)


def test_what_is_missing_or_unusable_is_named_and_counted(data, tmp_path):
    report = run(data, tmp_path, Faulty())
    part = report["benchmarks"]["sums"]
    assert part["statuses"] == {"scored": 9, "unparsed": 1, "skipped": 0, "failed": 1, MISSING: 1}
    assert part["told"][MISSING] == {"sum_1": "no such answer"}
    assert part["told"]["failed"] == {"sum_2": "the prediction is nan and no text"}
    assert report["incomplete"] == [
        "sums: 1 of 12 items have no output: sum_1",
        "sums: 1 of 12 items failed: sum_2",
    ]
    assert part["scores"]["sum_2"] == {"score": 0.0}  # no more than an answer that is not there
    assert "sum_1" not in part["scores"]
    complete = Faulty()
    complete.answer = Reckoner().answer  # pyright: ignore[reportAttributeAccessIssue]
    assert run(data, tmp_path, complete)["benchmarks"]["sums"]["statuses"][MISSING] == 0  # it is tried again


def test_a_score_that_is_no_number_is_a_failure(data, tmp_path):
    class Unsound(QuestionBenchmark):
        def score(self, item, output, rule="corrected"):
            return Outcome(item.kind, "scored", {"score": float("nan")})

    unsound = Unsound(**{each.name: getattr(SUMS, each.name) for each in fields(SUMS)})
    found = evaluate(unsound, SUMS.items(data), Reckoner(), tmp_path, data=data)
    assert {row["status"] for row in found.rows.values()} == {"failed"}
    assert found.rows["sum_0"]["note"] == "score is nan: the output is unusable"


def test_the_fingerprint_of_questions_is_of_what_is_asked_and_not_of_where_it_lies(data, tmp_path):
    first = question_set_sha256(SUMS.items(data), data)
    moved = write_sums(tmp_path / "moved")
    assert question_set_sha256(SUMS.items(moved), moved) == first
    for i, change in enumerate(
        ({"question": "What?"}, {"answer": "9"}, {"picture": "pictures/1.png"}, {"kind": "odd"})
    ):
        other = write_sums(tmp_path / str(i), **change)
        assert question_set_sha256(SUMS.items(other), other) != first


def test_a_system_that_cannot_do_what_is_asked_is_refused(data, tmp_path):
    class Mute:
        about = About("invented", "mute")

    with pytest.raises(ValueError, match="mute answers no questions"):
        run(data, tmp_path, Mute())


def test_rooms_give_what_they_gave_before_they_were_a_benchmark(tmp_path):
    benchmark = RoomQuestions(count=18, size=84)
    items, predictor = benchmark.items(tmp_path), load()
    found = evaluate(benchmark, items, Model(predictor), tmp_path / "rooms", data=tmp_path)
    report = evaluate_rooms(asking(predictor), held_out(18, size=84))
    assert {id: row["scores"]["score"] for id, row in found.rows.items()} == {
        f"{quiz.seed}/{question.kind}": score
        for quiz in held_out(18, size=84)
        for question in quiz.questions
        for score in report.scores[question.kind]
    }
    overall = benchmark.figures(items, found.outcomes)[0]
    assert overall.value == pytest.approx(100 * report.overall)
