"""Errors of camera poses over all unordered pairs of views: free of one global scale and, but for one variant, of the world frame.

For views i < j the rotation error is the angle between the true and the predicted relative rotation, the translation
error the angle between the directions of the true and the predicted relative translation. Everything is computed in
float64; fractions are in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
import torch
from jaxtyping import Float

from g2vlm.geometry.rotation import geodesic_angle

Frame = Literal["first", "second", "world"]
"""What a relative pose is; numbers differ as soon as a rotation has an error. P are camera-to-world, E world-to-camera matrices.

first: inv(P_i) P_j = E_i inv(E_j), camera j seen from camera i (VGGT).
second: inv(P_j) P_i = E_j inv(E_i), camera i seen from camera j (PoseDiffusion, π³, G2VLM).
world: P_i inv(P_j) = inv(E_i) E_j with view 0 as the world: what becomes of the formula inv(i) j of "first" where it is given
    world-to-camera matrices (Depth Anything 3). No baseline of two cameras, and its errors depend on which view is view 0.
"""

Degenerate = Literal["left_out", "ninety"]
"""What a pair without a true baseline says about directions. left_out: nothing, its error is NaN and counts for rotations only.
ninety: 90 degrees, whatever was predicted, where it is exactly zero; a short one counts as any other (PoseDiffusion, VGGT, π³,
G2VLM)."""

Bins = Literal["histogram", "histc", "area"]
"""How the area under the curve of accuracy over thresholds from 0 to T degrees is taken; the three differ by several points.

histogram: T bins of one degree, with the edges 0, 1, ..., T of numpy.histogram; the last bin holds an error of exactly T. The mean
    of the accuracies at the upper edges (π³, VGGT, G2VLM: `calculate_auc_np`).
histc: T + 1 bins of T / (T + 1) degrees by torch.histc, 31 for AUC@30 (`calculate_auc` in the same files).
area: the exact area, mean of max(0, 1 - error / T); T need not be whole.
"""

SHORTEST_BASELINE = 1e-6
"""A true baseline below this fraction of the longest one has no direction that could be predicted."""


@dataclass(frozen=True)
class PairErrors:
    """Errors in degrees of all pairs i < j, in the order (0, 1), (0, 2), ..., (1, 2), ...

    translation: NaN where the true baseline is degenerate and left out. A predicted baseline of length zero counts as 90
    degrees. num_degenerate: pairs without a true baseline.
    """

    rotation: Float[np.ndarray, " pairs"]
    translation: Float[np.ndarray, " pairs"]
    num_degenerate: int = 0


def pair_errors(
    prediction: Float[np.ndarray, "views 4 4"],
    truth: Float[np.ndarray, "views 4 4"],
    *,
    frame: Frame = "first",
    is_sign_blind: bool = False,
    degenerate: Degenerate = "left_out",
) -> PairErrors:
    """Compare camera-to-world poses pair by pair.

    is_sign_blind: an opposite direction is forgiven, min(angle, 180 - angle), as in the published protocols; then no
    translation error exceeds 90 degrees. The published protocol of G2VLM is frame="second", is_sign_blind=True,
    degenerate="ninety".
    """
    if len(truth) < 2:
        raise ValueError(f"pairs need at least 2 views, but there is {len(truth)}; add views or leave the scene out")
    if not np.isfinite(prediction).all():
        raise ValueError("a predicted pose is not finite; leave the scene out and count it")
    (predicted_turn, predicted), (true_turn, true) = (
        _relative_poses(poses.astype(np.float64), frame) for poses in (prediction, truth)
    )
    rotation = torch.rad2deg(geodesic_angle(torch.from_numpy(predicted_turn), torch.from_numpy(true_turn))).numpy()
    translation = _angle_between(predicted, true)
    if is_sign_blind:
        translation = np.minimum(translation, 180 - translation)
    baseline = np.linalg.norm(true, axis=-1)
    is_degenerate = ~(baseline > SHORTEST_BASELINE * baseline.max())
    if degenerate == "left_out":
        translation = np.where(is_degenerate, np.nan, translation)
    return PairErrors(rotation, translation, int(is_degenerate.sum()))


def _relative_poses(
    poses: Float[np.ndarray, "views 4 4"], frame: Frame
) -> tuple[Float[np.ndarray, "pairs 3 3"], Float[np.ndarray, "pairs 3"]]:
    """Rotation and translation of every pair; cameras at one place are exactly zero apart in the frame of one of them."""
    first, second = np.triu_indices(len(poses), k=1)
    rotation, centre = poses[:, :3, :3], poses[:, :3, 3]
    if frame == "world":
        rotation = rotation[0].T @ rotation
        centre = (centre - centre[0]) @ poses[0, :3, :3]
        turn = rotation[first] @ rotation[second].swapaxes(-1, -2)
        return turn, centre[first] - (turn @ centre[second][..., None])[..., 0]
    observer, other = {"first": (first, second), "second": (second, first)}[frame]
    to_observer = rotation[observer].swapaxes(-1, -2)
    return to_observer @ rotation[other], (to_observer @ (centre[other] - centre[observer])[..., None])[..., 0]


def _angle_between(a: Float[np.ndarray, "pairs 3"], b: Float[np.ndarray, "pairs 3"]) -> Float[np.ndarray, " pairs"]:
    """Degrees in [0, 180], exact near both ends; 90 where a vector is zero."""
    sine, cosine = np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1)
    return np.where((sine == 0) & (cosine == 0), 90, np.degrees(np.arctan2(sine, cosine)))


def rotation_accuracy(errors: PairErrors, threshold: float) -> float:
    """RRA@threshold: fraction of all pairs whose rotation error is below `threshold` degrees."""
    return _fraction_below(errors.rotation, threshold)


def translation_accuracy(errors: PairErrors, threshold: float) -> float:
    """RTA@threshold: fraction of the pairs with a true baseline whose translation error is below `threshold` degrees."""
    return _fraction_below(_with_baseline(errors.translation), threshold)


def pose_auc(errors: PairErrors, threshold: float, *, bins: Bins = "histogram") -> float:
    """AUC@threshold in [0, 1] of the larger of rotation and translation error, over the pairs with a translation error."""
    worse = _with_baseline(np.maximum(errors.rotation, errors.translation))
    if bins != "area" and threshold != int(threshold):
        raise ValueError(
            f"bins {bins!r} are counted in whole degrees, but the threshold is {threshold}; round it or use 'area'"
        )
    match bins:
        case "histogram":
            counts, _ = np.histogram(worse, bins=np.arange(int(threshold) + 1))
        case "histc":
            counts = torch.histc(torch.from_numpy(worse), bins=int(threshold) + 1, min=0, max=threshold).numpy()
        case "area":
            return float(np.clip(1 - worse / threshold, 0, None).mean())
        case _:
            assert_never(bins)
    return float((counts.cumsum() / len(worse)).mean())


def pooled(errors: Sequence[PairErrors]) -> PairErrors:
    """All pairs of several scenes in one row, so that a scene with more pairs weighs more (a category of Co3D, as published)."""
    if not errors:
        raise ValueError("there are no scenes whose pairs could be pooled; add scenes")
    rows = (np.concatenate([getattr(e, name) for e in errors]) for name in ("rotation", "translation"))
    return PairErrors(*rows, num_degenerate=sum(e.num_degenerate for e in errors))


def _with_baseline(degrees: Float[np.ndarray, " pairs"]) -> Float[np.ndarray, " counted"]:
    counted = degrees[~np.isnan(degrees)]
    if not len(counted):
        raise ValueError(f"none of the {len(degrees)} pairs has a true baseline; only rotations can be compared")
    return counted


def _fraction_below(degrees: Float[np.ndarray, " pairs"], threshold: float) -> float:
    return float((degrees < threshold).mean())
