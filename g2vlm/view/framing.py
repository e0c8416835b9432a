"""Where a reconstruction lies, for whoever looks at it from outside: its middle, its size, which way is up."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from g2vlm.export.cloud import Cloud
from g2vlm.records import Reconstruction

Vector = Float[np.ndarray, "3"]

OUTERMOST = 0.9
"""Part of the points that lie within the radius: what is predicted far away does not push the rest out of sight."""


SMALLEST = 1e-9
"""Radius of a scene whose points all lie at one place."""


@dataclass(frozen=True)
class Frame:
    """In the world of the reconstruction. radius: around the middle. front: level, from the middle towards the cameras."""

    middle: Vector
    radius: float
    up: Vector
    front: Vector

    def around(self, turn: float, rise: float, distance: float) -> Float[np.ndarray, "4 4"]:
        """Camera-to-world (OpenCV axes) of a camera that looks at the middle from this distance.

        turn: radians about `up`, from `front`. rise: radians above the level.
        """
        level = np.cos(turn) * self.front + np.sin(turn) * np.cross(self.up, self.front)
        outwards = np.cos(rise) * level + np.sin(rise) * self.up
        forward = -outwards
        right = np.cross(forward, self.up) / np.cos(rise)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
        pose[:3, 3] = self.middle + distance * outwards
        return pose


def frame_of(reconstruction: Reconstruction, cloud: Cloud) -> Frame:
    """Up is where the tops of the pictures point on average: photos are seldom taken upside down."""
    poses = reconstruction.poses.astype(np.float64)
    middle = np.median(cloud.positions, axis=0).astype(np.float64)
    radius = float(np.quantile(np.linalg.norm(cloud.positions - middle, axis=1), OUTERMOST))
    up = _unit(-poses[:, :3, 1].mean(0), otherwise=np.array([0.0, -1.0, 0.0]))
    towards = poses[:, :3, 3].mean(0) - middle
    sideways = np.cross(up, np.eye(3)[np.abs(up).argmin()])
    front = _unit(towards - up * (up @ towards), otherwise=sideways / np.linalg.norm(sideways))
    return Frame(middle, max(radius, SMALLEST), up, front)


def _unit(vector: Vector, *, otherwise: Vector) -> Vector:
    length = np.linalg.norm(vector)
    return vector / length if length > 1e-6 else otherwise


def spacing(reconstruction: Reconstruction, num_shown: int) -> float:
    """About how far points lie apart of which only so many are shown: the median of neighbouring pixels, spread wider."""
    gaps = [np.linalg.norm(np.diff(points, axis=1), axis=-1).ravel() for points in reconstruction.points]
    known = [of_view[np.isfinite(of_view)] for of_view in gaps]
    num_points = sum(points[..., 0].size for points in reconstruction.points)
    return float(np.median(np.concatenate(known))) * (num_points / num_shown) ** 0.5
