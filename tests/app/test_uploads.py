"""What strangers hand in: taken within limits, refused by name, wherever it lies and whatever it is called."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from videos import video

from g2vlm.app.uploads import Limits, photos_of

LIMITS = Limits()


def picture(file: Path) -> str:
    Image.fromarray(np.full((40, 60, 3), 128, np.uint8)).save(file)
    return str(file)


def test_photos_and_frames_come_in_the_order_of_the_files(tmp_path):
    files = [picture(tmp_path / "b.png"), str(video(tmp_path / "v.mp4", frames=5)), picture(tmp_path / "a.jpg")]
    names = [photo.name for photo in photos_of(files, LIMITS)]
    assert names[0] == "b.png"
    assert names[-1] == "a.jpg"
    assert len(names) == 7
    assert all(name.startswith("v.mp4 frame") for name in names[1:-1])


def test_more_than_can_be_seen_at_once_is_thinned_evenly(tmp_path):
    files = [picture(tmp_path / f"{i}.png") for i in range(9)]
    assert [photo.name for photo in photos_of(files, replace(LIMITS, views=3))] == ["0.png", "4.png", "8.png"]


@pytest.mark.parametrize(
    "name", ["; rm -rf ~ #.png", "$(touch x).png", "a b&c|d`e`.png", "-rf.png", ".hidden.png", "<img src=x>.png"]
)
def test_names_that_mean_something_to_a_shell_are_names(tmp_path, name):
    (photo,) = photos_of([picture(tmp_path / name)], LIMITS)
    assert photo.size == (40, 60)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"files": 1}, "2 files are more than the 1"),
        ({"file_bytes": 10}, "a.png has .* MiB, over the limit of 0.0 MiB"),
        ({"upload_bytes": 100}, "2 files have .* choose some of them"),
        ({"pixels": 1000}, "a.png: 60 x 40 pixels .* over the limit of 1,000"),
    ],
)
def test_too_much_is_refused(tmp_path, limits, says):
    files = [picture(tmp_path / name) for name in ("a.png", "b.png")]
    with pytest.raises(ValueError, match=says) as refused:
        photos_of(files, replace(LIMITS, **limits))
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"hello", "a.txt: wanted are files ending in"),
        ("a.png", b"", "a.png: not a JPEG"),
        ("a.png", b"<svg/>", "a.png: not a JPEG"),
        ("a.mp4", b"", "a.mp4: cannot be read as a video"),
        ("a.mp4", b"nothing" * 100, "a.mp4: cannot be read as a video"),
    ],
)
def test_what_is_no_picture_or_video_is_refused_without_its_folder(tmp_path, name, content, says):
    if name.endswith(".mp4"):
        pytest.importorskip("av")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=says) as refused:
        photos_of([str(tmp_path / name)], LIMITS)
    assert str(tmp_path) not in str(refused.value)


def test_a_long_video_is_refused_before_it_is_decoded(tmp_path):
    file = video(tmp_path / "long.mp4", frames=12)
    with pytest.raises(ValueError, match=r"^long\.mp4 is 1 seconds long, over the limit of 0; cut"):
        photos_of([str(file)], replace(LIMITS, video_seconds=0.4))


def test_nothing_at_all_is_refused():
    with pytest.raises(ValueError, match="no photo was given"):
        photos_of([], LIMITS)
    with pytest.raises(ValueError, match="views is 0"):
        Limits(views=0)
