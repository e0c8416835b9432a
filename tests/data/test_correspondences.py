"""Reprojection is exact on procedural rooms, and agrees with itself on real scenes."""

import random
from dataclasses import replace

import pytest
import torch

from g2vlm.data.augment import Augmentation
from g2vlm.data.correspondences import (
    COARSE_AND_FINE,
    has_matches,
    matches_of,
    most_visible,
    token_depth,
    tokens_at,
    tracks,
    wrong_places,
)
from g2vlm.data.readers.scene_json import read_scene
from g2vlm.data.samples import Bucket
from g2vlm.data.scenes import rooms
from g2vlm.data.sources import only_scene, views_of
from g2vlm.geometry.camera import unproject
from g2vlm.geometry.pose import invert, transform

SIZE, GRID = (64, 80), (8, 10)


@pytest.fixture(scope="module")
def room():
    return only_scene(rooms([3], num_views=4, height=SIZE[0], width=SIZE[1]).views)


def track_by_hand(views, i, j, row, column, margin):
    """One point with the textbook formulas, the independent twin: its pixel, depth and visibility in view j."""
    (fx, _, cx), (_, fy, cy), _ = views.intrinsics[i].tolist()
    z = float(views.depth[i, row, column])
    point = torch.tensor([(column + 0.5 - cx) / fx * z, (row + 0.5 - cy) / fy * z, z, 1.0])
    seen = invert(views.poses[j]) @ views.poses[i] @ point
    if seen[2] <= 0:
        return None
    x, y = (views.intrinsics[j] @ (seen[:3] / seen[2]))[:2].tolist()
    if not (margin <= x < SIZE[1] - margin and margin <= y < SIZE[0] - margin):
        return None
    shown = float(views.depth[j, int(y), int(x)])
    return (x, y, float(seen[2])) if abs(shown - seen[2]) < 0.05 * min(shown, seen[2]) else None


@pytest.mark.parametrize("margin", [0.0, 4.0])
def test_tracks_are_those_found_one_by_one(room, margin):
    found = tracks(room, [(4, 5)], margin=margin)
    count = 0
    for i in range(4):
        for k in range(20):
            row, column = 8 + k // 5 * 16, 8 + k % 5 * 16
            expected = [track_by_hand(room, i, j, row, column, margin) for j in range(4)]
            if expected[i] is None:
                continue
            assert found.source[count] == i
            for j, known in enumerate(expected):
                assert bool(found.visible[count, j]) == (known is not None)
                if known is not None:
                    x, y, z = known
                    assert found.pixels[count, j].tolist() == pytest.approx([x, y], abs=1e-3)
                    assert float(found.depth[count, j]) == pytest.approx(z, abs=1e-5)
            count += 1
    assert count == len(found.source)
    others = found.visible[torch.arange(4) != found.source[:, None]]
    assert others.any()
    assert not others.all()


def test_reprojection_hits_the_true_points_of_a_room():
    """Exactly, because rooms are cast analytically: every visible point lies on the surface that the other view shows there."""
    views = only_scene(rooms([5], num_views=3, height=168, width=168).views)
    found = tracks(views)
    point, other = (found.visible & (torch.arange(3) != found.source[:, None])).nonzero(as_tuple=True)
    own, pixels = found.source[point], found.pixels[point, other]
    rays = torch.cat([pixels, torch.ones(len(pixels), 1)], 1)[..., None]
    seen = (torch.linalg.inv(views.intrinsics[other]) @ rays)[..., 0] * found.depth[point, other][:, None]
    world = transform(views.poses[other], seen)
    start = found.pixels[point, own]
    row, column = start[:, 1].long(), start[:, 0].long()
    true = transform(views.poses[own], unproject(views.depth, views.intrinsics)[own, row, column])
    assert (world - true).norm(dim=1).max() < 1e-4  # metres; worst seen 1.2e-6
    column, row = pixels.long().unbind(1)
    surface = unproject(views.depth, views.intrinsics)[other, row, column]
    off = ((surface - seen) * views.normals[other, row, column]).sum(1).abs()
    assert (off < 0.01).float().mean() > 0.97  # a corner or an edge inside of a pixel is all that may be off; seen 0.99


def test_a_point_behind_something_is_not_visible(room):
    """A wall close before the second camera hides everything from it, and it from the others."""
    depth = room.depth.clone()
    depth[1] = 0.3
    found = tracks(replace(room, depth=depth), [(8, 8)], sources=[0, 1])
    own = torch.arange(4) == found.source[:, None]
    assert found.visible[own].all()
    assert not found.visible[found.source == 0][:, 1].any()


def test_points_without_depth_and_in_the_margin_are_left_out(room):
    mask = room.mask.clone()
    mask[0, :, :40] = False
    found = tracks(replace(room, mask=mask), sources=[0])
    assert (found.pixels[:, 0, 0] > 40).all()
    seen = found.pixels[found.visible]
    assert seen.min() >= 4
    assert (seen <= torch.tensor([76.0, 60.0])).all()
    assert len(found.source) < sum(rows * columns for rows, columns in COARSE_AND_FINE) / 2


def test_tracks_of_few_views_go_first_and_chance_decides_among_equals(room):
    whole = tracks(room)
    counts = whole.visible.sum(1)
    for part in (0.25, 0.5, 1.0):
        best = most_visible(whole, part, torch.Generator().manual_seed(0))
        kept = best.visible.sum(1)
        assert len(kept) == -(-len(counts) * part // 1)
        assert kept.sort().values.tolist() == counts.sort().values[-len(kept) :].tolist()
    ways = [most_visible(whole, 0.5, torch.Generator().manual_seed(seed)).pixels for seed in (0, 0, 1)]
    assert torch.equal(ways[0], ways[1])
    assert not torch.equal(ways[0], ways[2])


def test_of_no_tracks_none_is_kept(room):
    nothing = tracks(replace(room, mask=torch.zeros_like(room.mask)))
    assert len(most_visible(nothing).source) == 0
    assert len(matches_of(nothing, room, GRID, decoys=2).anchor) == 0


def test_matches_are_the_tokens_in_which_a_track_is_seen(room):
    found = tracks(room, [GRID], margin=0.0)
    matches = matches_of(found, room, GRID)
    assert matches.lengths == (80,) * 4
    pairs = set()
    for source, pixels, visible in zip(
        found.source.tolist(), found.pixels.tolist(), found.visible.tolist(), strict=True
    ):
        tokens = [
            80 * j + int(y) // 8 * 10 + int(x) // 8 if seen else None
            for j, ((x, y), seen) in enumerate(zip(pixels, visible, strict=True))
        ]
        pairs |= {(tokens[source], token) for j, token in enumerate(tokens) if j != source and token is not None}
    assert set(zip(matches.anchor.tolist(), matches.target.tolist(), strict=True)) == pairs
    near = matches.token_depth[matches.target] / matches.depth - 1
    assert near.abs().median() < 0.1  # a token's mean depth against that of one point in it; seen 0.06


def test_tokens_may_divide_a_picture_into_any_grid():
    pixels = torch.tensor([[0.0, 0.0], [33.0, 0.0], [34.0, 50.0], [99.9, 99.9]])
    assert tokens_at(pixels, (100, 100), (2, 3)).tolist() == [0, 0, 4, 5]


def test_a_tokens_depth_is_the_mean_of_what_is_known():
    depth = torch.tensor([[[1.0, 3.0, 5.0, 7.0], [2.0, 2.0, 9.0, 9.0]]])
    mask = torch.tensor([[[1, 1, 1, 0], [0, 1, 0, 0]]]).bool()
    assert token_depth(depth, mask, (1, 2)).tolist() == pytest.approx([2.0, 5.0])
    assert token_depth(depth, mask & False, (1, 2)).tolist() == [0, 0]


def test_decoys_lie_within_half_a_picture_and_inside_it(room):
    pixels = torch.tensor([[0.0, 0.0], [79.9, 63.9], [40.0, 32.0]])
    places = wrong_places(pixels, SIZE, 500, torch.Generator().manual_seed(0))
    sides = torch.tensor([80.0, 64.0])
    assert places.min() >= 0
    assert (places < sides).all()
    assert ((places - pixels[:, None]).abs() <= sides / 2 + 1e-3).all()
    assert (places[2].amax(0) > 0.95 * sides).all()
    matches = matches_of(tracks(room), room, GRID, decoys=5, generator=torch.Generator().manual_seed(0))
    assert matches.decoys.shape == (len(matches.anchor), 5)
    assert torch.equal(matches.decoys // 80, (matches.target // 80)[:, None].expand(-1, 5))


def test_views_without_depth_or_alone_have_no_matches(room):
    assert has_matches(room)
    assert not has_matches(replace(room, depth=None))
    assert not has_matches(replace(room, **{name: x[:1] for name, x in vars(room).items()}))


@pytest.mark.parametrize(
    "name",
    [
        "train/redkitchen_7scenes",  # median seen 0.001 pixels
        "train/apcbox_realsense",  # 0.02
        "val/open3d_chair_kinect",  # 0.01
        "val/icl_livingroom_synthetic",  # 0.34, far views of slanted walls
    ],
)
def test_points_of_real_scenes_come_back_to_where_they_started(shared, name):
    """There by one view's depth and back by the other's: what is lost is the error of both sensors and of the poses."""
    folder = shared / "data" / name
    if not folder.is_dir():
        pytest.skip(f"no scene {name} in {shared.name}/data")
    frames = read_scene(folder).frames[:4]
    views = views_of(
        frames, [x.read() for x in frames], Bucket(4, 240, 320), random.Random(0), Augmentation(0, 1.0, 0.0)
    )
    found = tracks(views, sources=[0])
    (point,) = found.visible[:, 1].nonzero(as_tuple=True)
    assert len(point) > 50
    pixels = found.pixels[point, 1]
    column, row = pixels.long().unbind(1)
    z = views.depth[1, row, column]
    rays = torch.cat([pixels, torch.ones(len(pixels), 1)], 1) @ torch.linalg.inv(views.intrinsics[1]).T
    back = transform(invert(views.poses[0]), transform(views.poses[1], rays * z[:, None]))
    returned = (back @ views.intrinsics[0].T)[:, :2] / back[:, 2:]
    assert (returned - found.pixels[point, 0]).norm(dim=1).median() < 0.5
