"""Losses of point maps: robustly scaled L1, near points weighing more than far ones.

Axes: s scenes, v views, p points of one view.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from g2vlm.geometry.align import resample_valid, robust_scale_points


def inverse_depth_weight(depth: Float[Tensor, "s v p"], mask: Bool[Tensor, "s v p"]) -> Float[Tensor, "s v p"]:
    """1 / z, bounded by ten times that of the view's mean depth; zero where `mask` is False."""
    mean = torch.where(mask, depth, 0).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
    return torch.where(mask, 1 / (depth.maximum(0.1 * mean) + 1e-6), 0)


@torch.no_grad()
def align_scale(
    points: Float[Tensor, "s v p 3"],
    target: Float[Tensor, "s v p 3"],
    weight: Float[Tensor, "s v p"],
    mask: Bool[Tensor, "s v p"],
    *,
    num_samples: int = 4096,
) -> Float[Tensor, " s"]:
    """The factor per scene that brings `points` to the scale of `target`, in the sense of the weighted L1 loss (ROE).

    The valid points of all views are resampled to `num_samples`; a negative optimum is flipped in sign, and a scene
    without a valid point gets 1.
    """
    joined = torch.cat([points, target, weight[..., None]], dim=-1)
    samples = resample_valid(rearrange(joined, "s v p c -> s (v p) c"), mask.flatten(1), num_samples)
    return robust_scale_points(samples[..., :3], samples[..., 3:6], samples[..., 6]).abs()


def point_error(
    points: Float[Tensor, "s v p 3"], target: Float[Tensor, "s v p 3"], weight: Float[Tensor, "s v p"]
) -> Float[Tensor, "s v p"]:
    """Weighted L1 distance of each point, averaged over its three coordinates."""
    return weight * (points - target).abs().mean(-1)
