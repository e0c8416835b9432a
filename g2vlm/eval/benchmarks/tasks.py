"""What a prediction is scored on: depth, point maps, poses, trajectories, intrinsics, normals; each gives numbers by name.

A prediction that cannot be scored is a ValueError that says why; what is known of the scene is never its reason.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float

from g2vlm.data.recon import Frame, sample_nearest, valid
from g2vlm.eval.benchmarks.prediction import Prediction, maps_of, poses_of, resampled
from g2vlm.eval.benchmarks.rules import GeometryRule
from g2vlm.eval.metrics.depth import absrel, alignment_of, delta, rmse, valid_pixels
from g2vlm.eval.metrics.poses import pair_errors, pose_auc, rotation_accuracy, translation_accuracy
from g2vlm.geometry.camera import unproject
from g2vlm.geometry.pose import transform

Task = Literal["depth", "points", "poses", "trajectory", "intrinsics", "normals"]

TASKS: tuple[Task, ...] = get_args(Task)

POSE_THRESHOLDS = (5, 15, 30)
"""Degrees."""

NORMAL_THRESHOLDS = {"normals11": 11.25, "normals22": 22.5, "normals30": 30.0}
"""Degrees."""


@dataclass(frozen=True)
class Truth:
    """What is known of the pictures of an item; `None`, or 0 in a depth map, where nothing is.

    sizes: (height, width) of the photos. depth: z-depth at their pixels, all in one unit. intrinsics: in their pixels.
    poses: camera-to-world, OpenCV axes. farthest: depth beyond it does not count, and predicted depth is cut there once it is
    aligned. reach: of the refinement of point maps, see `point_errors`.
    """

    sizes: tuple[tuple[int, int], ...]
    depth: tuple[Float[np.ndarray, "_height _width"], ...] | None
    intrinsics: Float[np.ndarray, "views 3 3"] | None
    poses: Float[np.ndarray, "views 4 4"] | None
    farthest: float = np.inf
    reach: float = 0.1

    @property
    def masks(self) -> tuple[Bool[np.ndarray, "_height _width"], ...]:
        """Where depth is known and counts."""
        return tuple(valid(depth) & (depth < self.farthest) for depth in self.depth or ())

    def lacks(self, task: Task) -> str | None:
        """Why a task has nothing to compare with; None where it has."""
        needs_depth, needs_poses = task in ("depth", "points", "normals"), task in ("points", "poses", "trajectory")
        if needs_depth and not any(mask.any() for mask in self.masks):
            return "no pixel has a known depth that counts"
        if needs_poses and self.poses is None:
            return "not all poses are known"
        if task in ("points", "intrinsics", "normals") and self.intrinsics is None:
            return "not all intrinsics are known"
        fewest = {"poses": 2, "trajectory": 3}.get(task, 1)
        if len(self.sizes) < fewest:
            return f"{len(self.sizes)} pictures, but {fewest} are needed"
        return None


def read_truth(frames: Sequence[Frame], tasks: Sequence[Task], farthest: float, reach: float) -> Truth:
    """What the files of an item say, as far as its tasks need it."""
    shots = [frame.read() for frame in frames]
    sizes = tuple((shot.image.shape[0], shot.image.shape[1]) for shot in shots)
    unknown = [np.zeros(size, dtype=np.float32) for size in sizes]
    needs_depth = any(task in ("depth", "points", "normals") for task in tasks)
    poses = [frame.pose for frame in frames if frame.pose is not None]
    intrinsics = [frame.intrinsics for frame in frames if frame.intrinsics is not None]
    return Truth(
        sizes,
        tuple(zero if shot.depth is None else shot.depth for shot, zero in zip(shots, unknown, strict=True))
        if needs_depth
        else None,
        np.stack(intrinsics) if len(intrinsics) == len(frames) else None,
        np.stack(poses) if len(poses) == len(frames) else None,
        farthest,
        reach,
    )


Scores = dict[str, float]


def depth_scores(truth: Truth, prediction: Prediction, rule: GeometryRule) -> Scores:
    """All pictures of the item under one alignment. pixels: how many were compared."""
    assert truth.depth is not None
    maps = maps_of(prediction, "depth", truth.sizes, are_stretched=rule.is_stretched)
    maps = [resampled(d, t.shape[:2], rule.depth_sampling) for d, t in zip(maps, truth.depth, strict=True)]
    d, t = valid_pixels(*(np.concatenate([x.ravel() for x in xs]) for xs in (maps, truth.depth, truth.masks)))
    scale, shift = alignment_of(d, t, rule.alignment)
    d = np.minimum(scale * d + shift, truth.farthest)
    deltas = {f"delta{n}": delta(d, t, n) for n in (1, 2, 3)}
    return {"absrel": absrel(d, t), "rmse": rmse(d, t), **deltas, "pixels": float(len(d))}


def pose_scores(truth: Truth, prediction: Prediction, rule: GeometryRule) -> Scores:
    """pairs: how many there are; a pair without a true baseline counts for rotations only."""
    assert truth.poses is not None
    poses = poses_of(prediction, len(truth.sizes))
    errors = pair_errors(poses, truth.poses, frame=rule.frame, is_sign_blind=rule.is_sign_blind)
    scores = {"pairs": float(len(errors.rotation))}
    for degrees in POSE_THRESHOLDS:
        scores[f"rra{degrees}"] = rotation_accuracy(errors, degrees)
        scores[f"rta{degrees}"] = translation_accuracy(errors, degrees)
        scores[f"auc{degrees}"] = pose_auc(errors, degrees)
    return scores


def true_points(truth: Truth, view: int, rule: GeometryRule) -> tuple[np.ndarray, np.ndarray]:
    """World points of a picture at the rule's size for points, and where they are known."""
    assert truth.depth is not None
    assert truth.intrinsics is not None
    assert truth.poses is not None
    size = rule.point_size(*truth.sizes[view])
    depth, camera = truth.depth[view], torch.from_numpy(truth.intrinsics[view])
    pose, mask = torch.from_numpy(truth.poses[view]), sample_nearest(truth.masks[view], size)
    if rule.is_stretched:
        factor = max(new / old for new, old in zip(size, truth.sizes[view], strict=True))
        camera = camera * camera.new_tensor([[factor], [factor], [1.0]])
        local = unproject(torch.from_numpy(sample_nearest(depth, size)).double(), camera)
        return transform(pose, local).numpy(), mask
    local = unproject(torch.from_numpy(depth).double(), camera)
    return sample_nearest(transform(pose, local).numpy(), size), mask


SCORERS: Mapping[Task, Callable[[Truth, Prediction, GeometryRule], Scores]] = {
    "depth": depth_scores,
    "poses": pose_scores,
}
"""Scores by task; those of a fraction are in [0, 1]."""

METRICS: Mapping[Task, tuple[str, ...]] = {
    "depth": ("delta1", "delta2", "delta3", "absrel", "rmse"),
    "poses": tuple(f"{name}{degrees}" for degrees in reversed(POSE_THRESHOLDS) for name in ("auc", "rra", "rta")),
}
"""Scores by task that become figures, the main one first."""

WEIGHTS: Mapping[Task, str] = {"depth": "pixels", "poses": "pairs"}
"""The score that says how much an item weighs where a rule pools what it compares."""

FRACTIONS = ("delta", "rra", "rta", "auc", "normals")
"""Beginnings of metrics that are fractions of what is right."""


def worst(task: Task) -> Scores:
    """What a prediction that cannot be scored gets: 0 for fractions; an error without bound has no worst value."""
    return {name: 0.0 for name in METRICS[task] if name.startswith(FRACTIONS)}
