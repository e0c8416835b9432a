import random

import numpy as np
import pytest
import torch

from g2vlm.data.augment import Augmentation, fit, photometric, random_box
from g2vlm.geometry.camera import pixel_centres, rescale_intrinsics, unproject

NONE = Augmentation(crop=0, focal=1.0, colour=0)
STRONG = Augmentation(crop=16, focal=0.6, colour=0)
SIZES = [(56, 84), (84, 56), (112, 112), (28, 140)]
HEIGHT, WIDTH = 120, 160


@pytest.fixture
def intrinsics() -> np.ndarray:
    """A camera whose principal point is off the middle."""
    return np.array([[150.0, 0, 92], [0, 140, 55], [0, 0, 1]])


def gradient() -> np.ndarray:
    """Red tells the column, green the row."""
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    return np.stack([x / WIDTH * 255, y / HEIGHT * 255, 0 * x], axis=-1).round().astype(np.uint8)


def slanted_plane(intrinsics: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Depth at which the rays of all pixels meet the plane with normal @ point = 1."""
    rays = unproject(torch.ones(HEIGHT, WIDTH, dtype=torch.float64), torch.from_numpy(intrinsics)).numpy()
    return (1 / (rays @ normal)).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_a_point_is_seen_in_the_same_colour_before_and_after(size, seed, intrinsics):
    fitted = fit(gradient(), None, intrinsics, size, random.Random(seed), STRONG)
    assert fitted.image.shape == (3, *size)
    pixels = torch.cat([pixel_centres(*size), torch.ones(*size, 1)], dim=-1).double()
    before = pixels @ torch.linalg.inv(fitted.intrinsics.double()).T @ torch.from_numpy(intrinsics).T
    assert (before[..., :2].amin((0, 1)) > 0).all()
    assert (before[..., :2].amax((0, 1)) < torch.tensor([WIDTH, HEIGHT])).all()
    inside = (slice(2, -2), slice(2, -2))  # a smooth slope ends at the borders of the photo
    told = fitted.image[:2].permute(1, 2, 0) * torch.tensor([WIDTH, HEIGHT])
    torch.testing.assert_close(told[inside], before[..., :2].float()[inside], atol=0.6, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_points_of_augmented_depth_lie_where_they_were(size, intrinsics):
    normal = np.array([0.1, -0.2, 0.4])
    depth = slanted_plane(intrinsics, normal)
    fitted = fit(gradient(), depth, intrinsics, size, random.Random(1), STRONG)
    points = unproject(fitted.depth, fitted.intrinsics)
    # A depth is that of the nearest pixel, whose ray is half a pixel off at most.
    half_pixel = 0.5 * (0.1 / 150 + 0.2 / 140) * depth.max()
    assert (points @ torch.tensor(normal).float() - 1).abs().max() < half_pixel + 1e-5


def test_a_crop_alone_keeps_every_point_exactly(intrinsics):
    depth = np.random.default_rng(0).uniform(1, 5, (HEIGHT, WIDTH)).astype(np.float32)
    fitted = fit(gradient(), depth, intrinsics, (HEIGHT, HEIGHT), random.Random(0), NONE)
    points = unproject(torch.from_numpy(depth), torch.from_numpy(intrinsics).float())
    left = round(intrinsics[0, 2] - float(fitted.intrinsics[0, 2]))
    assert 0 < left < WIDTH - HEIGHT
    torch.testing.assert_close(unproject(fitted.depth, fitted.intrinsics), points[:, left : left + HEIGHT])


def test_nothing_to_vary_is_a_plain_resize(intrinsics):
    fitted = fit(gradient(), None, intrinsics, (60, 80), random.Random(0), NONE)
    expected = rescale_intrinsics(torch.from_numpy(intrinsics).float(), (HEIGHT, WIDTH), (60, 80))
    torch.testing.assert_close(fitted.intrinsics, expected)


@pytest.mark.parametrize(("size", "axis"), [((112, 56), 0), ((28, 112), 1)])
def test_the_principal_point_comes_to_the_middle_where_there_is_space(size, axis, intrinsics):
    fitted = fit(gradient(), None, intrinsics, size, random.Random(0), NONE)
    assert fitted.intrinsics[axis, 2] == pytest.approx(size[1 - axis] / 2, abs=1e-3)


def test_a_zoom_lengthens_the_focal_length_within_its_range(intrinsics):
    zoom = Augmentation(crop=0, focal=0.5, colour=0)
    focal = [
        float(fit(gradient(), None, intrinsics, (60, 80), random.Random(seed), zoom).intrinsics[0, 0])
        for seed in range(40)
    ]
    assert 75 <= min(focal) < 85
    assert 130 < max(focal) <= 150


def test_a_box_never_leaves_the_picture():
    """Not by a rounding error either, which PIL would refuse."""
    draw = random.Random(0)
    for _ in range(5000):
        whole, size = ((draw.randrange(16, 2000), draw.randrange(16, 2000)) for _ in range(2))
        centre = draw.choice([None, (draw.uniform(0, whole[1]), draw.uniform(0, whole[0]))])
        for augmentation in (NONE, STRONG):
            box = random_box(whole, size, centre, draw, augmentation)
            assert 0 <= box.left < box.right <= whole[1]
            assert 0 <= box.top < box.bottom <= whole[0]
            assert (box.right - box.left) / (box.bottom - box.top) == pytest.approx(size[1] / size[0])


def test_fine_detail_is_averaged_not_aliased(intrinsics):
    stripes = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    fitted = fit(stripes, None, None, (30, 40), random.Random(0), NONE)
    assert fitted.intrinsics is None
    assert (fitted.image[:, 2:-2, 2:-2] - 0.5).abs().max() < 0.1


def test_light_is_the_same_for_all_views_of_a_scene():
    image = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0))
    changed = photometric(torch.stack([image, image]), random.Random(1))
    assert 0 <= changed.min() < changed.max() <= 1
    assert (changed[0] - changed[1]).abs().mean() < 0.03  # noise differs
    assert (changed[0] - image).abs().mean() > 0.03


def test_light_follows_the_draw_and_its_strength():
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    one, same, other = (photometric(images, random.Random(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(photometric(images, random.Random(1), 0), images)
    slight = photometric(images, random.Random(1), 0.1)
    assert (slight - images).abs().mean() < 0.3 * (one - images).abs().mean()


@pytest.mark.parametrize("options", [{"crop": -1}, {"focal": 0.0}, {"focal": 1.1}, {"colour": -0.1}])
def test_an_impossible_augmentation_is_refused(options):
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        Augmentation(**options)
