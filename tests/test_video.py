"""Frames of a video come evenly spaced and upright; what cannot be read is named."""

import numpy as np
import pytest
from videos import video

from g2vlm.video import BadVideo, Clip, Cut, read_video


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


# ---- cuts


def numbers(clip: Clip) -> list[int]:
    return [int(photo.name.split()[-1]) for photo in clip]


def test_frames_a_second_are_those_on_the_screen_then(tmp_path):
    path = video(tmp_path / "v.mp4", 30)
    assert numbers(Clip(path, Cut(fps=2))) == [0, 5, 10, 15, 20, 25]
    assert numbers(Clip(path, Cut(fps=2, start=1, end=2))) == [10, 15, 20]
    assert len(Clip(path, Cut())) == 30


def test_times_count_where_the_rate_varies(tmp_path):
    path = video(tmp_path / "v.mkv", 6, seconds=[0, 0.1, 0.2, 3, 3.1, 6])
    assert numbers(Clip(path, Cut(fps=1))) == [0, 2, 3, 4, 5]
    assert numbers(Clip(path, Cut(frames=3))) == [0, 2, 5]


def test_four_hours_are_jumped_through_and_too_many_frames_are_refused(tmp_path):
    path = video(tmp_path / "long.mkv", 40, seconds=[360 * i for i in range(40)], key_every=1)
    clip = Clip(path, Cut(frames=3))
    assert clip.times[-1] == 14_040
    assert numbers(clip) == [0, 20, 39]
    assert len(Clip(path, Cut(fps=10))) == 40  # no more than there are
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("g2vlm.video.MOST_FRAMES", 39)
        with pytest.raises(ValueError, match=r"long\.mkv: 40 frames are wanted of 14040 seconds, over the limit of 39"):
            Clip(path, Cut())


def test_every_frame_is_the_same_whether_jumped_to_or_not(tmp_path):
    path = video(tmp_path / "v.mp4", 24, key_every=4)
    whole, some = list(Clip(path, Cut())), list(Clip(path, Cut(frames=4)))
    assert [photo.name for photo in some] == [f"v.mp4 frame {i}" for i in (0, 8, 15, 23)]
    assert all(np.array_equal(photo.rgb, whole[i].rgb) for photo, i in zip(some, (0, 8, 15, 23), strict=True))


def test_the_sharpest_stands_for_its_neighbours(tmp_path, monkeypatch):
    monkeypatch.setattr("g2vlm.pictures.sharpness", lambda rgb: 300 - abs(float(rgb[36, 32].mean()) - 80))
    assert numbers(Clip(video(tmp_path / "v.mp4"), Cut(frames=2, sharpest=True))) == [4, 6]


def test_damaged_frames_are_left_out_and_named(tmp_path):
    path = video(tmp_path / "v.avi", 10, key_every=1)
    content = bytearray(path.read_bytes())
    places = [i for i in range(len(content) - 4) if content[i : i + 4] == b"00dc"]
    start = places[-20 + 3] + 8  # behind the frames stands an index of them
    content[start : start + 200] = bytes(200)
    path.write_bytes(bytes(content))
    clip = Clip(path, Cut())
    assert 3 not in numbers(clip)
    assert clip.skipped == ["v.avi frame 3: damaged"]


@pytest.mark.parametrize(
    ("content", "line"), [(b"", "cannot be read as a video"), (b"\0" * 5000, "cannot be read as a video")]
)
def test_files_without_pictures_are_refused_in_one_line(tmp_path, content, line):
    (tmp_path / "v.mp4").write_bytes(content)
    with pytest.raises(BadVideo, match=line) as raised:
        Clip(tmp_path / "v.mp4", Cut(fps=2))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"fps": 0}, "fps is 0; it must be above 0"),
        ({"frames": 0}, "0 frames are wanted"),
        ({"fps": 1, "frames": 3}, "give one of them"),
        ({"start": 3, "end": 2}, "start is 3 and end is 2"),
        ({"start": -1}, "start is -1"),
    ],
)
def test_cuts_that_cannot_be_are_refused(wrong, line):
    with pytest.raises(ValueError, match=line):
        Cut(**wrong)


def test_a_part_behind_the_end_is_refused_with_the_length(tmp_path):
    with pytest.raises(BadVideo, match=r"no frame between 9 and None seconds; it is 1\.1 seconds long"):
        Clip(video(tmp_path / "v.mp4"), Cut(start=9))
