import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from g2vlm.losses.correspondence import DEPTH_OFFSET, correspondence_losses
from g2vlm.records import Matches

LENGTHS = (4, 6, 5)
"""Tokens of three views, which need not have equally many."""


def random_matches(seed: int = 0, num_pairs: int = 20, num_decoys: int = 3) -> Matches:
    """Pairs between different views, some with the same anchor, some twice; half of the tokens have no depth."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(high: torch.Tensor) -> torch.Tensor:
        return (torch.rand(high.shape, generator=generator) * high).long()

    lengths = torch.tensor(LENGTHS)
    starts = lengths.cumsum(0) - lengths
    own = torch.randint(3, (num_pairs,), generator=generator)
    other = (own + torch.randint(1, 3, (num_pairs,), generator=generator)) % 3
    depth = torch.rand(sum(LENGTHS), generator=generator) + 0.5
    return Matches(
        anchor=starts[own] + drawn(lengths[own]),
        target=starts[other] + drawn(lengths[other]),
        depth=torch.rand(num_pairs, generator=generator) + 0.5,
        decoys=starts[other][:, None] + drawn(lengths[other][:, None].expand(-1, num_decoys)),
        token_depth=depth * (torch.arange(len(depth)) % 2),
        lengths=LENGTHS,
    )


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def view_of(token: int) -> int:
    return 0 if token < 4 else 1 if token < 10 else 2


def losses_by_hand(embeddings, matches, temperature, negatives):
    """Pair by pair and token by token: the independent twin."""
    pairs = list(zip(matches.anchor.tolist(), matches.target.tolist(), strict=True))
    match, depth = [], []
    for (anchor, target), true_depth, decoys in zip(pairs, matches.depth, matches.decoys.tolist(), strict=True):
        score = [math.exp(embeddings[anchor] @ x / temperature) for x in embeddings]
        right = {other for first, other in pairs if first == anchor}
        pool = [t for t in range(len(score)) if view_of(t) != view_of(anchor)]
        if negatives == "target_view":
            pool = [t for t in pool if view_of(t) == view_of(target)]
        wrong = sum(score[t] for t in [*pool, *decoys] if t not in right)
        match.append(-math.log(score[target] / (score[target] + wrong)))
        shown = [t for t in range(len(score)) if view_of(t) == view_of(target) and float(matches.token_depth[t]) > 0]
        expected = sum(score[t] * float(matches.token_depth[t]) for t in shown) / sum(score[t] for t in shown)
        depth.append(abs(expected - float(true_depth)) / (expected + float(true_depth) + DEPTH_OFFSET))
    return sum(match) / len(match), sum(depth) / len(depth)


@pytest.mark.parametrize("negatives", ["other_views", "target_view"])
@pytest.mark.parametrize("num_decoys", [0, 3])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_both_losses_are_those_computed_pair_by_pair(negatives, num_decoys, temperature):
    matches = random_matches(num_decoys=num_decoys)
    embeddings = unit(15, 8)
    found = correspondence_losses(embeddings, matches, temperature=temperature, negatives=negatives)
    expected = losses_by_hand(embeddings.double(), matches, temperature, negatives)
    assert [float(x) for x in found] == pytest.approx(expected, rel=1e-5)  # worst seen 1.5e-7


def shifted(num: int = 6, by: int = 0) -> Matches:
    """Two views of as many tokens; token t of each shows what token t + by of the other does, which is as deep as t says."""
    tokens = torch.arange(num)
    depth = 1.0 + torch.arange(num)
    right = (tokens + by) % num
    return Matches(
        anchor=torch.cat([tokens, num + tokens]),
        target=torch.cat([num + right, right]),
        depth=torch.cat([depth[right]] * 2),
        decoys=torch.zeros(2 * num, 0, dtype=torch.int64),
        token_depth=torch.cat([depth] * 2),
        lengths=(num, num),
    )


def test_right_embeddings_cost_nothing_and_equal_ones_cost_chance():
    right = correspondence_losses(torch.eye(6).repeat(2, 1), shifted())
    assert [float(x) for x in right] == pytest.approx([0, 0], abs=1e-4)
    equal = torch.ones(12, 6) / math.sqrt(6)
    assert float(correspondence_losses(equal, shifted()).match) == pytest.approx(math.log(6))


def test_a_wrong_match_costs_more_and_at_another_depth_most():
    found = correspondence_losses(torch.eye(6).repeat(2, 1), shifted(by=1))
    assert found.match > 10
    assert found.depth > 0.1
    flat = replace(shifted(by=1), depth=torch.ones(12), token_depth=torch.ones(12))
    assert float(correspondence_losses(torch.eye(6).repeat(2, 1), flat).depth) == pytest.approx(0, abs=1e-5)


def test_depth_does_not_depend_on_the_unit_of_length():
    matches = random_matches()
    larger = replace(matches, depth=1000 * matches.depth, token_depth=1000 * matches.token_depth)
    depths = [float(correspondence_losses(unit(15, 8), x).depth) for x in (matches, larger)]
    assert depths[0] == pytest.approx(depths[1], rel=1e-5)


def test_the_same_point_in_a_third_view_is_no_negative():
    """An anchor whose embedding equals those of all its matches costs nothing, however many views show it."""
    embeddings = torch.eye(4).repeat(3, 1)
    others = [(a, t) for a in range(3) for t in range(3) if a != t]
    anchor = torch.tensor([4 * a + i for a, _ in others for i in range(4)])
    target = torch.tensor([4 * t + i for _, t in others for i in range(4)])
    empty = torch.zeros(len(anchor), 0, dtype=torch.int64)
    matches = Matches(anchor, target, torch.ones(len(anchor)), empty, torch.ones(12), (4, 4, 4))
    assert float(correspondence_losses(embeddings, matches).match) == pytest.approx(0, abs=1e-4)


def test_negatives_come_from_other_frames_than_the_anchors_alone():
    """Tokens beside the anchor change neither loss, those of third views change one of the two kinds."""
    pair = Matches(
        torch.tensor([0]),
        torch.tensor([4]),
        torch.ones(1),
        torch.zeros(1, 0, dtype=torch.int64),
        torch.ones(15),
        LENGTHS,
    )
    before = unit(15, 8)
    own, third = before.clone(), before.clone()
    own[1:4] = unit(3, 8, seed=1)
    third[10:] = unit(5, 8, seed=1)
    for negatives, is_same in (("other_views", False), ("target_view", True)):
        a, b, c = (correspondence_losses(x, pair, negatives=negatives).match for x in (before, own, third))
        assert a == b
        assert (a == c) == is_same


@pytest.mark.parametrize("temperature", [0.07, 0.005])
def test_without_any_match_both_losses_are_zero_and_connected(temperature):
    embeddings = unit(15, 8).requires_grad_()
    nothing = random_matches(num_pairs=0)
    losses = correspondence_losses(embeddings, nothing, temperature=temperature)
    sum(losses).backward()
    assert [float(x.detach()) for x in losses] == [0, 0]
    assert not embeddings.grad.any()


@pytest.mark.parametrize("temperature", [0.07, 0.001])
def test_gradients_are_finite_at_any_temperature(temperature):
    embeddings = unit(15, 8).requires_grad_()
    sum(correspondence_losses(embeddings, random_matches(), temperature=temperature)).backward()
    assert embeddings.grad.isfinite().all()
    assert embeddings.grad.any()


def test_a_lower_precision_around_changes_nothing():
    plain = correspondence_losses(unit(15, 8), random_matches())
    with torch.autocast("cpu", torch.bfloat16):
        assert correspondence_losses(unit(15, 8), random_matches()) == plain
