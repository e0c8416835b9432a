import numpy as np
import pytest
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from g2vlm.pathways.base import merge_cells
from g2vlm.pathways.pictures import cropped, cropped_size, geometry_images, geometry_size, host_image, padded
from g2vlm.pictures import Photo

TRAIN = {"factor": 32, "min_pixels": 16 * 28**2, "max_pixels": 576 * 28**2}
EVAL = {"factor": 32, "min_pixels": 256 * 28**2, "max_pixels": 1605632}


def photo_of(height, width):
    generator = np.random.default_rng(0)
    return Photo("photo", generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("size", "vggt", "merged"),
    [((480, 640), (392, 518), (14, 18)), ((720, 1280), (294, 518), (10, 18)), ((640, 480), (518, 518), (18, 18))],
)
def test_on_qwen25_host_and_encoder_share_the_cropped_photo(size, vggt, merged):
    image = cropped(photo_of(*size))
    assert cropped_size(*size) == vggt == image.shape[1:]
    seen = host_image(image)
    assert seen.shape[1:] == (28 * merged[0], 28 * merged[1])
    assert torch.equal(seen, image[:, : seen.shape[1], : seen.shape[2]])
    patches = torch.zeros(1, vggt[0] // 14, vggt[1] // 14, 1)
    assert merge_cells(patches).shape[1] == merged[0] * merged[1]


@pytest.mark.parametrize(
    ("size", "limits", "host", "tokens", "geometry"),
    [
        ((392, 518), TRAIN, (384, 512), 192, (336, 448)),
        ((294, 518), TRAIN, (288, 512), 144, (252, 448)),
        ((518, 518), TRAIN, (512, 512), 256, (448, 448)),
        ((480, 640), EVAL, (480, 640), 300, (420, 560)),
        ((720, 1280), EVAL, (704, 1280), 880, (616, 1120)),
        ((640, 480), EVAL, (640, 480), 300, (560, 420)),
    ],
)
def test_on_qwen35_the_encoder_follows_the_grid_of_the_host(size, limits, host, tokens, geometry):
    assert smart_resize(*size, **limits) == host
    grid = (1, host[0] // 16, host[1] // 16)
    assert geometry_size(grid) == geometry
    (image,) = geometry_images([photo_of(*size)], torch.tensor([grid]))
    assert image.shape == (3, *geometry)
    assert merge_cells(image[None, 0, ::14, ::14, None]).shape[1] == tokens


def test_a_tall_photo_loses_as_much_at_the_top_as_at_the_bottom():
    rgb = np.zeros((1036, 518, 3), dtype=np.uint8)
    rgb[:300], rgb[-300:] = 255, 255
    image = cropped(Photo("tall", rgb))
    assert image.shape == (3, 518, 518)
    assert torch.equal(image, image.flip(1))


def test_padding_is_white_and_centred():
    image = padded(Photo("wide", np.zeros((100, 518, 3), dtype=np.uint8)))
    assert image.shape == (3, 518, 518)
    is_white = (image == 1).all(0).all(1)
    assert is_white.nonzero()[[0, -1], 0].tolist() == [0, 517]
    assert (~is_white).sum() == 98
    assert torch.equal(is_white, is_white.flip(0))


def test_every_photo_needs_a_grid():
    with pytest.raises(ValueError, match="there are 1 photos, but image_grid_thw has 2 rows"):
        geometry_images([photo_of(32, 32)], torch.tensor([[1, 2, 2], [1, 2, 2]]))
