"""`transforms.json` of nerfstudio, instant-ngp and Blender renders: OpenGL camera-to-world poses, one file per scene.

Pictures without distortion only. Depth, where a frame names it, is a 16-bit PNG or an npy file.
"""

import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from g2vlm.data.readers.cameras import resized
from g2vlm.data.readers.listing import files, holding, picture_size
from g2vlm.data.recon import DepthFile, File, Frame, Scene, pinhole
from g2vlm.data.samples import BadSample
from g2vlm.geometry.pose import FLIP

DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
DEPTH_UNIT = 0.001
SUFFIXES = ("", ".png", ".jpg", ".jpeg")


def scenes(src: Path) -> Iterator[Scene]:
    """Every `transforms*.json` at or below a folder (or the one file given)."""
    if src.is_file():
        return map(partial(_scene, src.parent), [src])
    folders = holding(src, ["transforms*.json"], levels=3)
    return map(partial(_scene, src), (file for folder in folders for file in files(folder, "transforms*.json")))


def _scene(src: Path, file: Path) -> Scene:
    parts = [*file.parent.resolve().relative_to(src.resolve()).parts, file.stem.removeprefix("transforms").strip("_-.")]
    name = "_".join(part for part in (parts if len(parts) > 1 else [src.resolve().name, *parts]) if part)
    try:
        record = json.loads(file.read_text())
        frames = sorted(record["frames"], key=lambda frame: frame["file_path"])
        return Scene(
            name,
            tuple(_frame(file, name, {**record, **frame}) for frame in frames),
            is_metric=False,
            source="transforms.json",
            licence="unknown",
            is_sequence=False,
        )
    except BadSample:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise BadSample(f"{file}: is not a transforms.json as documented ({type(error).__name__}: {error})") from error


def _frame(file: Path, scene: str, record: dict[str, Any]) -> Frame:
    """record: what the file says of all frames, overruled by what it says of this one."""
    name = f"{scene}/{Path(record['file_path'])}"
    if any(record.get(key, 0) for key in DISTORTION) or record.get("is_fisheye", False):
        raise BadSample(
            f"{name}: its lens distorts; undistort the pictures (colmap image_undistorter), keep k1.. at zero"
        )
    image = _picture(file.parent / record["file_path"])
    pose = np.array(record["transform_matrix"], dtype=np.float64)
    if pose.shape == (3, 4):
        pose = np.vstack([pose, [0, 0, 0, 1]])
    if pose.shape != (4, 4):
        raise BadSample(f"{name}: its transform_matrix has the shape {pose.shape}, not 4 x 4")
    size = (record["h"], record["w"]) if "h" in record and "w" in record else picture_size(image)
    intrinsics = _intrinsics(record, *size)
    return Frame(name, File(image), intrinsics, pose @ FLIP, _depth(file.parent, record, intrinsics, size))


def _picture(path: Path) -> Path:
    """The picture of a path, which Blender scenes give without its ending."""
    return next((found for suffix in SUFFIXES if (found := Path(f"{path}{suffix}")).is_file()), path)


def _intrinsics(record: dict[str, Any], height: float, width: float) -> Float[np.ndarray, "3 3"]:
    fx = record["fl_x"] if "fl_x" in record else width / 2 / math.tan(record["camera_angle_x"] / 2)
    fy = record.get("fl_y", height / 2 / math.tan(record["camera_angle_y"] / 2) if "camera_angle_y" in record else fx)
    return pinhole(fx, fy, record.get("cx", width / 2), record.get("cy", height / 2))


def _depth(
    folder: Path, record: dict[str, Any], intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int]
) -> DepthFile | None:
    path = record.get("depth_file_path", record.get("depth_path"))
    if path is None:
        return None
    unit = record.get("depth_unit_scale_factor", record.get("integer_depth_scale", DEPTH_UNIT))
    file = folder / path
    if file.suffix == ".npy":
        return DepthFile(File(file), "npy", unit)
    own = picture_size(file)
    if own == size:
        return DepthFile(File(file), "png16", unit)
    return DepthFile(File(file), "png16", unit, intrinsics=resized(intrinsics, size, own))
