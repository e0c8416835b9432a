"""The picture of a scene shows its views, and its cameras from above as they stand."""

import io

import numpy as np
import pytest
from PIL import Image

from g2vlm.data.check import check
from g2vlm.data.recon import File, Frame, Scene, pinhole
from g2vlm.data.sheet import GAP, LINE, PANEL, PLAN, scene_sheet


def pose(x, z):
    pose = np.eye(4)
    pose[:3, 3] = x, 0, z
    return pose


@pytest.fixture
def scene(tmp_path):
    """Three cameras that look along z: the second stands to the right of the first, the third ahead of it."""
    Image.fromarray(np.full((30, 60, 3), [200, 30, 30], np.uint8)).save(tmp_path / "a.png")
    places = [(0, 0), (4, 0), (0, 4)]
    frames = [
        Frame(f"s/{i}", File(tmp_path / "a.png"), pinhole(40, 40, 30, 15), pose(*p)) for i, p in enumerate(places)
    ]
    return Scene("s", tuple(frames), True, "us", "MIT", is_sequence=False)


def page_of(scene, views):
    return np.asarray(Image.open(io.BytesIO(scene_sheet(scene, views, check(scene)))).convert("RGB"))


def test_cameras_stand_right_and_ahead_as_in_the_scene(scene):
    """Grey dots mark the cameras that are not among the views shown, here the second and the third."""
    top = GAP + LINE + PANEL // 2 + GAP
    plan = page_of(scene, 1)[top : top + PLAN, GAP : GAP + PLAN]
    rows, columns = np.nonzero((plan == 0x99).all(-1))
    right, ahead = columns > PLAN / 2, rows < PLAN / 2
    assert right.any()
    assert ahead.any()
    assert rows[right].min() > PLAN / 2
    assert columns[ahead].max() < PLAN / 2
    assert not (right & ahead).any()


def test_views_are_shown_side_by_side(scene):
    page = page_of(scene, 3)
    for i in range(3):
        left = GAP + i * (PANEL + GAP)
        assert (page[GAP + LINE : GAP + LINE + PANEL // 2, left : left + PANEL] == [200, 30, 30]).all()


def test_no_view_at_all_is_refused(scene):
    with pytest.raises(ValueError, match="0 views cannot be drawn"):
        scene_sheet(scene, 0, check(scene))
