from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from perfect import perfect_room
from rooms import Room, matrix, save, write

from g2vlm.eval.benchmarks.dtu import BENCHMARKS
from g2vlm.eval.benchmarks.frames import every

SMALL = replace(BENCHMARKS[0], listed=None, selection=every(2))


def pfm(values: np.ndarray) -> bytes:
    return f"Pf\n{values.shape[1]} {values.shape[0]}\n-1.0\n".encode() + np.flipud(values).astype("<f4").tobytes()


def lay_out(room: Room, folder: Path, coding: str = "npy", size: int = 1) -> Path:
    """A scan in millimetres. size: how many times as large the pictures are as depth and intrinsics."""
    scan, whole = folder / "scan1", room.intrinsics - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    for view, (image, depth, pose) in enumerate(zip(room.images, 1000 * room.depth, room.poses, strict=True)):
        pose = pose.copy()
        pose[:3, 3] *= 1000
        save(scan / "images" / f"{view:08}.jpg", image.repeat(size, 0).repeat(size, 1), quality=98)
        write(scan / "depths" / f"{view:08}.pfm", pfm(depth))
        if coding == "npy":
            (scan / "depths" / f"{view:08}.pfm").unlink()
            np.save(scan / "depths" / f"{view:08}.npy", depth)
        save(scan / "binary_masks" / f"{view:08}.png", np.full(depth.shape, 255, dtype=np.uint8))
        camera = f"extrinsic\n{matrix(np.linalg.inv(pose))}\nintrinsic\n{matrix(whole)}\n425.0 2.5\n"
        write(scan / "cams" / f"{view:08}_cam.txt", camera)
    return folder


@pytest.mark.parametrize(("coding", "size"), [("npy", 1), ("pfm", 1), ("npy", 2)])
def test_points_are_those_of_the_room_in_millimetres(room, tmp_path, coding, size):
    (item,) = SMALL.items(lay_out(room, tmp_path, coding, size))
    truth = item.truth()
    assert (item.id, truth.reach) == ("scan1", 100)
    assert truth.depth[1][::size, ::size] == pytest.approx(1000 * room.depth[2], rel=1e-6)
    assert truth.intrinsics[0] == pytest.approx(np.diag([size, size, 1]) @ room.intrinsics)
    assert truth.poses[1, :3, 3] == pytest.approx(1000 * room.poses[2, :3, 3], rel=1e-5)
    if size == 1:
        assert SMALL.score(item, perfect_room(room, [0, 2])).scores["chamfer"] < 0.1


@pytest.mark.parametrize("kind", ["grey", "colour", "bits"])
def test_depth_counts_inside_the_mask_and_off_its_edge(room, tmp_path, kind):
    lay_out(room, tmp_path)
    mask = np.zeros((48, 64), dtype=np.uint8)
    mask[:, 20:44] = 255
    values = {"grey": mask, "colour": np.stack([mask] * 3, -1), "bits": mask > 0}[kind]
    save(tmp_path / "scan1/binary_masks/00000000.png", values)
    known = SMALL.items(tmp_path)[0].truth().masks[0]
    # A square of 10 pixels whose middle is its sixth: five to the left of it, four to the right.
    assert known.any(0).nonzero()[0].tolist() == list(range(25, 40))
    assert known[:, 25:40].all()


def test_what_is_no_camera_is_named(room, tmp_path):
    write(lay_out(room, tmp_path) / "scan1/cams/00000002_cam.txt", "extrinsic\n1 2 3\n")
    with pytest.raises(ValueError, match=r"00000002_cam\.txt: is no camera of MVSNet"):
        SMALL.items(tmp_path)


def test_depth_that_is_not_there_is_named(room, tmp_path):
    (lay_out(room, tmp_path) / "scan1/depths/00000002.npy").unlink()
    with pytest.raises(ValueError, match=r"00000002\.pfm: is no depth map"):
        SMALL.items(tmp_path)
