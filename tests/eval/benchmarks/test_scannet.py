from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from perfect import perfect_room
from rooms import Room, matrix, millimetres, save, write

from g2vlm.eval.benchmarks.frames import every
from g2vlm.eval.benchmarks.scannet import BENCHMARKS

(TRAJECTORY,) = BENCHMARKS
SMALL = replace(TRAJECTORY, selection=every(1, count=4))


def lay_out(room: Room, folder: Path, scan: str = "scene0707_00") -> Path:
    """Frames 0, 1, 2 and 10; frame 9 was not tracked."""
    whole = np.eye(4)
    whole[:3, :3] = room.intrinsics - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    for kind in ("color", "depth"):
        write(folder / scan / "intrinsic" / f"intrinsic_{kind}.txt", matrix(whole))
    for view, number in enumerate((0, 1, 2, 10)):
        save(folder / scan / "color" / f"{number}.jpg", room.images[view])
        save(folder / scan / "depth" / f"{number}.png", millimetres(room.depth[view]))
        write(folder / scan / "pose" / f"{number}.txt", matrix(room.poses[view]))
    save(folder / scan / "color" / "9.jpg", room.images[0])
    write(folder / scan / "pose" / "9.txt", "-inf -inf -inf -inf\n" * 4)
    return folder


@pytest.mark.parametrize("rule", ["corrected", "g2vlm-release"])
def test_a_trajectory_of_tracked_frames_is_right_at_any_scale(room, tmp_path, rule):
    (item,) = SMALL.items(lay_out(room, tmp_path))
    assert (item.id, item.row["frames"]) == ("scene0707_00", ["0.jpg", "1.jpg", "2.jpg", "10.jpg"])
    scores = SMALL.score(item, perfect_room(room, range(4), scale=5), rule).scores
    assert scores == pytest.approx({"ate": 0, "rpe_translation": 0, "rpe_rotation": 0}, abs=1e-4)


def test_depth_is_not_asked_for(room, tmp_path):
    lay_out(room, tmp_path)
    for file in (tmp_path / "scene0707_00/depth").iterdir():
        file.unlink()
    assert len(SMALL.items(tmp_path)) == 1


def test_ninety_frames_at_a_stride_of_three():
    assert TRAJECTORY.selection.pick("any", ["x"] * 1000) == list(range(0, 270, 3))


def test_listed_scans_that_are_not_there_are_named(room, tmp_path):
    write(lay_out(room, tmp_path) / "frames.json", '{"scene0806_00": null}')
    with pytest.raises(ValueError, match=r"1 of 1 scans are missing \(scene0806_00\)"):
        SMALL.items(tmp_path)
