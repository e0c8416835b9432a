"""What a prediction is scored on: depth, point maps, poses, trajectories, intrinsics, normals; each gives numbers by
name.

A prediction that cannot be scored is a ValueError that says why; what is known of the scene is never its reason.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float

from g2vlm.data.recon import Frame, sample_nearest, valid
from g2vlm.eval.benchmarks.prediction import Prediction, intrinsics_of, maps_of, poses_of, resampled
from g2vlm.eval.benchmarks.rules import GeometryRule
from g2vlm.eval.metrics.depth import depth_errors
from g2vlm.eval.metrics.intrinsics import focal_errors
from g2vlm.eval.metrics.normals import normal_angles, normal_errors
from g2vlm.eval.metrics.points import aligned_point_errors
from g2vlm.eval.metrics.poses import pair_errors, pose_auc, rotation_accuracy, translation_accuracy
from g2vlm.eval.metrics.trajectories import absolute_errors, relative_errors
from g2vlm.geometry.camera import unproject
from g2vlm.geometry.points import depth_edges, normals_from_points
from g2vlm.geometry.pose import transform

Task = Literal["depth", "points", "poses", "trajectory", "intrinsics", "normals"]

TASKS: tuple[Task, ...] = get_args(Task)

POSE_THRESHOLDS = (5, 15, 30)
"""Degrees."""

ON_A_LINE = 1e-6
"""Cameras whose centres leave a line by less than this part of their spread have no trajectory that could be
aligned."""


@dataclass(frozen=True)
class Truth:
    """What is known of the pictures of an item; `None`, or 0 in a depth map, where nothing is.

    sizes: (height, width) of the photos. depth: z-depth at their pixels, all in one unit. intrinsics: in their
    pixels. poses: camera-to-world, OpenCV axes. farthest: depth beyond it does not count, and predicted depth is cut
    there once it is aligned. reach: how far the refinement of point maps looks, see `aligned_point_errors`.
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

    @cached_property
    def normals(self) -> tuple[Float[np.ndarray, "_height _width 3"], ...]:
        """In the camera's frame, from neighbours in the depth map; 0 where unknown, and at edges of depth."""
        assert self.depth is not None
        assert self.intrinsics is not None
        found = []
        for values, known, camera in zip(self.depth, self.masks, self.intrinsics, strict=True):
            depth, mask = torch.from_numpy(values).double(), torch.from_numpy(known)
            inside = mask & ~depth_edges(depth, mask)
            found.append(normals_from_points(unproject(depth, torch.from_numpy(camera)), inside).numpy())
        return tuple(found)

    def lacks(self, task: Task) -> str | None:
        """Why a task has nothing to compare with; None where it has."""
        num_views = len(self.sizes)
        fewest = {"poses": 2, "trajectory": 3}.get(task, 1)
        if num_views < fewest:
            return f"{num_views} pictures, but {fewest} are needed"
        if task in ("depth", "points", "normals") and not any(mask.any() for mask in self.masks):
            return "no pixel has a known depth that counts"
        if task in ("points", "intrinsics", "normals") and self.intrinsics is None:
            return "not all intrinsics are known"
        if task == "normals" and not any(normals.any() for normals in self.normals):
            return "no pixel has a known normal"
        if task in ("points", "poses", "trajectory") and self.poses is None:
            return "not all poses are known"
        if task in ("poses", "trajectory"):
            assert self.poses is not None
            spread = np.linalg.svd(self.poses[:, :3, 3] - self.poses[:, :3, 3].mean(0), compute_uv=False)
            if spread[0] == 0:
                return "all cameras stand at one place"
            if task == "trajectory" and spread[1] < ON_A_LINE * spread[0]:
                return "all cameras stand on one line"
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
    maps = [resampled(d, size, rule.depth_sampling) for d, size in zip(maps, truth.sizes, strict=True)]
    d, t, mask = (np.concatenate([values.ravel() for values in views]) for views in (maps, truth.depth, truth.masks))
    errors = depth_errors(d, t, mask, alignment=rule.alignment, clip_to=(-np.inf, truth.farthest))
    return _named(errors, "absrel", "rmse", "delta1", "delta2", "delta3") | {"pixels": float(errors.num_pixels)}


def point_scores(truth: Truth, prediction: Prediction, rule: GeometryRule) -> Scores:
    """All pictures of the item as one cloud. points: how many were compared."""
    maps = maps_of(prediction, "points", truth.sizes, are_stretched=rule.is_stretched)
    known = [true_points(truth, view, rule) for view in range(len(maps))]
    moved = [resampled(p, (q.shape[0], q.shape[1]), rule.point_sampling) for p, (q, _) in zip(maps, known, strict=True)]
    p, q = (np.concatenate([points.reshape(-1, 3) for points in views]) for views in (moved, [q for q, _ in known]))
    mask = np.concatenate([inside.ravel() for _, inside in known])
    errors = aligned_point_errors(p, q, mask, icp_threshold=truth.reach)
    return _named(errors, *METRICS["points"]) | {"points": float(errors.num_true)}


def pose_scores(truth: Truth, prediction: Prediction, rule: GeometryRule) -> Scores:
    """Over pairs of pictures. pairs: how many there are."""
    assert truth.poses is not None
    poses = poses_of(prediction, len(truth.sizes))
    errors = pair_errors(
        poses, truth.poses, frame=rule.frame, is_sign_blind=rule.is_sign_blind, degenerate=rule.degenerate
    )
    scores = {"pairs": float(len(errors.rotation))}
    for degrees in POSE_THRESHOLDS:
        scores[f"rra{degrees}"] = rotation_accuracy(errors, degrees)
        scores[f"rta{degrees}"] = translation_accuracy(errors, degrees)
        scores[f"auc{degrees}"] = pose_auc(errors, degrees)
    return scores


def trajectory_scores(truth: Truth, prediction: Prediction, rule: GeometryRule) -> Scores:
    """Root mean squares after the best similarity; translations in the unit of the truth, rotations in degrees."""
    assert truth.poses is not None
    poses = poses_of(prediction, len(truth.sizes))
    return {
        "ate": absolute_errors(poses, truth.poses).rmse,
        "rpe_translation": relative_errors(poses, truth.poses, part="translation").rmse,
        "rpe_rotation": relative_errors(poses, truth.poses, part="rotation").rmse,
    }


def intrinsics_scores(truth: Truth, prediction: Prediction, rule: GeometryRule) -> Scores:
    """Means over pictures and axes. focal: |f - f*| / f*. fov: degrees of the field of view."""
    assert truth.intrinsics is not None
    intrinsics = intrinsics_of(prediction, len(truth.sizes))
    errors = [
        focal_errors(predicted[None], true[None], size)
        for predicted, true, size in zip(intrinsics, truth.intrinsics, truth.sizes, strict=True)
    ]
    relative, degrees = [e.relative for e in errors], [e.fov_degrees for e in errors]
    return {"focal": float(np.mean(relative)), "fov": float(np.mean(degrees))}


def normal_scores(truth: Truth, prediction: Prediction, rule: GeometryRule) -> Scores:
    """Angles of all pictures of the item in one row; degrees, and fractions within so many degrees."""
    maps = maps_of(prediction, "normals", truth.sizes, are_stretched=rule.is_stretched)
    degrees = [
        normal_angles(resampled(n, size, rule.point_sampling), true, np.ones(size, dtype=bool)).degrees
        for n, size, true in zip(maps, truth.sizes, truth.normals, strict=True)
        if true.any()
    ]
    errors = normal_errors(np.concatenate(degrees))
    return {
        "normals_within_11": errors.within_11_25,
        "normals_within_22": errors.within_22_5,
        "normals_within_30": errors.within_30,
        "normals_mean": errors.mean,
        "normals_median": errors.median,
    }


def true_points(truth: Truth, view: int, rule: GeometryRule) -> tuple[np.ndarray, np.ndarray]:
    """World points of a picture at the rule's size for points, and where they are known."""
    assert truth.depth is not None
    assert truth.intrinsics is not None
    assert truth.poses is not None
    size = rule.point_size(*truth.sizes[view], len(truth.sizes))
    depth, camera = truth.depth[view], torch.from_numpy(truth.intrinsics[view])
    pose, mask = torch.from_numpy(truth.poses[view]), sample_nearest(truth.masks[view], size)
    if rule.is_stretched:
        factor = max(new / old for new, old in zip(size, truth.sizes[view], strict=True))
        camera = camera * camera.new_tensor([[factor], [factor], [1.0]])
        local = unproject(torch.from_numpy(sample_nearest(depth, size)).double(), camera)
        return transform(pose, local).numpy(), mask
    local = unproject(torch.from_numpy(depth).double(), camera)
    return sample_nearest(transform(pose, local).numpy(), size), mask


def check_packages(tasks: Sequence[Task]) -> None:
    """ValueError, before anything is scored, where a task needs a package that is not installed."""
    if "trajectory" in tasks and find_spec("evo") is None:
        raise ValueError("errors of trajectories need the package evo: pip install 'g2vlm[eval]'")


def _named(errors: object, *names: str) -> Scores:
    return {name: float(getattr(errors, name)) for name in names}


SCORERS: Mapping[Task, Callable[[Truth, Prediction, GeometryRule], Scores]] = {
    "depth": depth_scores,
    "points": point_scores,
    "poses": pose_scores,
    "trajectory": trajectory_scores,
    "intrinsics": intrinsics_scores,
    "normals": normal_scores,
}
"""Fractions are in [0, 1]."""

METRICS: Mapping[Task, tuple[str, ...]] = {
    "depth": ("delta1", "delta2", "delta3", "absrel", "rmse"),
    "points": (
        "chamfer",
        *(f"{name}_{mean}" for name in ("accuracy", "completeness", "nc", "nc1", "nc2") for mean in ("mean", "median")),
    ),
    "poses": tuple(f"{name}{degrees}" for degrees in reversed(POSE_THRESHOLDS) for name in ("auc", "rra", "rta")),
    "trajectory": ("ate", "rpe_translation", "rpe_rotation"),
    "intrinsics": ("focal", "fov"),
    "normals": ("normals_within_11", "normals_within_22", "normals_within_30", "normals_mean", "normals_median"),
}
"""Scores by task that become figures, the main one first."""

WEIGHTS: Mapping[Task, str] = {"depth": "pixels", "poses": "pairs"}
"""The score that says how much an item weighs where a rule pools what it compares."""

FRACTIONS = ("delta", "rra", "rta", "auc", "nc", "normals_within")
"""Beginnings of metrics that are fractions of what is right, or cosines."""


def worst(task: Task, truth: Truth) -> Scores:
    """What a prediction that cannot be scored gets: 0 for fractions, with its full weight; an error without bound has no
    worst value."""
    num_views = len(truth.sizes)
    weights = {"pixels": sum(int(mask.sum()) for mask in truth.masks), "pairs": num_views * (num_views - 1) // 2}
    fractions = {name: 0.0 for name in METRICS[task] if name.startswith(FRACTIONS)}
    return fractions | ({WEIGHTS[task]: float(weights[WEIGHTS[task]])} if task in WEIGHTS else {})
