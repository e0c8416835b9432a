"""The viewer in the browser: what its controls do, a page without a network, and a person's walk through it."""

import re
from dataclasses import replace

import numpy as np
import pytest
from browser import opened, screenshot
from scipy.spatial.transform import Rotation

from g2vlm.export.cloud import Selection
from g2vlm.export.glb import frustum_depth
from g2vlm.view.viewer import Viewer, page, serve

HAS_VISER = pytest.mark.usefixtures("viser")


@pytest.fixture
def viser():
    return pytest.importorskip("viser", reason="viser is not installed: pip install 'g2vlm[viewer]'")


@pytest.fixture
def viewer(viser, room):
    with serve(room, Selection(2000), port=8180) as viewer:
        yield viewer


def test_without_viser_the_error_names_the_extra(room, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "viser", None)
    with pytest.raises(ValueError, match=re.escape("pip install 'g2vlm[viewer]'")):
        page(room, Selection())


def test_it_listens_on_this_machine_alone_and_says_nothing_by_itself(viewer, capsys):
    assert viewer.address.startswith("http://127.0.0.1:")
    assert capsys.readouterr().out == ""


def test_less_certain_points_vanish(viewer: Viewer):
    assert viewer.how_many.content == "2,000 of 2,000 points"
    viewer.least.value = 0.6
    viewer._choose_points()
    expected = int((viewer.cloud.confidence >= 0.6).sum())
    assert 0 < expected < 2000
    assert viewer.how_many.content == f"{expected:,} of 2,000 points"
    assert int(viewer.is_shown.sum()) == expected


def test_a_view_is_shown_with_its_depth(viewer: Viewer, room):
    viewer.show_view(1)
    height, width = room.depth[1].shape
    for shown in (viewer.photo.image, viewer.depth.image):
        assert shown.shape == (448 * height // width, 448, 3)
    np.testing.assert_array_equal(viewer.photo.image[4::8, 4::8], room.images[1])


def test_two_picks_are_measured_and_a_third_begins_anew(viewer: Viewer):
    eye = np.zeros(3)
    ends = [viewer.cloud.positions[i].astype(float) for i in (10, 1500)]
    viewer.pick(eye, ends[0])
    assert viewer.measured.content == "Click the other end."
    viewer.pick(eye, ends[1])
    length = np.linalg.norm(viewer.ends[1] - viewer.ends[0])
    assert viewer.measured.content == f"**{length:.3f} m**"
    viewer.pick(eye, ends[0])
    assert len(viewer.ends) == 1
    viewer.pick(eye, -np.array(ends[0]) * 1e3 + np.array([0, 1e6, 0]))
    assert len(viewer.ends) == 1


def test_a_camera_that_could_not_be_fitted_is_left_out(viser, room):
    intrinsics = room.intrinsics.copy()
    intrinsics[1] = np.nan
    with serve(replace(room, intrinsics=intrinsics), Selection(500), port=8190) as viewer:
        assert viewer.cameras.keys() == {0, 2}


def test_cameras_hold_the_photos_where_the_poses_are(viewer: Viewer, room):
    for view, camera in viewer.cameras.items():
        np.testing.assert_allclose(camera.position, room.poses[view, :3, 3], atol=1e-6)


@pytest.mark.slow
@HAS_VISER
def test_a_page_opens_without_a_network(room, tmp_path):
    file = tmp_path / "scene.html"
    file.write_text(page(room, Selection(3000)))
    with opened(offline=True, width=640, height=480) as (tab, away):
        tab.goto(file.as_uri())
        tab.wait_for_timeout(15_000)
        picture = screenshot(tab, "viewer_page", tmp_path)
    assert away == []
    assert len(picture) > 20_000  # a blank page has a few thousand bytes


def place_of_photo(viewer: Viewer, view: int, *, width: int, height: int) -> tuple[float, float]:
    """Where on the screen, in pixels, the middle of a photo hangs in its frustum."""
    (client,) = viewer.server.get_clients().values()
    eye = client.camera
    pose = viewer.reconstruction.poses[view]
    middle = pose[:3, 3] + frustum_depth(viewer.reconstruction) * pose[:3, 2]
    local = Rotation.from_quat(eye.wxyz, scalar_first=True).inv().apply(middle - eye.position)
    focal = height / 2 / np.tan(eye.fov / 2)
    x, y = focal * local[:2] / local[2] + (width / 2, height / 2)
    return float(x), float(y)


@pytest.mark.slow
def test_a_person_walks_measures_and_looks_through_a_camera(viewer: Viewer, tmp_path):
    with opened(width=900, height=640) as (tab, away):
        tab.goto(viewer.address)
        tab.get_by_text("2,000 of 2,000 points").wait_for()
        tab.wait_for_timeout(8000)
        screenshot(tab, "viewer_1_open", tmp_path)
        for view in (1, 0):  # the third one hangs behind the second
            tab.mouse.click(*place_of_photo(viewer, view, width=900, height=640))
            tab.wait_for_timeout(3000)
            assert viewer.view.value == f"{view}: {view}.png"
        tab.mouse.move(250, 300)
        tab.mouse.down()
        tab.mouse.move(330, 330, steps=5)
        tab.mouse.up()
        tab.wait_for_timeout(3000)
        screenshot(tab, "viewer_2_turned", tmp_path)
        tab.get_by_label("measure").check(force=True)
        tab.wait_for_timeout(3000)
        for x in range(120, 560, 40):
            if len(viewer.ends) == 2:
                break
            tab.mouse.click(x, 300)
            tab.wait_for_timeout(2000)
        screenshot(tab, "viewer_3_measured", tmp_path)
    assert away == []
    assert re.fullmatch(r"\*\*\d+\.\d{3} m\*\*", viewer.measured.content)
