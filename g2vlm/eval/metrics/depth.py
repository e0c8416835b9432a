"""Errors of a depth map after a named alignment.

Arrays may have any shape; all their valid pixels are aligned and averaged together, so pass one picture for an alignment
per picture and all views of a scene for one per scene. Valid are the pixels of `mask` whose true depth is finite and
positive. Everything is computed in float64.
"""

from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
import torch
from jaxtyping import Bool, Float

from g2vlm.geometry.align import median_scale, robust_scale, scale_and_shift

Alignment = Literal["none", "median", "weighted_l1", "scale_and_shift"]
"""What is done to a predicted depth d before it is compared with the true depth t.

none: nothing.
median: d * median(t) / median(d).
weighted_l1: s d with the s that minimises sum of |s d - t| / t exactly (ROE): the scale that is best for AbsRel.
scale_and_shift: s d + b with the s and b that minimise sum of (s d + b - t)^2, in depth and not in disparity.
"""


@dataclass(frozen=True)
class DepthErrors:
    """absrel: mean of |d - t| / t. rmse: in the unit of the true depth. delta1, 2, 3: fractions in [0, 1].

    scale, shift: the alignment that was applied; 1 and 0 for none.
    """

    absrel: float
    rmse: float
    delta1: float
    delta2: float
    delta3: float
    scale: float
    shift: float
    num_pixels: int


def depth_errors(
    prediction: Float[np.ndarray, "*shape"],
    truth: Float[np.ndarray, "*shape"],
    mask: Bool[np.ndarray, "*shape"],
    *,
    alignment: Alignment,
) -> DepthErrors:
    """Compare a depth map with the truth, after the alignment.

    ValueError where there is no valid pixel, or a predicted depth that is not finite in a valid one: neither may vanish in
    an average.
    """
    d, t = valid_pixels(prediction, truth, mask)
    scale, shift = alignment_of(d, t, alignment)
    d = scale * d + shift
    deltas = (delta(d, t, n) for n in (1, 2, 3))
    return DepthErrors(absrel(d, t), rmse(d, t), *deltas, scale=scale, shift=shift, num_pixels=len(d))


def valid_pixels(
    prediction: Float[np.ndarray, "*shape"], truth: Float[np.ndarray, "*shape"], mask: Bool[np.ndarray, "*shape"]
) -> tuple[Float[np.ndarray, " pixels"], Float[np.ndarray, " pixels"]]:
    """Predicted and true depth of the valid pixels, in a row."""
    is_valid = mask & np.isfinite(truth) & (truth > 0)
    if not is_valid.any():
        raise ValueError(
            f"no pixel to compare: of {mask.size}, {int(mask.sum())} are in the mask and none of these has a finite "
            f"positive true depth; leave this picture out and say so"
        )
    d, t = prediction[is_valid].astype(np.float64), truth[is_valid].astype(np.float64)
    num_bad = int((~np.isfinite(d)).sum())
    if num_bad:
        raise ValueError(
            f"the predicted depth of {num_bad} of {len(d)} valid pixels is not finite; take them out of the mask and count them"
        )
    return d, t


def alignment_of(
    d: Float[np.ndarray, " pixels"], t: Float[np.ndarray, " pixels"], alignment: Alignment
) -> tuple[float, float]:
    """The (scale, shift) that bring predicted depth onto true depth."""
    prediction, truth = torch.from_numpy(d), torch.from_numpy(t)
    match alignment:
        case "none":
            return 1.0, 0.0
        case "median":
            return median_scale(prediction, truth, torch.ones_like(truth, dtype=torch.bool)).item(), 0.0
        case "weighted_l1":
            return robust_scale(prediction, truth, 1 / truth).item(), 0.0
        case "scale_and_shift":
            scale, shift = scale_and_shift(prediction, truth, torch.ones_like(truth))
            return scale.item(), shift.item()
    assert_never(alignment)


def absrel(d: Float[np.ndarray, " pixels"], t: Float[np.ndarray, " pixels"]) -> float:
    """Mean of |d - t| / t."""
    return float((np.abs(d - t) / t).mean())


def rmse(d: Float[np.ndarray, " pixels"], t: Float[np.ndarray, " pixels"]) -> float:
    """Root of the mean of (d - t)^2."""
    return float(np.sqrt(np.square(d - t).mean()))


def delta(d: Float[np.ndarray, " pixels"], t: Float[np.ndarray, " pixels"], n: int) -> float:
    """Fraction of pixels with max(d / t, t / d) < 1.25^n; a depth that is not positive is never within."""
    bound = 1.25**n
    return float(((d < bound * t) & (t < bound * d)).mean())
