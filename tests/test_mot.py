from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from g2vlm.layout import Layout, Picture, Text, ViewBlock, lay_out
from g2vlm.mot import MoTDecoder
from tests.builders import small_config

SCENE = [Text(3), ViewBlock(((2, 2), (1, 2))), Text(2)]


def small_decoder(**options) -> MoTDecoder:
    """Two blocks whose weights are large enough to matter."""
    torch.manual_seed(0)
    decoder = MoTDecoder(small_config(**options))
    with torch.no_grad():
        for weight in decoder.parameters():
            weight += 0.2 * torch.randn_like(weight)
    return decoder


def random_tokens(layout: Layout) -> Tensor:
    return torch.randn(len(layout.order), 32, generator=torch.Generator().manual_seed(1))


def equal_experts(decoder: MoTDecoder) -> MoTDecoder:
    """Both experts with the weights of the semantic one, and a LayerScale of one."""
    parts: list[Any] = [*decoder.layers, decoder.norm]
    for part in parts:
        weights = part.semantic.state_dict()
        gammas = {key: torch.ones(32) for key in part.geometric.state_dict() if key.endswith("gamma")}
        part.geometric.load_state_dict(weights | gammas, strict=True)
    return decoder


def with_owners(layout: Layout, is_geometric: list[int]) -> Layout:
    return Layout(
        torch.tensor(is_geometric, dtype=torch.bool), layout.is_image, layout.positions, layout.samples, layout.num_keys
    )


@torch.no_grad()
def test_with_equal_weights_the_owner_of_a_token_cannot_matter():
    decoder = equal_experts(small_decoder())
    layout = lay_out([SCENE])
    x = random_tokens(layout)
    expected, _ = decoder(x, layout)
    for owners in ([0] * 15, [1] * 15, [0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 1, 1, 0, 0, 1]):
        torch.testing.assert_close(decoder(x, with_owners(layout, owners))[0], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_with_different_weights_the_owner_matters():
    decoder, layout = small_decoder(), lay_out([SCENE])
    x = random_tokens(layout)
    changed = decoder(x, with_owners(layout, [1] * 15))[0] - decoder(x, layout)[0]
    assert changed.abs().max() > 0.1


@pytest.mark.parametrize(("seen_by", "seen"), [("geometric", "semantic"), ("semantic", "geometric")])
def test_experts_meet_in_attention(seen_by, seen):
    """The last text sees the views, and the views see the first text, if they see the sequence."""
    layout = lay_out([SCENE], view_context="sequence")
    rows = {"semantic": (~layout.is_geometric).nonzero()[-1], "geometric": layout.is_geometric.nonzero()[0]}
    x = random_tokens(layout).requires_grad_()
    small_decoder()(x, layout)[0][rows[seen_by]].sum().backward()
    others = layout.is_geometric if seen == "geometric" else ~layout.is_geometric
    assert x.grad is not None
    assert x.grad[others].abs().sum() > 0


def test_an_expert_without_tokens_gets_zero_gradients_not_none():
    decoder, layout = small_decoder(), lay_out([[Text(15)]])
    out, _ = decoder(random_tokens(layout), layout)
    out[:, 0].sum().backward()
    for name, weight in decoder.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.any() == ("semantic" in name), name


@pytest.mark.parametrize("visibility", ["global", "mixed"])
def test_gradient_checkpointing_changes_no_gradient(visibility):
    decoder, layout = small_decoder(), lay_out([SCENE], visibility=visibility)
    gradients = []
    for decoder.gradient_checkpointing in (False, True):
        decoder.zero_grad()
        out, kept = decoder(random_tokens(layout), layout, keep_layers=True)
        (out.square().sum() + kept[0].sum()).backward()
        gradients.append({name: weight.grad for name, weight in decoder.named_parameters()})
    torch.testing.assert_close(gradients[1], gradients[0], atol=0, rtol=0)


def test_a_frozen_expert_gets_no_gradient_and_passes_none_on():
    """The twin detaches, by hand, whatever the semantic expert gives."""
    layout = lay_out([SCENE], view_context="sequence")
    twin, frozen = small_decoder(), small_decoder()
    for name, weight in frozen.named_parameters():
        weight.requires_grad_("geometric" in name)
    for layer in twin.layers:
        project, finish = layer.semantic.project, layer.semantic.finish
        layer.semantic.project = lambda x, project=project: tuple(part.detach() for part in project(x))
        layer.semantic.finish = lambda x, attended, finish=finish: finish(x, attended).detach()
    outs = []
    for decoder in (twin, frozen):
        out, _ = decoder(random_tokens(layout), layout)
        out[layout.is_geometric].square().sum().backward()
        outs.append(out)
    assert outs[0].equal(outs[1])
    for (name, weight), other in zip(frozen.named_parameters(), twin.parameters(), strict=True):
        if "semantic" in name:
            assert weight.grad is None, name
        else:
            torch.testing.assert_close(weight.grad, other.grad, atol=0, rtol=0)


@torch.no_grad()
def test_samples_of_a_pack_do_not_touch_each_other():
    decoder = small_decoder()
    samples = [SCENE, [Text(4)], [ViewBlock(((1, 2),)), Picture((1, 1))]]
    pack = lay_out(samples, padding=[0, 2, 1])
    x = random_tokens(pack)
    together, _ = decoder(x, pack)
    for sample, segments in zip(pack.samples, samples, strict=True):
        alone = lay_out([segments])
        rows = slice(sample.first_row, sample.first_row + len(alone.order))
        torch.testing.assert_close(together[rows], decoder(x[rows], alone)[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_hidden_states_are_kept_after_each_block_in_sequence_order():
    decoder, layout = small_decoder(), lay_out([SCENE])
    x = random_tokens(layout)
    out, kept = decoder(x, layout, keep_layers=True)
    assert len(kept) == 2
    semantic, geometric = decoder.norm.semantic(kept[-1]), decoder.norm.geometric(kept[-1])
    torch.testing.assert_close(out, torch.where(layout.is_geometric[:, None], geometric, semantic))
    decoder.layers = decoder.layers[:1]
    assert decoder(x, layout, keep_layers=True)[1][0].equal(kept[0])
    assert decoder(x, layout)[1] == []


@torch.no_grad()
def test_a_cache_holds_keys_in_sequence_order_and_changes_nothing():
    decoder, layout = small_decoder(), lay_out([SCENE, [Text(9)]], padding=[0, 6])
    x, cache = random_tokens(layout), DynamicCache()
    torch.testing.assert_close(decoder(x, layout, cache=cache)[0], decoder(x, layout)[0], atol=1e-5, rtol=1e-5)
    assert cache.get_seq_length() == 15
    stored: Any = cache.layers[0]
    assert stored.keys.shape == (2, 2, 15, 8)
    block: Any = decoder.layers[0]
    v = block.semantic.v(block.semantic.norm_attn(x[:1])).view(2, 8)
    torch.testing.assert_close(stored.values[0, :, 0], v)


def test_qk_norm_can_be_off_for_one_expert():
    names = {name for name, _ in small_decoder(semantic_qk_norm=False).layers[0].named_parameters()}
    assert "geometric.q_norm.weight" in names
    assert "semantic.q_norm.weight" not in names


def test_layer_scale_is_on_the_geometric_branches_only():
    names = {name for name, _ in small_decoder().named_parameters() if name.endswith("gamma")}
    assert names == {f"layers.{i}.geometric.scale_{branch}.gamma" for i in range(2) for branch in ("attn", "mlp")}


@torch.no_grad()
def test_a_layer_scale_of_zero_leaves_geometric_tokens_as_they_came():
    decoder, layout = small_decoder(), lay_out([SCENE])
    for name, weight in decoder.named_parameters():
        if name.endswith("gamma"):
            weight.zero_()
    x = random_tokens(layout)
    out, _ = decoder(x, layout)
    torch.testing.assert_close(out[layout.is_geometric], decoder.norm.geometric(x[layout.is_geometric]))
