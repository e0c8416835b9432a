"""A scene that turns: as many frames as asked, in files that other programs play."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from g2vlm.export.cloud import Selection
from g2vlm.view import turntable as module
from g2vlm.view.turntable import SIZE, turning, turntable


def test_a_gif_has_the_frames_that_were_asked_for_and_goes_on_for_ever(room):
    image = Image.open(io.BytesIO(turntable(room, Selection(), Path("a.gif"), num_frames=4)))
    assert (image.format, image.n_frames, image.size) == ("GIF", 4, SIZE[::-1])
    assert (image.info["loop"], image.info["duration"]) == (0, 80)


def test_an_mp4_plays(room):
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(turntable(room, Selection(), Path("a.MP4"), num_frames=5))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 5
    assert np.abs(frames[0] - next(turning(room, Selection(), 5)).astype(float)).mean() < 6


def test_frames_show_the_room_in_its_colours_and_the_cameras(room):
    frames = list(turning(room, Selection(), 4))
    for frame in frames:
        assert 0.02 < (frame != 255).any(-1).mean() < 0.9
        assert (frame == module.COLOUR[:3]).all(-1).sum() > 50
    assert all((frames[0] != other).any() for other in frames[1:])


def test_surfaces_are_not_seen_from_behind(room):
    turned_over = replace(room, normals=tuple(-normals for normals in room.normals))
    as_is, other = ((next(turning(r, Selection(), 4)) != 255).any(-1).mean() for r in (room, turned_over))
    assert as_is > 1.5 * other


@pytest.mark.parametrize(
    ("name", "frames", "says"),
    [
        ("a.webm", 10, "let its name end in .gif or .mp4"),
        ("a.gif", 1, "1 frames do not make a turn; give 2 to 720"),
        ("a.gif", 1000, "give 2 to 720"),
    ],
)
def test_what_cannot_be_written_is_refused(room, name, frames, says):
    with pytest.raises(ValueError, match=says):
        turntable(room, Selection(), Path(name), num_frames=frames)
