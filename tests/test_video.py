"""Frames of a video come evenly spaced and upright; what cannot be read is named."""

import numpy as np
import pytest
from videos import video

from g2vlm.video import BadVideo, read_video


def test_frames_are_evenly_spaced_with_the_first_and_the_last(tmp_path):
    photos = read_video(video(tmp_path / "v.mp4"), 3)
    assert [photo.name for photo in photos] == ["v.mp4 frame 0", "v.mp4 frame 6", "v.mp4 frame 11"]
    assert [photo.rgb[36, 32].mean() for photo in photos] == pytest.approx([0, 120, 220], abs=12)


def test_more_frames_than_there_are_are_all_of_them(tmp_path):
    assert len(read_video(video(tmp_path / "v.mp4", frames=4), 99)) == 4


def test_a_video_is_shown_as_its_file_asks(tmp_path):
    path = video(tmp_path / "v.mp4", frames=2)
    plain = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    clockwise = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    before, after = path.read_bytes().split(b"tkhd", 1)
    assert plain in after
    path.write_bytes(before + b"tkhd" + after.replace(plain, clockwise, 1))
    (photo,) = read_video(path, 1)
    assert photo.size == (64, 48)
    assert photo.rgb[32, 40, 0] > 200  # what was above lies on the right
    assert photo.rgb[32, 8, 0] < 60


def test_no_frames_are_not_what_anybody_wants(tmp_path):
    with pytest.raises(ValueError, match=r"v\.mp4: 0 frames are wanted; give at least 1"):
        read_video(tmp_path / "v.mp4", 0)


def test_a_file_that_is_no_video_is_named(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"no video")
    with pytest.raises(BadVideo, match=r"v\.mp4: cannot be read as a video"):
        read_video(tmp_path / "v.mp4", 3)
