import pytest
import torch
from torch import Tensor

from g2vlm.heads.geometry import GeometryHeads, in_batches
from g2vlm.layout import Grid
from tests.builders import small_config

GRIDS: list[Grid] = [(2, 3), (3, 2), (2, 3)]


def small_heads(**heads: bool) -> GeometryHeads:
    torch.manual_seed(0)
    return GeometryHeads(small_config(heads=heads))


def tokens(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows * columns, 32, generator=generator) for rows, columns in GRIDS]


@torch.no_grad()
def test_every_view_gets_maps_of_its_own_size():
    geometry = small_heads()(tokens(), GRIDS, first_views=[0, 0, 0])
    sizes = [(8, 12), (12, 8), (8, 12)]
    assert geometry.poses.shape == (3, 4, 4)
    for maps in (geometry.local_points, geometry.global_points, geometry.normals):
        assert [tuple(x.shape) for x in maps] == [(*size, 3) for size in sizes]
    assert [tuple(x.shape) for x in geometry.confidence] == sizes


@torch.no_grad()
def test_reading_views_together_equals_reading_each_alone():
    heads, views = small_heads(), tokens()
    together = heads(views, GRIDS)
    for index, (view, grid) in enumerate(zip(views, GRIDS, strict=True)):
        alone = heads([view], [grid])
        torch.testing.assert_close(together.poses[index], alone.poses[0], atol=1e-5, rtol=1e-5)
        for ours, theirs in (
            (together.local_points, alone.local_points),
            (together.confidence, alone.confidence),
            (together.normals, alone.normals),
        ):
            torch.testing.assert_close(ours[index], theirs[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_values_keep_what_they_promise():
    geometry = small_heads()(tokens(), GRIDS)
    for points, normals in zip(geometry.local_points, geometry.normals, strict=True):
        assert (points[..., 2] > 0).all()
        torch.testing.assert_close(normals.norm(dim=-1), torch.ones(normals.shape[:2]))


@torch.no_grad()
@pytest.mark.parametrize("absent", ["global_points", "confidence", "normals"])
def test_an_absent_head_has_no_weights_and_reads_none(absent):
    heads = small_heads(**{absent: False})
    assert not any(name.startswith(absent) for name, _ in heads.named_parameters())
    geometry = heads(tokens(), GRIDS, first_views=[0, 0, 0])
    present = {"global_points", "confidence", "normals"} - {absent}
    assert getattr(geometry, absent) is None
    assert all(getattr(geometry, name) is not None for name in present)


@torch.no_grad()
def test_global_points_are_read_only_with_first_views():
    assert small_heads()(tokens(), GRIDS).global_points is None


@torch.no_grad()
def test_global_points_look_at_view_0_of_their_own_scene():
    """Views 0 and 1 are one scene, view 2 is another."""
    heads, views = small_heads(), tokens()
    before = heads(views, GRIDS, first_views=[0, 0, 2]).global_points
    views[0] = -views[0]
    after = heads(views, GRIDS, first_views=[0, 0, 2]).global_points
    changed = [bool((a - b).abs().max() > 1e-4) for a, b in zip(after, before, strict=True)]
    assert changed == [True, True, False]


@torch.no_grad()
def test_global_points_of_scenes_with_first_views_of_different_sizes():
    heads, views = small_heads(), tokens()
    grids, views = [*GRIDS, GRIDS[0]], [*views, views[0]]
    together = heads(views, grids, first_views=[0, 1, 1, 3]).global_points
    alone = heads(views[1:3], grids[1:3], first_views=[0, 0]).global_points
    torch.testing.assert_close(together[1:3], alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together[0], together[3], atol=1e-5, rtol=1e-5)


def test_batches_are_read_once_per_key_and_handed_back_in_order():
    calls: list[list[int]] = []

    def read(batch: Tensor, grid: Grid, indices: list[int]) -> Tensor:
        calls.append(indices)
        return 10 * batch

    views = [torch.tensor([float(i)]) for i in range(4)]
    grids = [(1, 1), (1, 2), (1, 1), (1, 2)]
    assert [x.item() for x in in_batches(read, views, grids)] == [0, 10, 20, 30]
    assert calls == [[0, 2], [1, 3]]
    in_batches(read, views, grids, keys=["a", "a", "b", "a"])
    assert calls[2:] == [[0, 1, 3], [2]]


def test_many_views_are_read_a_few_at_a_time_unless_gradients_are_kept(monkeypatch):
    monkeypatch.setattr("g2vlm.heads.geometry.TOKENS_AT_ONCE", 8)
    views, grids, sizes = [torch.rand(4, 2) for _ in range(5)], [(2, 2)] * 5, []

    def read(tokens, grid, indices):
        sizes.append(len(indices))
        return tokens.sum((1, 2))

    together = in_batches(read, views, grids)
    with torch.no_grad():
        apart = in_batches(read, views, grids)
        in_batches(read, views, grids, is_whole=True)
    assert sizes == [5, 2, 2, 1, 5]
    torch.testing.assert_close(torch.stack(apart), torch.stack(together))
