from typing import Any

import pytest
import torch
from torch import Tensor

from g2vlm.config import HeadsConfig
from g2vlm.heads.decoder import HeadDecoder

CONFIG = HeadsConfig(depth=2, num_heads=2, mlp_ratio=2)


def small_decoder(*, has_context: bool = False, depth: int = 2) -> HeadDecoder:
    torch.manual_seed(0)
    decoder = HeadDecoder(16, 12, HeadsConfig(depth=depth, num_heads=2, mlp_ratio=2), has_context=has_context)
    with torch.no_grad():
        for weight in decoder.parameters():
            weight += 0.3 * torch.randn_like(weight)
    return decoder


def tokens(num_views: int, rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(num_views, rows * columns, 16, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_attention_stays_inside_each_view():
    decoder, x = small_decoder(), tokens(3, 2, 3)
    torch.testing.assert_close(decoder(x, (2, 3))[1:2], decoder(x[1:2], (2, 3)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_token_knows_its_row_and_column():
    """Equal tokens at the places of 2 x 3 and of 3 x 2 give different results only because of the rotation."""
    decoder, x = small_decoder(), tokens(1, 2, 3)
    assert (decoder(x, (2, 3)) - decoder(x, (3, 2))).abs().max() > 1e-2
    shuffled = decoder(x.flip(1), (2, 3)).flip(1)
    assert (decoder(x, (2, 3)) - shuffled).abs().max() > 1e-2


@torch.no_grad()
def test_only_differences_of_places_matter():
    """A grid turned by half a turn has all differences negated, and equal tokens then attend alike."""
    decoder = small_decoder()
    x = tokens(1, 1, 1).expand(1, 6, 16)
    torch.testing.assert_close(decoder(x, (2, 3)), decoder(x, (3, 2)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_context_is_looked_at_in_every_block():
    x, context = tokens(2, 2, 3), tokens(2, 1, 2, seed=1)
    decoder = small_decoder(has_context=True)
    together = decoder(x, (2, 3), (context, (1, 2)))
    assert together.shape == (2, 6, 12)
    for index in range(2):
        changed = context.clone()
        changed[index] = -context[index]
        difference = (decoder(x, (2, 3), (changed, (1, 2))) - together).abs().amax((1, 2))
        assert difference[index] > 1e-2
        assert difference[1 - index] < 1e-6
    blocks: Any = decoder.blocks
    for block in blocks:
        block.cross.proj.bias += 1
        assert (decoder(x, (2, 3), (context, (1, 2))) - together).abs().max() > 1e-2
        block.cross.proj.bias -= 1


@torch.no_grad()
def test_places_of_the_context_come_from_its_own_grid():
    x, context = tokens(1, 2, 3), tokens(1, 2, 3, seed=1)
    decoder = small_decoder(has_context=True)
    assert (decoder(x, (2, 3), (context, (2, 3))) - decoder(x, (2, 3), (context, (3, 2)))).abs().max() > 1e-3


@torch.no_grad()
def test_looking_at_oneself_needs_no_second_grid():
    """Cross-attention with the weights of self-attention, over the same tokens and places, gives the same."""
    decoder = small_decoder(has_context=True, depth=1)
    block: Any = decoder.blocks[0]
    x = tokens(1, 2, 3)
    angles = torch.randn(6, 4)
    block.cross.load_state_dict(
        {
            f"{name}.{kind}": part
            for kind in ("weight", "bias")
            for name, part in zip("qkv", getattr(block.attn.qkv, kind).chunk(3), strict=True)
        }
        | {f"proj.{kind}": getattr(block.attn.proj, kind) for kind in ("weight", "bias")},
        strict=True,
    )
    torch.testing.assert_close(block.cross(x, x, angles, angles), block.attn(x, angles), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("has_context", [False, True])
def test_every_weight_learns(has_context):
    decoder = small_decoder(has_context=has_context)
    context = (tokens(2, 1, 2, seed=1), (1, 2)) if has_context else None
    decoder(tokens(2, 2, 3), (2, 3), context).square().sum().backward()
    for name, weight in decoder.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.any(), name
