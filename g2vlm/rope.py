"""Rotary position embeddings: multimodal (decoder) and two-dimensional (heads, VGGT).

Both pair channel i with channel i + half (rotate-half) and compute angles in float32.
"""

from collections.abc import Sequence

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor


def multimodal_angles(
    positions: Int[Tensor, "3 tokens"], sections: Sequence[int], theta: float
) -> Float[Tensor, "tokens half"]:
    """Angles of Qwen2-VL's M-RoPE: each frequency follows the temporal, row or column axis.

    sections: how many frequencies each axis takes, in that order; they sum to half the head width.
    """
    half = sum(sections)
    axis = torch.repeat_interleave(torch.arange(3), torch.tensor(sections)).to(positions.device)
    return positions[axis].T.float() * _frequencies(half, theta, positions.device)


def grid_angles(
    height: int, width: int, head_width: int, base: float, device: torch.device, *, first: int = 0
) -> Float[Tensor, "tokens half"]:
    """Angles of 2-D RoPE, tokens in row-major order: first half by row, second half by column.

    first: the number of the first row and column.
    """
    frequencies = _frequencies(head_width // 4, base, device)
    rows = repeat(torch.arange(first, first + height, device=device), "h -> (h w)", w=width)
    columns = repeat(torch.arange(first, first + width, device=device), "w -> (h w)", h=height)
    return planar_angles(torch.stack([rows, columns], 1), frequencies)


def planar_angles(
    places: Int[Tensor, "*tokens 2"], frequencies: Float[Tensor, " quarter"]
) -> Float[Tensor, "*tokens half"]:
    """Angles of integer (row, column) places: the row's, then the column's."""
    return rearrange(places.float()[..., None] * frequencies, "... pair f -> ... (pair f)")


def rotate(
    x: Float[Tensor, "*#batch heads width"], angles: Float[Tensor, "*#batch half"]
) -> Float[Tensor, "*#batch heads width"]:
    """Turn channel pairs (i, i + half) of each head by the token's angles."""
    cos, sin = (f(angles).to(x.dtype)[..., None, :] for f in (torch.cos, torch.sin))
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def rotate_planar(
    x: Float[Tensor, "*#batch heads width"], angles: Float[Tensor, "*#batch half"]
) -> Float[Tensor, "*#batch heads width"]:
    """Turn the first half of each head's channels by the row's angles and the second half by the column's."""
    by_axis = rearrange(x, "... heads (pair width) -> ... pair heads width", pair=2)
    turned = rotate(by_axis, rearrange(angles, "... (pair f) -> ... pair f", pair=2))
    return rearrange(turned, "... pair heads width -> ... heads (pair width)")


def _frequencies(count: int, base: float, device: torch.device) -> Float[Tensor, " count"]:
    return 1 / base ** (torch.arange(count, device=device, dtype=torch.float32) / count)
