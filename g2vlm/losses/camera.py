"""Camera loss: rotation and translation of every view as seen from every other one, so the world frame is free."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from g2vlm.geometry.pose import relative_poses


class CameraLoss(NamedTuple):
    translation: Float[Tensor, ""]
    rotation: Float[Tensor, ""]


def camera_loss(
    poses: Float[Tensor, "scenes views 4 4"], target: Float[Tensor, "scenes views 4 4"], *, huber_delta: float = 0.1
) -> CameraLoss:
    """Mean over all ordered pairs of views i != j of inv(P_i) P_j; zero, not NaN, for a single view.

    Poses are camera-to-world, in the target's unit of length. Translations are compared by Huber's loss per coordinate,
    rotations by their angle in radians (`rotation_angle`).
    """
    num_views = poses.shape[1]
    is_pair = ~torch.eye(num_views, dtype=torch.bool, device=poses.device)
    predicted, true = (relative_poses(p)[:, is_pair] for p in (poses, target))
    num_pairs = max(predicted.shape[0] * predicted.shape[1], 1)
    huber = F.huber_loss(predicted[..., :3, 3], true[..., :3, 3], delta=huber_delta, reduction="sum")
    angle = rotation_angle(predicted[..., :3, :3], true[..., :3, :3])
    return CameraLoss(huber / (3 * num_pairs), angle.sum() / num_pairs)


def rotation_angle(
    rotation: Float[Tensor, "*batch 3 3"], target: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch"]:
    """Angle between two rotations in radians, for training: arccos of a cosine kept 1e-6 away from +-1.

    The bound keeps the gradient finite, so angles below 1.4e-3 are neither measured nor improved; metrics use
    `g2vlm.geometry.rotation.geodesic_angle`.
    """
    cosine = ((rotation * target).sum((-2, -1)) - 1) / 2
    return cosine.clamp(-1 + 1e-6, 1 - 1e-6).acos()
