import pytest
import torch

from g2vlm.rope import grid_angles, multimodal_angles, planar_angles, rotate, rotate_planar

SECTIONS = (2, 3, 3)
THETA = 1e4


def scores(q_position: list[int], k_position: list[int]) -> torch.Tensor:
    """Product of one fixed query and key, each rotated to its (temporal, row, column) position."""
    q, k = torch.randn(2, 1, 1, 16, generator=torch.Generator().manual_seed(0))
    q, k = (
        rotate(x, multimodal_angles(torch.tensor(place)[:, None], SECTIONS, THETA))
        for x, place in ((q, q_position), (k, k_position))
    )
    return (q * k).sum()


def planar_scores(q_place: tuple[int, int], k_place: tuple[int, int]) -> torch.Tensor:
    """Product of one fixed query and key, each rotated to its place in a 9 x 9 grid."""
    q, k = torch.randn(2, 1, 1, 16, generator=torch.Generator().manual_seed(0))
    angles = grid_angles(9, 9, 16, 100.0, torch.device("cpu")).view(9, 9, 1, 8)
    return (rotate_planar(q, angles[q_place]) * rotate_planar(k, angles[k_place])).sum()


def test_a_rotation_keeps_norms():
    torch.manual_seed(0)
    x, angles = torch.randn(7, 3, 16), 10 * torch.randn(7, 8)
    for turned in (rotate(x, angles), rotate_planar(x, angles)):
        torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_channel_i_turns_with_channel_i_plus_half():
    x = torch.tensor([1.0, 10.0, 2.0, 20.0]).view(1, 1, 4)
    quarter_turn_of_the_first_pair = torch.tensor([[torch.pi / 2, 0.0]])
    expected = torch.tensor([-2.0, 10.0, 1.0, 20.0]).view(1, 1, 4)
    torch.testing.assert_close(rotate(x, quarter_turn_of_the_first_pair), expected)


def test_planar_rotation_pairs_channels_inside_each_half():
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 4)
    quarter_turn_by_row = torch.tensor([[torch.pi / 2, 0.0]])
    expected = torch.tensor([-2.0, 1.0, 3.0, 4.0]).view(1, 1, 4)
    torch.testing.assert_close(rotate_planar(x, quarter_turn_by_row), expected)


def test_products_depend_on_differences_of_positions_only():
    torch.testing.assert_close(scores([5, 7, 9], [4, 3, 9]), scores([15, 27, 39], [14, 23, 39]), atol=1e-5, rtol=0)
    torch.testing.assert_close(planar_scores((5, 3), (4, 1)), planar_scores((8, 8), (7, 6)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_axis_counts(axis):
    moved = [5, 5, 5]
    moved[axis] += 1
    assert (scores(moved, [5, 5, 5]) - scores([5, 5, 5], [5, 5, 5])).abs() > 1e-3


@pytest.mark.parametrize("place", [(1, 0), (0, 1)])
def test_row_and_column_both_count(place):
    assert (planar_scores(place, (0, 0)) - planar_scores((0, 0), (0, 0))).abs() > 1e-3


def test_equal_positions_on_all_axes_are_ordinary_rotary_embedding():
    positions = torch.arange(6)
    ordinary = positions[:, None] * THETA ** (-torch.arange(8) / 8)
    torch.testing.assert_close(multimodal_angles(positions.expand(3, -1), SECTIONS, THETA), ordinary)


def test_frequencies_go_to_time_then_rows_then_columns():
    angles = multimodal_angles(torch.tensor([[1], [100], [10000]]), SECTIONS, 1.0)  # base 1: every frequency is 1
    assert angles.tolist() == [[1.0] * 2 + [100.0] * 3 + [10000.0] * 3]


def test_angles_of_a_grid_run_along_rows_and_begin_with_the_row():
    angles = grid_angles(2, 3, 8, 1.0, torch.device("cpu"))  # base 1: every frequency is 1
    assert angles.tolist() == [[r, r, c, c] for r in (0, 1) for c in (0, 1, 2)]


def test_rows_and_columns_may_be_numbered_from_one():
    angles = grid_angles(2, 3, 8, 1.0, torch.device("cpu"), first=1)
    assert angles.tolist() == [[r, r, c, c] for r in (1, 2) for c in (1, 2, 3)]


def test_frequencies_fall_from_one_towards_the_inverse_base():
    angles = planar_angles(torch.tensor([[1, 0]]), grid_angles(1, 2, 16, 100.0, torch.device("cpu"))[1, 4:])
    torch.testing.assert_close(angles[0, :4], torch.tensor([1.0, 100**-0.25, 100**-0.5, 100**-0.75]))


def test_half_precision_turns_by_angles_of_full_precision():
    """A large angle that bfloat16 could not tell from its neighbours."""
    x = torch.randn(1, 1, 16, generator=torch.Generator().manual_seed(0))
    angles = torch.full((1, 8), 1001.3)
    torch.testing.assert_close(rotate(x.bfloat16(), angles).float(), rotate(x, angles), atol=2e-2, rtol=2e-2)
