"""Confidence loss: does the head know which of its points are right?"""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from g2vlm.losses.normalise import masked_mean


def confidence_loss(
    logits: Float[Tensor, "s v p"],
    error: Float[Tensor, "s v p"],
    mask: Bool[Tensor, "s v p"],
    *,
    good_below: float = 0.02,
) -> Float[Tensor, ""]:
    """Binary cross-entropy against "the error of this point is below `good_below`", mean over the valid pixels.

    error: what the local point loss charges for the point (`points.point_error`); no gradient reaches it.
    """
    is_good = (error < good_below).to(logits.dtype)
    return masked_mean(F.binary_cross_entropy_with_logits(logits, is_good, reduction="none"), mask)
