"""Rotations: from the nine numbers of a camera head to SO(3), and the angle between two of them."""

from typing import cast

import roma
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

SHORTEST_ROW = 1e-6
"""Rows below this length are not scaled up to one: it bounds the gradient where a head predicts nothing."""


def nearest_rotation(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The proper rotation (determinant +1) with the smallest Frobenius distance to `matrix`.

    The gradient is finite everywhere: where the nearest rotation is not unique (zero, rank one, a reflection) roma damps
    it, and near a rotation it does not divide by differences of singular values as the derivative of an SVD would.
    """
    return cast(Tensor, roma.special_procrustes(matrix))


def rotation_from_nine(numbers: Float[Tensor, "*batch 9"]) -> Float[Tensor, "*batch 3 3"]:
    """Nine numbers, row by row; each row is scaled to unit length before the nearest rotation is taken."""
    rows = rearrange(numbers, "... (row column) -> ... row column", row=3)
    return nearest_rotation(F.normalize(rows, dim=-1, eps=SHORTEST_ROW))


def geodesic_angle(a: Float[Tensor, "*batch 3 3"], b: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Angle in radians, in [0, pi], of the rotation that takes `a` to `b`.

    Sine and cosine go through atan2, so it keeps its digits near 0 and near pi, where the arccosine of the trace loses
    half of them.
    """
    relative = a.mT @ b
    twice_sine = torch.linalg.vector_norm(_axis(relative - relative.mT), dim=-1)
    twice_cosine = relative.diagonal(dim1=-2, dim2=-1).sum(-1) - 1
    return torch.atan2(twice_sine, twice_cosine)


def _axis(skew: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    return torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1)
