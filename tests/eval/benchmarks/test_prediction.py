import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from g2vlm.eval.benchmarks.prediction import Prediction, intrinsics_of, maps_of, poses_of, resampled

SIZES = [(480, 640), (480, 640)]


def depth(*sizes: tuple[int, int]) -> Prediction:
    return Prediction(depth=[np.ones(size, dtype=np.float32) for size in sizes])


def test_maps_may_have_any_size_of_the_shape_of_their_photo():
    assert len(maps_of(depth((378, 504), (480, 640)), "depth", SIZES)) == 2
    assert len(maps_of(depth((392, 518)), "depth", SIZES[:1])) == 1


def test_a_stretched_map_has_the_shape_of_the_first_photo():
    sizes = [(480, 640), (640, 480)]
    assert maps_of(depth((378, 504), (378, 504)), "depth", sizes, are_stretched=True)
    with pytest.raises(ValueError, match="picture 1 has 504 x 378 pixels, its photo 480 x 640"):
        maps_of(depth((378, 504), (378, 504)), "depth", sizes)


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (Prediction(), "no depth was predicted"),
        (depth((480, 640)), "depth was predicted for 1 pictures, of which there are 2"),
        (depth((480, 640), (480, 480)), "picture 1 has 480 x 480 pixels, its photo 640 x 480"),
        (Prediction(depth=[np.ones((480, 640, 1))] * 2), r"shape \(480, 640, 1\), not height x width"),
    ],
)
def test_maps_that_cannot_be_compared_are_named(prediction, message):
    with pytest.raises(ValueError, match=message):
        maps_of(prediction, "depth", SIZES)


def test_point_maps_have_three_numbers_a_pixel():
    with pytest.raises(ValueError, match=r"shape \(480, 640\), not height x width x 3"):
        maps_of(Prediction(points=[np.ones((480, 640))] * 2), "points", SIZES)


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        (None, "no poses were predicted"),
        (np.stack([np.eye(4)] * 3), r"poses have the shape \(3, 4, 4\), not \(2, 4, 4\)"),
        (np.stack([np.eye(4), np.full((4, 4), np.nan)]), "picture 1: its pose has NaN"),
        (np.stack([np.eye(4), 2 * np.eye(4)]), "picture 1: its pose is not a rotation"),
    ],
)
def test_poses_that_are_none_are_named(poses, message):
    with pytest.raises(ValueError, match=message):
        poses_of(Prediction(poses=poses), 2)


def test_intrinsics_without_a_focal_length_are_named():
    with pytest.raises(ValueError, match="picture 0: its focal lengths are 0 and 0"):
        intrinsics_of(Prediction(intrinsics=np.diag([0.0, 0, 1])[None]), 1)


def test_the_nearest_value_is_never_a_mixture():
    values = np.array([[1.0, 9.0]])
    assert resampled(values, (2, 6), "nearest").tolist() == [[1, 1, 1, 9, 9, 9]] * 2


def test_bilinear_mixes_and_averages_where_the_map_shrinks():
    values = np.array([[1.0, 2.0, 9.0, 10.0]])
    # A new pixel reaches two old ones to either side: weights 3/4, 3/4, 1/4 of 1, 2 and 9.
    first = (0.75 * 1 + 0.75 * 2 + 0.25 * 9) / 1.75
    assert resampled(values, (1, 2), "bilinear") == pytest.approx(np.array([[first, 11 - first]]), abs=1e-5)
    assert resampled(np.array([[1.0, 9.0]]), (1, 4), "bilinear").tolist() == [[1, 3, 7, 9]]


def test_bilinear_shrinks_as_pillow_does():
    values = np.random.default_rng(0).random((40, 60), dtype=np.float32)
    pillow = np.asarray(Image.fromarray(values).resize((21, 14), Image.Resampling.BILINEAR))
    assert np.abs(resampled(values, (14, 21), "bilinear") - pillow).max() < 1e-6


def test_bicubic_overshoots_beside_an_edge_as_opencv_does():
    row = resampled(np.array([[1.0, 1, 1, 9, 9, 9]]), (1, 12), "bicubic")[0]
    # OpenCV's kernel, a = -0.75, by hand: a new pixel lies a quarter of an old one from the nearest old centre.
    near, far = (1.25 * t**3 - 2.25 * t**2 + 1 for t in (0.25, 0.75))
    before, after = (-0.75 * (t**3 - 5 * t**2 + 8 * t - 4) for t in (1.25, 1.75))
    assert near + far + before + after == pytest.approx(1)
    assert row[5] == pytest.approx(1 * (near + before) + 9 * (far + after), abs=1e-5)
    assert row.min() < 1
    assert row.max() > 9


def test_maps_with_channels_are_resampled_channel_by_channel():
    points = np.random.default_rng(0).random((8, 6, 3)).astype(np.float32)
    resized = resampled(points, (4, 3), "bilinear")
    channel = torch.from_numpy(points[None, None, ..., 1])
    wanted = F.interpolate(channel, (4, 3), mode="bilinear", antialias=True)[0, 0].numpy()
    assert np.abs(resized[..., 1] - wanted).max() < 1e-6
