from pathlib import Path

import numpy as np
import pytest
from perfect import perfect_room
from rooms import Room, save

from g2vlm.eval.benchmarks.nyuv2 import BENCHMARKS

(DEPTH,) = BENCHMARKS


def lay_out(room: Room, folder: Path) -> Path:
    for view in (0, 1):
        save(folder / "nyu_images" / f"{view + 1:05}.png", room.images[view])
        depths = folder / "nyu_depths"
        depths.mkdir(exist_ok=True)
        np.save(depths / f"{view + 1:05}.npy", room.depth[view])
    return folder


def pack(room: Room, folder: Path) -> Path:
    h5py = pytest.importorskip("h5py")
    (folder / "official").mkdir()
    for view in (0, 1):
        with h5py.File(folder / "official" / f"{view + 1:05}.h5", "w") as file:
            file["rgb"], file["depth"] = room.images[view].transpose(2, 0, 1), room.depth[view]
    return folder


@pytest.mark.parametrize("layout", [lay_out, pack])
@pytest.mark.parametrize("rule", ["corrected", "g2vlm-release"])
def test_both_layouts_hold_the_same_pictures_and_depth(room, tmp_path, layout, rule):
    items = DEPTH.items(layout(room, tmp_path))
    assert [item.id for item in items] == ["nyu-v2/00001", "nyu-v2/00002"]
    for view, item in enumerate(items):
        assert np.array_equal(item.photos()[0].rgb, room.images[view])
        outcome = DEPTH.score(item, perfect_room(room, [view], scale=0.5), rule)
        assert outcome.scores["absrel"] == pytest.approx(0, abs=1e-6)
        assert outcome.scores["pixels"] == 48 * 64


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no nyu_images/\*\.png and no official/\*\.h5"):
        DEPTH.items(tmp_path)


def test_a_picture_without_depth_is_named(room, tmp_path):
    (lay_out(room, tmp_path) / "nyu_depths" / "00002.npy").unlink()
    with pytest.raises(ValueError, match=r"1 of 4 files are missing .*nyu_depths/00002\.npy"):
        DEPTH.items(tmp_path)
