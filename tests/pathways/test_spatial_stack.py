import torch

from g2vlm.pathway_config import SpatialStack
from g2vlm.pathways import build_pathway


def test_each_pair_has_a_merger_of_its_own_and_slots_of_a_layer_add_up():
    config = SpatialStack((0, 1, 1), (3, 5, 2), geometry_width=6, hidden_width=10, zero_init=False)
    pathway = build_pathway(config, 8)
    features = {layer: torch.randn(4, 4, 6) for layer in (2, 3, 5)}
    rows = torch.randn(4, 8)
    first, second, third = pathway.mergers
    assert pathway.sites == (0, 1)
    assert pathway.encoder_layers == (2, 3, 5)
    torch.testing.assert_close(pathway.apply_at(0, rows, features), rows + first(features[3]))
    torch.testing.assert_close(pathway.apply_at(1, rows, features), rows + second(features[5]) + third(features[2]))


def test_rows_keep_their_type():
    pathway = build_pathway(SpatialStack((0,), (1,), geometry_width=6, hidden_width=10), 8)
    rows = torch.randn(4, 8).bfloat16()
    assert pathway.apply_at(0, rows, {1: torch.randn(4, 4, 6)}).dtype == torch.bfloat16
