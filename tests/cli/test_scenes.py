"""Many scenes by the command line: a folder of results for each, a table, and what cannot be is refused in one line."""

import json
import shutil
from pathlib import Path

import pytest
from videos import video

from g2vlm.batch import KEY


@pytest.fixture
def scenes(photos, tmp_path) -> Path:
    """Two scenes of pictures, one without any, and an empty video."""
    folder = tmp_path / "scenes"
    shutil.copytree(photos, folder / "hall")
    shutil.copytree(photos, folder / "$(rm -r x);..")
    (folder / "empty").mkdir()
    (folder / "broken.mp4").write_bytes(b"")
    return folder


def test_each_scene_has_a_folder_and_a_line_and_bad_ones_are_named(run, hub, scenes, tmp_path):
    out = tmp_path / "out"
    outcome = run("predict", scenes, "--scenes", "-o", out, "--max-views", 2)
    assert outcome.code == 1
    head, *lines, summary = outcome.out.splitlines()
    assert head.split() == ["scene", "status", "views", "seconds"]
    assert [line[:21].split()[-1] for line in lines] == ["done", "failed", "failed", "done"]
    assert "broken.mp4: cannot be read as a video" in lines[1]
    assert "no picture among the 0 entries" in lines[2]
    assert summary == f"4 scenes: 2 done, 0 kept, 2 failed; {out / 'scenes.json'}"
    assert "note: hall: using 2 of 3 pictures" in outcome.err
    assert len(hub.loaded) == 1  # for all of them
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"hall", "$(rm -r x);.."}
    assert (out / "hall" / "points.ply").is_file()
    assert KEY in json.loads((out / "hall" / "reconstruction.json").read_text())["settings"]


def test_a_second_run_loads_no_model_and_does_only_what_is_new(run, hub, scenes, tmp_path):
    arguments = ("predict", scenes, "--scenes", "-o", tmp_path / "out", "--json")
    run(*arguments)
    for name in ("empty", "broken.mp4"):
        path = scenes / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    outcome = run(*arguments)
    assert (outcome.code, len(hub.loaded)) == (0, 1)
    assert [(row["scene"], row["status"]) for row in json.loads(outcome.out)] == [
        ("$(rm -r x);..", "kept"),
        ("hall", "kept"),
    ]
    video(scenes / "walk.mp4", 4)
    assert [row["status"] for row in json.loads(run(*arguments).out)] == ["kept", "kept", "done"]


def test_an_interrupted_scene_goes_on_with_its_windows(run, hub, scenes, tmp_path, monkeypatch):
    look = hub.look

    def failing(views):
        if len(hub.looks) == 1:
            raise KeyboardInterrupt
        return look(views)

    arguments = ("predict", scenes, "--scenes", "-o", tmp_path / "out", "--window", 2, "--overlap", 1)
    monkeypatch.setattr(hub, "look", failing)
    assert run(*arguments).code == 130
    monkeypatch.setattr(hub, "look", look)
    outcome = run(*arguments)
    assert "1 of 2 windows were there" in outcome.err
    assert "2 done, 0 kept, 2 failed" in outcome.out


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--plan"], "--plan is of one scene"),
        (["more"], "--scenes wants one folder of scenes, but 2 inputs are given"),
        (["--known", "{scenes}"], "knows the cameras of one scene"),
        (["--formats", "ply"], "add json to --formats"),
        (["-o", "{scenes}/out"], "lies in"),
        (["--resolution", 84], "resolution is 84, but"),
    ],
)
def test_what_cannot_be_gets_one_line(run, hub, scenes, tmp_path, options, line):
    run("predict", scenes, "--scenes", "-o", tmp_path / "out")
    options = [str(option).format(scenes=scenes) for option in options]
    outcome = run("predict", scenes, "--scenes", "-o", tmp_path / "out", *options)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert line in outcome.err


def test_a_cluster_without_scenes_is_refused(run, hub, photos, tmp_path):
    outcome = run("predict", photos, "-o", tmp_path / "out", "--ray", 2)
    assert outcome.err == "error: --ray 2 is of many scenes; give --scenes, too\n"
