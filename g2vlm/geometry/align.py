"""Bring a prediction onto its target: by a scale, by scale and shift, or by a similarity.

Source and target are matched along their last dimension of values (or of points), called n. Weights are never negative;
a weight of zero removes an entry, whatever its values, so invalid entries may hold NaN.
"""

from dataclasses import dataclass
from typing import cast

import roma
import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

FEWEST_POINTS = 3
"""A similarity in space needs three points that are not on one line."""

Shifted = tuple[bool, ...]
"""Of each axis, whether it has a shift."""

ROUNDING = 10
"""Deviations from the mean below this many machine epsilons of the values are rounding; up to 1.8 were seen."""


@dataclass(frozen=True)
class ScaleFit:
    """The robust scale with its proof.

    scale: the minimiser. It may be negative; it is 1 where no entry depends on the scale.
    objective: the minimum, summed over the entries that depend on the scale (weight and source not zero).
    index: the entry with target / source = scale; -1 where there is none.
    """

    scale: Float[Tensor, "*batch"]
    objective: Float[Tensor, "*batch"]
    index: Int[Tensor, "*batch"]


@torch.no_grad()
def fit_scale(
    source: Float[Tensor, "*batch n"],
    target: Float[Tensor, "*batch n"],
    weight: Float[Tensor, "*batch n"],
    truncation: float | None = None,
) -> ScaleFit:
    """ROE (MoGe, arXiv 2410.19115): the s that minimises sum of min(weight |s source - target|, truncation), exactly.

    The truncation caps the weighted residual. Without one this is a weighted median of the ratios target / source. With
    one the sum is still piecewise linear in s and bends upwards only at such a ratio, so the best ratio is the minimum;
    one sort and prefix sums evaluate it at all of them. Of equally good ratios the smallest is taken. Computed in
    float64; no gradient flows. NaN in an entry with weight makes the objective NaN, and the scale worthless.
    """
    is_used = (weight > 0) & (source != 0)
    x, y, w = (torch.where(is_used, values, 0).double() for values in (source, target, weight))
    slope = w * x.abs()
    ratio = torch.where(is_used, y / torch.where(is_used, x, 1), torch.inf)
    if truncation is None:
        index = _weighted_median(ratio, slope)
    else:
        index = _best_ratio(ratio, slope, w * y * x.sign(), is_used, truncation)
    is_solved = is_used.any(-1)
    scale = torch.where(is_solved, ratio.gather(-1, index[..., None])[..., 0], 1)
    residual = w * (scale[..., None] * x - y).abs()
    objective = (residual if truncation is None else residual.clamp(max=truncation)).sum(-1)
    return ScaleFit(scale.to(source), objective.to(source), torch.where(is_solved, index, -1))


def _weighted_median(values: Float[Tensor, "*batch n"], weight: Float[Tensor, "*batch n"]) -> Int[Tensor, "*batch"]:
    """Index of the smallest value at which half of the weight is reached; values without weight must be inf."""
    order = values.argsort(dim=-1, stable=True)
    reached = weight.gather(-1, order).cumsum(-1)
    position = torch.searchsorted(reached, reached[..., -1:] / 2)
    inside = position.clamp(max=values.shape[-1] - 1)  # a weight of NaN points past the end
    return order.gather(-1, inside)[..., 0]


def _best_ratio(
    ratio: Float[Tensor, "*batch n"],
    slope: Float[Tensor, "*batch n"],
    offset: Float[Tensor, "*batch n"],
    is_used: Bool[Tensor, "*batch n"],
    truncation: float,
) -> Int[Tensor, "*batch"]:
    """Index of the ratio with the smallest truncated sum.

    Each term slope |s - ratio|, capped, bends three times: by -slope where it leaves the cap, by 2 slope at its ratio, by
    -slope where it meets the cap again. Left of s the sum is the caps plus all bends times their distance to s. The
    products of bend and place are formed without the division in the place (`offset` = slope ratio), so a tiny slope
    with its far-away bends costs no digits.
    """
    reach = torch.where(is_used, truncation / torch.where(is_used, slope, 1), 0)
    cap = torch.where(is_used, truncation, 0.0).to(slope)
    places = torch.cat([ratio, ratio - reach, ratio + reach], dim=-1)
    bends = torch.cat([2 * slope, -slope, -slope], dim=-1)
    products = torch.cat([2 * offset, cap - offset, -cap - offset], dim=-1)
    places, order = places.sort(dim=-1, stable=True)
    bend_sum, product_sum = (values.gather(-1, order).cumsum(-1) for values in (bends, products))
    n = ratio.shape[-1]
    is_candidate = (order < n) & is_used.gather(-1, order % n)
    value = torch.where(is_candidate, places * bend_sum - product_sum, torch.inf)
    return order.gather(-1, value.argmin(dim=-1, keepdim=True))[..., 0] % n


def robust_scale(
    source: Float[Tensor, "*batch n"],
    target: Float[Tensor, "*batch n"],
    weight: Float[Tensor, "*batch n"],
    truncation: float | None = None,
) -> Float[Tensor, "*batch"]:
    """The scale of `fit_scale`: target is about scale * source. It may be negative; 1 where nothing is valid."""
    return fit_scale(source, target, weight, truncation).scale


def robust_scale_points(
    source: Float[Tensor, "*batch n 3"],
    target: Float[Tensor, "*batch n 3"],
    weight: Float[Tensor, "*batch n"],
    truncation: float | None = None,
) -> Float[Tensor, "*batch"]:
    """`robust_scale` over all coordinates of points; each coordinate has the weight of its point."""
    flat_source, flat_target = (rearrange(points, "... n xyz -> ... (n xyz)") for points in (source, target))
    return robust_scale(flat_source, flat_target, repeat(weight, "... n -> ... (n xyz)", xyz=3), truncation)


def resample_valid(
    values: Float[Tensor, "*batch n channels"], mask: Bool[Tensor, "*batch n"], count: int
) -> Float[Tensor, "*batch count channels"]:
    """`count` of the valid entries, evenly spread in their order (repeated when there are fewer); ones where none is valid.

    Entry i of the result is valid entry floor(i * num_valid / count).
    """
    reached = mask.cumsum(-1)
    num_valid = reached[..., -1:]
    wanted = torch.arange(count, device=mask.device) * num_valid // count
    index = torch.searchsorted(reached, wanted + 1).clamp(max=mask.shape[-1] - 1)
    picked = values.gather(-2, index[..., None].expand(*index.shape, values.shape[-1]))
    return torch.where(num_valid[..., None] > 0, picked, 1)


@torch.no_grad()
def median_scale(
    source: Float[Tensor, "*batch n"], target: Float[Tensor, "*batch n"], mask: Bool[Tensor, "*batch n"]
) -> Float[Tensor, "*batch"]:
    """median(target) / median(source) over valid entries: the ratio of the medians, not the median of the ratios.

    Of an even number of entries the two middle ones are averaged. 1 where nothing is valid.
    """
    scale = _median(target, mask) / _median(source, mask)
    return torch.where(mask.any(-1), scale, 1)


def _median(values: Float[Tensor, "*batch n"], mask: Bool[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    ordered = torch.where(mask, values, torch.inf).sort(dim=-1).values
    last = (mask.sum(-1, keepdim=True) - 1).clamp(min=0)
    middle = torch.cat([last // 2, (last + 1) // 2], dim=-1)
    return ordered.gather(-1, middle).mean(-1)


def scale_and_shift(
    source: Float[Tensor, "*batch n"], target: Float[Tensor, "*batch n"], weight: Float[Tensor, "*batch n"]
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """The (s, t) that minimise sum of weight (s source + t - target)^2.

    Where the source does not vary any scale is as good as another: the scale is 1 then, and without weight the shift 0.
    """
    is_used = weight > 0
    x, y, w = (torch.where(is_used, values, 0) for values in (source, target, weight))
    total = w.sum(-1, keepdim=True)
    w = w / torch.where(total > 0, total, 1)
    mean_x, mean_y = (w * x).sum(-1, keepdim=True), (w * y).sum(-1, keepdim=True)
    variance = (w * (x - mean_x).square()).sum(-1)
    covariance = (w * (x - mean_x) * (y - mean_y)).sum(-1)
    does_vary = variance > (ROUNDING * torch.finfo(x.dtype).eps) ** 2 * (w * x.square()).sum(-1)
    scale = torch.where(does_vary, covariance / torch.where(does_vary, variance, 1), 1)
    return scale, mean_y[..., 0] - scale * mean_x[..., 0]


@torch.no_grad()
def robust_scale_and_shift(
    source: Float[Tensor, "*batch n"], target: Float[Tensor, "*batch n"], weight: Float[Tensor, "*batch n"]
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """The (s, t) that minimise sum of weight |s source + t - target|, exactly.

    Where the source does not vary the scale is 1. Computed in float64; no gradient flows.
    """
    x, y, w = (values[..., None, :] for values in (source, target, weight))
    scale, shift = _least_absolute(x, y, w, (True,))
    return scale.to(source), shift[..., 0].to(source)


@torch.no_grad()
def robust_scale_and_shift_points(
    source: Float[Tensor, "*batch n 3"],
    target: Float[Tensor, "*batch n 3"],
    weight: Float[Tensor, "*batch n"],
    *,
    shifted: Shifted = (True, True, True),
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch 3"]]:
    """One scale s and a shift t of points that minimise sum of weight |s source + t - target|, all coordinates together.

    shifted: the axes (x, y, z) along which there is a shift; it is 0 along the others. The minimum is exact, unlike that of
    `anchored_scale_and_shift`. Computed in float64; no gradient flows.
    """
    x, y = (rearrange(points, "... n xyz -> ... xyz n") for points in (source, target))
    scale, shift = _least_absolute(x, y, repeat(weight, "... n -> ... xyz n", xyz=3), shifted)
    return scale.to(source), shift.to(source)


@torch.no_grad()
def anchored_scale_and_shift(
    source: Float[Tensor, "n axes"],
    target: Float[Tensor, "n axes"],
    weight: Float[Tensor, " n"],
    *,
    shifted: Shifted,
    truncation: float | None = None,
    num_at_once: int = 64,
) -> tuple[Float[Tensor, ""], Float[Tensor, " axes"]]:
    """MoGe's search for a robust scale s and shift t: of all t that take s times one point exactly to its target, the best.

    For one shifted axis and no truncation that is the exact minimum; for more it is not (see `robust_scale_and_shift_points`).
    Every point with weight is tried, each with the exact scale for it, so n should be a few thousand at most. The truncation
    caps the weighted residual of each coordinate. Computed in float64.
    """
    w = weight.double()
    is_used = w > 0
    if not is_used.any():
        raise ValueError(
            "a scale and a shift need points with weight, but there is none; leave the picture out and count it"
        )
    x, y = (values[is_used].double() for values in (source, target))
    w = repeat(w[is_used], "n -> (n axes)", axes=x.shape[-1])
    moving = torch.tensor(shifted, device=x.device).to(x)
    best = (torch.inf, x.new_ones(()), torch.zeros_like(x[0]))
    for base_x, base_y in zip((x * moving).split(num_at_once), (y * moving).split(num_at_once), strict=True):
        from_x, from_y = ((v - base[:, None]).flatten(-2) for v, base in ((x, base_x), (y, base_y)))
        scales = robust_scale(from_x, from_y, w.expand_as(from_x), truncation)
        residual = w * (scales[:, None] * from_x - from_y).abs()
        losses = (residual if truncation is None else residual.clamp(max=truncation)).sum(-1)
        i = losses.argmin()
        if losses[i].item() < best[0]:
            best = (losses[i].item(), scales[i], base_y[i] - scales[i] * base_x[i])
    return best[1].to(source), best[2].to(source)


def _least_absolute(
    source: Float[Tensor, "*batch axes n"],
    target: Float[Tensor, "*batch axes n"],
    weight: Float[Tensor, "*batch axes n"],
    shifted: tuple[bool, ...],
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch axes"]]:
    """The scale common to all axes, and the shift of each, that minimise the weighted sum of absolute residuals.

    For a given scale the best shifts are weighted medians, so what is left is convex and piecewise linear in the scale alone.
    Its minimum is kept between two scales and looked for where their tangents meet: where the sum there is no higher than
    the tangents, that is the minimum. Tangents meet half-way at least where the sum is smooth, so a few dozen steps suffice.
    """
    is_used = weight > 0
    x, y, w = (torch.where(is_used, values, 0).double() for values in (source, target, weight))
    is_shifted = torch.tensor(shifted, device=x.device)
    total = w.sum(-1, keepdim=True)
    mean = (w * x).sum(-1, keepdim=True) / torch.where(total > 0, total, 1)
    centred = torch.where(is_shifted[:, None], x - mean, x)
    spread, size = (w * centred.square()).sum((-1, -2)), (w * x.square()).sum((-1, -2))
    does_vary = spread > (ROUNDING * torch.finfo(x.dtype).eps) ** 2 * size
    start = torch.where(does_vary, (w * centred * y).sum((-1, -2)) / torch.where(does_vary, spread, 1), 1)

    low = high = _tangent(start, x, y, w, is_shifted)
    stride = start.abs() + (start == 0)
    while (is_right := does_vary & (low.slope > 0)).any():
        low, stride = _choose(is_right, _tangent(low.scale - stride, x, y, w, is_shifted), low), 2 * stride
    while (is_left := does_vary & (high.slope < 0)).any():
        high, stride = _choose(is_left, _tangent(high.scale + stride, x, y, w, is_shifted), high), 2 * stride
    best = _choose(low.sum <= high.sum, low, high)
    is_open = does_vary & (low.slope < 0) & (high.slope > 0)
    while is_open.any():
        bend = torch.where(is_open, high.slope - low.slope, 1)
        scale = (low.sum - high.sum + high.slope * high.scale - low.slope * low.scale) / bend
        scale = torch.where(is_open, scale.clamp(low.scale, high.scale), best.scale)
        here = _tangent(scale, x, y, w, is_shifted)
        is_inside = (scale > low.scale) & (scale < high.scale)
        best = _choose(is_open & (here.sum < best.sum), here, best)
        low, high = _choose(is_open & (here.slope < 0), here, low), _choose(is_open & (here.slope > 0), here, high)
        is_open = is_open & is_inside & (here.slope != 0)
    return best.scale, best.shift


@dataclass(frozen=True)
class _Tangent:
    """The smallest sum of absolute residuals for a scale, its derivative by the scale, and the shifts that reach it."""

    scale: Float[Tensor, "*batch"]
    sum: Float[Tensor, "*batch"]
    slope: Float[Tensor, "*batch"]
    shift: Float[Tensor, "*batch axes"]


def _tangent(
    scale: Float[Tensor, "*batch"],
    x: Float[Tensor, "*batch axes n"],
    y: Float[Tensor, "*batch axes n"],
    w: Float[Tensor, "*batch axes n"],
    is_shifted: Bool[Tensor, " axes"],
) -> _Tangent:
    """A residual of zero may have any sign in [-1, 1]: those of an axis take the one that its shift, at rest, asks for."""
    offset = y - scale[..., None, None] * x
    middle = offset.gather(-1, _weighted_median(torch.where(w > 0, offset, torch.inf), w)[..., None])
    shift = torch.where(is_shifted[:, None] & (w > 0).any(-1, keepdim=True), middle, 0)
    residual = shift - offset
    sign = residual.sign()
    is_zero = sign == 0
    pull, zeros = (w * sign).sum(-1, keepdim=True), (w * is_zero).sum(-1, keepdim=True)
    at_rest = torch.where(is_shifted[:, None] & (zeros > 0), -pull / torch.where(zeros > 0, zeros, 1), 0)
    slope = (w * x * torch.where(is_zero, at_rest, sign)).sum((-1, -2))
    return _Tangent(scale, (w * residual.abs()).sum((-1, -2)), slope, shift[..., 0])


def _choose(condition: Bool[Tensor, "*batch"], a: _Tangent, b: _Tangent) -> _Tangent:
    scale, total, slope = (
        torch.where(condition, v, u) for v, u in ((a.scale, b.scale), (a.sum, b.sum), (a.slope, b.slope))
    )
    return _Tangent(scale, total, slope, torch.where(condition[..., None], a.shift, b.shift))


def similarity(
    source: Float[Tensor, "*batch n 3"],
    target: Float[Tensor, "*batch n 3"],
    weights: Float[Tensor, "*batch n"] | None = None,
    *,
    has_scale: bool = True,
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch 3 3"], Float[Tensor, "*batch 3"]]:
    """(scale, rotation, translation) that minimise sum of weight |scale rotation source + translation - target|^2 (Umeyama).

    The scale is 1 without `has_scale`. The rotation is proper also where a reflection would fit better. Points on one line leave the rotation about that line open; one of the best is returned.
    """
    if weights is None:
        weights = torch.ones_like(source[..., 0])
    is_used = weights > 0
    fewest = int(is_used.sum(-1).min())
    if fewest < FEWEST_POINTS:
        raise ValueError(
            f"a similarity needs at least {FEWEST_POINTS} points with weight, but got {fewest}; add points"
        )
    lowest = torch.where(is_used[..., None], source, torch.inf).amin(-2)
    if bool((lowest == torch.where(is_used[..., None], source, -torch.inf).amax(-2)).all(-1).any()):
        raise ValueError(f"a similarity needs points that differ, but all {fewest} coincide; add points elsewhere")
    source, target = (torch.where(is_used[..., None], points, 0) for points in (source, target))
    fit = roma.rigid_points_registration(source, target, weights, compute_scaling=has_scale)
    rotation, translation, *scale = cast(tuple[Tensor, ...], fit)
    return scale[0] if has_scale else torch.ones_like(translation[..., 0]), rotation, translation
