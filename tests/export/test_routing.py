import io

import numpy as np
import pytest
import torch
from PIL import Image

from g2vlm.drawing import even_colours
from g2vlm.export.routing import BAR, GAP, HEADER, PANEL, routing_overview, weights_of_pictures

LAYERS = (4, 5, 7)
COLOURS = even_colours(np.linspace(0, 1, 3))
ONE = np.eye(3)
WEIGHTS = np.stack([[ONE[0], ONE[1]], [ONE[2], [0.2, 0.8, 0.0]]])
"""Of 2 x 2 tokens: they take most of layers 4, 5, 7, 5."""


def drawn(*weights):
    pictures = [np.full((28, 28, 3), 90 + i, np.uint8) for i in range(len(weights))]
    return np.asarray(Image.open(io.BytesIO(routing_overview(pictures, weights, LAYERS))))


def test_every_token_has_the_colour_of_the_layer_it_took_most_of():
    page = drawn(WEIGHTS)
    left, quarter = 2 * GAP + PANEL, PANEL // 4
    for row, column, layer in ((0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 1)):
        at = (HEADER + quarter + 2 * quarter * row, left + quarter + 2 * quarter * column)
        assert page[at].tolist() == COLOURS[layer].tolist()
    assert page[HEADER + PANEL // 2, GAP + PANEL // 2].tolist() == [90] * 3


def test_bars_are_as_long_as_the_mean_over_all_tokens():
    page = drawn(WEIGHTS)
    bars = page[HEADER : HEADER + 3 * BAR, GAP + 3 * (PANEL + GAP) :]
    lengths = [(bars[i * BAR + BAR // 2] == COLOURS[i]).all(-1).sum() for i in range(3)]
    expected = [1.2 / 4, 1.8 / 4, 1 / 4]
    assert np.allclose(np.array(lengths) / sum(lengths), expected, atol=0.02)


def test_there_is_a_row_for_every_picture():
    page = drawn(WEIGHTS, WEIGHTS[::-1], WEIGHTS)
    assert page.shape[0] == HEADER + 3 * (PANEL + GAP)
    tops = [HEADER + i * (PANEL + GAP) for i in range(3)]
    assert [page[top + 5, GAP + 5, 0] for top in tops] == [90, 91, 92]
    assert page[tops[1] + 5, 2 * GAP + PANEL + 5].tolist() == COLOURS[2].tolist()


def test_weights_of_other_layers_are_refused():
    with pytest.raises(ValueError, match="weights are of 3 layers, but layers names 2; name each of them"):
        routing_overview([np.zeros((28, 28, 3), np.uint8)], [WEIGHTS], (4, 5))


def test_tokens_of_a_batch_are_dealt_out_to_its_pictures_row_by_row():
    routing = torch.arange(24.0).view(8, 3)
    first, second = weights_of_pictures(routing, torch.tensor([[1, 2, 4], [1, 4, 6]]))
    assert first.tolist() == routing[:2].view(1, 2, 3).tolist()
    assert second.tolist() == routing[2:].view(2, 3, 3).tolist()
