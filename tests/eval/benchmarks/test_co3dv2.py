import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from perfect import perfect_room
from rooms import Room, save, write

from g2vlm.eval.benchmarks import co3dv2
from g2vlm.eval.benchmarks.frames import drawn

(POSES,) = co3dv2.BENCHMARKS
SMALL = replace(POSES, selection=drawn(3))


def jgz(path: Path, value: list) -> None:
    write(path, gzip.compress(json.dumps(value).encode()))


def lay_out(room: Room, folder: Path, tested: tuple[int, ...] = (0, 1, 2, 3), quality: float = 0.9) -> Path:
    category, frames, paths = folder / "apple", [], []
    for view, (image, pose) in enumerate(zip(room.images, room.poses, strict=True)):
        path = f"apple/110_1/images/frame{view + 1:06}.jpg"
        save(folder / path, image)
        rotation = pose[:3, :3] * [-1, -1, 1]
        viewpoint = {
            "R": rotation.tolist(),
            "T": (-rotation.T @ pose[:3, 3]).tolist(),
            "focal_length": [1.5, 1.5],
            "principal_point": [0.0, 0.0],
            "intrinsics_format": "ndc_isotropic",
        }
        record = {"sequence_name": "110_1", "frame_number": view + 1, "image": {"path": path, "size": [48, 64]}}
        frames.append(record | {"viewpoint": viewpoint, "depth": None})
        paths.append(["110_1", view + 1, path])
    jgz(category / "frame_annotations.jgz", frames)
    jgz(category / "sequence_annotations.jgz", [{"sequence_name": "110_1", "viewpoint_quality_score": quality}])
    lists = {"train": [], "test": [paths[view] for view in tested]}
    write(category / "set_lists" / "set_lists_fewview_dev.json", json.dumps(lists))
    return folder


@pytest.fixture(autouse=True)
def _short_sequences(monkeypatch):
    monkeypatch.setattr(co3dv2, "FEWEST_FRAMES", 4)
    co3dv2._tested.cache_clear()
    co3dv2.co3dv2._annotations.cache_clear()


@pytest.mark.parametrize("rule", ["corrected", "g2vlm-release"])
def test_poses_of_drawn_frames_are_right_at_any_scale(room, tmp_path, rule):
    (item,) = SMALL.items(lay_out(room, tmp_path))
    assert (item.id, item.kind, len(item.frames)) == ("apple/110_1", "apple", 3)
    views = [int(name[5:11]) - 1 for name in item.row["frames"]]
    assert item.truth().poses == pytest.approx(room.poses[views], abs=1e-6)
    scores = SMALL.score(item, perfect_room(room, views, scale=9), rule).scores
    assert (scores["auc30"], scores["rra5"], scores["rta5"], scores["pairs"]) == (1, 1, 1, 3)


@pytest.mark.parametrize("change", [{"tested": (0, 1, 2)}, {"quality": 0.3}])
def test_sequences_outside_the_test_part_are_left_out(room, tmp_path, change):
    with pytest.raises(ValueError, match="nothing to evaluate; co3dv2 is laid out like this"):
        SMALL.items(lay_out(room, tmp_path, **change))


def test_the_set_lists_are_asked_for(room, tmp_path):
    (lay_out(room, tmp_path) / "apple/set_lists/set_lists_fewview_dev.json").unlink()
    with pytest.raises(ValueError, match=r"set_lists_fewview_dev\.json: cannot be read .*unpack the set lists"):
        SMALL.items(tmp_path)


def test_a_stored_list_names_its_sequences(room, tmp_path):
    write(lay_out(room, tmp_path) / "frames.json", '{"apple/110_1": [2, 0], "apple/7": [0]}')
    with pytest.raises(ValueError, match=r"1 of 2 sequences are missing \(apple/7\)"):
        SMALL.items(tmp_path)
    write(tmp_path / "frames.json", '{"apple/110_1": [2, 0]}')
    assert SMALL.items(tmp_path)[0].row["frames"] == ["frame000003.jpg", "frame000001.jpg"]


def test_cameras_that_are_ridiculously_far_leave_their_sequence_out(room, tmp_path):
    far = replace(room, poses=room.poses.copy())
    far.poses[1, 0, 3] = 2e5
    with pytest.raises(ValueError, match="nothing to evaluate"):
        SMALL.items(lay_out(far, tmp_path))


def test_ten_frames_are_drawn():
    assert np.unique(POSES.selection.pick("co3dv2/apple/1", [str(i) for i in range(100)])).size == 10
