import torch
from torch import Tensor

from g2vlm.blocks import SelfAttention, joined_heads
from g2vlm.rope import grid_angles

ANGLES = grid_angles(2, 3, 8, 100.0, torch.device("cpu"))


def tokens(seed: int = 0) -> Tensor:
    return torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(seed))


def attention(qk_norm_eps: float | None) -> SelfAttention:
    torch.manual_seed(0)
    return SelfAttention(16, 2, qk_norm_eps=qk_norm_eps)


@torch.no_grad()
def times_three(module: SelfAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    """What attention gives before and after its queries have grown threefold."""
    before = module(x, ANGLES)
    module.qkv.weight[:16] *= 3
    module.qkv.bias[:16] *= 3
    return before, module(x, ANGLES)


def test_a_norm_of_queries_makes_their_length_irrelevant():
    before, after = times_three(attention(1e-9), tokens())
    torch.testing.assert_close(before, after, atol=1e-5, rtol=0)
    before, after = times_three(attention(None), tokens())
    assert (before - after).abs().max() > 1e-2


@torch.no_grad()
def test_queries_are_normed_before_they_are_turned():
    """A norm that keeps one channel only: behind the rotation it would hide the places of all tokens."""
    module = attention(1e-5)
    module.q_norm.weight[1:] = 0
    module.k_norm.weight[1:] = 0
    shifted = ANGLES + torch.arange(6.0)[:, None]
    assert (module(tokens(), ANGLES) - module(tokens(), shifted)).abs().max() > 1e-4
    turned_alike = ANGLES + 1.0
    torch.testing.assert_close(module(tokens(), ANGLES), module(tokens(), turned_alike), atol=1e-5, rtol=0)


def test_heads_stand_side_by_side_and_sequences_do_not_see_each_other():
    q, k, v = torch.randn(3, 2, 6, 2, 8, generator=torch.Generator().manual_seed(0))
    out = joined_heads(q, k, v)
    for sequence in range(2):
        for head in range(2):
            weights = (q[sequence, :, head] @ k[sequence, :, head].T / 8**0.5).softmax(-1)
            expected = weights @ v[sequence, :, head]
            torch.testing.assert_close(out[sequence, :, 8 * head : 8 * head + 8], expected, atol=1e-5, rtol=0)
