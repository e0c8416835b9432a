"""Errors of point maps and point clouds: distances between clouds both ways, and of points that match one by one.

Clouds are [points, 3], in float64, in the unit of the truth. The published protocol of 7-Scenes, NRGBD, ETH3D and DTU (π³, G2VLM)
is `aligned_point_errors`: a similarity from matched points, then point-to-point ICP, then nearest neighbours.
"""

from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial import KDTree

from g2vlm.eval.metrics.valid import valid_values
from g2vlm.geometry.align import (
    FEWEST_POINTS,
    anchored_scale_and_shift,
    robust_scale,
    robust_scale_and_shift_points,
    robust_scale_points,
    similarity,
)

NUM_NEIGHBOURS = 30
"""Points, itself among them, that a normal is fitted to: the default of open3d's `estimate_normals`."""

NUM_AT_ONCE = 100_000
"""Points whose neighbours are held in memory together."""

PointAlignment = Literal["none", "shift", "scale", "scale_and_z_shift", "scale_and_shift", "anchored_scale_and_shift"]
"""What is done to predicted points p before each is compared with its true point q. Weights are 1 / |q|, sums are over coordinates.

none: nothing.
shift: p + b with the b that minimises the weighted sum of |p + b - q| exactly (MoGe, metric points).
scale: s p with the s that minimises the weighted sum of |s p - q| exactly (MoGe, scale-invariant points).
scale_and_z_shift: s p + (0, 0, b), exactly.
scale_and_shift: s p + b, exactly.
anchored_scale_and_shift: the best s p + b of those that are exact at one of the points, as MoGe searches (affine-invariant
    points); not the minimum. Its cost is the square of the number of points, so fit it to a few thousand.
"""


@dataclass(frozen=True)
class Similarity:
    """x -> scale rotation x + translation."""

    scale: float
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]

    def of(self, points: Float[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape 3"]:
        """Points moved."""
        return self.scale * points.astype(np.float64) @ self.rotation.T + self.translation


@dataclass(frozen=True)
class IcpFit:
    """motion: rigid. num_matched source points lie within the threshold of a target point, rmse is that of their distances.

    Without a match the motion is the identity and rmse 0, as in open3d: look at num_matched.
    """

    motion: Similarity
    num_matched: int
    rmse: float


@dataclass(frozen=True)
class PointErrors:
    """accuracy: distance from predicted points to their nearest true one; completeness: from true to predicted points.

    nc1, nc2: |cosine| between the normals of these pairs; their means over predicted (1) and over true points (2). NaN where
    no normals were asked for.
    """

    accuracy_mean: float
    accuracy_median: float
    completeness_mean: float
    completeness_median: float
    nc1_mean: float
    nc1_median: float
    nc2_mean: float
    nc2_median: float
    num_predicted: int
    num_true: int

    @property
    def chamfer(self) -> float:
        """Mean of accuracy and completeness ("overall" of DTU); where it is published as their sum it is twice that."""
        return (self.accuracy_mean + self.completeness_mean) / 2

    @property
    def nc_mean(self) -> float:
        """Normal consistency: mean of both ways."""
        return (self.nc1_mean + self.nc2_mean) / 2

    @property
    def nc_median(self) -> float:
        """Mean of the medians of both ways, as published."""
        return (self.nc1_median + self.nc2_median) / 2


@dataclass(frozen=True)
class FScore:
    """precision: fraction of predicted points nearer than the threshold to a true one; recall: of true to predicted ones.

    fscore: their harmonic mean, 0 where both are 0. All in [0, 1].
    """

    precision: float
    recall: float
    fscore: float


@dataclass(frozen=True)
class MatchedErrors:
    """relative: mean of |p - q| / |q|. delta1: fraction with |p - q| < 0.25 min(|p|, |q|). scale, shift: what was applied."""

    relative: float
    delta1: float
    scale: float
    shift: tuple[float, float, float]
    num_points: int
    num_left_out: int


def matched_points(
    prediction: Float[np.ndarray, "*shape 3"], truth: Float[np.ndarray, "*shape 3"], mask: Bool[np.ndarray, "*shape"]
) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, "points 3"]]:
    """Predicted and true points of the pixels in `mask` with a finite true point, in a row.

    ValueError where there is none, or where a predicted one is not finite.
    """
    return valid_values(prediction, truth, mask, np.all(np.isfinite(truth), axis=-1), what="point")


def umeyama(
    source: Float[np.ndarray, "points 3"], target: Float[np.ndarray, "points 3"], *, has_scale: bool = True
) -> Similarity:
    """The similarity that brings matched points closest in the sense of least squares (Umeyama 1991); never a reflection.

    ValueError for fewer than three points or points that coincide. Points on one line leave the turn about it open.
    """
    pair = (torch.from_numpy(np.asarray(points, dtype=np.float64)) for points in (source, target))
    scale, rotation, translation = similarity(*pair, has_scale=has_scale)
    return Similarity(scale.item(), rotation.numpy(), translation.numpy())


def icp(
    source: Float[np.ndarray, "source 3"],
    target: Float[np.ndarray, "target 3"],
    *,
    threshold: float,
    num_steps: int = 30,
    tolerance: float = 1e-6,
) -> IcpFit:
    """Rigid point-to-point ICP from where the clouds lie, with the rules and defaults of open3d's `registration_icp`.

    A source point is matched to its nearest target point if that is nearer than the threshold. Ends after num_steps, or
    when a step changes both the fraction of matched points and the rmse by less than the tolerance.
    """
    target = np.asarray(target, dtype=np.float64)
    tree = KDTree(target)
    rotation, translation = np.eye(3), np.zeros(3)
    moved = np.asarray(source, dtype=np.float64)
    distance, nearest = map(np.asarray, tree.query(moved, distance_upper_bound=threshold, workers=-1))
    for _ in range(num_steps):
        is_matched, rmse = _matches(distance)
        if is_matched.sum() < FEWEST_POINTS:
            break
        motion = umeyama(moved[is_matched], target[nearest[is_matched]], has_scale=False)
        moved = motion.of(moved)
        rotation, translation = motion.rotation @ rotation, motion.of(translation)
        distance, nearest = map(np.asarray, tree.query(moved, distance_upper_bound=threshold, workers=-1))
        now_matched, now_rmse = _matches(distance)
        gain = abs(int(now_matched.sum()) - int(is_matched.sum())) / len(moved)
        if gain < tolerance and abs(now_rmse - rmse) < tolerance:
            break
    is_matched, rmse = _matches(distance)
    return IcpFit(Similarity(1.0, rotation, translation), int(is_matched.sum()), rmse)


def _matches(distance: Float[np.ndarray, " points"]) -> tuple[Bool[np.ndarray, " points"], float]:
    is_matched = np.isfinite(distance)
    return is_matched, float(np.sqrt(np.square(distance[is_matched]).mean())) if is_matched.any() else 0.0


def estimate_normals(
    points: Float[np.ndarray, "points 3"], *, num_neighbours: int = NUM_NEIGHBOURS
) -> Float[np.ndarray, "points 3"]:
    """Unit normals of a cloud, of either sign: the direction in which a point and its nearest neighbours spread least.

    With fewer than three neighbours it is (0, 0, 1), as in open3d.
    """
    num_neighbours = min(num_neighbours, len(points))
    if num_neighbours < FEWEST_POINTS:
        return np.tile([0.0, 0.0, 1.0], (len(points), 1))
    points = np.asarray(points, dtype=np.float64)
    tree = KDTree(points)
    normals = np.empty_like(points)
    for start in range(0, len(points), NUM_AT_ONCE):
        part = slice(start, start + NUM_AT_ONCE)
        near = points[tree.query(points[part], k=num_neighbours, workers=-1)[1]]
        centred = near - near.mean(1, keepdims=True)
        normals[part] = np.linalg.eigh(centred.swapaxes(-1, -2) @ centred)[1][..., 0]
    return normals


def point_errors(
    prediction: Float[np.ndarray, "predicted 3"],
    truth: Float[np.ndarray, "true 3"],
    *,
    num_neighbours: int | None = NUM_NEIGHBOURS,
) -> PointErrors:
    """Compare two clouds that lie in one frame. num_neighbours: of a normal; None leaves normal consistency out.

    ValueError where a cloud is empty or has a point that is not finite.
    """
    (accuracy, to_true), (completeness, to_predicted) = _nearest_both_ways(prediction, truth)
    nc1 = nc2 = np.full(1, np.nan)
    if num_neighbours is not None:
        ours, theirs = (estimate_normals(points, num_neighbours=num_neighbours) for points in (prediction, truth))
        nc1, nc2 = (
            np.abs((ours * theirs[to_true]).sum(-1)),
            np.abs((theirs * ours[to_predicted]).sum(-1)),
        )
    numbers = (float(f(values)) for values in (accuracy, completeness, nc1, nc2) for f in (np.mean, np.median))
    return PointErrors(*numbers, num_predicted=len(prediction), num_true=len(truth))


def f_score(
    prediction: Float[np.ndarray, "predicted 3"], truth: Float[np.ndarray, "true 3"], *, threshold: float
) -> FScore:
    """F-score of two clouds that lie in one frame, for points nearer than the threshold."""
    (accuracy, _), (completeness, _) = _nearest_both_ways(prediction, truth)
    precision, recall = float((accuracy < threshold).mean()), float((completeness < threshold).mean())
    return FScore(precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0)


def aligned_point_errors(
    prediction: Float[np.ndarray, "*shape 3"],
    truth: Float[np.ndarray, "*shape 3"],
    mask: Bool[np.ndarray, "*shape"],
    *,
    icp_threshold: float,
    num_neighbours: int | None = NUM_NEIGHBOURS,
) -> PointErrors:
    """The published protocol for the point maps of one scene; icp_threshold is 0.1 in metres, and 100 for DTU in millimetres."""
    predicted, true = matched_points(prediction, truth, mask)
    predicted = umeyama(predicted, true).of(predicted)
    predicted = icp(predicted, true, threshold=icp_threshold).motion.of(predicted)
    return point_errors(predicted, true, num_neighbours=num_neighbours)


def matched_point_errors(
    prediction: Float[np.ndarray, "*shape 3"],
    truth: Float[np.ndarray, "*shape 3"],
    mask: Bool[np.ndarray, "*shape"],
    *,
    alignment: PointAlignment,
    fitted_to: Bool[np.ndarray, "*shape"] | None = None,
) -> MatchedErrors:
    """Compare points pixel by pixel after a robust alignment, in the camera's frame.

    fitted_to: the part of the mask that the alignment is found on, as MoGe does on a coarse grid; all of it by default.
    A true point at the origin cannot be compared and is left out.
    """
    mask = mask & (truth != 0).any(-1)
    p, q = matched_points(prediction, truth, mask)
    scale, shift = align_points(
        *matched_points(prediction, truth, mask if fitted_to is None else mask & fitted_to), alignment
    )
    p = scale * p + shift
    error, size = np.linalg.norm(p - q, axis=-1), np.linalg.norm(q, axis=-1)
    is_near = error < 0.25 * np.minimum(np.linalg.norm(p, axis=-1), size)
    x, y, z = shift.tolist()
    return MatchedErrors(
        float((error / size).mean()),
        float(is_near.mean()),
        scale,
        (x, y, z),
        num_points=len(q),
        num_left_out=mask.size - len(q),
    )


def align_points(
    source: Float[np.ndarray, "points 3"],
    target: Float[np.ndarray, "points 3"],
    alignment: PointAlignment,
    weight: Float[np.ndarray, " points"] | None = None,
) -> tuple[float, Float[np.ndarray, "3"]]:
    """The scale and the shift that bring points onto their targets. weight: instead of 1 / |target|."""
    w = torch.from_numpy(1 / np.linalg.norm(target, axis=-1) if weight is None else weight)
    p, q = torch.from_numpy(source), torch.from_numpy(target)
    still = torch.zeros(3, dtype=torch.float64)
    match alignment:
        case "none":
            scale, shift = 1.0, still
        case "shift":
            scale, shift = 1.0, robust_scale(torch.ones_like(p.mT), (q - p).mT, w.expand(3, -1))
        case "scale":
            scale, shift = robust_scale_points(p, q, w).item(), still
        case "scale_and_z_shift":
            scale, shift = robust_scale_and_shift_points(p, q, w, shifted=(False, False, True))
        case "scale_and_shift":
            scale, shift = robust_scale_and_shift_points(p, q, w)
        case "anchored_scale_and_shift":
            scale, shift = anchored_scale_and_shift(p, q, w, shifted=(True, True, True))
        case _:
            assert_never(alignment)
    return float(scale), shift.numpy()


def _nearest_both_ways(prediction: Float[np.ndarray, "predicted 3"], truth: Float[np.ndarray, "true 3"]):
    for name, points in (("predicted", prediction), ("true", truth)):
        if not len(points) or not np.isfinite(points).all():
            raise ValueError(
                f"the {name} cloud has {len(points)} points, {int((~np.isfinite(points).all(-1)).sum())} of them not finite; "
                f"leave this scene out, or these points, and count them"
            )
    return KDTree(truth).query(prediction, workers=-1), KDTree(prediction).query(truth, workers=-1)
