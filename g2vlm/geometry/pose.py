"""Algebra of poses: camera-to-world 4x4 matrices with OpenCV axes (x right, y down, z forward)."""

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
"""Between our camera axes and those of OpenGL (y up, z backward): `pose @ FLIP`."""


def pose_from(
    rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """The rigid motion x -> rotation x + translation as a 4x4 matrix."""
    top = torch.cat([rotation, translation[..., None]], dim=-1)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], dim=-2)


def invert(pose: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """The inverse of a rigid motion; the rotation is transposed, not inverted, so it must be a rotation."""
    rotation, translation = pose[..., :3, :3], pose[..., :3, 3:]
    return pose_from(rotation.mT, -(rotation.mT @ translation)[..., 0])


def over_points(matrix: Float[Tensor, "*batch rows columns"], points: Float[Tensor, "*more 3"]) -> Tensor:
    """`matrix` with singleton dimensions, so that each one stands beside all points of its own batch entry.

    Leading dimensions are matched from the left: matrices [batch, views, r, c] and points [batch, views, height, width, 3]
    give [batch, views, 1, 1, r, c].
    """
    num_batch = matrix.ndim - 2
    if points.ndim - 1 < num_batch:
        raise ValueError(
            f"matrices {tuple(matrix.shape)} have {num_batch} batch dimensions, but points {tuple(points.shape)} "
            f"have only {points.ndim - 1}; give the points every batch dimension of the matrices (size 1 broadcasts)"
        )
    ones = (1,) * (points.ndim - 1 - num_batch)
    return matrix.reshape(*matrix.shape[:-2], *ones, *matrix.shape[-2:])


def transform(pose: Float[Tensor, "*batch 4 4"], points: Float[Tensor, "*more 3"]) -> Float[Tensor, "*more 3"]:
    """Move points by a rigid motion; with a camera-to-world pose, from the camera's frame into the world.

    Leading dimensions are matched from the left (see `over_points`): poses [batch, views, 4, 4] move point maps
    [batch, views, height, width, 3], and one pose [4, 4] moves anything.
    """
    rigid = over_points(pose, points)
    return einsum(rigid[..., :3, :3], points, "... i j, ... j -> ... i") + rigid[..., :3, 3]


def relative_poses(poses: Float[Tensor, "*batch views 4 4"]) -> Float[Tensor, "*batch views views 4 4"]:
    """Entry (i, j) is inv(P_i) P_j: the pose of camera j in the frame of camera i."""
    return invert(poses)[..., :, None, :, :] @ poses[..., None, :, :, :]


def in_first_frame(poses: Float[Tensor, "*batch views 4 4"]) -> Float[Tensor, "*batch views 4 4"]:
    """The same cameras in the world frame that is the camera frame of view 0."""
    return invert(poses[..., :1, :, :]) @ poses
