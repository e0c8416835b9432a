"""Errors of a depth map after a named alignment.

Arrays may have any shape; all their valid pixels are aligned and averaged together, so pass one picture for an alignment
per picture and all views of a scene for one per scene. Valid are the pixels of `mask` whose true depth is finite and
positive. Everything is computed in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import minimize

from g2vlm.eval.metrics.valid import valid_values
from g2vlm.geometry.align import median_scale, robust_scale, robust_scale_and_shift, scale_and_shift

Alignment = Literal[
    "none",
    "median",
    "lower_median",
    "median_of_ratios",
    "scale_l1",
    "weighted_l1",
    "scale_l2",
    "scale_and_shift",
    "weighted_scale_and_shift",
    "weighted_l1_scale_and_shift",
    "disparity_scale_and_shift",
    "release_l1",
    "release_bfgs_l1",
    "release_adam_l1",
]
"""What is done to a predicted depth d before it is compared with the true depth t.

none: nothing.
median: d * median(t) / median(d); of an even number of pixels the two middle ones are averaged.
lower_median: the same with the lower one of the two, as torch.median takes it: the key "scale" of π³'s and G2VLM's evaluation.
median_of_ratios: d * median(t / d).
scale_l1: s d with the s that minimises sum of |s d - t| exactly.
weighted_l1: s d with the s that minimises sum of |s d - t| / t exactly (ROE): the scale that is best for AbsRel (MoGe's "scale").
scale_l2: s d with the s that minimises sum of (s d - t)^2.
scale_and_shift: s d + b with the s and b that minimise sum of (s d + b - t)^2, in depth and not in disparity.
weighted_scale_and_shift: those that minimise sum of (s d + b - t)^2 / t (the "affine depth" of Depth Anything 3).
weighted_l1_scale_and_shift: those that minimise sum of |s d + b - t| / t exactly: best for AbsRel (MoGe's "affine depth").
disparity_scale_and_shift: 1 / (s / d + b) with the s and b that minimise sum of (s / d + b - 1 / t)^2; the aligned disparity
    is kept above the smallest true one (MoGe's "affine disparity").
release_l1: the key "median-scale" of π³'s and G2VLM's evaluation, which has nothing to do with a median: ten rounds of
    reweighted least squares from the ratio of the means towards the s of scale_l1, at least 1e-3. Where the minimum is flat
    or far away ten rounds do not reach it.
release_bfgs_l1, release_adam_l1: the keys "lad" and "scale&shift" (lad2) of the same code: an s and b found by BFGS, or by at
    most 1000 steps of Adam of size 1e-4, for sum of |s d + b - t|, from the ratio of the lower medians and b = 0. Neither
    reaches the minimum in general: Adam moves each of the two by at most about 0.1.
"""

Weighting = Literal["pixels", "images"]
"""Of a mean over pictures. pixels: by the number of valid pixels, also of RMSE (π³, G2VLM). images: all alike (MoGe)."""


@dataclass(frozen=True)
class DepthErrors:
    """absrel: mean of |d - t| / t. rmse: in the unit of the true depth. delta1, 2, 3: fractions in [0, 1].

    scale, shift: the alignment that was applied; 1 and 0 for none; of disparities where these were aligned. num_pixels were
    compared; num_left_out were not in the mask or have no true depth in the range.
    """

    absrel: float
    rmse: float
    delta1: float
    delta2: float
    delta3: float
    scale: float
    shift: float
    num_pixels: int
    num_left_out: int


@dataclass(frozen=True)
class MeanDepthErrors:
    """Means over num_images pictures with num_pixels valid pixels; num_empty more had no pixel to compare and count nowhere."""

    absrel: float
    rmse: float
    delta1: float
    delta2: float
    delta3: float
    num_images: int
    num_pixels: int
    num_empty: int


def depth_errors(
    prediction: Float[np.ndarray, "*shape"],
    truth: Float[np.ndarray, "*shape"],
    mask: Bool[np.ndarray, "*shape"],
    *,
    alignment: Alignment,
    truth_below: float = np.inf,
    clip_to: tuple[float, float] = (-np.inf, np.inf),
) -> DepthErrors:
    """Compare a depth map with the truth, after the alignment.

    truth_below: pixels whose true depth is not below it are left out. clip_to: the lowest and the highest aligned depth; what
    is beyond is moved there. Sintel is published with truth_below=70 and clip_to=(-inf, 70).

    ValueError where there is no valid pixel, or a predicted depth that is not finite in a valid one: neither may vanish in
    an average.
    """
    d, t = valid_pixels(prediction, truth, mask, truth_below=truth_below)
    scale, shift = alignment_of(d, t, alignment)
    d = np.clip(_aligned(d, t, scale, shift, alignment), *clip_to)
    deltas = (delta(d, t, n) for n in (1, 2, 3))
    return DepthErrors(
        absrel(d, t), rmse(d, t), *deltas, scale=scale, shift=shift, num_pixels=len(d), num_left_out=truth.size - len(d)
    )


def mean_depth_errors(errors: Sequence[DepthErrors], *, weighting: Weighting, num_empty: int = 0) -> MeanDepthErrors:
    """The mean of errors of pictures. num_empty: how many more pictures had nothing to compare; they are only counted."""
    if not errors:
        raise ValueError(f"no picture has a depth error to average ({num_empty} had no pixel to compare); add pictures")
    num_pixels = np.array([e.num_pixels for e in errors])
    weights = {"pixels": num_pixels, "images": np.ones(len(errors))}[weighting]
    values = np.array([[e.absrel, e.rmse, e.delta1, e.delta2, e.delta3] for e in errors])
    means = np.average(values, axis=0, weights=weights).tolist()
    return MeanDepthErrors(*means, num_images=len(errors), num_pixels=int(num_pixels.sum()), num_empty=num_empty)


def valid_pixels(
    prediction: Float[np.ndarray, "*shape"],
    truth: Float[np.ndarray, "*shape"],
    mask: Bool[np.ndarray, "*shape"],
    *,
    truth_below: float = np.inf,
) -> tuple[Float[np.ndarray, " pixels"], Float[np.ndarray, " pixels"]]:
    """Predicted and true depth of the valid pixels, in a row."""
    is_known = np.isfinite(truth) & (truth > 0) & (truth < truth_below)
    return valid_values(prediction, truth, mask, is_known, what="depth")


def alignment_of(
    d: Float[np.ndarray, " pixels"], t: Float[np.ndarray, " pixels"], alignment: Alignment
) -> tuple[float, float]:
    """The (scale, shift) that bring predicted depth onto true depth; for disparity_scale_and_shift, disparity onto disparity."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scale, shift = _fit(d, t, alignment)
    if not np.isfinite([scale, shift]).all():
        raise ValueError(
            f"alignment {alignment!r} gives scale {scale} and shift {shift} for predicted depths from {d.min():g} to "
            f"{d.max():g}; leave this picture out and count it, or choose another alignment"
        )
    return scale, shift


def _fit(d: Float[np.ndarray, " pixels"], t: Float[np.ndarray, " pixels"], alignment: Alignment) -> tuple[float, float]:
    prediction, truth = torch.from_numpy(d), torch.from_numpy(t)
    ones = torch.ones_like(truth)
    match alignment:
        case "none":
            return 1.0, 0.0
        case "median":
            return median_scale(prediction, truth, ones.bool()).item(), 0.0
        case "lower_median":
            return lower_median_scale(d, t), 0.0
        case "median_of_ratios":
            return float(np.median(t / d)), 0.0
        case "scale_l1":
            return robust_scale(prediction, truth, ones).item(), 0.0
        case "weighted_l1":
            return robust_scale(prediction, truth, 1 / truth).item(), 0.0
        case "scale_l2":
            return float((d * t).sum() / (d * d).sum()), 0.0
        case "release_l1":
            return _release_l1(d, t), 0.0
        case "release_bfgs_l1":
            scale, shift = minimize(lambda fit: np.abs(fit[0] * d + fit[1] - t).sum(), (lower_median_scale(d, t), 0)).x
            return float(scale), float(shift)
        case "release_adam_l1":
            return _release_adam_l1(prediction, truth)
        case "scale_and_shift":
            scale, shift = scale_and_shift(prediction, truth, ones)
        case "weighted_scale_and_shift":
            scale, shift = scale_and_shift(prediction, truth, 1 / truth)
        case "weighted_l1_scale_and_shift":
            scale, shift = robust_scale_and_shift(prediction, truth, 1 / truth)
        case "disparity_scale_and_shift":
            scale, shift = scale_and_shift(1 / prediction, 1 / truth, ones)
        case _:
            assert_never(alignment)
    return scale.item(), shift.item()


def _aligned(
    d: Float[np.ndarray, " pixels"], t: Float[np.ndarray, " pixels"], scale: float, shift: float, alignment: Alignment
) -> Float[np.ndarray, " pixels"]:
    if alignment == "disparity_scale_and_shift":
        return 1 / np.maximum(scale / d + shift, 1 / t.max())
    return scale * d + shift


def lower_median_scale(d: Float[np.ndarray, " pixels"], t: Float[np.ndarray, " pixels"]) -> float:
    """Ratio of the medians, where of an even number of values the lower middle one is the median."""
    middle = (len(d) - 1) // 2
    return float(np.partition(t, middle)[middle] / np.partition(d, middle)[middle])


def _release_l1(d: Float[np.ndarray, " pixels"], t: Float[np.ndarray, " pixels"]) -> float:
    scale = t.mean() / d.mean()
    for _ in range(10):
        weights = 1 / (np.abs(scale * d - t) + 1e-8)
        scale = (weights * d * t).sum() / (weights * d * d).sum()
    return float(np.maximum(scale, 1e-3))


def _release_adam_l1(d: Float[torch.Tensor, " pixels"], t: Float[torch.Tensor, " pixels"]) -> tuple[float, float]:
    fit = torch.tensor([lower_median_scale(d.numpy(), t.numpy()), 0.0], dtype=torch.float64)
    adam = torch.optim.Adam([fit], lr=1e-4)
    before = torch.inf
    for _ in range(1000):
        residual = fit[0] * d + fit[1] - t
        sign, now = residual.sign(), residual.abs().sum().item()
        fit.grad = torch.stack([sign @ d, sign.sum()])
        adam.step()
        if abs(before - now) < 1e-6:
            break
        before = now
    scale, shift = fit.tolist()
    return scale, shift


def absrel(d: Float[np.ndarray, " pixels"], t: Float[np.ndarray, " pixels"]) -> float:
    """Mean of |d - t| / t."""
    return float((np.abs(d - t) / t).mean())


def rmse(d: Float[np.ndarray, " pixels"], t: Float[np.ndarray, " pixels"]) -> float:
    """Root of the mean of (d - t)^2."""
    return float(np.sqrt(np.square(d - t).mean()))


def delta(d: Float[np.ndarray, " pixels"], t: Float[np.ndarray, " pixels"], n: int) -> float:
    """Fraction of pixels with max(d / t, t / d) < 1.25^n; a depth that is not positive is never within."""
    ratio = d / t
    is_positive = ratio > 0
    return float((is_positive & (np.maximum(ratio, t / np.where(is_positive, d, 1)) < 1.25**n)).mean())
