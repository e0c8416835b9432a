"""Errors of a camera trajectory along one sequence, through the package evo: absolute (ATE) and relative (RPE).

Poses are camera-to-world, frame i of the prediction belonging to frame i of the truth; whoever reads timestamps matches them first.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from evo.core.metrics import PE

TrajectoryAlignment = Literal["none", "scale", "se3", "sim3"]
"""What is done to the predicted trajectory first, by Umeyama's method on the camera centres of all frames.

none: nothing. scale: only the scale of that fit is applied. se3: rotation and translation. sim3: these and the scale, as
published for ATE and RPE of π³ and G2VLM.
"""

Part = Literal["translation", "rotation"]
"""translation: in the unit of the truth. rotation: the angle in degrees."""

Pairs = Literal["all", "consecutive"]
"""Frames i and i + delta. all: for every i. consecutive: for every delta-th i. The same for a delta of 1."""


@dataclass(frozen=True)
class TrajectoryErrors:
    """Of num_errors frames (ATE) or pairs of frames (RPE)."""

    rmse: float
    mean: float
    median: float
    maximum: float
    num_errors: int


def absolute_errors(
    prediction: Float[np.ndarray, "views 4 4"],
    truth: Float[np.ndarray, "views 4 4"],
    *,
    alignment: TrajectoryAlignment = "sim3",
    part: Part = "translation",
) -> TrajectoryErrors:
    """ATE (APE): how far each camera lies, or is turned, from its true pose after the alignment."""
    metrics = _evo_metrics()
    return _errors(metrics.APE(_relation(part)), prediction, truth, alignment)


def relative_errors(
    prediction: Float[np.ndarray, "views 4 4"],
    truth: Float[np.ndarray, "views 4 4"],
    *,
    part: Part,
    delta: int = 1,
    pairs: Pairs = "all",
    alignment: TrajectoryAlignment = "sim3",
) -> TrajectoryErrors:
    """RPE: how far the motion over `delta` frames is from the true one; the alignment matters for its scale alone."""
    if not 1 <= delta < len(truth):
        raise ValueError(
            f"delta is {delta}, but the trajectory has {len(truth)} frames; take one from 1 to the frames less one"
        )
    metrics = _evo_metrics()
    unit = metrics.Unit.frames
    metric = metrics.RPE(_relation(part), delta=delta, delta_unit=unit, all_pairs=pairs == "all")
    return _errors(metric, prediction, truth, alignment)


def _errors(
    metric: "PE",
    prediction: Float[np.ndarray, "views 4 4"],
    truth: Float[np.ndarray, "views 4 4"],
    alignment: TrajectoryAlignment,
) -> TrajectoryErrors:
    from evo.core.geometry import GeometryException
    from evo.core.trajectory import PosePath3D

    if not len(truth) or not np.isfinite(prediction).all():
        raise ValueError(
            f"the trajectory has {len(truth)} frames, and {int((~np.isfinite(prediction).all((1, 2))).sum())} predicted poses "
            f"are not finite; leave the scene out and count it"
        )
    predicted, true = (PosePath3D(poses_se3=list(poses.astype(np.float64))) for poses in (prediction, truth))
    if alignment != "none":
        try:
            predicted.align(true, correct_scale=alignment == "sim3", correct_only_scale=alignment == "scale")
        except GeometryException as error:
            raise ValueError(
                f"alignment {alignment!r} needs camera centres that are not on one line, but those of the {len(truth)} "
                f"predicted or true frames are; take alignment 'none', or leave the scene out and count it"
            ) from error
    metric.process_data((true, predicted))
    found = metric.get_all_statistics()
    rmse, mean, median, maximum = (float(found[name]) for name in ("rmse", "mean", "median", "max"))
    return TrajectoryErrors(rmse, mean, median, maximum, len(metric.error))


def _relation(part: Part):
    relations = _evo_metrics().PoseRelation
    return {"translation": relations.translation_part, "rotation": relations.rotation_angle_deg}[part]


def _evo_metrics():
    try:
        from evo.core import metrics
    except ModuleNotFoundError as error:
        raise ValueError("errors of trajectories need the package evo: pip install 'g2vlm[eval]'") from error
    return metrics
