from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from perfect import perfect_room
from rooms import Room, save, write
from scipy.spatial.transform import Rotation

from g2vlm.data.readers.colmap import Camera
from g2vlm.eval.benchmarks.eth3d import BENCHMARKS, distorted
from g2vlm.eval.benchmarks.frames import every

SMALL = replace(BENCHMARKS[0], listed=None, selection=every(2))

ORIGINAL = Camera(
    "THIN_PRISM_FISHEYE",
    480,
    360,
    (250.0, 251, 240, 180, -0.05, 0.02, 0.001, -0.002, -0.004, 0.001, 0.0008, -0.0005),
)


def rays(room: Room) -> tuple[np.ndarray, np.ndarray]:
    x = (np.arange(64) + 0.5 - room.intrinsics[0, 2]) / room.intrinsics[0, 0]
    y = (np.arange(48) + 0.5 - room.intrinsics[1, 2]) / room.intrinsics[1, 1]
    return tuple(np.meshgrid(x, y))


def lay_out(room: Room, folder: Path) -> Path:
    """A scene whose originals are distorted; their depth is known where a ray of an undistorted pixel falls."""
    scene = folder / "courtyard"
    columns, rows = np.floor(distorted(ORIGINAL, *rays(room))).astype(int)
    fx, fy, cx, cy = room.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]]
    numbers = " ".join(map(str, ORIGINAL.parameters))
    listed: dict[str, list[str]] = {"undistorted": [], "jpg": []}
    for view, (image, depth, pose) in enumerate(zip(room.images, room.depth, room.poses, strict=True)):
        name = f"DSC_{view:04}.JPG"
        save(scene / "images" / "dslr_images_undistorted" / name, image, quality=98)
        stored = np.full((ORIGINAL.height, ORIGINAL.width), np.inf, dtype="<f4")
        stored[rows, columns] = depth
        write(scene / "ground_truth_depth" / "dslr_images" / name, stored.tobytes())
        outside = np.linalg.inv(pose)
        x, y, z, w = Rotation.from_matrix(outside[:3, :3]).as_quat()
        numbers_of_pose = " ".join(f"{value:.12g}" for value in (w, x, y, z, *outside[:3, 3]))
        for kind, lines in listed.items():
            lines.append(f"{9 - view} {numbers_of_pose} 0 dslr_images_{kind}/{name}\n\n")
    for kind, camera in (
        ("undistorted", f"0 PINHOLE 64 48 {fx} {fy} {cx} {cy}"),
        ("jpg", f"0 THIN_PRISM_FISHEYE {ORIGINAL.width} {ORIGINAL.height} {numbers}"),
    ):
        write(scene / f"dslr_calibration_{kind}" / "cameras.txt", f"# cameras\n{camera}\n")
        write(scene / f"dslr_calibration_{kind}" / "images.txt", "# images\n" + "".join(listed[kind]))
    return folder


def test_depth_of_distorted_originals_is_brought_to_the_undistorted_pictures(room, tmp_path):
    (item,) = SMALL.items(lay_out(room, tmp_path))
    assert item.row["frames"] == ["DSC_0000.JPG", "DSC_0002.JPG"]
    truth = item.truth()
    assert truth.depth[1] == pytest.approx(room.depth[2])
    assert truth.poses == pytest.approx(room.poses[[0, 2]], abs=1e-6)
    assert SMALL.score(item, perfect_room(room, [0, 2], scale=0.3)).scores["chamfer"] < 1e-5


def test_unknown_depth_of_the_original_stays_unknown(room, tmp_path):
    depth = lay_out(room, tmp_path) / "courtyard/ground_truth_depth/dslr_images/DSC_0002.JPG"
    depth.write_bytes(np.full((ORIGINAL.height, ORIGINAL.width), np.inf, dtype="<f4").tobytes())
    truth = SMALL.items(tmp_path)[0].truth()
    assert not truth.masks[1].any()
    assert truth.masks[0].all()


def test_depth_of_another_size_is_named(room, tmp_path):
    depth = lay_out(room, tmp_path) / "courtyard/ground_truth_depth/dslr_images/DSC_0002.JPG"
    depth.write_bytes(bytes(100))
    with pytest.raises(ValueError, match=r"DSC_0002\.JPG: cannot be decoded"):
        SMALL.items(tmp_path)[0].truth()


def test_pictures_of_the_original_calibration_must_be_there(room, tmp_path):
    write(lay_out(room, tmp_path) / "courtyard/dslr_calibration_jpg/images.txt", "# none\n")
    with pytest.raises(ValueError, match=r"dslr_calibration_jpg: has no camera of DSC_0000\.JPG"):
        SMALL.items(tmp_path)


def test_the_camera_distorts_as_colmap_says(room):
    pycolmap = pytest.importorskip("pycolmap")
    camera = pycolmap.Camera(
        model=ORIGINAL.model, width=ORIGINAL.width, height=ORIGINAL.height, params=list(ORIGINAL.parameters)
    )
    x, y = rays(room)
    points = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
    wanted = np.array([camera.img_from_cam(point) for point in points]).reshape(48, 64, 2)
    assert np.abs(np.moveaxis(distorted(ORIGINAL, x, y), 0, -1) - wanted).max() < 1e-9
