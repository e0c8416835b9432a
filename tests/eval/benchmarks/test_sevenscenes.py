from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from perfect import perfect_room
from rooms import Room, matrix, millimetres, save, write

from g2vlm.data.readers import sevenscenes as reader
from g2vlm.eval.benchmarks.frames import every
from g2vlm.eval.benchmarks.sevenscenes import BENCHMARKS, COLOUR_FROM_DEPTH

DENSE, SPARSE = BENCHMARKS
SMALL = replace(DENSE, listed=None, selection=every(2))


def lay_out(room: Room, folder: Path, sequence: str = "chess/seq-03") -> Path:
    for view, (image, depth, pose) in enumerate(zip(room.images, room.depth, room.poses, strict=True)):
        label = f"frame-{view:06}"
        save(folder / sequence / f"{label}.color.png", image)
        save(folder / sequence / f"{label}.depth.png", millimetres(depth))
        save(folder / sequence / f"{label}.depth.proj.png", millimetres(depth))
        write(folder / sequence / f"{label}.pose.txt", matrix(pose))
    return folder


@pytest.fixture
def as_the_room(room, monkeypatch):
    """Cameras of the set are those of the room."""
    monkeypatch.setattr(reader, "COLOUR_CAMERA", room.intrinsics)


@pytest.mark.usefixtures("as_the_room")
@pytest.mark.parametrize("rule", ["corrected", "g2vlm-release"])
def test_point_maps_of_chosen_frames_are_right_at_any_scale(room, tmp_path, rule):
    (item,) = SMALL.items(lay_out(room, tmp_path))
    assert (item.id, item.kind) == ("chess/seq-03", "chess")
    assert item.row["frames"] == ["frame-000000.color.png", "frame-000002.color.png"]
    scores = SMALL.score(item, perfect_room(room, [0, 2], scale=4), rule).scores
    # The release mixes predicted points across edges of depth, in a picture of another shape than the truth's.
    assert scores["chamfer"] < {"corrected": 0.001, "g2vlm-release": 0.05}[rule]


def test_the_shipped_lists_are_asked_for(room, tmp_path):
    with pytest.raises(ValueError, match=r"17 of 18 sequences are missing \(chess/seq-05, fire/seq-03, fire/seq-04, "):
        SPARSE.items(lay_out(room, tmp_path))


@pytest.mark.usefixtures("as_the_room")
def test_a_sequence_that_is_too_short_is_named(room, tmp_path):
    write(lay_out(room, tmp_path) / "frames.json", '{"chess/seq-03": [0, 40]}')
    with pytest.raises(ValueError, match=r"chess/seq-03 has 4 frames, but frame 40 \(from 0\) is asked for"):
        DENSE.items(tmp_path)


def test_depth_of_the_sensor_is_registered_to_colour(room, tmp_path):
    lay_out(room, tmp_path)
    folder = tmp_path / "chess/seq-03"
    (folder / "frame-000000.depth.proj.png").unlink()
    wall = np.zeros((480, 640), dtype=np.uint16)
    wall[240, 320], wall[100, 100], wall[0, 0] = 2000, 65535, 12000
    save(folder / "frame-000000.depth.png", wall)
    save(folder / "frame-000000.color.png", np.zeros((480, 640, 3), dtype=np.uint8))
    item = replace(SMALL, selection=every(4)).items(tmp_path)[0]
    (depth,) = item.truth().depth
    x, y, z = COLOUR_FROM_DEPTH @ [2 * 0.5 / 585, 2 * 0.5 / 585, 2, 1]
    (row,), (column,) = np.nonzero(depth)
    assert (row, column) == (int(240 + 525 * y / z), int(320 + 525 * x / z)) == (236, 309)
    assert depth[row, column] == pytest.approx(z, abs=1e-5)
