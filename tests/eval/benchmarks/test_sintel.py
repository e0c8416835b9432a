import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from perfect import perfect_room
from rooms import Room, save, write

from g2vlm.eval.benchmarks.sintel import BENCHMARKS

DEPTH, TRAJECTORY = (replace(benchmark, listed=None) for benchmark in BENCHMARKS)
TAG = struct.pack("<f", 202021.25)


def lay_out(room: Room, folder: Path, sequence: str = "alley_2") -> Path:
    """A sequence as Sintel has it, where the sky is far and one depth is infinite."""
    root, height, width = folder / "training", *room.depth.shape[1:]
    whole = room.intrinsics - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    for view, (image, depth, pose) in enumerate(zip(room.images, room.depth, room.poses, strict=True)):
        name = f"frame_{view + 1:04}"
        depth = depth.copy()
        depth[0, :2] = 1e6, np.inf
        save(root / "final" / sequence / f"{name}.png", image)
        write(
            root / "depth" / sequence / f"{name}.dpt",
            TAG + struct.pack("<ii", width, height) + depth.astype("<f4").tobytes(),
        )
        camera = whole.astype("<f8").tobytes() + np.linalg.inv(pose)[:3].astype("<f8").tobytes()
        write(root / "camdata_left" / sequence / f"{name}.cam", TAG + camera)
    return folder


@pytest.mark.parametrize("rule", ["corrected", "g2vlm-release", "scale-and-shift", "weighted-l1"])
def test_every_picture_is_an_item_and_the_truth_at_any_scale_is_perfect(room, tmp_path, rule):
    items = DEPTH.items(lay_out(room, tmp_path))
    assert [item.id for item in items] == [f"alley_2/frame_{i:04}" for i in (1, 2, 3, 4)]
    for view, item in enumerate(items):
        outcome = DEPTH.score(item, perfect_room(room, [view], scale=3), rule)
        assert outcome.status == "scored"
        assert outcome.scores["absrel"] == pytest.approx(0, abs=1e-6)
        assert outcome.scores["delta1"] == 1
        assert outcome.scores["pixels"] == 48 * 64 - 2


def test_the_metric_rule_aligns_nothing(room, tmp_path):
    item = DEPTH.items(lay_out(room, tmp_path))[0]
    assert DEPTH.score(item, perfect_room(room, [0], scale=1.2), "metric").scores["absrel"] == pytest.approx(0.2)


def test_what_is_read_is_what_was_rendered(room, tmp_path):
    (item,) = TRAJECTORY.items(lay_out(room, tmp_path))
    truth = item.truth()
    assert truth.intrinsics == pytest.approx(np.stack([room.intrinsics] * 4))
    assert truth.poses == pytest.approx(room.poses, abs=1e-6)
    photos = item.photos()
    assert [photo.name for photo in photos] == ["frame_0001.png", "frame_0002.png", "frame_0003.png", "frame_0004.png"]
    assert np.array_equal(photos[2].rgb, room.images[2])


def test_a_trajectory_is_right_at_any_scale_in_any_frame(room, tmp_path):
    (item,) = TRAJECTORY.items(lay_out(room, tmp_path))
    outcome = TRAJECTORY.score(item, perfect_room(room, range(4), scale=0.1))
    assert outcome.scores == pytest.approx({"ate": 0, "rpe_translation": 0, "rpe_rotation": 0}, abs=1e-5)


def test_depth_beyond_70_is_cut(room, tmp_path):
    item = DEPTH.items(lay_out(room, tmp_path))[0]
    assert item.farthest == 70
    said = perfect_room(room, [0]).depth[0]
    said[5, 5] = 1e5
    # By hand: one pixel of all errs by (70 - d) / d.
    wrong = (70 - room.depth[0, 5, 5]) / room.depth[0, 5, 5] / (48 * 64 - 2)
    scores = DEPTH.score(item, replace(perfect_room(room, [0]), depth=[said]), "metric").scores
    assert scores["absrel"] == pytest.approx(wrong, rel=1e-6)


def test_sequences_that_are_not_there_are_counted_and_named(room, tmp_path):
    with pytest.raises(ValueError, match=r"13 of 14 sequences are missing \(ambush_4, ambush_5, ambush_6, \.\.\.\)"):
        BENCHMARKS[0].items(lay_out(room, tmp_path))


def test_depth_that_is_not_there_is_named(room, tmp_path):
    lay_out(room, tmp_path)
    (tmp_path / "training/depth/alley_2/frame_0002.dpt").unlink()
    with pytest.raises(ValueError, match=r"1 of 8 files are missing .*frame_0002\.dpt"):
        DEPTH.items(tmp_path)


def test_a_file_of_another_kind_is_named(room, tmp_path):
    lay_out(room, tmp_path)
    camera = tmp_path / "training/camdata_left/alley_2/frame_0002.cam"
    camera.write_bytes(bytes(172))
    with pytest.raises(ValueError, match=r"frame_0002\.cam: begins with 0\.0"):
        TRAJECTORY.items(tmp_path)
    camera.write_bytes(bytes(10))
    with pytest.raises(ValueError, match=r"frame_0002\.cam: is no Sintel camera"):
        TRAJECTORY.items(tmp_path)
