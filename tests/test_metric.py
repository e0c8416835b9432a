"""Metres from known lengths."""

import dataclasses

import numpy as np
import pytest
from builders import true_reconstruction

from g2vlm.metric import Baseline, CameraHeight, Depth, Distance, Hint, Pixel, measure, parse_hint, to_metres
from g2vlm.records import Reconstruction
from g2vlm.worlds import scaled


@pytest.fixture(scope="module")
def scene() -> Reconstruction:
    """A room whose unit is 0.4 m."""
    return scaled(true_reconstruction(), 2.5)


def texts_of(scene: Reconstruction) -> list[str]:
    """What is truly known of that room, as a person would write it."""
    lengths = {
        "0:30.5,40.5-1:50.5,60.5": Distance(Pixel(0, 30.5, 40.5), Pixel(1, 50.5, 60.5)),
        "2:20.5,70.5": Depth(Pixel(2, 20.5, 70.5)),
        "0-2": Baseline(0, 2),
        "height": CameraHeight(),
        "1:height": CameraHeight(1),
    }
    return [f"{text}={0.4 * measure(scene, Hint(length, 1.0, text)):.6f}m" for text, length in lengths.items()]


@pytest.mark.parametrize(
    ("text", "length", "metres"),
    [
        ("0:120,80-1:300,90=2.4m", Distance(Pixel(0, 120, 80), Pixel(1, 300, 90)), 2.4),
        ("0:120.5,80-12:.5,90=240cm", Distance(Pixel(0, 120.5, 80), Pixel(12, 0.5, 90)), 2.4),
        ("3:120,80=2400mm", Depth(Pixel(3, 120, 80)), 2.4),
        ("0-11 = 0.5 m", Baseline(0, 11), 0.5),
        ("height=1.5m", CameraHeight(), 1.5),
        ("2:height=1.5m", CameraHeight(2), 1.5),
    ],
)
def test_a_known_length_is_read_as_written(text: str, length: object, metres: float):
    hint = parse_hint(text)
    assert hint.length == length
    assert hint.metres == pytest.approx(metres)


@pytest.mark.parametrize(
    "text", ["", "2.4m", "0:120,80=2.4", "0:120=2m", "0-1=2ft", "a-b=1m", "0:1,2-1:3,4=-2m", "height"]
)
def test_what_cannot_be_read_names_the_forms(text: str):
    with pytest.raises(ValueError, match="is no known length; write VIEW:X,Y-VIEW:X,Y=LENGTH"):
        parse_hint(text)


def test_a_length_of_nothing_is_refused():
    with pytest.raises(ValueError, match="above zero"):
        parse_hint("0-1=0m")


@pytest.mark.parametrize("index", range(5))
def test_one_true_length_of_any_kind_gives_the_true_scale(scene: Reconstruction, index: int):
    metric, report = to_metres(scene, [parse_hint(texts_of(scene)[index])])
    assert report.factor == pytest.approx(0.4, rel=1e-4)
    assert metric.scale == "metric"
    truth = true_reconstruction()
    np.testing.assert_allclose(metric.poses, truth.poses, atol=1e-3)
    np.testing.assert_allclose(metric.points[1], truth.points[1], atol=2e-3)
    assert scene.scale == "scale_free"


def test_a_wrong_length_among_true_ones_is_outvoted_and_its_residual_is_said(scene: Reconstruction):
    *true, last = texts_of(scene)
    wrong = f"{last.split('=')[0]}=9m"
    _, report = to_metres(scene, [parse_hint(text) for text in (*true, wrong)])
    assert report.factor == pytest.approx(0.4, rel=1e-4)
    assert report.residuals[wrong] < -0.5
    assert max(abs(report.residuals[text]) for text in true) < 1e-4


def test_lengths_that_contradict_one_another_are_refused(scene: Reconstruction):
    first, second, *_ = texts_of(scene)
    doubled = f"{second.split('=')[0]}={2 * float(second.split('=')[1][:-1])}m"
    with pytest.raises(ValueError, match="contradict one another"):
        to_metres(scene, [parse_hint(first), parse_hint(doubled)])
    with pytest.raises(ValueError, match="different things of one length"):
        to_metres(scene, [parse_hint("0-1=1m"), parse_hint("0-1=1.1m")])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0-7=1m", "there is no view 7, only 0 to 2"),
        ("5:height=1m", "there is no view 5"),
        ("0:500,2=1m", r"\(500, 2\) is outside view 0, which is 84 x 84"),
        ("1-1=1m", "has no length in the prediction"),
        ("0:3,3-0:3,3=1m", "has no length in the prediction"),
    ],
)
def test_a_length_of_what_is_not_there_is_refused(scene: Reconstruction, text: str, message: str):
    with pytest.raises(ValueError, match=message):
        to_metres(scene, [parse_hint(text)])


def test_a_pixel_without_a_point_is_refused(scene: Reconstruction):
    empty = dataclasses.replace(scene, mask=tuple(np.zeros_like(mask) for mask in scene.mask))
    with pytest.raises(ValueError, match="nothing certain was predicted"):
        to_metres(empty, [parse_hint("0:3,3=1m")])


def test_what_is_in_metres_is_not_scaled_again(scene: Reconstruction):
    metric, _ = to_metres(scene, [parse_hint("0-1=1m")])
    with pytest.raises(ValueError, match="in metres already"):
        to_metres(metric, [parse_hint("0-1=1m")])
