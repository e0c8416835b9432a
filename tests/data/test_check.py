"""Good scenes pass; the mistakes that people make with poses, depth and intrinsics are found, and named."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from g2vlm.data.check import check, chosen_frames
from g2vlm.data.readers import READERS
from g2vlm.data.recon import DepthFile, File, Frame, Scene


@pytest.fixture
def scene(room, tmp_path):
    frames = []
    for view in range(len(room.images)):
        Image.fromarray(room.images[view]).save(tmp_path / f"{view}.png")
        np.save(tmp_path / f"{view}.npy", room.depth[view])
        depth = DepthFile(File(tmp_path / f"{view}.npy"), "npy")
        frames.append(Frame(f"room/{view}", File(tmp_path / f"{view}.png"), room.intrinsics, room.poses[view], depth))
    return Scene("room", tuple(frames), True, "us", "MIT")


def changed(scene: Scene, change) -> Scene:
    return replace(scene, frames=tuple(change(frame) for frame in scene.frames))


def inverted(frame):
    return replace(frame, pose=np.linalg.inv(frame.pose))


def opengl(frame):
    return replace(frame, pose=frame.pose @ np.diag([1.0, -1, -1, 1]))


def transposed(frame):
    pose = frame.pose.copy()
    pose[:3, :3] = pose[:3, :3].T
    return replace(frame, pose=pose)


def scaled(frame):
    return replace(frame, depth=replace(frame.depth, unit=frame.depth.unit * 2))


def halved(frame):
    intrinsics = frame.intrinsics.copy()
    intrinsics[[0, 1], [0, 1]] /= 2
    return replace(frame, intrinsics=intrinsics)


def test_exact_scenes_agree(scene):
    report = check(scene)
    assert report.is_good
    assert report.agreement.median < 0.02
    assert report.num_pairs >= 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (inverted, "if the poses are inverted (world-to-camera"),
        (opengl, "OpenGL axes were taken"),
        (lambda frame: inverted(opengl(frame)), "world-to-camera with OpenGL axes"),
        (transposed, "the rotations are transposed"),
        (scaled, "if depth is multiplied by 0.5"),
        (halved, "focal lengths are multiplied by 2"),
    ],
)
def test_a_known_mistake_is_found_and_named(scene, change, named):
    report = check(changed(scene, change))
    assert not report.is_good
    (reason,) = report.reasons
    assert named in reason


def test_an_unknown_mistake_is_found(scene):
    """Poses of the views in another order."""
    poses = [frame.pose for frame in scene.frames]
    frames = [replace(frame, pose=pose) for frame, pose in zip(scene.frames, poses[1:] + poses[:1], strict=True)]
    report = check(replace(scene, frames=tuple(frames)))
    assert not report.is_good


def test_intrinsics_that_do_not_fit_the_picture_are_named(scene):
    far = changed(scene, lambda frame: replace(frame, intrinsics=frame.intrinsics * [[3], [3], [1]], depth=None))
    assert all(
        "principal point (96.0, 72.0) lies outside its 64 x 48 pixels" in reason for reason in check(far).reasons
    )
    assert len(check(far).reasons) == 3
    unit = changed(scene, lambda frame: replace(frame, intrinsics=frame.intrinsics * [[1 / 64, 1, 1]], depth=None))
    assert "not in pixels?" in check(unit).reasons[0]


def test_files_that_cannot_be_read_are_reasons(scene):
    scene.frames[1].image.path.write_bytes(b"no picture")
    report = check(scene)
    assert len(report.reasons) == 1
    assert "1.png" in report.reasons[0]


def test_without_depth_or_poses_nothing_is_compared(scene):
    for gone in ({"depth": None}, {"pose": None}, {"intrinsics": None}):
        report = check(changed(scene, lambda frame, gone=gone: replace(frame, **gone)))
        assert report.is_good
        assert report.agreement is None


def test_long_sequences_are_judged_by_pairs_of_neighbours():
    assert chosen_frames(5, 16) == [0, 1, 2, 3, 4]
    chosen = chosen_frames(1000, 16)
    assert len(chosen) == 15  # the last one has no neighbour behind it
    assert chosen[:2] == [0, 15]
    assert chosen[-1] == 999


def test_every_real_scene_is_good(shared):
    reports = [check(scene) for scene in READERS["scene_json"](shared / "data")]
    assert {report.name: report.reasons for report in reports if not report.is_good} == {}
    assert sum(report.agreement is not None for report in reports) >= 8


@pytest.mark.parametrize("change", [inverted, scaled, halved])
@pytest.mark.parametrize("name", ["train/redkitchen_7scenes", "val/icl_livingroom_synthetic"])
def test_real_scenes_with_a_mistake_are_found(shared, name, change):
    (scene,) = READERS["scene_json"](shared / "data" / name)
    (reason,) = check(changed(scene, change), max_frames=8).reasons
    named = {inverted: "the poses are inverted", scaled: "by 0.5", halved: "focal lengths are multiplied by 2"}
    assert named[change] in reason
