from dataclasses import replace
from pathlib import Path

import pytest
from perfect import perfect_room
from rooms import Room, save, write
from scipy.spatial.transform import Rotation

from g2vlm.eval.benchmarks.frames import every
from g2vlm.eval.benchmarks.tum import BENCHMARKS

(TRAJECTORY,) = BENCHMARKS
SMALL = replace(TRAJECTORY, listed=None, selection=every(1, count=4))
NAME = "rgbd_dataset_freiburg3_walking_xyz"


def lay_out(room: Room, folder: Path) -> Path:
    rgb, depth, poses = (["# a list"] for _ in range(3))
    for view, (image, values, pose) in enumerate(zip(room.images, room.depth, room.poses, strict=True)):
        time = 1341846313.5 + 0.03 * view
        save(folder / NAME / "rgb" / f"{time:.6f}.png", image)
        save(folder / NAME / "depth" / f"{time:.6f}.png", (5000 * values).round().astype("uint16"))
        rgb.append(f"{time:.6f} rgb/{time:.6f}.png")
        depth.append(f"{time:.6f} depth/{time:.6f}.png")
        numbers = (*pose[:3, 3], *Rotation.from_matrix(pose[:3, :3]).as_quat())
        poses.append(f"{time + 0.004:.4f} " + " ".join(f"{value:.10f}" for value in numbers))
    for name, lines in (("rgb", rgb), ("depth", depth), ("groundtruth", poses)):
        write(folder / NAME / f"{name}.txt", "\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("rule", ["corrected", "g2vlm-release"])
def test_a_trajectory_is_right_at_any_scale(room, tmp_path, rule):
    (item,) = SMALL.items(lay_out(room, tmp_path))
    assert (item.id, len(item.frames)) == (NAME, 4)
    scores = SMALL.score(item, perfect_room(room, range(4), scale=5), rule).scores
    assert scores == pytest.approx({"ate": 0, "rpe_translation": 0, "rpe_rotation": 0}, abs=1e-4)


def test_the_eight_sequences_are_asked_for(room, tmp_path):
    with pytest.raises(ValueError, match="7 of 8 sequences are missing"):
        TRAJECTORY.items(lay_out(room, tmp_path))
