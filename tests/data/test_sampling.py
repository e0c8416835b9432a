import random

import numpy as np
import pytest

from g2vlm.data.sampling import FrameChoice, Shapes, choose_frames, overlap, random_size
from g2vlm.data.scenes import correspondences, rooms


def test_sides_are_whole_patches_within_the_range_of_aspects():
    shapes = Shapes(resolution=518, aspects=(0.5, 1.0), portrait=0.5)
    sizes = [random_size(random.Random(seed), shapes) for seed in range(300)]
    assert all(side % 14 == 0 for size in sizes for side in size)
    assert all(max(size) == 518 for size in sizes)
    assert min(min(size) for size in sizes) in (252, 266)
    assert max(min(size) for size in sizes) == 518
    assert 0.4 < sum(height > width for height, width in sizes) / 300 < 0.55


def test_the_longer_side_is_one_of_all_resolutions():
    shapes = Shapes(resolution=112, other_resolutions=(56, 84), aspects=(0.5, 1.0))
    sizes = [random_size(random.Random(seed), shapes) for seed in range(200)]
    assert {max(size) for size in sizes} == {56, 84, 112}
    assert all(0.4 < min(size) / max(size) <= 1 for size in sizes)
    with pytest.raises(ValueError, match="resolution 85 is not a multiple"):
        Shapes(resolution=112, other_resolutions=(85,))


@pytest.mark.parametrize(
    ("available", "expected"),
    [((1, 100), (2, 24)), ((1, 1), (1, 1)), ((1, 8), (2, 8)), ((30, 40), (30, 30)), ((0, 0), (0, 0))],
)
def test_a_source_gives_as_many_views_as_it_can(available, expected):
    assert Shapes(views=(2, 24)).views_of(available) == expected


def test_frames_come_from_a_window_of_the_sequence():
    choice = FrameChoice(window=5, random_frames=0.0)
    firsts = set()
    for seed in range(200):
        frames = choose_frames(random.Random(seed), 100, 4, is_sequence=True, choice=choice)
        assert len(set(frames)) == 4
        assert max(frames) - min(frames) < 20
        firsts.add(min(frames))
    assert min(firsts) < 5
    assert max(firsts) > 85


def test_some_samples_come_from_anywhere():
    choice = FrameChoice(window=5, random_frames=0.3)
    spread = [
        np.ptp(choose_frames(random.Random(seed), 1000, 3, is_sequence=True, choice=choice)) for seed in range(300)
    ]
    assert 0.2 < np.mean([width >= 15 for width in spread]) < 0.4


def test_photos_without_an_order_have_no_window():
    choice = FrameChoice(window=2, random_frames=0.0)
    frames = [choose_frames(random.Random(seed), 500, 2, is_sequence=False, choice=choice) for seed in range(20)]
    assert np.mean([abs(a - b) for a, b in frames]) > 50


def test_short_scenes_are_used_whole():
    assert sorted(choose_frames(random.Random(0), 5, 5, is_sequence=True, choice=FrameChoice())) == [0, 1, 2, 3, 4]


def test_overlap_is_the_part_that_others_see():
    room = rooms([5], num_views=2, height=96, width=128)
    depth, intrinsics, poses = (
        [x.double().numpy() for x in values[0]]
        for values in (room.views.depth, room.views.intrinsics, room.views.poses)
    )
    measured = overlap(depth, intrinsics, poses)
    visible = np.mean([correspondences(room, 0, i, 1 - i, 4000).visible.float().mean() for i in (0, 1)])
    assert measured == pytest.approx(visible, abs=0.06)
    assert overlap(depth[:1] * 2, intrinsics[:1] * 2, poses[:1] * 2) > 0.99

    turned = poses[0] @ np.diag([-1.0, 1, -1, 1])
    assert overlap([depth[0]] * 2, [intrinsics[0]] * 2, [poses[0], turned]) == 0
    assert overlap([0 * depth[0]] * 2, intrinsics, poses) == 0


@pytest.mark.parametrize(
    ("record", "options", "told"),
    [
        (Shapes, {"resolution": 100}, "100"),
        (Shapes, {"aspects": (0.5, 1.5)}, "1.5"),
        (Shapes, {"views": (3, 2)}, "3, 2"),
        (Shapes, {"portrait": 2.0}, "2.0"),
        (FrameChoice, {"window": 0}, "0"),
        (FrameChoice, {"overlap": (0.5, 0.2)}, "0.5, 0.2"),
    ],
)
def test_impossible_ranges_are_refused(record, options, told):
    with pytest.raises(ValueError, match=told):
        record(**options)
