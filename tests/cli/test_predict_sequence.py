"""Videos, lists and long sequences by the command line; what is wrong gets one line."""

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from videos import video


@pytest.fixture
def many(tmp_path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(10):
        Image.fromarray(random.integers(0, 256, (56, 56, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def test_windows_see_all_and_leave_one_result(run, hub, many, tmp_path):
    outcome = run("predict", many, "-o", tmp_path / "out", "--window", 6, "--overlap", 2, "--json")
    assert outcome.code == 0
    told = json.loads(outcome.out)
    assert told["views"] == [f"{i}.png" for i in range(10)]
    assert hub.looks[:2] == [6, 6]
    assert told["sequence"]["windows"] == 2
    assert told["sequence"]["joints"] == [{"windows": [0, 1], "views": [4, 5], "agreement": 1.0}]
    assert [f"note: {note}" for note in told["notes"]] == outcome.err.splitlines()
    account = json.loads((tmp_path / "out/reconstruction.json").read_text())
    assert account["settings"]["joints"] == "4-5 100%"
    assert (tmp_path / "out/points.ply").is_file()
    assert not (tmp_path / "out/.windows").exists()


def test_a_run_that_was_cut_short_goes_on(run, hub, many, tmp_path, monkeypatch):
    look = hub.look

    def failing(views):
        if len(hub.looks) == 1:
            raise RuntimeError("power cut")
        return look(views)

    arguments = ("predict", many, "-o", tmp_path / "out", "--window", 6, "--overlap", 2)
    monkeypatch.setattr(hub, "look", failing)
    with pytest.raises(RuntimeError, match="power cut"):
        run(*arguments)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".windows"]
    monkeypatch.setattr(hub, "look", look)
    refused = run(*arguments[:-1], 3)
    assert refused.code == 2
    assert "holds a run of other settings (overlap was 2, now 3)" in refused.err
    outcome = run(*arguments)
    assert outcome.code == 0
    assert "1 of 2 windows were there" in outcome.err


def test_damaged_frames_are_left_out_and_named(run, hub, many, tmp_path):
    (many / "3.png").write_bytes(b"no picture")
    outcome = run("predict", many, "-o", tmp_path / "out", "--window", 6, "--json")
    assert outcome.code == 0
    assert len(json.loads(outcome.out)["views"]) == 9
    assert "note: left out: " in outcome.err
    assert "3.png" in outcome.err


def test_a_list_comes_from_stdin(run, hub, many, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{many / '4.png'}\n{many / '2.png'}\n"))
    assert json.loads(run("predict", "-", "-o", tmp_path / "out", "--json").out)["views"] == ["4.png", "2.png"]


def test_frames_of_a_video_are_chosen_by_time(run, hub, tmp_path):
    path = video(tmp_path / "v.mp4", 20)
    outcome = run("predict", path, "-o", tmp_path / "out", "--fps", 2, "--end", 1, "--json")
    assert json.loads(outcome.out)["views"] == [f"v.mp4 frame {i}" for i in (0, 5, 10)]
    assert outcome.err == ""  # whoever says which frames need not be told that there are others


def test_frames_of_uneven_times_are_those_that_are_on_the_screen(run, hub, tmp_path):
    path = video(tmp_path / "v.mp4", 6, seconds=[0, 0.1, 0.2, 1, 3, 3.1])
    outcome = run("predict", path, "-o", tmp_path / "out", "--fps", 1, "--json")
    assert json.loads(outcome.out)["views"] == [f"v.mp4 frame {i}" for i in (0, 3, 4)]


def spoil(many: Path, how: str) -> list[object]:
    """Make one thing wrong; returns the arguments of the call."""
    match how:
        case "empty.mp4":
            (many / "empty.mp4").write_bytes(b"")
            return [many / "empty.mp4"]
        case "empty by windows":
            (many / "empty.mp4").write_bytes(b"")
            return [many / "empty.mp4", "--window", 4, "--fps", 2]
        case "too many a second":
            return [video(many / "v.mp4", 40), "--fps", 10]
        case "all damaged":
            for path in many.iterdir():
                path.write_bytes(b"no picture")
            return [many, "--window", 4]
        case "one left":
            for path in list(many.iterdir())[1:]:
                path.write_bytes(b"no picture")
            return [many, "--window", 4]
        case "fps of pictures":
            return [many, "--fps", 2]
        case "overlap":
            return [many, "--window", 4, "--overlap", 3]
        case "overlap alone":
            return [many, "--overlap", 3]
        case "start behind end":
            return [video(many / "v.mp4"), "--start", 3, "--end", 2]
        case "behind the end":
            return [video(many / "v.mp4"), "--start", 100]
    return []


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("empty.mp4", "empty.mp4: cannot be read as a video"),
        ("empty by windows", "empty.mp4: cannot be read as a video"),
        ("too many a second", "40 frames are more than --max-views 32; give --window 16"),
        ("all damaged", "only 0 of 10 frames can be read, and at least 2 are needed"),
        ("one left", "only 1 of 10 frames can be read, and at least 2 are needed"),
        ("fps of pictures", "fps, start and end are of videos"),
        ("overlap", "overlap is 3 with a window of 4; it must be at least 1 and at most half"),
        ("overlap alone", "--overlap 3 is of windows; give --window, too"),
        ("start behind end", "start is 3.0 and end is 2.0"),
        ("behind the end", "no frame between 100.0 and None seconds; it is 1.1 seconds long"),
    ],
)
def test_bad_input_gets_one_line(run, hub, many, tmp_path, how, line):
    outcome = run("predict", *spoil(many, how), "-o", tmp_path / "out")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert line in outcome.err
    assert not any(path.name != ".windows" for path in (tmp_path / "out").glob("*"))
    assert "Traceback" not in outcome.err


def test_names_of_pictures_are_no_commands_and_lead_nowhere(run, hub, many, tmp_path):
    for name in ("$(touch pwned).png", "..;x.png", "-rf.png", "..%2f..%2f`id`.png", "line\nbreak.png"):
        (many / name).write_bytes((many / "0.png").read_bytes())
    before = set(tmp_path.rglob("*"))
    assert run("predict", many, "-o", tmp_path / "out").code == 0
    new = set(tmp_path.rglob("*")) - before - {tmp_path / "out"}
    assert all(path.is_relative_to(tmp_path / "out") for path in new)
    assert all(re.fullmatch(r"[\w. -]+", path.name) for path in new)


def test_a_folder_over_the_limit_says_how_to_thin_it_out(run, hub, many, tmp_path):
    for i in range(5001):
        (many / f"n{i}.png").symlink_to(many / "0.png")
    outcome = run("predict", many, "-o", tmp_path / "out", "--window", 16)
    assert outcome.err == "error: 5011 frames are over the limit of 5000; give frames to thin them out\n"
    assert run("predict", many, "-o", tmp_path / "out", "--window", 16, "--frames", 4).code == 0


def test_no_folder_for_results_is_refused(run, hub, many):
    assert run("predict", many).err == "error: no folder for the results was given; give --out DIR\n"
