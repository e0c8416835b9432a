import math
from dataclasses import replace

import pytest
import torch

from g2vlm.data.scenes import rooms
from g2vlm.geometry.pose import invert
from g2vlm.losses.correspondence import UNSEEN, correspondence_loss, patch_matches

PATCH = 8


@pytest.fixture(scope="module")
def room():
    return rooms([3, 4], num_views=3, height=32, width=40).views


def matches_of(views):
    return patch_matches(views.depth, views.mask, views.intrinsics, views.poses, PATCH)


def match_by_hand(views, scene, i, j, patch):
    """One patch at a time, with the textbook formulas: the independent twin."""
    row, column = (n * PATCH + PATCH // 2 for n in divmod(patch, 40 // PATCH))
    fx, fy = views.intrinsics[scene, i, 0, 0], views.intrinsics[scene, i, 1, 1]
    cx, cy = views.intrinsics[scene, i, 0, 2], views.intrinsics[scene, i, 1, 2]
    z = views.depth[scene, i, row, column]
    point = torch.stack([(column + 0.5 - cx) / fx * z, (row + 0.5 - cy) / fy * z, z, torch.ones(())])
    seen = invert(views.poses[scene, j]) @ views.poses[scene, i] @ point
    if seen[2] <= 0:
        return UNSEEN
    x, y = (views.intrinsics[scene, j] @ (seen[:3] / seen[2]))[:2].tolist()
    if not (0 <= x < 40 and 0 <= y < 32):
        return UNSEEN
    depth = views.depth[scene, j, int(y), int(x)]
    if abs(depth - seen[2]) >= 0.05 * depth:
        return UNSEEN
    return int(y) // PATCH * (40 // PATCH) + int(x) // PATCH


def test_matches_are_those_found_one_by_one(room):
    matches = matches_of(room)
    for scene, i, j, patch in torch.cartesian_prod(*(torch.arange(n) for n in matches.shape)).tolist():
        assert matches[scene, i, j, patch] == match_by_hand(room, scene, i, j, patch)


def test_some_patches_are_seen_elsewhere_and_some_are_not(room):
    others = matches_of(room)[:, 0, 1:]
    assert (others == UNSEEN).any()
    assert (others != UNSEEN).any()


def test_a_patch_without_depth_has_no_match(room):
    matches = matches_of(replace(room, mask=torch.zeros_like(room.mask)))
    assert (matches == UNSEEN).all()


def test_right_embeddings_cost_nothing_and_equal_ones_cost_chance():
    matches = torch.arange(6).expand(1, 2, 2, 6).clone()
    right = torch.eye(6).expand(1, 2, 6, 6)
    torch.testing.assert_close(correspondence_loss(right, matches), torch.zeros(()), atol=1e-4, rtol=0)
    equal = torch.ones(1, 2, 6, 6) / math.sqrt(6)
    assert correspondence_loss(equal, matches).item() == pytest.approx(math.log(6))


def test_a_wrong_match_costs_more():
    matches = torch.arange(6).expand(1, 2, 2, 6)
    right = torch.eye(6).expand(1, 2, 6, 6)
    assert correspondence_loss(right, matches.roll(1, -1)) > 10


def test_without_any_match_the_loss_is_zero_and_connected():
    embeddings = torch.nn.functional.normalize(torch.randn(1, 2, 6, 4), dim=-1).requires_grad_()
    loss = correspondence_loss(embeddings, torch.full((1, 2, 2, 6), UNSEEN))
    loss.backward()
    assert loss == 0
    assert not embeddings.grad.any()


def test_a_view_is_not_its_own_target():
    matches = torch.full((1, 2, 2, 6), UNSEEN)
    matches[:, [0, 1], [0, 1]] = torch.arange(6)
    assert correspondence_loss(torch.eye(6).expand(1, 2, 6, 6), matches) == 0
