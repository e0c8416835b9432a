import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from g2vlm.config import PictureAttention, Visibility
from g2vlm.layout import Grid, Layout, Past, Picture, Range, Segment, Text, ViewBlock, lay_out, segments_of
from tests.builders import TOKENS, prompt

VISIBILITIES: tuple[Visibility, ...] = ("global", "frame", "block_causal", "mixed")
PICTURE_ATTENTIONS: tuple[PictureAttention, ...] = ("full", "causal")


def read(mask: Tensor) -> list[str]:
    """A mask as one string per query: x where it sees, . where it does not."""
    return ["".join("x" if seen else "." for seen in row) for row in mask.tolist()]


def mask_of_groups(layout: Layout, layer: int, *, keys_in_order: bool) -> Tensor:
    """The dense mask that attending group by group amounts to; every row may be attended once only."""
    mask = torch.zeros(len(layout.order), layout.num_keys, dtype=torch.bool)
    columns = torch.arange(layout.num_keys) if keys_in_order else layout.order
    attended: list[int] = []
    for group in layout.groups(layer, keys_in_order=keys_in_order):
        for index, queries in enumerate(group.queries):
            keys = torch.arange(layout.num_keys) if group.keys is None else group.keys[index]
            attended += queries.tolist()
            for place, query in enumerate(queries):
                stop = len(keys) - len(queries) + place + 1 if group.is_causal else len(keys)
                mask[layout.order[query], columns[keys[:stop]]] = True
    assert len(attended) == len(set(attended))
    return mask


def mask_of_intervals(layout: Layout, layer: int, *, keys_in_order: bool) -> Tensor:
    seen = layout.intervals(layer, keys_in_order=keys_in_order)
    is_near = (seen.near_start[:, None] <= seen.column) & (seen.column < seen.near_stop[:, None])
    is_far = (seen.far_start[:, None] <= seen.column) & (seen.column < seen.far_stop[:, None])
    is_open = seen.is_patch | ~seen.only_patches[:, None]
    return ((is_near | is_far) & is_open)[layout.restore][:, seen.column.argsort()]


def random_grid(choose: random.Random) -> Grid:
    return choose.randint(1, 3), choose.randint(1, 3)


def random_segments(choose: random.Random, *, may_be_isolated: bool) -> list[Segment]:
    def segment() -> Segment:
        match choose.choice(["text", "views", "picture"]):
            case "text":
                return Text(choose.randint(1, 4))
            case "views":
                return ViewBlock(tuple(random_grid(choose) for _ in range(choose.randint(1, 3))))
            case _:
                return Picture(random_grid(choose), isolated=may_be_isolated and choose.random() < 0.3)

    return [segment() for _ in range(choose.randint(1, 5))]


def random_branches(choose: random.Random) -> list[Segment]:
    return [Text(choose.randint(1, 4), is_branch=True) for _ in range(choose.randint(0, 2))]


def random_layout(seed: int, *, may_be_isolated: bool = True) -> Layout:
    choose = random.Random(seed)
    samples = [
        [*random_segments(choose, may_be_isolated=may_be_isolated), *random_branches(choose)]
        for _ in range(choose.randint(1, 3))
    ]
    return lay_out(
        samples,
        visibility=choose.choice(VISIBILITIES),
        view_context=choose.choice(["views", "sequence"]),
        view_positions=choose.choice(["shared", "sequential"]),
        picture_attention=choose.choice(PICTURE_ATTENTIONS),
        padding=[choose.randint(0, 3) for _ in samples],
    )


# Positions


def columns_of(layout: Layout) -> list[tuple[int, ...]]:
    return [tuple(place) for place in layout.positions.T.tolist()]


PATCHES_AT_3 = [(3, 3, 3), (3, 3, 4), (3, 3, 5), (3, 4, 3), (3, 4, 4), (3, 4, 5)]
"""Rotary positions of a 2 x 3 grid whose start marker is at 2."""


@pytest.mark.parametrize("segment", [ViewBlock(((2, 3),)), Picture((2, 3))])
def test_positions_of_a_picture_known_by_hand(segment):
    layout = lay_out([[Text(2), segment, Text(2)]])
    text = [(0, 0, 0), (1, 1, 1), (2, 2, 2), *PATCHES_AT_3, (6, 6, 6)]
    assert columns_of(layout) == [*text, (7, 7, 7), (8, 8, 8)]
    assert layout.samples[0].next_position == 9


def test_shared_views_start_at_one_position_and_text_goes_on_behind_the_furthest():
    layout = lay_out([[Text(2), ViewBlock(((2, 3), (1, 1))), Text(1)]], view_positions="shared")
    small = [(2, 2, 2), (3, 3, 3), (4, 4, 4)]
    assert columns_of(layout)[2:] == [(2, 2, 2), *PATCHES_AT_3, (6, 6, 6), *small, (7, 7, 7)]


def test_sequential_views_go_on_where_the_last_one_ended():
    layout = lay_out([[Text(2), ViewBlock(((2, 3), (1, 1))), Text(1)]], view_positions="sequential")
    small = [(7, 7, 7), (8, 8, 8), (9, 9, 9)]
    assert columns_of(layout)[2:] == [(2, 2, 2), *PATCHES_AT_3, (6, 6, 6), *small, (10, 10, 10)]


def test_every_sample_counts_from_zero():
    layout = lay_out([[Text(2)], [Text(3)]], padding=[1, 0])
    assert layout.positions[0].tolist() == [0, 0, 1, 0, 1, 2]


# Owners


def test_patches_of_views_are_geometric_and_their_markers_are_not():
    layout = lay_out([[Text(1), ViewBlock(((1, 2), (1, 1))), Picture((1, 1))]], padding=[1])
    assert layout.is_geometric.int().tolist() == [0, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert layout.is_image.int().tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]
    assert layout.counts == (9, 3)


def test_each_expert_keeps_the_order_of_the_sequence():
    layout = random_layout(3)
    semantic, geometric = layout.order.split(layout.counts)
    assert semantic.tolist() == (~layout.is_geometric).nonzero().flatten().tolist()
    assert geometric.tolist() == layout.is_geometric.nonzero().flatten().tolist()
    assert layout.order[layout.restore].tolist() == list(range(len(layout.order)))


# Visibility

SCENE = [Text(2), ViewBlock(((1, 1), (1, 1))), Text(2)]
"""Columns 0-1 text, 2-4 and 5-7 views, 8-9 text."""


@pytest.mark.parametrize(
    ("visibility", "first_view", "second_view"),
    [
        ("global", "xxxxxxxx..", "xxxxxxxx.."),
        ("frame", "xxxxx.....", "xx...xxx.."),
        ("block_causal", "xxxxx.....", "xxxxxxxx.."),
    ],
)
def test_what_views_see_known_by_hand(visibility, first_view, second_view):
    layout = lay_out([SCENE], visibility=visibility, view_context="sequence")
    seen = ["x.........", "xx........", *[first_view] * 3, *[second_view] * 3, "xxxxxxxxx.", "xxxxxxxxxx"]
    assert read(layout.visible(0)) == seen
    assert read(layout.visible(1)) == seen


@pytest.mark.parametrize(
    ("visibility", "first_patch", "second_patch", "first_markers"),
    [
        ("global", "...x..x...", "...x..x...", "xxxxxxxx.."),
        ("frame", "...x......", "......x...", "xxxxx....."),
        ("block_causal", "...x......", "...x..x...", "xxxxx....."),
    ],
)
def test_patches_may_see_nothing_but_patches(visibility, first_patch, second_patch, first_markers):
    layout = lay_out([SCENE], visibility=visibility, view_context="views")
    first_view, second_view = read(layout.visible(0))[2:5], read(layout.visible(0))[5:8]
    assert first_view == [first_markers, first_patch, first_markers]
    assert second_view[1] == second_patch


def test_branches_go_on_from_the_same_context_and_do_not_see_each_other():
    layout = lay_out([[Text(2), Text(2, is_branch=True), Text(1, is_branch=True)]])
    assert layout.positions[0].tolist() == [0, 1, 2, 3, 2]
    assert read(layout.visible(0)) == ["x....", "xx...", "xxx..", "xxxx.", "xx..x"]


def test_mixed_takes_turns_and_begins_with_single_views():
    layout = lay_out([SCENE], visibility="mixed")
    turns: list[Visibility] = ["frame", "global", "frame", "global"]
    for layer, visibility in enumerate(turns):
        assert layout.visible(layer).equal(lay_out([SCENE], visibility=visibility).visible(layer))


@pytest.mark.parametrize(
    ("picture_attention", "picture"),
    [("full", ["xxxx.", "xxxx.", "xxxx."]), ("causal", ["xx...", "xxx..", "xxxx."])],
)
def test_what_a_picture_sees_known_by_hand(picture_attention, picture):
    layout = lay_out([[Text(1), Picture((1, 1)), Text(1)]], picture_attention=picture_attention)
    assert read(layout.visible(0)) == ["x....", *picture, "xxxxx"]


def test_nobody_outside_sees_an_isolated_picture():
    layout = lay_out([[Text(1), Picture((1, 1), isolated=True), Picture((1, 1)), Text(1)]])
    isolated, other = ["xxxx...."] * 3, ["x...xxx."] * 3
    assert read(layout.visible(0)) == ["x.......", *isolated, *other, "x...xxxx"]


def test_samples_do_not_see_each_other_and_padding_sees_and_is_seen_by_nothing():
    layout = lay_out([[Text(2)], [Text(1)]], padding=[1, 2])
    assert read(layout.visible(0)) == ["......", ".x....", ".xx...", "......", "......", ".....x"]


@pytest.mark.parametrize("keys_in_order", [False, True])
def test_groups_see_what_the_dense_twin_sees(keys_in_order):
    for seed in range(20):
        layout = random_layout(seed)
        for layer in (0, 1):
            groups = mask_of_groups(layout, layer, keys_in_order=keys_in_order)
            assert groups.equal(layout.visible(layer)), f"seed {seed}, layer {layer}"


@pytest.mark.parametrize("keys_in_order", [False, True])
def test_intervals_say_what_the_dense_twin_sees(keys_in_order):
    for seed in range(20):
        layout = random_layout(seed, may_be_isolated=False)
        for layer in (0, 1):
            intervals = mask_of_intervals(layout, layer, keys_in_order=keys_in_order)
            assert intervals.equal(layout.visible(layer)), f"seed {seed}, layer {layer}"


def test_intervals_refuse_rows_that_see_three_ranges():
    layout = lay_out([[Text(1), Picture((1, 1), isolated=True), Text(1), Picture((1, 1), isolated=True), Text(1)]])
    with pytest.raises(
        ValueError, match=r"allows two per token, but rows \(\(8, 9\),\) see .*\(0, 1\), \(4, 5\), \(8, 9\)"
    ):
        layout.intervals(0, keys_in_order=False)


def test_views_of_one_size_are_attended_together():
    block = ViewBlock(((2, 2), (2, 2), (1, 1)))
    layout = lay_out([[block]], visibility="frame", view_context="sequence")
    shapes = [(tuple(group.queries.shape), group.is_causal) for group in layout.groups(0, keys_in_order=False)]
    assert shapes == [((2, 6), False), ((1, 3), False)]


def test_one_block_of_views_needs_no_choice_of_keys():
    layout = lay_out([[ViewBlock(((2, 2), (1, 1)))]], visibility="global", view_context="sequence")
    (group,) = layout.groups(0, keys_in_order=False)
    assert group.keys is None


def test_one_new_token_behind_a_cache_needs_no_choice_of_keys():
    (group,) = lay_out([[Text(1)]], pasts=[Past(4, ((0, 4),), 7)]).groups(0, keys_in_order=True)
    assert group.keys is None


def test_groups_are_planned_once_per_visibility():
    layout = lay_out([SCENE], visibility="mixed")
    plans = [layout.groups(layer, keys_in_order=False) for layer in range(4)]
    assert plans[0] is plans[2]
    assert plans[1] is plans[3]
    assert plans[0] is not plans[1]


# Behind a cache


def test_new_tokens_see_the_cache_and_each_other_causally():
    layout = lay_out([[Text(2)], [Text(2)]], pasts=[Past(3, ((0, 3),), 7), Past(3, ((2, 3),), 4)])
    assert layout.positions.tolist() == [[7, 8, 4, 5]] * 3
    assert layout.counts == (4, 0)
    assert read(layout.visible(0)) == ["xxxx......", "xxxxx.....", ".......xx.", ".......xxx"]


def test_padding_stands_in_the_cache_and_among_the_new_tokens():
    layout = lay_out([[Text(2)], [Text(1)]], padding=[0, 1], pasts=[Past(2, ((0, 2),), 7), Past(2, ((1, 2),), 4)])
    assert layout.positions.tolist() == [[7, 8, 0, 4]] * 3
    assert read(layout.visible(0)) == ["xxx.....", "xxxx....", "........", ".....x.x"]


def test_pictures_go_on_behind_a_cache_as_they_would_without_one():
    segments = [Text(3), ViewBlock(((2, 2), (1, 3))), Picture((2, 2)), Text(2), Picture((1, 3)), Text(4)]
    whole = lay_out([segments])
    for read_before in (2, 3, 5):
        start = lay_out([segments[:read_before]])
        length = start.num_keys
        past = Past(length, ((0, length),), start.samples[0].next_position)
        behind = lay_out([segments[read_before:]], pasts=[past])
        assert behind.positions.equal(whole.positions[:, length:])
        assert behind.is_image.equal(whole.is_image[length:])
        assert behind.visible(0).equal(whole.visible(0)[length:])
        assert behind.samples[0].next_position == whole.samples[0].next_position


def past_of(choose: random.Random, length: int) -> Past:
    """A cache in which a run of columns is padding."""
    start, stop = sorted(choose.choices(range(length + 1), k=2))
    seen: list[Range] = [(0, start), (stop, length)]
    return Past(length, tuple((a, b) for a, b in seen if a < b), choose.randint(0, 9))


def test_what_goes_on_behind_a_cache_agrees_with_the_dense_twin():
    choose = random.Random(0)
    for _ in range(50):
        num_samples, num_new, cached = choose.randint(1, 3), choose.randint(1, 4), choose.randint(1, 5)
        padding = [choose.randint(0, num_new - 1) for _ in range(num_samples)]
        samples: list[list[Segment]] = [[Text(num_new - pad)] for pad in padding]
        if choose.random() < 0.5:
            samples = [[Picture((2, 1)), *segments] for segments in samples]
        pasts = [past_of(choose, cached) for _ in range(num_samples)]
        layout = lay_out(samples, padding=padding, pasts=pasts)
        assert mask_of_groups(layout, 0, keys_in_order=True).equal(layout.visible(0))


def test_steps_behind_a_padded_cache_agree_with_the_dense_twin():
    choose = random.Random(0)
    for _ in range(50):
        num_samples, num_new, cached = choose.randint(1, 3), choose.randint(1, 4), choose.randint(1, 5)
        pasts = [Past(cached, ((choose.randint(0, cached - 1), cached),)) for _ in range(num_samples)]
        layout = lay_out([[Text(num_new)]] * num_samples, pasts=pasts)
        assert mask_of_groups(layout, 0, keys_in_order=True).equal(layout.visible(0))
        assert mask_of_intervals(layout, 0, keys_in_order=True).equal(layout.visible(0))


# Segments read back from token ids


def segments_from(ids: Tensor, views: Sequence[Grid] = (), pictures: Sequence[Grid] = ()) -> list[Segment]:
    return segments_of(ids[0], TOKENS, views, pictures)


def test_segments_come_back_from_token_ids():
    for seed in range(50):
        choose = random.Random(seed)
        segments: list[Segment] = []
        for segment in random_segments(choose, may_be_isolated=False):
            if not segments or isinstance(segment, Picture) or type(segments[-1]) is not type(segment):
                segments.append(segment)  # texts that touch are one text, blocks that touch one block
        views = [grid for block in segments if isinstance(block, ViewBlock) for grid in block.grids]
        pictures = [picture.grid for picture in segments if isinstance(picture, Picture)]
        assert segments_from(prompt(*segments), views, pictures) == segments


def test_views_that_touch_are_one_block():
    ids = prompt(ViewBlock(((1, 2),)), ViewBlock(((2, 2),)), Text(1), ViewBlock(((1, 1),)))
    blocks = segments_from(ids, [(1, 2), (2, 2), (1, 1)])
    assert blocks == [ViewBlock(((1, 2), (2, 2))), Text(1), ViewBlock(((1, 1),))]


@pytest.mark.parametrize(
    ("segment", "grids", "message"),
    [
        (
            ViewBlock(((2, 3),)),
            {"views": [(2, 2)]},
            r"view at token 2 has 6 placeholders of id 44, but its grid is \(2, 2\)",
        ),
        (ViewBlock(((2, 3),)), {}, r"view at token 2 has 6 placeholders of id 44, but its grid is None"),
        (
            Picture((2, 3)),
            {"pictures": [(3, 3)]},
            r"image at token 2 has 6 placeholders of id 45, but its grid is \(3, 3\)",
        ),
        (Picture((2, 3)), {"views": [(2, 3)]}, r"image at token 2 .* its grid is None"),
        (ViewBlock(((2, 3),)), {"views": [(2, 3), (1, 1)]}, r"1 of 2 grids have no placeholders"),
        (Picture((2, 3)), {"pictures": [(2, 3)] * 3}, r"2 of 3 grids have no placeholders"),
    ],
)
def test_grids_must_be_those_of_the_placeholders(segment, grids, message):
    with pytest.raises(ValueError, match=message):
        segments_from(prompt(Text(2), segment, Text(1)), **grids)


@pytest.mark.parametrize("tail", [[], [1], [TOKENS.vision_start], [TOKENS.image_patch]])
def test_a_picture_that_is_not_closed_is_refused(tail):
    ids = torch.tensor([[TOKENS.vision_start, *[TOKENS.view_patch] * 4, *tail]])
    with pytest.raises(ValueError, match=r"view at token 0 .* close it with 43"):
        segments_from(ids, [(2, 2)])
