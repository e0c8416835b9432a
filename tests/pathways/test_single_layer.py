import pytest
import torch

from g2vlm.pathway_config import NoPathway, PreDecoder
from g2vlm.pathways import build_pathway


def pathway_of(*layers, **options):
    options = {"zero_init": False} | options
    return build_pathway(PreDecoder(layers, geometry_width=6, hidden_width=10, **options), 8)


def test_one_layer_is_merged_and_added():
    pathway, rows, features = pathway_of(2), torch.randn(4, 8), {2: torch.randn(4, 4, 6)}
    assert pathway.sites == ("pre",)
    torch.testing.assert_close(pathway.apply_at("pre", rows, features), rows + pathway.mergers[0](features[2]))


def test_several_layers_are_taken_in_one_after_another_in_the_order_of_the_configuration():
    torch.manual_seed(0)
    pathway = pathway_of(5, 2, fusion="gated")
    rows, features = torch.randn(4, 8), {2: torch.randn(4, 4, 6), 5: torch.randn(4, 4, 6)}
    assert pathway.encoder_layers == (2, 5)
    expected = rows
    for layer, merger in zip((5, 2), pathway.mergers, strict=True):
        expected = pathway.fusion(expected, merger(features[layer]))
    torch.testing.assert_close(pathway.apply_at("pre", rows, features), expected)


@pytest.mark.parametrize("fusion", ["concat", "gated", "weighted"])
def test_other_fusions_weigh_both_sides(fusion):
    torch.manual_seed(0)
    fuse = pathway_of(2, fusion=fusion).fusion
    visual, geometry = torch.randn(4, 8, requires_grad=True), torch.randn(4, 8, requires_grad=True)
    (fuse(visual, geometry) ** 3).sum().backward()
    assert visual.grad.abs().max() > 0
    assert geometry.grad.abs().max() > 0


def test_weights_of_the_weighted_fusion_sum_to_one():
    fuse = pathway_of(2, fusion="weighted").fusion
    with torch.no_grad():
        fuse.visual_weight.fill_(0.9)
    x = torch.randn(4, 8)
    torch.testing.assert_close(fuse(x, x), x)


def test_none_has_no_sites_and_no_weights():
    pathway = build_pathway(NoPathway(), 8)
    assert pathway.sites == ()
    assert list(pathway.parameters()) == []
