"""Enlarged maps are exact on planes, and never lie between two surfaces."""

from dataclasses import replace

import numpy as np
import pytest

from g2vlm.data.scenes import VALIDATION_SEEDS, rooms
from g2vlm.export.resolution import at_original_resolution
from g2vlm.pictures import Photo

EDGES = 28 * 2


def test_a_plane_stays_a_plane_up_to_the_rim(reconstruction):
    """The wall that recedes: depth is 2 / (1 - 0.8 x), x the slope of the ray, 40 pixels of focal length in 42."""
    large = at_original_resolution(reconstruction)
    x = ((np.arange(640) + 0.5) / 640 - 0.5) * 42 / 40
    y = ((np.arange(480) + 0.5) / 480 - 0.5) * 28 / 40
    depth = np.broadcast_to(2 / (1 - 0.8 * x), (480, 640))
    points = np.stack([x * depth, y[:, None] * depth, depth], -1)
    pose = reconstruction.poses[2]
    np.testing.assert_allclose(large.depth[2], depth, rtol=2e-6)  # measured 8e-7
    np.testing.assert_allclose(large.points[2], points @ pose[:3, :3].T + pose[:3, 3], atol=2e-5)  # measured 6e-6
    np.testing.assert_allclose(
        large.normals[2], np.broadcast_to(reconstruction.normals[2][0, 0], (480, 640, 3)), atol=1e-6
    )


def test_no_depth_lies_between_two_surfaces(reconstruction):
    """A far half at 4 beside a near half at 1, with fine noise on both."""
    random = np.random.default_rng(0)
    depth = np.where(np.arange(42) < 21, 1, 4) * random.uniform(0.999, 1.001, (28, 42))
    points = reconstruction.points[0] * 0
    points[..., 2] = depth + 0.3
    stepped = replace(
        reconstruction,
        depth=(depth.astype(np.float32), *reconstruction.depth[1:]),
        points=(points + reconstruction.poses[0, :3, 3] * [1, 1, 0], *reconstruction.points[1:]),
    )
    large = at_original_resolution(stepped).depth[0]
    assert large.shape == (480, 640)
    assert ((np.abs(large - 1) < 0.01) | (np.abs(large - 4) < 0.04)).all()
    assert (large[:, 319] < 2).all()
    assert (large[:, 320] > 2).all()


def test_what_is_unknown_or_at_an_edge_stays_so(reconstruction):
    large = at_original_resolution(reconstruction)
    np.testing.assert_array_equal(large.mask[0].sum(), 480 * round(640 * 40 / 42 + 0.5))
    row = 640 / 42
    assert not np.isfinite(large.depth[1][: int(row)]).any()
    assert np.isfinite(large.depth[1][int(row) + 1 :]).all()
    assert not large.mask[1][: int(row)].any()
    assert large.mask[1][int(row) + 1 :].all()


def test_sizes_are_those_of_the_photos_and_intrinsics_fit_them(reconstruction):
    large = at_original_resolution(reconstruction)
    for name in ("images", "depth", "points", "normals", "confidence", "mask"):
        assert [m.shape[:2] for m in getattr(large, name)] == list(reconstruction.original_sizes)
        assert [m.dtype for m in getattr(large, name)] == [m.dtype for m in getattr(reconstruction, name)]
    assert all(c.min() >= 0 and c.max() <= 1 for c in large.confidence)
    np.testing.assert_array_equal(large.intrinsics, reconstruction.intrinsics)


def test_photos_give_their_own_colours(reconstruction):
    random = np.random.default_rng(0)
    photos = [
        Photo(name, random.integers(0, 256, (*size, 3), dtype=np.uint8))
        for name, size in zip(reconstruction.names, reconstruction.original_sizes, strict=True)
    ]
    large = at_original_resolution(reconstruction, photos)
    np.testing.assert_array_equal(large.images[1], photos[1].rgb)
    with pytest.raises(ValueError, match=r"2 photos for 3 views"):
        at_original_resolution(reconstruction, photos[:2])
    with pytest.raises(ValueError, match=r"b.jpg is 480 x 640 pixels, the photo a.jpg was 640 x 480"):
        at_original_resolution(reconstruction, [photos[1], photos[0], photos[2]])


def test_a_map_larger_than_its_photo_shrinks(reconstruction):
    small = replace(reconstruction, original_sizes=((14, 21), (21, 14), (1, 1)))
    shrunk = at_original_resolution(small)
    assert [depth.shape for depth in shrunk.depth] == [(14, 21), (21, 14), (1, 1)]
    np.testing.assert_allclose(shrunk.depth[2], 2, rtol=1e-4)  # the middle of the wall


def test_a_room_seen_at_half_the_size_is_found_again(reconstruction):
    """Against the same room rendered at full size; half of the pixels exactly, and none off a surface by more than a step."""
    full, half = (
        rooms([VALIDATION_SEEDS[0]], num_views=1, height=height, width=height * 4 // 3).views for height in (192, 96)
    )
    depth = half.depth[0, 0].numpy()
    intrinsics = full.intrinsics[0, 0].numpy()
    size = np.array([128, 96])
    x = ((np.arange(128) + 0.5) * 2 - intrinsics[0, 2]) / intrinsics[0, 0]
    y = ((np.arange(96) + 0.5) * 2 - intrinsics[1, 2]) / intrinsics[1, 1]
    points = np.stack(
        [np.broadcast_to(x, depth.shape), np.broadcast_to(y[:, None], depth.shape), np.ones_like(depth)], -1
    )
    one = replace(
        reconstruction,
        names=("a.jpg",),
        images=(np.zeros((*size[::-1], 3), np.uint8),),
        depth=(depth,),
        points=((points * depth[..., None]).astype(np.float32),),
        normals=(np.zeros((*depth.shape, 3), np.float32),),
        confidence=(np.ones_like(depth),),
        mask=(half.mask[0, 0].numpy(),),
        poses=np.eye(4, dtype=np.float32)[None],
        intrinsics=intrinsics[None],
        intrinsics_error=np.zeros(1, np.float32),
        original_sizes=((192, 256),),
    )
    found, wanted = at_original_resolution(one).depth[0], full.depth[0, 0].numpy()
    off = np.abs(found / wanted - 1)[full.mask[0, 0].numpy()]
    assert np.median(off) < 1e-6  # measured 1e-7
    assert np.mean(off > 0.05) < 0.02
