"""Brings truth and prediction to comparable units: first camera's frame, mean distance one, valid numbers only.

Axes: s scenes, v views, h rows, w columns, p points of one view (all its pixels, or a random choice of them).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from g2vlm.geometry.camera import unproject
from g2vlm.geometry.pose import in_first_frame, invert, pose_from, transform
from g2vlm.records import Views


@dataclass(frozen=True)
class Target:
    """What a prediction is compared with, in any unit of length and any world frame.

    local_points: in each view's own camera frame; finite everywhere, true where `mask` is set.
    poses: camera-to-world, OpenCV axes.
    mask: True where the point is known; all False in a view (or scene) without depth.
    normals: unit, camera frame, towards the camera; None when unknown for the whole batch.
    """

    local_points: Float[Tensor, "s v h w 3"]
    poses: Float[Tensor, "s v 4 4"]
    mask: Bool[Tensor, "s v h w"]
    normals: Float[Tensor, "s v h w 3"] | None = None


def target_from_views(views: Views) -> Target:
    """The target of a batch of scenes; without depth every point is unknown, and the poses still count."""
    if views.poses is None:
        raise ValueError("the views have no poses, which every geometric loss needs; set Views.poses (camera-to-world)")
    if views.depth is None:
        s, v, _, h, w = views.images.shape
        unknown = torch.zeros(s, v, h, w, dtype=torch.bool, device=views.poses.device)
        return Target(views.poses.new_zeros(s, v, h, w, 3), views.poses, unknown)
    if views.mask is None or views.intrinsics is None:
        missing = "mask" if views.mask is None else "intrinsics"
        raise ValueError(f"the views have depth but no {missing}; set Views.{missing}, or leave the depth out")
    local_points = unproject(_finite(views.depth), views.intrinsics)
    normals = None if views.normals is None else _finite(views.normals)
    return Target(local_points, views.poses, views.mask, normals)


def target_from_world_points(
    world_points: Float[Tensor, "s v h w 3"], poses: Float[Tensor, "s v 4 4"], mask: Bool[Tensor, "s v h w"]
) -> Target:
    """The target of point maps that are given in the world frame of `poses` (camera-to-world)."""
    return Target(transform(invert(poses), _finite(world_points)), poses, mask)


def _finite(values: Tensor) -> Tensor:
    """Zero in place of NaN and infinity, which may stand where nothing was measured."""
    return torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


@dataclass(frozen=True)
class Cloud:
    """Points and cameras of a batch of scenes.

    local_points: in each view's own camera frame. poses: camera-to-world.
    global_points: in the first camera's frame; None when not predicted.
    """

    local_points: Float[Tensor, "s v p 3"]
    poses: Float[Tensor, "s v 4 4"]
    global_points: Float[Tensor, "s v p 3"] | None = None

    def scaled(self, factor: Float[Tensor, " s"]) -> "Cloud":
        """All lengths of each scene times its factor, cameras included."""
        along_points = factor[:, None, None, None]
        return Cloud(
            self.local_points * along_points,
            pose_from(self.poses[..., :3, :3], self.poses[..., :3, 3] * factor[:, None, None]),
            None if self.global_points is None else self.global_points * along_points,
        )


def normalised_truth(
    local_points: Float[Tensor, "s v p 3"], poses: Float[Tensor, "s v 4 4"], mask: Bool[Tensor, "s v p"]
) -> tuple[Cloud, Float[Tensor, " s"]]:
    """The truth seen from the first camera, divided by the mean distance of valid points from it, and that distance."""
    poses = in_first_frame(poses)
    global_points = transform(poses, local_points)
    unit = length_unit(global_points, poses, mask)
    return Cloud(local_points, poses, global_points).scaled(1 / unit), unit


def normalised_prediction(cloud: Cloud, mask: Bool[Tensor, "s v p"]) -> tuple[Cloud, Float[Tensor, " s"]]:
    """The prediction divided by the mean distance of valid points from their own cameras, and that distance.

    Gradients pass through the distance, so that no prediction gains anything by its scale.
    """
    unit = length_unit(cloud.local_points, cloud.poses, mask)
    return cloud.scaled(1 / unit), unit


def length_unit(
    points: Float[Tensor, "s v p 3"], poses: Float[Tensor, "s v 4 4"], mask: Bool[Tensor, "s v p"]
) -> Float[Tensor, " s"]:
    """Mean norm of the valid points of each scene; never zero.

    A scene without valid points is measured by its cameras (`mean_baseline`), and by 1 where those coincide too.
    """
    total, count = torch.where(mask, points.norm(dim=-1), 0).sum((1, 2)), mask.sum((1, 2))
    unit = torch.where(count > 0, total / (count + 1e-8), mean_baseline(poses))
    return torch.where(unit > 0, unit, 1)


def mean_baseline(poses: Float[Tensor, "s v 4 4"]) -> Float[Tensor, " s"]:
    """Mean distance between the camera centres of two different views; zero for a single view."""
    centres = poses[..., :3, 3]
    num_views = centres.shape[1]
    distances = (centres[:, :, None] - centres[:, None]).norm(dim=-1)
    return distances.sum((1, 2)) / max(num_views * (num_views - 1), 1)


def masked_mean(values: Float[Tensor, "*any"], mask: Bool[Tensor, "*any"]) -> Float[Tensor, ""]:
    """Mean over the entries where `mask` is True; zero, with zero gradient, when there are none."""
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)
