"""`g2vlm eval scenes` and `g2vlm eval score scenes` on folders of tiny rooms: geometry by the command line."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from perfect import perfect_room
from rooms import Room, lay_out, small_room

from g2vlm.eval import report as reporting
from g2vlm.eval.benchmarks import rules
from g2vlm.eval.benchmarks.frames import fingerprint, write_list
from g2vlm.eval.resampling import resampled

NAMES = ("attic", "cellar")
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def room() -> Room:
    return small_room(num_views=3)


@pytest.fixture
def data(room, tmp_path) -> Path:
    for name in NAMES:
        lay_out(room, tmp_path / "data", name)
    return tmp_path / "data"


@pytest.fixture
def predictions(room, tmp_path) -> Path:
    """What is true of both rooms, twice as large."""
    (tmp_path / "said").mkdir()
    for name in NAMES:
        record(tmp_path / "said" / f"{name}.npz", room)
    return tmp_path / "said"


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch):
    """The release's rule works at a width of 70 pixels instead of 512, and intervals are of few draws."""
    monkeypatch.setattr(rules, "WIDTH", 70)
    monkeypatch.setattr(reporting, "resampled", partial(resampled, draws=10))


def record(file: Path, room: Room, **changes: object) -> None:
    """changes: of arrays; None leaves one out."""
    said = perfect_room(room, range(3), scale=2)
    normals = np.tile([0, 0, -1.0], (3, 48, 64, 1))
    arrays = {"depth": np.stack(said.depth or ()), "points": np.stack(said.points or ()), "normals": normals}
    arrays |= {"poses": said.poses, "intrinsics": said.intrinsics} | changes
    np.savez(file, **{name: values for name, values in arrays.items() if values is not None})


def scored(run, data: Path, predictions: Path, *more: object) -> dict:
    outcome = run("eval", "score", "scenes", "--data", data, "--predictions", predictions, "--json", *more)
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def figures(report: dict) -> dict[str, dict]:
    return {figure["name"]: figure for figure in report["benchmarks"]["scenes"]["figures"]}


def test_recorded_geometry_is_scored_on_all_that_is_known(run, data, predictions):
    report = scored(run, data, predictions)
    found = figures(report)
    assert report["complete"]
    assert [found[name]["value"] for name in ("delta1", "auc30", "rra5")] == [1, 100, 100]
    assert [found[name]["value"] for name in ("absrel", "ate", "focal")] == pytest.approx([0] * 3, abs=1e-3)
    assert {found[name]["count"] for name in ("delta1", "auc30", "chamfer", "ate", "focal")} == {2}


def test_the_report_has_the_hash_of_the_frames_that_were_shown(run, data, predictions, room):
    whole = scored(run, data, predictions)["benchmarks"]["scenes"]["frame_list_sha256"]
    assert whole == fingerprint({name: [0, 1, 2] for name in NAMES})
    write_list(data / "frames.json", {"attic": [2, 0, 1], "cellar": [0, 1, 2]})
    turned = room.poses[[2, 0, 1]]
    record(predictions / "attic.npz", Room(room.images, room.depth[[2, 0, 1]], turned, room.intrinsics))
    report = scored(run, data, predictions)
    assert report["benchmarks"]["scenes"]["frame_list_sha256"] == fingerprint({"attic": [2, 0, 1], "cellar": [0, 1, 2]})
    assert figures(report)["auc30"]["value"] == 100
    page = run("eval", "score", "scenes", "--data", data, "--predictions", predictions).out
    assert f"Frame list `{report['benchmarks']['scenes']['frame_list_sha256']}`." in page


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"depth": np.full((3, 48, 64), np.nan)}, "depth: the predicted depth is not finite in 9216 of 9216 pixels"),
        ({"depth": np.ones((3, 64, 48))}, "depth of picture 0 has 48 x 64 pixels, its photo 64 x 48"),
        ({"depth": np.ones((2, 48, 64))}, "depth was predicted for 2 pictures, of which there are 3"),
        ({"poses": np.tile(np.eye(4), (2, 1, 1))}, "poses have the shape (2, 4, 4), not (3, 4, 4)"),
        ({"poses": np.full((3, 4, 4), np.nan)}, "are not finite"),
        ({"intrinsics": None}, "intrinsics: no intrinsics were predicted"),
    ],
)
def test_an_unusable_prediction_is_named_counted_and_worth_nothing(run, data, predictions, room, changes, reason):
    record(predictions / "cellar.npz", room, **changes)
    report = scored(run, data, predictions)
    part = report["benchmarks"]["scenes"]
    assert (part["statuses"]["scored"], part["statuses"]["failed"]) == (1, 1)
    assert reason in part["told"]["failed"]["cellar"]
    assert report["incomplete"] == ["scenes: 1 of 2 items failed: cellar"]
    assert figures(report)["failed"]["value"] == 1
    share = {"depth": "delta1", "poses": "auc30", "intrinsics": "delta1"}[next(iter(changes))]
    assert figures(report)[share]["count"] == 2
    assert figures(report)["absrel"]["value"] == pytest.approx(0, abs=1e-3)  # has no worst value, and leaves it out


def test_maps_of_another_size_are_scored(run, data, predictions, room):
    half = perfect_room(room, range(3))
    small = {"depth": np.stack(half.depth or ())[:, ::2, ::2], "points": np.stack(half.points or ())[:, ::2, ::2]}
    record(predictions / "cellar.npz", room, **small)
    report = scored(run, data, predictions)
    assert report["complete"]
    assert report["benchmarks"]["scenes"]["scores"]["cellar"]["delta1"] > 0.95


def test_what_was_not_recorded_is_missing_and_what_was_not_asked_is_noted(run, data, predictions):
    (predictions / "cellar.npz").rename(predictions / "loft.npz")
    report = scored(run, data, predictions)
    part = report["benchmarks"]["scenes"]
    assert part["statuses"]["missing"] == 1
    assert part["told"]["missing"] == {"cellar": f"no {predictions / 'cellar.npz'}"}
    assert "cellar" not in part["scores"]
    assert report["notes"] == [f"1 outputs in {predictions} are for no item, and were left out: loft.npz"]


def test_a_picture_that_is_missing_is_one_clear_line(run, data, predictions):
    (data / "attic" / "images" / "1.png").unlink()
    outcome = run("eval", "score", "scenes", "--data", data, "--predictions", predictions)
    assert outcome.code == 2
    assert "1 of 12 files are missing" in outcome.err
    assert "images/1.png" in outcome.err


def test_questions_and_geometry_are_not_mixed_up(run, data, predictions, tmp_path):
    (tmp_path / "said.jsonl").write_text('{"id": "attic", "prediction": "large"}\n')
    outcome = run("eval", "score", "scenes", "--data", data, "--predictions", tmp_path / "said.jsonl")
    assert outcome.code == 2
    assert "reconstructs nothing, which this benchmark asks for" in outcome.err
    outcome = run("eval", "shortcuts", "scenes", "--data", data, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "asks no questions" in outcome.err


def test_the_release_is_scored_at_its_own_size_and_pooled_figures_have_intervals(run, data, predictions, room):
    record(predictions / "cellar.npz", room, depth=np.ones((3, 48, 64)))
    report = scored(run, data, predictions, "--rule", "g2vlm-release")
    assert report["benchmarks"]["scenes"]["rule"]["name"] == "g2vlm-release"
    for name in ("absrel", "auc30", "chamfer"):  # by pixels, by pairs, by scenes of the whole set
        low, high = figures(report)[name]["interval"]
        assert low <= figures(report)[name]["value"] <= high
    assert figures(report)["absrel"]["interval"][1] > 0.05


@pytest.mark.slow
def test_a_model_sees_what_the_rule_says(run, data, tmp_path):
    write_list(data / "frames.json", {"attic": [0, 1]})
    reports = {}
    for rule in ("corrected", "g2vlm-release"):
        out = tmp_path / rule
        outcome = run("eval", "scenes", "--data", data, "--rule", rule, "--out", out, "--json")
        assert outcome.code == 0, outcome.err
        reports[rule] = json.loads(outcome.out)
        assert reports[rule]["complete"]
        assert reports[rule]["system"]["source"] == "tiny"
    first, second = (report["benchmarks"]["scenes"]["scores"]["attic"] for report in reports.values())
    assert first["pixels"] == second["pixels"] == 2 * 48 * 64  # at the pixels of the truth
    assert first["focal"] != second["focal"]  # for other pictures were seen
    again = run("eval", "scenes", "--data", data, "--out", tmp_path / "corrected", "--json")
    assert json.loads(again.out) == reports["corrected"]


@pytest.mark.slow
def test_two_processes_of_the_command_give_the_report_of_one(data, predictions, tmp_path):
    command = ["-m", "g2vlm", "eval", "scenes", "--data", data, "--system", "recorded", "--predictions", predictions]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    search = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    for name, before in {"one": [], "two": launch}.items():
        subprocess.run(
            [sys.executable, *before, *map(str, command), "--out", str(tmp_path / name)],
            env=os.environ | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            check=True,
        )
    one, two = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("one", "two"))
    assert {**one, "cost": None} == {**two, "cost": None}
    assert one["benchmarks"]["scenes"]["num_asked"] == 2
