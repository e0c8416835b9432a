"""Each layout, written from an exactly known room, gives back its pictures, cameras and depth."""

import json
import math
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from g2vlm.data.check import check
from g2vlm.data.readers import MODULES, READERS, colmap
from g2vlm.data.recon import Scene, each_good
from g2vlm.data.samples import BadSample

FLIP = np.diag([1.0, -1, -1, 1])


def save(path: Path, values: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


def only(kind: str, src: Path) -> Scene:
    (scene,) = READERS[kind](src)
    return scene


def assert_is_room(scene: Scene, room, depth_error: float | None, views=(0, 1, 2)):
    """Pictures, cameras and depth (metres; None: there is none) are those of the room, and depth and poses agree."""
    assert len(scene.frames) == len(views)
    for frame, view in zip(scene.frames, views, strict=True):
        shot = frame.read()
        assert np.array_equal(shot.image, room.images[view])
        np.testing.assert_allclose(frame.intrinsics, room.intrinsics, rtol=1e-5)
        np.testing.assert_allclose(frame.pose, room.poses[view], atol=1e-5)
        if depth_error is None:
            assert shot.depth is None
        else:
            np.testing.assert_allclose(shot.depth, room.depth[view], atol=depth_error)
    if depth_error is not None:
        report = check(scene)
        assert report.is_good, report.reasons
        assert report.num_pairs > 0


@pytest.mark.parametrize("kind", MODULES)
def test_a_folder_of_something_else_is_one_clear_line(kind, tmp_path):
    (tmp_path / "notes").mkdir()
    with pytest.raises(ValueError, match=str(tmp_path)) as refusal:
        list(READERS[kind](tmp_path))
    assert not isinstance(refusal.value, BadSample)
    assert "\n" not in str(refusal.value)


# ---- scene.json


def test_scene_json(room, tmp_path):
    frames = []
    fx, fy, cx, cy = room.intrinsics[0, 0], room.intrinsics[1, 1], room.intrinsics[0, 2], room.intrinsics[1, 2]
    for view in range(3):
        save(tmp_path / f"images/{view}.png", room.images[view])
        save(tmp_path / f"depth/{view}.png", (room.depth[view] * 1000).round().astype(np.uint16))
        frames.append(
            {
                "image": f"images/{view}.png",
                "depth": f"depth/{view}.png",
                "intrinsics": [fx, fy, cx - 0.5, cy - 0.5],
                "T_world_camera": room.poses[view].tolist(),
            }
        )
    record = {"scene": "room", "metric_scale": True, "license": {"repository": "MIT"}, "frames": frames}
    (tmp_path / "scene.json").write_text(json.dumps(record))
    assert_is_room(only("scene_json", tmp_path), room, 5e-4)


# ---- COLMAP


def colmap_model(room, root: Path, camera="PINHOLE", extra=()):
    """A project with pictures, dense depth and a model as text, image lines and empty lines of points by turns."""
    fx, fy, cx, cy = room.intrinsics[0, 0], room.intrinsics[1, 1], room.intrinsics[0, 2], room.intrinsics[1, 2]
    focal = (fx,) if camera.startswith("SIMPLE") else (fx, fy)
    parameters = " ".join(repr(float(x)) for x in (*focal, cx, cy, *extra))
    lines = ["# Image list with two lines of data per image"]
    for view in range(3):
        save(root / f"images/{view}.png", room.images[view])
        to_camera = np.linalg.inv(room.poses[view])
        x, y, z, w = Rotation.from_matrix(to_camera[:3, :3]).as_quat()
        numbers = " ".join(repr(float(value)) for value in (w, x, y, z, *to_camera[:3, 3]))
        lines += [f"{view + 1} {numbers} 7 {view}.png", "1.5 2.5 -1 3.5 4.5 -1" if view == 1 else ""]
        depth = root / f"stereo/depth_maps/{view}.png.geometric.bin"
        depth.parent.mkdir(parents=True, exist_ok=True)
        depth.write_bytes(b"64&48&1&" + room.depth[view].astype("<f4").tobytes())
    model = root / "sparse"
    model.mkdir()
    (model / "cameras.txt").write_text(f"# Camera list\n7 {camera} 64 48 {parameters}\n")
    (model / "images.txt").write_text("\n".join(lines) + "\n")
    return model


def to_binary(model: Path):
    """Rewrite a text model as COLMAP's binary one."""
    cameras, images = colmap.read_model(model)
    numbers = {name: number for number, (name, _) in enumerate(colmap.MODELS)}
    content = struct.pack("<Q", len(cameras))
    for number, camera in cameras.items():
        content += struct.pack("<iiQQ", number, numbers[camera.model], camera.width, camera.height)
        content += struct.pack(f"<{len(camera.parameters)}d", *camera.parameters)
    (model / "cameras.bin").write_bytes(content)
    content = struct.pack("<Q", len(images))
    for number, image in enumerate(reversed(images)):
        content += struct.pack("<i7di", number, *image.rotation, *image.translation, image.camera)
        content += image.name.encode() + b"\0" + struct.pack("<Q", number)
        content += struct.pack("<ddq", 1.0, 2.0, -1) * number
    (model / "images.bin").write_bytes(content)
    for name in ("cameras.txt", "images.txt"):
        (model / name).unlink()


@pytest.mark.parametrize("binary", [False, True])
def test_colmap(room, tmp_path, binary):
    model = colmap_model(room, tmp_path / "house")
    if binary:
        to_binary(model)
    scene = only("colmap", tmp_path)
    assert scene.name == "house"
    assert not scene.is_metric
    assert_is_room(scene, room, 1e-6)


def test_colmap_without_stereo_has_no_depth(room, tmp_path):
    colmap_model(room, tmp_path / "house", "SIMPLE_PINHOLE")
    shutil.rmtree(tmp_path / "house/stereo")
    assert_is_room(only("colmap", tmp_path / "house"), room, None)


def test_colmap_cameras_that_distort_are_refused_with_the_cure(room, tmp_path):
    colmap_model(room, tmp_path / "a", "OPENCV", (0.1, 0, 0, 0))
    colmap_model(room, tmp_path / "b", "SIMPLE_RADIAL", (0.0,))
    bad = []
    assert [scene.name for scene in each_good(READERS["colmap"](tmp_path), bad.append)] == ["b"]
    assert len(bad) == 1
    assert "a, camera 7" in bad[0]
    assert "colmap image_undistorter" in bad[0]


@pytest.mark.parametrize("damage", ["cut", "model", "camera"])
def test_a_damaged_colmap_model_is_named(room, tmp_path, damage):
    model = colmap_model(room, tmp_path / "house")
    if damage == "cut":
        to_binary(model)
        content = (model / "images.bin").read_bytes()
        (model / "images.bin").write_bytes(content[: len(content) // 2])
    else:
        old, new = ("PINHOLE", "EYE") if damage == "model" else ("7 PINHOLE", "8 PINHOLE")
        (model / "cameras.txt").write_text((model / "cameras.txt").read_text().replace(old, new))
    with pytest.raises(BadSample, match="house"):
        only("colmap", tmp_path)


# ---- transforms.json


def transforms(room, folder: Path, name="transforms.json", suffix=".png", depth=True, **top):
    frames = []
    for view in range(3):
        save(folder / f"images/{view}.png", room.images[view])
        frames.append(
            {
                "file_path": f"images/{view}{suffix}",
                "transform_matrix": (room.poses[view] @ FLIP).tolist(),
            }
        )
        if depth:
            save(folder / f"depth/{view}.png", (room.depth[view] * 1000).round().astype(np.uint16))
            frames[-1]["depth_file_path"] = f"depth/{view}.png"
    (folder / name).write_text(json.dumps({**top, "frames": frames}))


def camera_of(room):
    names, places = ("fl_x", "fl_y", "cx", "cy"), ((0, 0), (1, 1), (0, 2), (1, 2))
    return {name: float(room.intrinsics[place]) for name, place in zip(names, places, strict=True)}


def test_transforms_of_nerfstudio(room, tmp_path):
    transforms(room, tmp_path / "desk", w=64, h=48, k1=0, p1=0.0, **camera_of(room))
    scene = only("transforms", tmp_path)
    assert scene.name == "desk"
    assert_is_room(scene, room, 5e-4)


def test_transforms_of_blender_give_an_angle_and_no_suffix(room, tmp_path):
    angle = 2 * math.atan(32 / room.intrinsics[0, 0])
    transforms(room, tmp_path, "transforms_train.json", "", depth=False, camera_angle_x=angle)
    transforms(room, tmp_path, "transforms_val.json", "", depth=False, camera_angle_x=angle)
    scenes = list(READERS["transforms"](tmp_path))
    assert [scene.name for scene in scenes] == [f"{tmp_path.name}_train", f"{tmp_path.name}_val"]
    assert_is_room(scenes[0], room, None)


def test_what_a_frame_says_overrules_the_file(room, tmp_path):
    transforms(room, tmp_path, w=64, h=48, integer_depth_scale=0.001, **{**camera_of(room), "fl_x": 1.0})
    record = json.loads((tmp_path / "transforms.json").read_text())
    for frame in record["frames"]:
        frame["fl_x"] = camera_of(room)["fl_x"]
    (tmp_path / "transforms.json").write_text(json.dumps(record))
    assert_is_room(only("transforms", tmp_path / "transforms.json"), room, 5e-4)


def test_smaller_depth_is_stretched_over_the_picture(room, tmp_path):
    transforms(room, tmp_path, w=64, h=48, **camera_of(room))
    for view in range(3):
        small = room.depth[view][::2, ::2]
        save(tmp_path / f"depth/{view}.png", (small * 1000).round().astype(np.uint16))
    depth = only("transforms", tmp_path).frames[0].read().depth
    np.testing.assert_allclose(depth[::2, ::2], room.depth[0][::2, ::2], atol=5e-4)
    np.testing.assert_allclose(depth[1::2, 1::2], room.depth[0][::2, ::2], atol=5e-4)


@pytest.mark.parametrize(
    ("top", "complaint"),
    [
        ({"k1": 0.02}, "images/0.png: its lens distorts; undistort"),
        ({"fl_x": "long"}, "not a transforms.json as documented"),
        ({"fl_x": float("nan")}, "images/0.png: its intrinsics have NaN"),
    ],
)
def test_transforms_that_cannot_be_used_are_named(room, tmp_path, top, complaint):
    transforms(room, tmp_path, w=64, h=48, **{**camera_of(room), **top})
    with pytest.raises(BadSample, match=complaint):
        only("transforms", tmp_path)


# ---- TUM


def tum(room, folder: Path):
    """Depth comes 5 ms after the picture, poses at 100 Hz; a fourth picture has no depth near it."""
    lists = {"rgb": [], "depth": [], "groundtruth": []}
    for view in range(4):
        time, shown = 100 + view, min(view, 2)
        save(folder / f"rgb/{time}.png", room.images[shown])
        lists["rgb"].append(f"{time}.000000 rgb/{time}.png")
        later = time + (0.005 if view < 3 else 0.5)
        save(folder / f"depth/{later}.png", (room.depth[shown] * 5000).round().astype(np.uint16))
        lists["depth"].append(f"{later} depth/{later}.png")
        for step in (-0.01, 0.001, 0.011):
            pose = room.poses[shown] if step == 0.001 else np.eye(4)
            quaternion = Rotation.from_matrix(pose[:3, :3]).as_quat()
            lists["groundtruth"].append(" ".join(repr(float(x)) for x in (time + step, *pose[:3, 3], *quaternion)))
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(["# a comment", *lines]) + "\n")


def test_tum(room, tmp_path):
    folder = tmp_path / "rgbd_dataset_freiburg1_desk"
    tum(room, folder)
    fx, fy, cx, cy = camera_of(room).values()
    (folder / "calibration.txt").write_text(f"{fx} {fy} {cx - 0.5} {cy - 0.5}\n")
    scene = only("tum", tmp_path)
    assert scene.name == folder.name
    assert scene.is_metric
    assert_is_room(scene, room, 2e-4)


@pytest.mark.parametrize(("number", "focal", "centre"), [(1, 525, 320), (2, 525, 320), (3, 535.4, 320.6)])
def test_tum_cameras_follow_the_folder(room, tmp_path, number, focal, centre):
    folder = tmp_path / f"rgbd_dataset_freiburg{number}_xyz"
    tum(room, folder)
    intrinsics = only("tum", folder).frames[0].intrinsics
    assert intrinsics[0, 0] == focal
    assert intrinsics[0, 2] == pytest.approx(centre)


def test_tum_folders_of_an_unknown_camera_or_without_matches_are_named(room, tmp_path):
    tum(room, tmp_path / "mine")
    with pytest.raises(BadSample, match="which camera"):
        only("tum", tmp_path)
    (tmp_path / "mine/calibration.txt").write_text("500 500 32 24")
    (tmp_path / "mine/depth.txt").write_text("7 depth/7.png\n")
    with pytest.raises(BadSample, match="none of 4 pictures has depth and a pose"):
        only("tum", tmp_path)


# ---- 7-Scenes


def test_seven_scenes(room, tmp_path, monkeypatch):
    """The depth camera sees the picture's middle: 585 against 525 pixels of focal length."""
    folder = tmp_path / "chess/seq-01"
    for view in range(3):
        stem = folder / f"frame-{view:06d}"
        save(Path(f"{stem}.color.png"), np.zeros((480, 640, 3), np.uint8) + room.images[view][0, 0])
        depth = np.full((480, 640), 1000 + view, np.uint16)
        depth[:, :320] = 65535
        save(Path(f"{stem}.depth.png"), depth)
        Path(f"{stem}.pose.txt").write_text("\n".join("\t ".join(map(str, row)) for row in room.poses[view]))
    scene = only("7scenes", tmp_path / "chess")
    assert scene.name == "chess_seq-01"
    shot = scene.frames[1].read()
    np.testing.assert_allclose(scene.frames[1].pose, room.poses[1])
    assert scene.frames[1].intrinsics[0].tolist() == [525, 0, 320]
    assert not shot.depth[:, :320].any()
    assert shot.depth[240, 330] == pytest.approx(1.001)
    assert shot.depth[240, 319 + 287] > 0
    assert shot.depth[240, 319 + 289] == 0


def test_a_lost_pose_of_seven_scenes_is_named(room, tmp_path):
    save(tmp_path / "frame-000000.color.png", room.images[0])
    (tmp_path / "frame-000000.pose.txt").write_text("nan " * 16)
    with pytest.raises(BadSample, match=r"frame-000000\.color\.png: its pose has NaN"):
        only("7scenes", tmp_path)
