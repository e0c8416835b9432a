"""Errors of focal lengths, and the focal length and shift of depth that a point map asks for; in float64."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import least_squares

FEWEST_PIXELS = 2
"""One pixel has a focal length for every shift."""


@dataclass(frozen=True)
class FocalErrors:
    """Of each view and axis (x, y). relative: |f - f*| / f*. pixels: |f - f*|. fov_degrees: absolute error of the field of view."""

    relative: Float[np.ndarray, "views 2"]
    pixels: Float[np.ndarray, "views 2"]
    fov_degrees: Float[np.ndarray, "views 2"]


@dataclass(frozen=True)
class FocalShift:
    """focal: in pixels, common to both axes. shift: to be added to z. num_pixels: that it was fitted to."""

    focal: float
    shift: float
    num_pixels: int


def focal_errors(
    prediction: Float[np.ndarray, "views 3 3"], truth: Float[np.ndarray, "views 3 3"], size: tuple[int, int]
) -> FocalErrors:
    """Compare intrinsics of the same pictures of one (height, width), in its pixels.

    ValueError where a predicted focal length is not a positive number: it may not vanish in an average.
    """
    if not len(truth):
        raise ValueError("there are no views whose focal lengths could be compared; add views")
    predicted, true = (_focals(intrinsics) for intrinsics in (prediction, truth))
    is_usable = np.isfinite(predicted) & (predicted > 0)
    if not is_usable.all():
        raise ValueError(
            f"{int((~is_usable).any(-1).sum())} of {len(true)} views have a predicted focal length that is not a positive "
            f"number; leave them out and count them"
        )
    pixels = np.abs(predicted - true)
    angles = (field_of_view(intrinsics, size) for intrinsics in (prediction, truth))
    return FocalErrors(pixels / true, pixels, np.abs(np.subtract(*angles)))


def field_of_view(intrinsics: Float[np.ndarray, "views 3 3"], size: tuple[int, int]) -> Float[np.ndarray, "views 2"]:
    """Degrees that a picture of one (height, width) spans along x and y, taking its middle as the principal point."""
    return np.degrees(2 * np.arctan2([size[1] / 2, size[0] / 2], _focals(intrinsics)))


def _focals(intrinsics: Float[np.ndarray, "views 3 3"]) -> Float[np.ndarray, "views 2"]:
    return np.diagonal(intrinsics, axis1=1, axis2=2)[:, :2].astype(np.float64)


def focal_and_shift(
    points: Float[np.ndarray, "height width 3"],
    mask: Bool[np.ndarray, "height width"] | None = None,
    *,
    focal: float | None = None,
    grid: tuple[int, int] | None = None,
    tolerance: float = 1e-12,
    dtype: type[np.floating] = np.float64,
) -> FocalShift:
    """The focal length f and the shift b of z for which points project closest to their pixels.

    Minimises the sum of |f (x, y) / (z + b) - pixel|^2 from b = 0, with the principal point in the middle of the picture; with a
    known `focal` (pixels) over b alone. grid: the (rows, columns) of nearest pixels that are used, instead of all; tolerance:
    relative fall of the sum at which the search ends; dtype: of points and pixels. MoGe's `recover_focal_shift` is
    grid=(64, 64), tolerance=1e-3, dtype=np.float32; its focal length is in units of half the diagonal.
    """
    height, width = points.shape[:2]
    half_diagonal = np.hypot(height, width) / 2
    rows, columns = (
        np.arange(n) if m is None else np.arange(m) * n // m
        for n, m in zip((height, width), grid or (None, None), strict=True)
    )
    pixels = np.stack(np.meshgrid(columns + 0.5 - width / 2, rows + 0.5 - height / 2), axis=-1)
    chosen = points[rows][:, columns].astype(dtype)
    is_used = np.isfinite(chosen).all(-1)
    if mask is not None:
        is_used &= mask[rows][:, columns]
    if is_used.sum() < FEWEST_PIXELS:
        raise ValueError(
            f"a focal length and a shift need at least {FEWEST_PIXELS} pixels with a point, but {int(is_used.sum())} of "
            f"{is_used.size} have one; leave the picture out and count it"
        )
    pixels, chosen = (pixels[is_used] / half_diagonal).astype(dtype), chosen[is_used]

    def slopes(shift: Float[np.ndarray, "..."]) -> Float[np.ndarray, "used 2"]:
        return chosen[:, :2] / (chosen[:, 2:] + shift)

    def best_focal(slope: Float[np.ndarray, "used 2"]) -> float:
        return float((slope * pixels).sum() / np.square(slope).sum()) if focal is None else focal / half_diagonal

    def residual(shift: Float[np.ndarray, "1"]) -> Float[np.ndarray, " residuals"]:
        slope = slopes(shift)
        return (best_focal(slope) * slope - pixels).ravel()

    others = min(tolerance, 1e-8)  # 1e-8 is what scipy takes where nothing is said
    fit = least_squares(residual, x0=0, ftol=tolerance, xtol=others, gtol=others, method="lm")
    shift = np.asarray(fit.x[0], dtype=dtype)
    return FocalShift(float(best_focal(slopes(shift)) * half_diagonal), float(shift), len(pixels))
