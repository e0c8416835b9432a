from dataclasses import replace

import pytest
import torch

from g2vlm.pathway_config import GeoAlign
from g2vlm.pathways import build_pathway
from g2vlm.pathways.geo_align import recorded_routing

BANK = (1, 2, 4, 5)
CONFIG = GeoAlign(
    encoder_layers=BANK, geometry_width=6, hidden_width=10, router_width=7, top_k=2, zero_init=False
)  # fmt: skip
WIDTH, TOKENS = 8, 9


def pathway_of(**changes):
    """A pathway with weights large enough to be seen."""
    torch.manual_seed(0)
    pathway = build_pathway(replace(CONFIG, **changes), WIDTH)
    with torch.no_grad():
        for x in pathway.parameters():
            x += 0.5 * torch.randn_like(x)
    return pathway


def inputs(seed=1):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(TOKENS, WIDTH, generator=generator)
    return rows, {layer: torch.randn(TOKENS, 4, 6, generator=generator) for layer in BANK}


def taken_by_loops(pathway, rows, features, top_k):
    """The twin of bank, router and sum: token by token, and of the layers only those that were chosen."""
    weights, taken = torch.zeros(len(rows), len(BANK)), []
    for t, row in enumerate(rows):
        scores = pathway.routers[0].scores(row)
        best = sorted(range(len(BANK)), key=lambda m: -scores[m].item())[:top_k]
        total, token = sum(scores[m].exp() for m in best), 0
        for m in best:
            patches = [pathway.bank.norms[m](features[BANK[m]][t, patch]) for patch in range(4)]
            project = pathway.bank.projectors[m % len(pathway.bank.projectors)]
            weights[t, m] = scores[m].exp() / total
            token = token + weights[t, m] * project(torch.cat(patches))
        taken.append(token)
    return weights, torch.stack(taken)


@pytest.mark.parametrize("projector", ["shared", "split"])
@pytest.mark.parametrize("top_k", [1, 2, 3, 4])
def test_every_token_takes_the_layers_it_likes_best(top_k, projector):
    pathway = pathway_of(top_k=top_k, projector=projector)
    rows, features = inputs()
    with recorded_routing(pathway) as routing, torch.no_grad():
        out = pathway.apply_at("pre", rows, features)
        weights, taken = taken_by_loops(pathway, rows, features, top_k)
        expected = rows + pathway.fusions[0].out(taken)
    assert ((routing["pre"] > 0).sum(1) == top_k).all()
    torch.testing.assert_close(routing["pre"], weights, rtol=0, atol=1e-6)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


def test_tokens_choose_differently():
    pathway, (rows, features) = pathway_of(top_k=1), inputs()
    with recorded_routing(pathway) as routing:
        pathway.apply_at("pre", rows, features)
    assert len(set(routing["pre"].argmax(1).tolist())) > 1


def test_layers_that_were_not_chosen_cannot_matter():
    pathway, (rows, features) = pathway_of(top_k=2), inputs()
    with recorded_routing(pathway) as routing:
        before = pathway.apply_at("pre", rows, features)
    is_chosen = routing["pre"] > 0
    for m, layer in enumerate(BANK):
        other = features | {layer: features[layer] + torch.randn_like(features[layer])}
        moved = (pathway.apply_at("pre", rows, other) - before).abs().amax(1) > 1e-4
        assert torch.equal(moved, is_chosen[:, m])


def test_only_chosen_scores_get_a_gradient():
    pathway, (rows, features) = pathway_of(top_k=2), inputs()
    scores = []

    def keep(_module, _args, out):
        out.retain_grad()
        scores.append(out)

    pathway.routers[0].scores.register_forward_hook(keep)
    with recorded_routing(pathway) as routing:
        (pathway.apply_at("pre", rows, features) ** 2).sum().backward()
    assert torch.equal(scores[0].grad != 0, routing["pre"] > 0)


def test_the_mean_takes_all_layers_alike_and_has_no_router():
    pathway, (rows, features) = pathway_of(usage="mean"), inputs()
    with recorded_routing(pathway) as routing:
        out = pathway.apply_at("pre", rows, features)
    assert not list(pathway.routers.parameters())
    assert torch.equal(routing["pre"], torch.full((TOKENS, 4), 0.25))
    torch.testing.assert_close(out, rows + pathway.fusions[0].out(pathway.bank(features).mean(1)))


@pytest.mark.parametrize("gate", ["channel", "token"])
@pytest.mark.parametrize("fusion", ["add", "film", "gated", "gated_both"])
def test_fusions_are_their_formulas(fusion, gate):
    fuse = pathway_of(fusion=fusion, gate=gate).fusions[0]
    v, g = torch.randn(TOKENS, WIDTH), torch.randn(TOKENS, WIDTH)
    expected = {
        "add": lambda: v + fuse.out(g),
        "film": lambda: v * (1 + fuse.scale(g)) + fuse.shift(g),
        "gated": lambda: v + fuse.out(torch.sigmoid(fuse.gate(v)) * g),
        "gated_both": lambda: v + fuse.out(torch.sigmoid(fuse.gate(torch.cat([v, g], 1))) * g),
    }[fusion]()
    torch.testing.assert_close(fuse(v, g), expected)
    if fusion.startswith("gated"):
        assert fuse.gate.out_features == {"channel": WIDTH, "token": 1}[gate]


@pytest.mark.parametrize("fusion", ["add", "film", "gated", "gated_both"])
def test_every_fusion_begins_as_if_there_were_no_geometry_and_learns(fusion):
    torch.manual_seed(0)
    pathway = build_pathway(replace(CONFIG, fusion=fusion, zero_init=True), WIDTH)
    rows, features = inputs()
    out = pathway.apply_at("pre", rows, features)
    assert torch.equal(out, rows)
    (out**2).sum().backward()
    last = pathway.fusions[0].shift if fusion == "film" else pathway.fusions[0].out
    assert last.weight.grad.abs().max() > 0


def test_several_places_share_the_bank_and_nothing_else():
    pathway = pathway_of(decoder_layers=("pre", 3, 1))
    rows, features = inputs()
    assert pathway.sites == ("pre", 3, 1)
    assert len(pathway.routers) == len(pathway.fusions) == 3
    with recorded_routing(pathway) as routing:
        outs = [pathway.apply_at(site, rows, features) for site in pathway.sites]
    assert list(routing) == ["pre", 3, 1]
    for i, site in enumerate(pathway.sites):
        weights = pathway.routers[i](rows)
        assert torch.equal(routing[site], weights)
        mixed = (weights[..., None] * pathway.bank(features)).sum(1)
        torch.testing.assert_close(outs[i], pathway.fusions[i](rows, mixed))
    assert (outs[0] - outs[1]).abs().max() > 1e-2


def test_each_layer_has_a_norm_of_its_own():
    pathway = pathway_of()
    assert len(pathway.bank.norms) == 4
    assert len(pathway.bank.projectors) == 1
    before = pathway.bank(inputs()[1])
    with torch.no_grad():
        pathway.bank.norms[2].bias += 1
    changed = (pathway.bank(inputs()[1]) - before).abs().amax((0, 2)) > 1e-4
    assert changed.tolist() == [False, False, True, False]


def test_nothing_is_recorded_outside_the_context():
    pathway, (rows, features) = pathway_of(), inputs()
    with recorded_routing(pathway) as routing:
        pass
    pathway.apply_at("pre", rows, features)
    assert routing == {}


def test_rows_keep_their_type():
    rows, features = inputs()
    assert pathway_of().apply_at("pre", rows.bfloat16(), features).dtype == torch.bfloat16
