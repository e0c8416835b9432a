"""Photos of folders, globs and videos come in order, one by one; what cannot be read is named, or refused."""

import numpy as np
import pytest
from PIL import Image
from videos import video

from g2vlm.frames import Frames
from g2vlm.video import Cut


def folder(path, count: int, damaged: int | None = None):
    path.mkdir()
    for i in range(count):
        Image.fromarray(np.full((20, 20, 3), i, np.uint8)).save(path / f"{i}.png")
    if damaged is not None:
        (path / f"{damaged}.png").write_bytes(b"\x89PNG")
    return str(path)


def names(frames: Frames) -> list[str]:
    return [photo.name for photo in frames]


def test_pictures_and_videos_stand_in_the_order_in_which_they_are_named(tmp_path):
    inputs = [folder(tmp_path / "a", 2), str(video(tmp_path / "v.mp4")), folder(tmp_path / "b", 2)]
    frames = Frames(inputs, Cut(frames=2))
    assert names(frames) == ["0.png", "1.png", "v.mp4 frame 0", "v.mp4 frame 11", "0.png", "1.png"]
    assert (len(frames), frames.num_found) == (6, 16)


def test_ten_comes_behind_two_and_many_are_thinned_out(tmp_path):
    assert names(Frames([folder(tmp_path / "a", 12)], Cut(frames=3))) == ["0.png", "6.png", "11.png"]


def test_a_damaged_picture_is_left_out_and_named_or_refused(tmp_path):
    inputs = [folder(tmp_path / "a", 3, damaged=1)]
    frames = Frames(inputs)
    assert names(frames) == ["0.png", "2.png"]
    assert len(frames.skipped) == 1
    assert "1.png" in frames.skipped[0]
    with pytest.raises(ValueError, match=r"1\.png"):
        names(Frames(inputs, is_lenient=False))


def test_the_sharpest_of_neighbours_is_taken(tmp_path):
    inputs = folder(tmp_path / "a", 6)
    stripes = np.zeros((20, 20, 3), np.uint8)
    stripes[::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a/1.png")
    assert names(Frames([inputs], Cut(frames=2, sharpest=True))) == ["1.png", "3.png"]


def test_nothing_is_read_before_it_is_needed(tmp_path):
    inputs = folder(tmp_path / "a", 3, damaged=2)
    assert next(iter(Frames([inputs], is_lenient=False))).name == "0.png"


def test_too_many_are_refused_with_the_cure(tmp_path, monkeypatch):
    monkeypatch.setattr("g2vlm.frames.MOST_FRAMES", 4)
    inputs = folder(tmp_path / "a", 5)
    with pytest.raises(ValueError, match="5 frames are over the limit of 4; give frames to thin them out"):
        Frames([inputs])
    assert len(Frames([inputs], Cut(frames=4))) == 4


@pytest.mark.parametrize("cut", [Cut(fps=2), Cut(start=1), Cut(end=1)])
def test_pictures_have_no_times(tmp_path, cut):
    with pytest.raises(ValueError, match="are of videos"):
        Frames([folder(tmp_path / "a", 2)], cut)


def test_nothing_given_is_refused():
    with pytest.raises(ValueError, match="no picture was given"):
        Frames([])
