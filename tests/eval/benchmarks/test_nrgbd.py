from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from perfect import perfect_room
from rooms import Room, matrix, millimetres, save, write

from g2vlm.eval.benchmarks import nrgbd
from g2vlm.eval.benchmarks.frames import every
from g2vlm.geometry.pose import FLIP

SMALL = replace(nrgbd.BENCHMARKS[0], listed=None, selection=every(2))


def lay_out(room: Room, folder: Path, lost: int | None = None) -> Path:
    scene = folder / "kitchen"
    poses = [np.full((4, 4), np.nan) if view == lost else pose @ FLIP for view, pose in enumerate(room.poses)]
    for view, (image, depth) in enumerate(zip(room.images, room.depth, strict=True)):
        save(scene / "images" / f"img{view}.png", image)
        save(scene / "depth" / f"depth{view}.png", millimetres(depth))
    write(scene / "poses.txt", "".join(map(matrix, poses)))
    return folder


@pytest.fixture(autouse=True)
def _camera_of_the_room(room, monkeypatch):
    monkeypatch.setattr(nrgbd, "CAMERA", room.intrinsics)


def test_points_are_those_of_the_room(room, tmp_path):
    (item,) = SMALL.items(lay_out(room, tmp_path))
    assert item.truth().poses == pytest.approx(room.poses[[0, 2]], abs=1e-6)
    scores = SMALL.score(item, perfect_room(room, [0, 2])).scores
    assert scores["chamfer"] < 0.001
    assert scores["points"] == 2 * 48 * 64


def test_depth_beyond_ten_metres_is_unknown(room, tmp_path):
    lay_out(room, tmp_path)
    depth = millimetres(room.depth[0])
    depth[:10] = 10_001
    save(tmp_path / "kitchen/depth/depth0.png", depth)
    (item,) = SMALL.items(tmp_path)
    assert not item.truth().masks[0][:10].any()
    assert item.truth().masks[0][10:].all()


def test_a_frame_without_a_pose_is_no_harm_until_it_is_asked_for(room, tmp_path):
    (item,) = SMALL.items(lay_out(room, tmp_path, lost=1))
    assert SMALL.score(item, perfect_room(room, [0, 2])).status == "scored"
    (item,) = SMALL.items(lay_out(room, tmp_path, lost=2))
    outcome = SMALL.score(item, perfect_room(room, [0, 2]))
    assert (outcome.status, outcome.note) == ("skipped", "points: not all poses are known")


def test_poses_that_do_not_fit_the_pictures_are_refused(room, tmp_path):
    write(lay_out(room, tmp_path) / "kitchen/poses.txt", matrix(np.eye(4)))
    with pytest.raises(ValueError, match="4 pictures in images/, but 1 poses"):
        SMALL.items(tmp_path)
