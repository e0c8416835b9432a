import pytest
import torch
from torch import nn

from g2vlm.pathways.base import GeometryMerger, ascending, merge_cells


def numbered(rows, columns, views=1):
    return torch.arange(float(views * rows * columns)).view(views, rows, columns, 1)


def test_cells_and_their_patches_are_row_major():
    assert merge_cells(numbered(4, 4))[0, :, :, 0].tolist() == [
        [0, 1, 4, 5],
        [2, 3, 6, 7],
        [8, 9, 12, 13],
        [10, 11, 14, 15],
    ]


def test_a_last_odd_row_or_column_is_left_out():
    cells = merge_cells(numbered(3, 5, views=2))
    assert cells[0, :, :, 0].tolist() == [[0, 1, 5, 6], [2, 3, 7, 8]]
    assert torch.equal(cells[1], cells[0] + 15)


@pytest.mark.parametrize(("norm", "kind"), [("layer", nn.LayerNorm), ("rms", nn.RMSNorm)])
def test_the_norm_is_taken_of_each_patch_and_channels_stay_together(norm, kind):
    torch.manual_seed(0)
    merger = GeometryMerger(6, 10, 8, norm=norm, zero_init=False)
    cells = torch.randn(3, 4, 6)
    assert isinstance(merger.norm, kind)
    assert merger.norm.eps == 1e-6
    joined = torch.cat([merger.norm(cells[:, i]) for i in range(4)], -1)
    expected = merger.fc2(nn.GELU()(merger.fc1(joined)))
    torch.testing.assert_close(merger(cells), expected)
    assert (merger(cells[:, [0, 2, 1, 3]]) - expected).abs().max() > 1e-4


def test_without_a_norm_the_mean_of_the_patches_is_merged():
    merger = GeometryMerger(6, 10, 8, norm=None, zero_init=False)
    cells = torch.randn(3, 4, 6)
    torch.testing.assert_close(merger(cells), merger(cells.mean(1, keepdim=True).expand(-1, 4, -1)))
    torch.testing.assert_close(merger(cells), merger(cells[:, [3, 1, 0, 2]]))


def test_a_merger_starts_at_zero_unless_asked_not_to():
    cells = torch.randn(3, 4, 6)
    assert not GeometryMerger(6, 10, 8, norm="layer", zero_init=True)(cells).any()
    assert GeometryMerger(6, 10, 8, norm="layer", zero_init=False)(cells).any()


def test_features_are_cast_to_the_type_of_the_merger():
    merger = GeometryMerger(6, 10, 8, norm="rms", zero_init=False).bfloat16()
    assert merger(torch.randn(3, 4, 6)).dtype == torch.bfloat16


def test_an_encoder_is_asked_for_each_layer_once():
    assert ascending((23, 11, 23)) == (11, 23)
