"""TUM RGB-D sequences: pictures, depth and poses each with their own times, matched within 20 ms.

Depth is registered to the picture. Sequences freiburg1 and freiburg2 come with distorted pictures, to which depth was
registered with the nominal camera of the sensor, and the authors recommend that camera for them; freiburg3 is
undistorted and has a calibrated one. The numbers are for centres at whole pixels.
"""

import re
from bisect import bisect
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from g2vlm.data.readers.cameras import pose_from
from g2vlm.data.readers.listing import holding, numbers, text
from g2vlm.data.recon import DepthFile, File, Frame, Scene, pinhole
from g2vlm.data.samples import BadSample

NOMINAL = (525.0, 525.0, 319.5, 239.5)
CAMERAS = {"1": NOMINAL, "2": NOMINAL, "3": (535.4, 539.2, 320.1, 247.6)}
DEPTH_UNIT = 1 / 5000
MAX_SECONDS = 0.02


def scenes(src: Path) -> Iterator[Scene]:
    """Every sequence at or below a folder."""
    return map(_scene, holding(src, ["groundtruth.txt"], levels=2))


def nearest_in_time(time: float, among: Sequence[float]) -> int | None:
    """The index of the nearest time in a sorted list; None where it is more than 20 ms away."""
    right = bisect(among, time)
    nearest = min(
        range(max(right - 1, 0), min(right + 1, len(among))), key=lambda i: abs(among[i] - time), default=None
    )
    return None if nearest is None or abs(among[nearest] - time) > MAX_SECONDS else nearest


def _scene(folder: Path) -> Scene:
    name = folder.resolve().name
    pictures, depths, poses = (_timed(folder / file) for file in ("rgb.txt", "depth.txt", "groundtruth.txt"))
    depth_times, pose_times = [time for time, _ in depths], [time for time, _ in poses]
    intrinsics = _intrinsics(folder)
    frames = [
        Frame(
            f"{name}/{file[0]}",
            File(folder / file[0]),
            intrinsics,
            _pose(f"{name}/{file[0]}", poses[pose][1]),
            DepthFile(File(folder / depths[depth][1][0]), "png16", DEPTH_UNIT),
        )
        for time, file in pictures
        if (depth := nearest_in_time(time, depth_times)) is not None
        and (pose := nearest_in_time(time, pose_times)) is not None
    ]
    if not frames:
        raise BadSample(f"{name}: none of {len(pictures)} pictures has depth and a pose within {MAX_SECONDS} s")
    return Scene(name, tuple(frames), is_metric=True, source="TUM RGB-D", licence="CC BY 4.0")


def _timed(path: Path) -> list[tuple[float, list[str]]]:
    """Lines of a list by time: (time, what follows it)."""
    try:
        rows = [line.split() for line in text(path).splitlines() if line.strip() and not line.startswith("#")]
        return sorted((float(time), rest) for time, *rest in rows)
    except ValueError as error:
        raise BadSample(f"{path}: is no list of times ({error})") from error


def _intrinsics(folder: Path) -> Float[np.ndarray, "3 3"]:
    """Of the sequence that the folder's name tells, or of its own `calibration.txt`: fx fy cx cy, centres at whole pixels."""
    calibration = folder / "calibration.txt"
    if calibration.is_file():
        fx, fy, cx, cy = numbers(calibration, 4)
        return pinhole(fx, fy, cx + 0.5, cy + 0.5)
    number = re.search(r"freiburg([123])", folder.resolve().name)
    if number is None:
        raise BadSample(
            f"{folder}: which camera? Name the folder as TUM does (rgbd_dataset_freiburg1_...), or put fx fy cx cy into "
            "calibration.txt"
        )
    fx, fy, cx, cy = CAMERAS[number[1]]
    return pinhole(fx, fy, cx + 0.5, cy + 0.5)


def _pose(name: str, words: list[str]) -> Float[np.ndarray, "4 4"]:
    """From tx ty tz qx qy qz qw, camera-to-world."""
    from scipy.spatial.transform import Rotation

    try:
        values = np.array([float(word) for word in words[:7]])
        rotation = Rotation.from_quat(values[3:]).as_matrix()
    except ValueError as error:
        raise BadSample(f"{name}: its pose is not tx ty tz qx qy qz qw ({error})") from error
    return pose_from(rotation, values[:3])
