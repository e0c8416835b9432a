"""ARKitScenes, the `raw` and `3dod` downloads.

SPLIT/VIDEO/ (raw) or SPLIT/VIDEO/VIDEO_frames/ (3dod) holds lowres_wide/VIDEO_TIME.png (256 x 192), lowres_depth of the
same names (millimetres, the phone's LIDAR), lowres_wide_intrinsics/VIDEO_TIME.pincam (`width height fx fy cx cy`; the time
may differ by a millisecond) and lowres_wide.traj: `time, angle-axis, translation`, world-to-camera, metres, OpenCV axes,
world z up. Where vga_wide (640 x 480, raw only) is there, its sharper pictures are taken, with the same depth.
A picture further than 5 ms from a pose, or without intrinsics, is left out; one without depth keeps none.

Phones were held as it suited the scanner, and pictures are stored as the sensor lies. Here all pictures of a scene are
turned upright by one quarter turn after another, as the mean direction of the world's z in them says (`sky_direction` in
the official metadata.csv is wrong for many), and poses, intrinsics and depth with them. Principal points are taken
as they are: at 256 pixels they are those of 1920 divided by 7.5, as it has to be for centres at +0.5.
Licence: Apple, non-commercial. Conventions: github.com/apple/ARKitScenes, DATA.md and threedod/benchmark_scripts.
"""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from g2vlm.data.readers.cameras import inverse, pose_from, resized
from g2vlm.data.readers.derived import Derived, pixels, png
from g2vlm.data.readers.listing import files, holding, numbers
from g2vlm.data.recon import DepthFile, File, Frame, Scene, pinhole
from g2vlm.data.samples import BadSample

DEPTH_SIZE = (192, 256)
LONGEST_GAP = 0.005  # seconds between a picture and its pose

QUARTER_TURN = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
"""Camera axes after the picture was turned left by 90 degrees, in those before."""


def scenes(src: Path) -> Iterator[Scene]:
    """One for every video at, or up to four folders below, `src`."""
    return map(_scene, holding(src, ["lowres_wide.traj"], levels=4))


def _scene(folder: Path) -> Scene:
    name = folder.resolve().name.removesuffix("_frames")
    kind = "vga_wide" if (folder / "vga_wide").is_dir() else "lowres_wide"
    times, poses = _trajectory(folder / "lowres_wide.traj")
    cameras = _by_millisecond(folder / f"{kind}_intrinsics", "*.pincam")
    depths = _by_millisecond(folder / "lowres_depth", "*.png")
    known = [
        (file, poses[nearest], camera)
        for file in files(folder / kind, "*.png")
        if (nearest := _nearest(times, _time(file))) >= 0 and (camera := _at(cameras, file)) is not None
    ]
    if not known:
        raise BadSample(f"{folder / kind}: no picture has a .pincam and is within {1000 * LONGEST_GAP:g} ms of a pose")
    turns = _turns_upright(np.stack([pose for _, pose, _ in known]))
    frames = [_frame(name, file, pose, turns, camera, _at(depths, file)) for file, pose, camera in known]
    return Scene(
        name, tuple(frames), is_metric=True, source="ARKitScenes", licence="Apple, non-commercial", has_fine_depth=False
    )


def _frame(
    scene: str, picture: Path, pose: Float[np.ndarray, "4 4"], turns: int, camera: Path, depth: Path | None
) -> Frame:
    width, height, *parameters = numbers(camera, 6)
    size, intrinsics = (int(height), int(width)), pinhole(*parameters)
    return Frame(
        name=f"{scene}/{picture.name}",
        image=_turned_file(picture, turns),
        intrinsics=_turned_intrinsics(intrinsics, size, turns),
        pose=pose @ pose_from(np.linalg.matrix_power(QUARTER_TURN, turns).T, np.zeros(3)),
        depth=None if depth is None else _depth(depth, resized(intrinsics, size, DEPTH_SIZE), turns),
    )


def _depth(file: Path, intrinsics: Float[np.ndarray, "3 3"], turns: int) -> DepthFile:
    turned = _turned_intrinsics(intrinsics, DEPTH_SIZE, turns)
    return DepthFile(_turned_file(file, turns), "png16", 0.001, intrinsics=turned)


def _trajectory(file: Path) -> tuple[Float[np.ndarray, " poses"], Float[np.ndarray, "poses 4 4"]]:
    """Times in order, and camera-to-world poses."""
    rows = numbers(file, -1, 7)
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    rotations = Rotation.from_rotvec(rows[:, 1:4]).as_matrix()
    return rows[:, 0], np.array([inverse(pose_from(r, t)) for r, t in zip(rotations, rows[:, 4:], strict=True)])


def _time(file: Path) -> float:
    label = file.stem.rpartition("_")[2]
    try:
        return float(label)
    except ValueError as error:
        raise BadSample(f"{file}: its name does not end in a time") from error


def _nearest(times: Float[np.ndarray, " poses"], time: float) -> int:
    """Index of the pose of this time, -1 if there is none."""
    after = int(np.searchsorted(times, time))
    candidates = [i for i in (after - 1, after) if 0 <= i < len(times)]
    best = min(candidates, key=lambda i: abs(times[i] - time), default=-1)
    return best if best >= 0 and abs(times[best] - time) <= LONGEST_GAP else -1


def _by_millisecond(folder: Path, pattern: str) -> dict[int, Path]:
    return {round(1000 * _time(file)): file for file in folder.glob(pattern)}


def _at(found: dict[int, Path], picture: Path) -> Path | None:
    """The file of the time of a picture, give or take one millisecond."""
    time = round(1000 * _time(picture))
    return next((found[time + late] for late in (0, -1, 1) if time + late in found), None)


def _turns_upright(poses: Float[np.ndarray, "poses 4 4"]) -> int:
    """How many quarter turns to the left bring the sky to the top of most pictures."""
    right, down = poses[:, 2, :2].mean(0)  # the world's z along the columns and rows of the pictures
    return round(math.atan2(right, -down) / (math.pi / 2)) % 4


def _turned_intrinsics(
    intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int], turns: int
) -> Float[np.ndarray, "3 3"]:
    (height, width), (fx, _, cx), (_, fy, cy) = size, *intrinsics[:2]
    for _ in range(turns):
        fx, fy, cx, cy, height, width = fy, fx, cy, width - cx, width, height
    return pinhole(fx, fy, cx, cy)


def _turned_file(file: Path, turns: int) -> File:
    return Derived(file, make=partial(_turned, turns=turns)) if turns else File(file)


def _turned(content: bytes, turns: int) -> bytes:
    return png(np.rot90(pixels(content), turns))
