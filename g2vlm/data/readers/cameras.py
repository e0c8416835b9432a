"""Cameras as data sets write them, brought to ours: camera-to-world, x right, y down, z forward, pixel centres at +0.5."""

from typing import Any

import numpy as np
from jaxtyping import Float

from g2vlm.data.samples import BadSample

FARTHEST_OFF = 0.2
"""Of the size of a picture, from its middle to the principal point."""


def pose_from(rotation: Float[np.ndarray, "3 3"], centre: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "4 4"]:
    """Camera-to-world from where the axes of the camera point and where it stands."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, centre
    return pose


def pose_of(name: str, values: Any) -> Float[np.ndarray, "4 4"]:
    """Four rows of four numbers, out of a JSON file; `name` is whose."""
    try:
        return np.array(values, dtype=np.float64).reshape(4, 4)
    except (ValueError, TypeError) as error:
        raise BadSample(f"{name}: its pose is not 4 x 4 numbers ({error})") from error


def inverse(world_to_camera: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """Camera-to-world. A matrix that is no rotation gives a pose that is none, which a Frame refuses."""
    rotation = world_to_camera[:3, :3].T
    return pose_from(rotation, -rotation @ world_to_camera[:3, 3])


def resized(
    intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int], new_size: tuple[int, int]
) -> Float[np.ndarray, "3 3"]:
    """Of the same picture at another size (height, width)."""
    return np.diag([new_size[1] / size[1], new_size[0] / size[0], 1.0]) @ intrinsics


def check_fits(name: str, intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int]) -> None:
    """Refuse intrinsics that belong to the picture at another size, as the principal point tells: tools resize one alone."""
    cx, cy = intrinsics[:2, 2]
    if abs(cx / size[1] - 0.5) > FARTHEST_OFF or abs(cy / size[0] - 0.5) > FARTHEST_OFF:
        raise BadSample(
            f"{name}: {size[1]} x {size[0]} pixels do not go with a principal point of {cx:.0f}, {cy:.0f}; "
            "extract the pictures at full size"
        )
