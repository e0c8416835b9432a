"""Freezing: each strategy moves what it should and nothing else; parameters that no loss reaches are frozen, too."""

from dataclasses import replace

import pytest
import torch
from builders import small_config

from g2vlm.layout import Text, ViewBlock
from g2vlm.losses.objective import LossWeights
from g2vlm.model import G2VLM
from g2vlm.train.freeze import freeze, frozen_parts, unweighted_heads
from g2vlm.train.recipe import Strategy


def fresh() -> G2VLM:
    torch.manual_seed(0)
    return G2VLM(small_config()).train()


def learning(model: G2VLM) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("strategy", "learns", "rests"),
    [
        (
            "semantic",
            ("vision.", "embed_tokens.", "lm_head.", ".semantic."),
            ("dino.", "dino_projection.", ".geometric.", "heads."),
        ),
        (
            "geometry",
            ("dino.", ".geometric.", "dino_projection.", "heads."),
            ("vision.", "embed_tokens.", "lm_head.", ".semantic."),
        ),
        (
            "ce_only",
            ("embed_tokens.", "lm_head.", ".semantic."),
            ("vision.", "dino.", "dino_projection.", ".geometric.", "heads."),
        ),
        ("ce_ce", (".semantic.", ".geometric.", "dino_projection.", "embed_tokens."), ("vision.", "dino.", "heads.")),
        ("vg_ce", (".semantic.", ".geometric.", "dino_projection.", "heads.", "lm_head."), ("vision.", "dino.")),
    ],
)
def test_a_strategy_says_what_learns(strategy: Strategy, learns, rests):
    model = fresh()
    freeze(model, strategy)
    names = learning(model)
    for part in learns:
        assert any(part in name for name in names), part
    for part in rests:
        assert not any(part in name for name in names), part
    assert not any("mask_token" in name for name in names)
    assert all(isinstance(part, str) for part in frozen_parts(strategy))


@pytest.mark.parametrize("strategy", ["geometry", "ce_only", "ce_ce", "vg_ce"])
def test_every_parameter_that_learns_is_reached_by_a_loss_of_its_strategy(strategy: Strategy):
    from builders import prompt

    model = fresh()
    freeze(model, strategy)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn_like(weight)
    ids = prompt(Text(3), ViewBlock(((2, 3), (2, 3))), Text(4))
    output = model(ids, views=[torch.rand(3, 8, 12)] * 2, read_geometry=True, read_global_points=True)
    geometry = output.geometry
    losses = []
    if strategy in ("geometry", "vg_ce"):
        maps = (geometry.local_points, geometry.global_points, geometry.confidence, geometry.normals)
        losses += [torch.stack(x).square().sum() for x in maps] + [(geometry.poses * torch.rand(2, 4, 4)).sum()]
        losses += [(x * torch.rand_like(x)).sum() for x in geometry.normals]
    if strategy != "geometry":
        losses.append(output.logits[0, -4:].log_softmax(-1)[:, 5].sum())
    torch.stack(losses).sum().backward()
    still = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    assert still == []


def test_a_head_whose_loss_counts_nothing_is_frozen():
    model = fresh()
    freeze(model, "geometry", weights=LossWeights.PAPER)
    assert not any("heads.global_points." in name for name in learning(model))
    assert unweighted_heads(LossWeights.RELEASED_CODE) == ()
    assert unweighted_heads(replace(LossWeights.PAPER, camera=0.0, normal_head=0.0)) == (
        "camera",
        "global_points",
        "normals",
    )


def test_more_can_be_frozen_by_name_and_a_name_that_matches_nothing_is_refused():
    model = fresh()
    freeze(model, "geometry", ["dino."])
    assert not any(name.startswith("dino.") for name in learning(model))
    with pytest.raises(ValueError, match="frozen part 'dinosaur' matches no parameter; names look like"):
        freeze(model, "geometry", ["dinosaur"])


def test_what_a_strategy_freezes_can_learn_nevertheless():
    model = fresh()
    freeze(model, "ce_only", thawed=["vision."])
    assert any(name.startswith("vision.") for name in learning(model))
    assert not any(name.startswith("dino.") for name in learning(model))
    with pytest.raises(ValueError, match="thawed part 'visions' matches no parameter"):
        freeze(model, "ce_only", thawed=["visions"])
