"""The parts that transformer blocks of several networks are made of.

Axes: b sequences, t tokens, n heads, h head width.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from g2vlm.attention import kernel_attention
from g2vlm.rope import rotate_planar


class SelfAttention(nn.Module):
    """Every token of a sequence sees every other; queries and keys are turned by their tokens' places in the plane.

    qk_norm_eps: of a LayerNorm of each head's queries and keys before they are turned; None for no such norm.
    """

    def __init__(self, width: int, num_heads: int, *, qk_norm_eps: float | None = None):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm, self.k_norm = (
            nn.Identity() if qk_norm_eps is None else nn.LayerNorm(width // num_heads, eps=qk_norm_eps)
            for _ in range(2)
        )
        self.proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "sequences tokens width"], angles: Float[Tensor, "tokens half"]
    ) -> Float[Tensor, "sequences tokens width"]:
        q, k, v = rearrange(self.qkv(x), "b t (three n h) -> three b t n h", three=3, n=self.num_heads)
        return self.proj(joined_heads(rotate_planar(self.q_norm(q), angles), rotate_planar(self.k_norm(k), angles), v))


def joined_heads(
    q: Float[Tensor, "sequences tokens heads width"],
    k: Float[Tensor, "sequences keys heads width"],
    v: Float[Tensor, "sequences keys heads width"],
) -> Float[Tensor, "sequences tokens heads*width"]:
    """What each token gathers from the keys of its sequence, its heads side by side."""
    q, k, v = (rearrange(x, "b t n h -> b n t h") for x in (q, k, v))
    return rearrange(kernel_attention(q, k, v), "b n t h -> b t (n h)")


class Mlp(nn.Module):
    """Two linear maps with an exact GELU between them. out: channels that come out, if not as many as go in."""

    def __init__(self, width: int, hidden: int, out: int | None = None):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width if out is None else out)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """One learnt factor for each channel."""

    def __init__(self, width: int, init: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma
