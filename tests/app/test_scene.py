"""A visitor's scene: maps to look at, a GLB, a ZIP of any formats; its files go with it."""

import io
import zipfile

import numpy as np
import pytest
import trimesh
from PIL import Image
from true_rooms import true_reconstruction

from g2vlm.app.scene import TURNTABLE, Scene, downloads
from g2vlm.export.save import FORMATS, USUAL
from g2vlm.pictures import Photo


@pytest.fixture
def scene(tmp_path) -> Scene:
    room = true_reconstruction(num_views=2)
    photos = tuple(Photo(name, image) for name, image in zip(room.names, room.images, strict=True))
    folder = tmp_path / "scene"
    folder.mkdir()
    return Scene(photos, room, None, folder)


def test_each_view_has_a_picture_of_each_map(scene):
    for view in scene.pictures():
        assert {pixels.shape for pixels in view} == {(42, 56, 3)}


def test_the_surface_opens_as_glb_with_a_frustum_for_each_camera(scene):
    opened = trimesh.load_scene(scene.surface())
    tiles = opened.geometry["surfaces"]
    assert len(tiles.faces) == 2 * sum(int(mask.sum()) for mask in scene.reconstruction.mask)
    assert sum(name.startswith("camera") for name in opened.geometry) == 2


def test_every_format_can_be_taken_away_in_one_zip(scene):
    offered = downloads()
    assert set(USUAL) | {"glb", "colmap", TURNTABLE} <= set(offered) <= set(FORMATS) | {TURNTABLE}
    with zipfile.ZipFile(scene.packed(offered)) as packed:
        assert packed.testzip() is None
        names = packed.namelist()
        assert {f"scene/{name}" for name in ("points.ply", "scene.glb", "overview.png", "reconstruction.json")} <= set(
            names
        )
        turning = Image.open(io.BytesIO(packed.read("scene/turntable.gif")))
    assert np.asarray(turning.convert("RGB")).shape == (480, 640, 3)
    assert not any(".." in name or name.startswith("/") for name in names)


def test_a_second_zip_holds_only_what_was_asked_for(scene):
    scene.packed(["ply", "tum"])
    with zipfile.ZipFile(scene.packed(["tum"])) as packed:
        assert [name for name in packed.namelist() if not name.endswith("/")] == ["scene/trajectory.txt"]


def test_nothing_chosen_is_refused(scene):
    with pytest.raises(ValueError, match="tick at least one"):
        scene.packed([])


def test_files_go_with_the_scene(scene):
    scene.surface()
    scene.close()
    assert not scene.folder.exists()
