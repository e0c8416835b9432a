"""Predictions that are right, at any scale and size, to be scored against a room or against what was read."""

from collections.abc import Sequence

import numpy as np
import torch
from rooms import Room

from g2vlm.eval.benchmarks.prediction import Prediction
from g2vlm.geometry.camera import unproject
from g2vlm.geometry.pose import transform


def perfect(
    depth: Sequence[np.ndarray] | None,
    intrinsics: np.ndarray | None,
    poses: np.ndarray | None,
    *,
    scale: float = 1.0,
) -> Prediction:
    """The scene itself, `scale` times as large and in the frame of the first camera."""
    points = None
    if poses is not None:
        poses = np.linalg.inv(poses[0]) @ poses
        poses[:, :3, 3] *= scale
    if depth is not None:
        depth = [scale * values.astype(np.float64) for values in depth]
    if depth is not None and intrinsics is not None and poses is not None:
        points = [
            transform(torch.from_numpy(pose), unproject(torch.from_numpy(d), torch.from_numpy(k))).numpy()
            for d, k, pose in zip(depth, intrinsics, poses, strict=True)
        ]
    return Prediction(depth=depth, points=points, poses=poses, intrinsics=intrinsics)


def perfect_room(room: Room, views: Sequence[int], *, scale: float = 1.0) -> Prediction:
    """Of some views of a room."""
    chosen = list(views)
    return perfect(room.depth[chosen], np.stack([room.intrinsics] * len(chosen)), room.poses[chosen], scale=scale)
