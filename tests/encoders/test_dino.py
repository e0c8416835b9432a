import pytest
import torch
from torch import Tensor
from transformers.models.dinov2_with_registers import Dinov2WithRegistersModel

from g2vlm.config import DinoWindows
from g2vlm.encoders.dino import DinoEncoder, drifting_windows
from tests.builders import random_views, small_config


def small_encoder(windows: DinoWindows) -> DinoEncoder:
    torch.manual_seed(0)
    encoder = DinoEncoder(small_config().dino_config, windows).eval()
    with torch.no_grad():
        for weight in encoder.parameters():
            weight += 0.2 * torch.randn_like(weight)
    return encoder


def stock(encoder: DinoEncoder) -> Dinov2WithRegistersModel:
    """transformers' own model with the weights of the encoder and the attention it comes with."""
    model = Dinov2WithRegistersModel(small_config().dino_config).eval()
    model.load_state_dict(encoder.model.state_dict(), strict=True)
    return model


def whitened(images: Tensor) -> Tensor:
    """Images as DINOv2 was trained to see them, with ImageNet's means and deviations."""
    return (images - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]


def views_of(num_views: int, rows: int, columns: int) -> Tensor:
    return torch.stack(random_views(*[(rows, columns)] * num_views))


@torch.no_grad()
@pytest.mark.parametrize("grid", [(4, 4), (2, 3), (5, 4)], ids=["its own size", "smaller", "larger"])
def test_patch_tokens_equal_those_of_transformers(grid):
    encoder, images = small_encoder("per_image"), views_of(2, *grid)
    hidden = stock(encoder)(whitened(images)).last_hidden_state
    assert encoder(images).shape == (2, grid[0] * grid[1], 16)
    torch.testing.assert_close(encoder(images), hidden[:, 5:], atol=1e-5, rtol=0)


@torch.no_grad()
def test_images_do_not_see_each_other():
    encoder, images = small_encoder("per_image"), views_of(3, 2, 3)
    torch.testing.assert_close(encoder(images)[1:2], encoder(images[1:2]), atol=1e-5, rtol=0)


def windows_by_hand(q: Tensor, k: Tensor, v: Tensor, window: int, scaling: float) -> Tensor:
    """Row by row of the one long row of all images' tokens: softmax over the rows of its window, zero outside any."""
    images, heads, tokens, width = q.shape
    q, k, v = (x.transpose(1, 2).reshape(images * tokens, heads, width) for x in (q, k, v))
    out = torch.zeros_like(q)
    for row in range(images * window):
        own = slice(row // window * window, row // window * window + window)
        for head in range(heads):
            weights = (scaling * k[own, head] @ q[row, head]).softmax(0)
            out[row, head] = weights @ v[own, head]
    return out.view(images, tokens, heads, width)


def test_drifting_windows_equal_a_loop_over_rows():
    """Seven images of 6 patches, 11 rows each, in windows of 6: the last 35 rows, three images, lie in no window."""
    q, k, v = torch.randn(3, 7, 2, 11, 8, generator=torch.Generator().manual_seed(0))
    out, _ = drifting_windows(small_encoder("reference").model, q, k, v, None, scaling=0.3)
    torch.testing.assert_close(out, windows_by_hand(q, k, v, window=6, scaling=0.3), atol=1e-5, rtol=0)
    assert out.flatten(0, 1)[:42].all()
    assert not out.flatten(0, 1)[42:].any()


@torch.no_grad()
def test_drifting_windows_change_even_a_single_image():
    images = views_of(1, 2, 3)
    assert (small_encoder("reference")(images) - small_encoder("per_image")(images)).abs().max() > 0.1


@torch.no_grad()
def test_drifting_windows_make_images_see_their_neighbours():
    encoder, images = small_encoder("reference"), views_of(3, 2, 3)
    assert (encoder(images)[1:2] - encoder(images[1:2])).abs().max() > 0.1


@torch.no_grad()
def test_encoders_with_different_windows_live_side_by_side():
    images = views_of(2, 2, 3)
    drifting = small_encoder("reference")
    before = drifting(images)
    small_encoder("per_image")(images)
    assert drifting(images).equal(before)
