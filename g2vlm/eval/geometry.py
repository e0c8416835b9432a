"""How good the geometry of one scene is, beside two baselines that look at no picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from g2vlm.eval.metrics.depth import depth_errors
from g2vlm.eval.metrics.poses import pair_errors, pose_auc

DepthMaps = Sequence[Float[np.ndarray, "height width"]]
Masks = Sequence[Bool[np.ndarray, "height width"]]


@dataclass(frozen=True)
class SceneScores:
    """Scores of one scene; NaN where its truth does not say.

    absrel, delta1: all views under one scale, the one that is best for AbsRel (`weighted_l1`); delta1 in [0, 1].
    rotation_deg: every pair's relative rotation error, degrees. auc30: AUC@30 of its pairs, in [0, 1].
    """

    absrel: float
    delta1: float
    rotation_deg: tuple[float, ...]
    auc30: float


@dataclass(frozen=True)
class Summary:
    """Means over the scenes that have the truth; the rotation is the median over all pairs. auc30 is in percent."""

    absrel: float
    delta1: float
    rotation_deg_median: float
    auc30: float
    scenes_with_depth: int
    scenes_with_poses: int


def score(
    depth: DepthMaps,
    poses: Float[np.ndarray, "views 4 4"],
    true_depth: DepthMaps | None,
    true_masks: Masks | None,
    true_poses: Float[np.ndarray, "views 4 4"] | None,
) -> SceneScores:
    """Compare depth maps and camera-to-world poses of one scene with what is known of it."""
    absrel = delta1 = auc30 = float("nan")
    rotation: tuple[float, ...] = ()
    if true_depth is not None and true_masks is not None:
        flat = (np.concatenate([x.ravel() for x in maps]) for maps in (depth, true_depth, true_masks))
        errors = depth_errors(*flat, alignment="weighted_l1")
        absrel, delta1 = errors.absrel, errors.delta1
    if true_poses is not None and len(true_poses) > 1:
        pairs = pair_errors(poses, true_poses)
        rotation, auc30 = tuple(pairs.rotation.tolist()), pose_auc(pairs, 30)
    return SceneScores(absrel, delta1, rotation, auc30)


def blind(true_depth: DepthMaps | None, num_views: int) -> tuple[DepthMaps, Float[np.ndarray, "views 4 4"]]:
    """What one says without looking: one constant depth (the alignment finds the best one) and identity poses."""
    depth = [np.ones_like(x) for x in true_depth or ()]
    return depth, np.tile(np.eye(4), (num_views, 1, 1))


def summarise(scores: Sequence[SceneScores]) -> Summary:
    """The table's row over all scenes; a score that no scene has is NaN."""
    rotation = [angle for scene in scores for angle in scene.rotation_deg]
    absrel, delta1, auc30 = (
        [value for scene in scores if not np.isnan(value := getattr(scene, name))]
        for name in ("absrel", "delta1", "auc30")
    )
    return Summary(
        absrel=_mean(absrel),
        delta1=_mean(delta1),
        rotation_deg_median=float(np.median(rotation)) if rotation else float("nan"),
        auc30=100 * _mean(auc30),
        scenes_with_depth=len(absrel),
        scenes_with_poses=len(auc30),
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
