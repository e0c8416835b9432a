"""Errors of camera poses over all unordered pairs of views: free of the world frame and of one global scale.

For views i < j the rotation error is the angle between the true and the predicted relative rotation, the translation
error the angle between the directions of the true and the predicted relative translation. Everything is computed in
float64; fractions are in [0, 1].
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from g2vlm.geometry.pose import relative_poses
from g2vlm.geometry.rotation import geodesic_angle

Frame = Literal["first", "second"]
"""In whose camera frame the baseline of a pair is measured; the two differ as soon as the rotation has an error.

first: inv(P_i) P_j of camera-to-world poses, camera j seen from camera i (Depth Anything 3).
second: inv(P_j) P_i, camera i seen from camera j; on world-to-camera matrices this is j inv(i) (PoseDiffusion, π³, G2VLM).
"""

SHORTEST_BASELINE = 1e-6
"""A true baseline below this fraction of the longest one has no direction that could be predicted."""


@dataclass(frozen=True)
class PairErrors:
    """Errors in degrees of all pairs i < j, in the order (0, 1), (0, 2), ..., (1, 2), ...

    translation: NaN where the true baseline is degenerate. A predicted baseline of length zero counts as 90 degrees.
    """

    rotation: Float[np.ndarray, " pairs"]
    translation: Float[np.ndarray, " pairs"]

    @property
    def num_degenerate(self) -> int:
        """Pairs without a true baseline: they count for rotations only."""
        return int(np.isnan(self.translation).sum())


def pair_errors(
    prediction: Float[np.ndarray, "views 4 4"],
    truth: Float[np.ndarray, "views 4 4"],
    *,
    frame: Frame = "first",
    is_sign_blind: bool = False,
) -> PairErrors:
    """Compare camera-to-world poses pair by pair.

    is_sign_blind: an opposite direction is forgiven, min(angle, 180 - angle), as in the published protocols; then no
    translation error exceeds 90 degrees.
    """
    if len(truth) < 2:
        raise ValueError(f"pairs need at least 2 views, but there is {len(truth)}; add views or leave the scene out")
    if not np.isfinite(prediction).all():
        raise ValueError("a predicted pose is not finite; leave the scene out and count it")
    first, second = np.triu_indices(len(truth), k=1)
    rows, columns = {"first": (first, second), "second": (second, first)}[frame]
    predicted, true = (
        relative_poses(torch.from_numpy(poses.astype(np.float64)))[rows, columns] for poses in (prediction, truth)
    )
    rotation = torch.rad2deg(geodesic_angle(predicted[:, :3, :3], true[:, :3, :3])).numpy()
    baseline = true[:, :3, 3].norm(dim=-1).numpy()
    translation = _angle_between(predicted[:, :3, 3].numpy(), true[:, :3, 3].numpy())
    if is_sign_blind:
        translation = np.minimum(translation, 180 - translation)
    has_direction = baseline > SHORTEST_BASELINE * baseline.max()
    return PairErrors(rotation, np.where(has_direction, translation, np.nan))


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


def pose_auc(errors: PairErrors, threshold: int) -> float:
    """AUC@threshold: mean over 1, 2, ..., `threshold` degrees of the fraction of pairs whose larger error is below it.

    The larger of rotation and translation error, over the pairs with a true baseline. Bins are one degree wide and there
    are `threshold` of them: 30 for AUC@30. Public code with one bin more, or with exact areas, gives other numbers.
    """
    worse = _with_baseline(np.maximum(errors.rotation, errors.translation))
    return float(np.mean([_fraction_below(worse, degrees) for degrees in range(1, threshold + 1)]))


def _with_baseline(degrees: Float[np.ndarray, " pairs"]) -> Float[np.ndarray, " counted"]:
    counted = degrees[~np.isnan(degrees)]
    if not len(counted):
        raise ValueError(f"none of the {len(degrees)} pairs has a true baseline; only rotations can be compared")
    return counted


def _fraction_below(degrees: Float[np.ndarray, " pairs"], threshold: float) -> float:
    return float((degrees < threshold).mean())
