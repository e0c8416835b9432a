"""Angles between predicted and true surface normals; arrays of any shape, in float64.

Valid are the pixels of `mask` that have a true normal (finite, not zero). Of a picture set, put all angles in one row before
they are summarised: a mean of medians is not a median.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from g2vlm.eval.metrics.valid import valid_values


@dataclass(frozen=True)
class NormalErrors:
    """Degrees. within_*: fraction in [0, 1] of pixels whose angle is below that many degrees."""

    mean: float
    median: float
    rmse: float
    within_5: float
    within_7_5: float
    within_11_25: float
    within_22_5: float
    within_30: float
    num_pixels: int


@dataclass(frozen=True)
class NormalAngles:
    """Angles in degrees of the valid pixels, in their order.

    num_missing of them have a predicted normal of length zero, which says nothing: it counts as 90 degrees. num_left_out
    pixels are not in the mask or have no true normal.
    """

    degrees: Float[np.ndarray, " pixels"]
    num_missing: int
    num_left_out: int


def normal_angles(
    prediction: Float[np.ndarray, "*shape 3"], truth: Float[np.ndarray, "*shape 3"], mask: Bool[np.ndarray, "*shape"]
) -> NormalAngles:
    """Angles between normals of any length in one frame; opposite ones are 180 degrees apart.

    ValueError where there is no valid pixel, or a predicted normal that is not finite in a valid one.
    """
    is_known = np.isfinite(truth).all(-1) & (truth != 0).any(-1)
    predicted, true = valid_values(prediction, truth, mask, is_known, what="normal")
    sine, cosine = np.linalg.norm(np.cross(predicted, true), axis=-1), (predicted * true).sum(-1)
    is_missing = (predicted == 0).all(-1)
    degrees = np.where(is_missing, 90, np.degrees(np.arctan2(sine, cosine)))
    return NormalAngles(degrees, num_missing=int(is_missing.sum()), num_left_out=mask.size - len(degrees))


def normal_errors(degrees: Float[np.ndarray, " pixels"]) -> NormalErrors:
    """What is published about a row of angles."""
    if not len(degrees):
        raise ValueError("there are no angles between normals to summarise; add pictures with true normals")
    within = ((degrees < bound).mean() for bound in (5, 7.5, 11.25, 22.5, 30))
    numbers = (degrees.mean(), np.median(degrees), np.sqrt(np.square(degrees).mean()), *within)
    return NormalErrors(*map(float, numbers), num_pixels=len(degrees))
