"""A frame is read with depth at the pixels of its image; whatever is wrong is one line that names the file."""

import io
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from g2vlm.data.readers import READERS
from g2vlm.data.readers.scene_json import read_scene
from g2vlm.data.recon import (
    DEPTH_CODINGS,
    DepthFile,
    File,
    Frame,
    Scene,
    each_good,
    pinhole,
    sample_nearest,
    valid,
)
from g2vlm.data.samples import BadSample


@pytest.fixture
def frame(tmp_path):
    """A frame of 16 x 20 pixels whose depth, in millimetres, is 1000 in every pixel but an unknown one."""
    Image.fromarray(np.full((16, 20, 3), 90, np.uint8)).save(tmp_path / "a.png")
    depth = np.full((16, 20), 1000, np.uint16)
    depth[2, 3] = 0
    Image.fromarray(depth).save(tmp_path / "depth.png")
    return Frame(
        "scene/a",
        File(tmp_path / "a.png"),
        pinhole(20, 20, 10, 8),
        np.eye(4),
        DepthFile(File(tmp_path / "depth.png"), "png16", 0.001),
    )


def refusal(pattern):
    return pytest.raises(BadSample, match=pattern)


def coded(values, coding):
    """The bytes of a depth map: each coding by hand."""
    stream = io.BytesIO()
    if coding in ("png16", "png16_65535"):
        Image.fromarray(np.asarray(values, np.uint16)).save(stream, "PNG")
    elif coding == "png_half":
        Image.fromarray(np.asarray(values, np.float16).view(np.uint16)).save(stream, "PNG")
    elif coding == "npy":
        np.save(stream, np.asarray(values, np.float32))
    elif coding == "pfm":
        stream.write(b"Pf\n3 2\n-1.0\n" + np.asarray(values, "<f4")[::-1].tobytes())
    elif coding == "colmap":
        stream.write(b"3&2&1&" + np.asarray(values, "<f4").tobytes())
    elif coding == "hdf5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(stream, "w") as file:
            file["dataset"] = np.asarray(values, np.float32)
    return stream.getvalue()


# ---- frames


def test_a_frame_gives_its_pixels_and_its_depth_in_scene_units(frame):
    shot = frame.read()
    assert shot.image.shape == (16, 20, 3)
    assert shot.image.dtype == np.uint8
    assert shot.depth.dtype == np.float32
    assert shot.depth[0, 0] == pytest.approx(1.0)
    assert not valid(shot.depth)[2, 3]
    assert valid(shot.depth).sum() == 16 * 20 - 1


def test_pixels_stay_as_they_are_stored_whatever_exif_says(frame, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((16, 20, 3), np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    assert replace(frame, image=File(tmp_path / "turned.jpg")).read().image.shape == (16, 20, 3)


def test_distance_along_the_ray_becomes_depth(frame):
    depth = replace(frame, depth=replace(frame.depth, measures="ray")).read().depth
    x, y = (np.arange(20) + 0.5 - 10) / 20, (np.arange(16)[:, None] + 0.5 - 8) / 20
    expected = 1 / np.sqrt(x**2 + y**2 + 1)
    expected[2, 3] = 0
    np.testing.assert_allclose(depth, expected, rtol=1e-6)


def test_depth_of_another_camera_is_looked_up_along_each_ray(frame, tmp_path):
    """Half the pixels and twice the field of view: pixel (x, y) of the image looks along a quarter of it."""
    small = np.arange(1, 81, dtype=np.uint16).reshape(8, 10)
    Image.fromarray(small).save(tmp_path / "small.png")
    depth = DepthFile(File(tmp_path / "small.png"), "png16", intrinsics=pinhole(5, 5, 5, 4))
    expected = np.repeat(np.repeat(small[2:6, 2:8], 4, 0), 4, 1)[:, 2:22]
    assert np.array_equal(replace(frame, depth=depth).read().depth, expected)
    outside = replace(depth, intrinsics=pinhole(10, 10, -100, 4))
    assert not replace(frame, depth=outside).read().depth.any()


@pytest.mark.parametrize("coding", DEPTH_CODINGS)
def test_every_coding_gives_back_what_was_stored(tmp_path, coding):
    if coding not in ("png16", "png16_65535", "png_half", "npy", "pfm", "colmap", "hdf5"):
        pytest.skip("tested with its reader")
    values = [[1, 2, 3], [4, 0, 6]]
    (tmp_path / "depth").write_bytes(coded(values, coding))
    depth = DepthFile(File(tmp_path / "depth"), coding, 0.5).read()
    assert depth.dtype == np.float32
    assert (depth * 2).tolist() == values


@pytest.mark.parametrize(("coding", "mark"), [("png16_65535", 65535), ("png_half", np.nan), ("pfm", np.inf)])
def test_marks_of_unknown_depth_become_zero(tmp_path, coding, mark):
    (tmp_path / "depth").write_bytes(coded([[1, mark, 3], [4, 5, 6]], coding))
    assert DepthFile(File(tmp_path / "depth"), coding).read()[0].tolist() == [1, 0, 3]


# ---- what is wrong with a file


def test_a_piece_of_a_file_is_read_and_a_cut_is_named(tmp_path):
    (tmp_path / "shard.tar").write_bytes(b"0123456789")
    assert File(tmp_path / "shard.tar", 3, 4).read() == b"3456"
    with refusal(r"shard\.tar: a\.jpg: 2 of 5 bytes"):
        File(tmp_path / "shard.tar", 8, 5, "a.jpg").read()
    with refusal(r"none\.jpg: cannot be read \(No such file"):
        File(tmp_path / "none.jpg").read()


def test_an_image_that_does_not_decode_is_named(frame, tmp_path):
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with refusal(r"a\.png: cannot be read"):
        frame.read()
    (tmp_path / "a.png").write_bytes(b"hello")
    with refusal(r"a\.png: not a JPEG"):
        frame.read()


def test_damaged_depth_is_named(frame, tmp_path):
    content = (tmp_path / "depth.png").read_bytes()
    (tmp_path / "depth.png").write_bytes(content[: len(content) // 2])
    with refusal(r"depth\.png: cannot be read as png16 depth"):
        frame.read()
    Image.fromarray(np.zeros((16, 20, 3), np.uint8)).save(tmp_path / "depth.png")
    with refusal(r"depth\.png: .*mode RGB, not 16-bit grey"):
        frame.read()


def test_depth_of_another_size_is_refused(frame, tmp_path):
    Image.fromarray(np.ones((8, 10), np.uint16)).save(tmp_path / "depth.png")
    with refusal(r"depth\.png: depth is 10 x 8 pixels, its image 20 x 16"):
        frame.read()


def test_nan_in_depth_is_refused(frame, tmp_path):
    values = np.ones((16, 20), np.float32)
    values[3, 4] = np.nan
    np.save(tmp_path / "depth.npy", values)
    with refusal(r"depth\.npy: 1 of 320 depths are NaN"):
        replace(frame, depth=DepthFile(File(tmp_path / "depth.npy"), "npy")).read()


def test_depth_that_needs_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "depth.hdf5").touch()
    with refusal(r"depth\.hdf5: .*pip install 'g2vlm\[hdf5\]'"):
        DepthFile(File(tmp_path / "depth.hdf5"), "hdf5").read()


@pytest.mark.parametrize(
    ("pose", "complaint"),
    [
        (np.diag([2.0, 2, 2, 1]), "not a rotation.* by 3"),
        (np.diag([1.0, 1, -1, 1]), "mirror image"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 2, 3, 1]]), "transposed"),
    ],
)
def test_a_pose_that_is_not_a_rotation_is_refused(frame, pose, complaint):
    with refusal(f"scene/a: .*{complaint}"):
        replace(frame, pose=pose)


@pytest.mark.parametrize(
    ("intrinsics", "complaint"),
    [
        (pinhole(np.nan, 1, 1, 1), "NaN"),
        (pinhole(-20, 20, 1, 1), "-20 and 20 pixels"),
        (np.ones((3, 3)), "0 0 1"),
    ],
)
def test_intrinsics_that_are_no_camera_are_refused(frame, intrinsics, complaint):
    with refusal(f"scene/a: .*{complaint}"):
        replace(frame, intrinsics=intrinsics)


def test_depth_that_needs_intrinsics_is_refused_without(frame):
    with refusal("scene/a: .*without the image's intrinsics"):
        replace(frame, intrinsics=None, depth=replace(frame.depth, measures="ray"))


def test_a_scene_without_pictures_is_refused():
    with refusal("empty: a scene without pictures"):
        Scene("empty", (), True, "", "")


def test_an_unknown_coding_names_those_there_are(tmp_path):
    with pytest.raises(ValueError, match="exr is no coding of depth; there are png16"):
        DepthFile(File(tmp_path), "exr")


@pytest.mark.parametrize("unit", [0.0, -1.0, np.nan, np.inf])
def test_a_unit_that_no_depth_can_have_is_refused(unit, tmp_path):
    with pytest.raises(ValueError, match=r"unit of depth is .*; it must be positive"):
        DepthFile(File(tmp_path), "png16", unit)


def test_after_a_bad_scene_the_next_one_follows(frame):
    def read(name):
        if name == "bad":
            raise BadSample("bad: broken")
        return Scene(name, (frame,), True, "", "")

    bad = []
    assert [scene.name for scene in each_good(map(read, ["a", "bad", "b"]), bad.append)] == ["a", "b"]
    assert bad == ["bad: broken"]


# ---- maps


def test_nearest_sampling_never_mixes_depths():
    depth = np.arange(16.0).reshape(4, 4)
    small = sample_nearest(depth, (2, 2))
    assert small.tolist() == [[5, 7], [13, 15]]
    assert np.array_equal(sample_nearest(depth, (4, 4)), depth)
    assert set(sample_nearest(depth, (7, 9)).ravel()) <= set(depth.ravel())


# ---- scene.json


@pytest.fixture
def folder(tmp_path):
    """A scene of three frames; the second knows no depth, the third no pose."""
    (tmp_path / "room/images").mkdir(parents=True)
    frames = []
    for index in range(3):
        image = np.full((16, 20, 3), 40 * index, dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f"room/images/{index}.png")
        Image.fromarray(np.full((16, 20), 1500 * index, dtype=np.uint16)).save(tmp_path / f"room/{index}.png")
        frames.append(
            {
                "image": f"images/{index}.png",
                "depth": None if index == 1 else f"{index}.png",
                "intrinsics": [20, 21, 9.5, 7.5],
                "T_world_camera": None if index == 2 else np.eye(4).tolist(),
            }
        )
    record = {
        "scene": "room",
        "metric_scale": True,
        "license": {"repository": "MIT", "upstream_data": None},
        "depth": {"unit_m": 0.001, "sparse": True},
        "ordering": "video",
        "frames": frames,
    }
    (tmp_path / "room/scene.json").write_text(json.dumps(record))
    return tmp_path / "room"


def test_a_scene_is_read_with_what_it_knows(folder):
    scene = read_scene(folder)
    assert (scene.name, scene.licence, scene.is_metric, len(scene.frames)) == ("room", "MIT", True, 3)
    assert (scene.has_fine_depth, scene.is_sequence) == (False, True)
    assert scene.frames[1].depth is None
    assert scene.frames[2].pose is None
    assert scene.frames[2].read().depth.max() == pytest.approx(3.0)
    assert not valid(scene.frames[0].read().depth).any()


def test_the_centre_of_the_first_pixel_moves_to_a_half(folder):
    assert read_scene(folder).frames[0].intrinsics[:2, 2].tolist() == [10.0, 8.0]


def test_frames_are_thinned_evenly_with_both_ends(folder):
    scene = read_scene(folder, max_frames=2)
    assert [int(frame.read().image[0, 0, 0]) for frame in scene.frames] == [0, 80]


def test_a_folder_without_a_scene_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no scene\.json"):
        read_scene(tmp_path)


def test_a_scene_json_that_lacks_a_field_is_named_and_the_others_are_read(folder):
    other = folder.parent / "other"
    other.mkdir()
    (other / "scene.json").write_text('{"frames": []}')
    bad = []
    scenes = list(each_good(READERS["scene_json"](folder.parent), bad.append))
    assert [scene.name for scene in scenes] == ["room"]
    assert len(bad) == 1
    assert re.search(r"other.scene\.json: .*'scene'", bad[0])


def test_every_real_scene_reads(shared):
    scenes = list(READERS["scene_json"](shared / "data"))
    assert len(scenes) > 40
    for scene in scenes:
        shot = scene.frames[-1].read()
        if shot.depth is not None:
            assert shot.depth.shape == shot.image.shape[:2]
            assert valid(shot.depth).mean() > 0.01
