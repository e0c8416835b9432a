"""Many scenes: each once, whatever becomes of the others, by however many processes; what is there stays while it is still right."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest

from g2vlm.atomic import write_whole
from g2vlm.batch import KEY, REPORT, Batch, Task, find_scenes, run
from g2vlm.crew import Crew

TESTS = Path(__file__).parent


@dataclass
class Copyist:
    """Writes an account, as a reconstruction would, and does not understand scenes of these names."""

    cannot: dict[str, Exception] = field(default_factory=dict)
    asked: list[Task] = field(default_factory=list)

    def __call__(self, task: Task) -> tuple[int, tuple[str, ...]]:
        self.asked.append(task)
        if task.scene.name in self.cannot:
            raise self.cannot[task.scene.name]
        task.folder.mkdir(exist_ok=True)
        (task.folder / "points.ply").write_text("ply")
        account = {"settings": {KEY: task.key}, "num_views": len(task.scene.files), "files": ["points.ply"]}
        write_whole(task.folder / "reconstruction.json", json.dumps(account))
        return len(task.scene.files), (f"process {os.getpid()}",)

    @property
    def names(self) -> list[str]:
        return [task.scene.name for task in self.asked]


@pytest.fixture
def scenes(tmp_path) -> Path:
    """Three folders of pictures and a video; nothing here is decoded."""
    folder = tmp_path / "scenes"
    for name in ("a", "b", "c"):
        (folder / name).mkdir(parents=True)
        (folder / name / "1.png").write_text(name)
    (folder / "a" / "2.png").write_text("a")
    (folder / "d.mp4").write_text("d")
    (folder / ".hidden").mkdir()
    (folder / "readme.txt").write_text("no scene")
    return folder


def attempted(scenes: Path, work: Copyist, settings: dict | None = None, **options) -> dict[str, str]:
    batch = Batch(work, settings or {"resolution": 56}, scenes.parent / "out", **options)
    return {row.scene: row.status for row in run(batch, find_scenes(scenes), tell=lambda row: None)}


def test_folders_and_videos_are_scenes_with_the_files_that_frames_take(scenes):
    (scenes / "b" / "walk.mp4").write_text("b")
    (scenes / "c" / "1.png").rename(scenes / "c" / "1.mov")
    inputs = {scene.name: [Path(text).name for text in scene.inputs] for scene in find_scenes(scenes)}
    assert inputs == {"a": ["a"], "b": ["b", "walk.mp4"], "c": ["1.mov"], "d.mp4": ["d.mp4"]}


def test_what_is_there_is_left_alone(scenes):
    assert set(attempted(scenes, Copyist()).values()) == {"done"}
    again = Copyist()
    assert set(attempted(scenes, again).values()) == {"kept"}
    assert not again.asked
    report = json.loads((scenes.parent / "out" / REPORT).read_text())
    assert [(row["scene"], row["status"], row["views"]) for row in report] == [
        (name, "kept", views) for name, views in {"a": 2, "b": 1, "c": 1, "d.mp4": 1}.items()
    ]


def test_other_pictures_and_lost_files_are_done_again(scenes):
    attempted(scenes, Copyist())
    (scenes / "a" / "3.png").write_text("new")
    (scenes / "b" / "1.png").write_text("changed")
    (scenes.parent / "out" / "c" / "points.ply").unlink()
    again = Copyist()
    assert attempted(scenes, again) == {"a": "done", "b": "done", "c": "done", "d.mp4": "kept"}
    assert all(task.replaces for task in again.asked)


def test_other_settings_are_refused_by_name_or_replace(scenes):
    attempted(scenes, Copyist())
    with pytest.raises(ValueError, match=r"resolution is 84, but .* holds results with 56; choose another --out"):
        attempted(scenes, Copyist(), {"resolution": 84})
    assert set(attempted(scenes, Copyist(), {"resolution": 84}, replaces=True).values()) == {"done"}


def test_results_of_somebody_else_are_not_replaced(scenes):
    folder = scenes.parent / "out" / "b"
    folder.mkdir(parents=True)
    (folder / "reconstruction.json").write_text('{"files": [], "num_views": 1, "settings": {}}')
    work = Copyist()
    attempted(scenes, work)
    assert sorted(work.names) == ["a", "b", "c", "d.mp4"]
    assert not any(task.replaces for task in work.asked)


def test_a_bad_scene_costs_no_other_and_is_tried_again(scenes):
    work = Copyist({"a": ValueError("a: too dark"), "b": RuntimeError("out of memory")})
    assert attempted(scenes, work) == {"a": "failed", "b": "failed", "c": "done", "d.mp4": "done"}
    errors = {row["scene"]: row["error"] for row in json.loads((scenes.parent / "out" / REPORT).read_text())}
    assert (errors["a"], errors["b"]) == ("a: too dark", "out of memory")
    again = Copyist()
    assert attempted(scenes, again) == {"a": "done", "b": "done", "c": "kept", "d.mp4": "kept"}
    assert again.names == ["a", "b"]


def test_a_defect_of_ours_stops_the_run(scenes):
    with pytest.raises(ZeroDivisionError):
        attempted(scenes, Copyist({"b": ZeroDivisionError("of ours")}))


def test_a_run_that_was_killed_goes_on(scenes):
    with pytest.raises(KeyboardInterrupt):
        attempted(scenes, Copyist({"c": KeyboardInterrupt()}))  # pyright: ignore[reportArgumentType]
    assert not (scenes.parent / "out" / REPORT).exists()
    assert attempted(scenes, Copyist()) == {"a": "kept", "b": "kept", "c": "done", "d.mp4": "done"}
    assert not [*(scenes.parent / "out").glob("scenes.*.jsonl")]


def test_processes_share_what_is_new_and_what_is_there_apart(scenes):
    class Second(Crew):
        def wait(self) -> None:
            """Nobody else is there."""

    work = Copyist({"b": ValueError("b"), "d.mp4": ValueError("d")})
    attempted(scenes, work)
    batch, mine = Batch(work, {"resolution": 56}, scenes.parent / "out"), []
    assert run(batch, find_scenes(scenes), crew=Second(1, 2), tell=mine.append) == []
    assert [(row.scene, row.status) for row in mine] == [("d.mp4", "failed"), ("c", "kept")]


def test_a_folder_without_scenes_is_refused(tmp_path):
    (tmp_path / "1.png").write_text("")
    with pytest.raises(ValueError, match=r"holds no scene: .* leave --scenes out"):
        find_scenes(tmp_path)
    with pytest.raises(ValueError, match="there is no such folder"):
        find_scenes(tmp_path / "1.png")


TWO = """
import sys
from pathlib import Path
from g2vlm.batch import Batch, find_scenes, run
from g2vlm.crew import join
from test_batch import Copyist
scenes, out = map(Path, sys.argv[1:])
run(Batch(Copyist(), {}, out), find_scenes(scenes), crew=join(), tell=lambda row: None)
"""


@pytest.mark.slow
def test_two_processes_do_each_scene_once(scenes, tmp_path):
    (tmp_path / "two.py").write_text(TWO)
    search = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*launch, str(tmp_path / "two.py"), str(scenes), str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
    )
    rows = json.loads((tmp_path / "out" / REPORT).read_text())
    assert [(row["scene"], row["status"]) for row in rows] == [(name, "done") for name in ("a", "b", "c", "d.mp4")]
    assert len({row["notes"][0] for row in rows}) == 2


@dataclass
class Deadly(Copyist):
    """Takes its process with it at one scene."""

    def __call__(self, task: Task) -> tuple[int, tuple[str, ...]]:
        if task.scene.name == "b":
            os._exit(1)
        return super().__call__(task)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'g2vlm[ray]'")
def test_a_cluster_on_this_machine_does_all_and_survives_a_dead_worker(scenes, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]))
    batch = Batch(Deadly(), {}, scenes.parent / "out")
    rows = run(batch, find_scenes(scenes), ray_workers=2, tell=lambda row: None)
    assert [row.status for row in rows] == ["done", "failed", "done", "done"]
    assert rows[1].error.startswith("its worker died: ")


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_a_cluster_without_ray_names_the_extra(scenes):
    batch = Batch(Copyist(), {}, scenes.parent / "out")
    with pytest.raises(ValueError, match=r"a cluster needs Ray: pip install 'g2vlm\[ray\]'"):
        run(batch, find_scenes(scenes), ray_workers=2, tell=lambda row: None)
