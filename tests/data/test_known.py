"""Known cameras are read from whatever file they were kept in."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from g2vlm.data.known import read_known

INTRINSICS = np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]])
POSE = np.array([[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
NAMES, SIZES = ["a.jpg", "b.jpg"], [(480, 640)] * 2


def prediction(folder: Path, **changes: object) -> Path:
    entry = {"intrinsics": INTRINSICS.tolist(), "world_from_camera": POSE.tolist(), "height": 480, "width": 640}
    file = folder / "cameras.json"
    file.write_text(json.dumps({"cameras": [{"name": name, **entry, **changes} for name in NAMES]}))
    return file


def colmap(folder: Path) -> Path:
    inverse = np.linalg.inv(POSE)
    (folder / "sparse" / "0").mkdir(parents=True)
    (folder / "sparse" / "0" / "cameras.txt").write_text("1 PINHOLE 640 480 500 510 320 240\n")
    # Half of a turn by -90 degrees about z.
    pose = f"{np.sqrt(0.5)} 0 0 {-np.sqrt(0.5)} {' '.join(map(str, inverse[:3, 3]))}"
    lines = [f"{i + 1} {pose} 1 {name}\n" for i, name in enumerate(NAMES)]
    (folder / "sparse" / "0" / "images.txt").write_text("\n".join(lines) + "\n")
    return folder


def nerfstudio(folder: Path) -> Path:
    for name in NAMES:
        Image.new("RGB", (640, 480)).save(folder / name)
    opengl = (POSE @ np.diag([1.0, -1, -1, 1])).tolist()
    frames = [{"file_path": name, "transform_matrix": opengl} for name in NAMES]
    camera = {"fl_x": 500, "fl_y": 510, "cx": 320, "cy": 240, "w": 640, "h": 480}
    file = folder / "transforms.json"
    file.write_text(json.dumps({**camera, "frames": frames}))
    return file


@pytest.mark.parametrize("write", [prediction, colmap, nerfstudio])
def test_every_form_gives_the_same_cameras(tmp_path: Path, write: object):
    assert callable(write)
    known = read_known(write(tmp_path), NAMES, SIZES)
    assert known.intrinsics is not None
    assert known.poses is not None
    np.testing.assert_allclose(known.intrinsics, [INTRINSICS] * 2)
    np.testing.assert_allclose(known.poses, [POSE] * 2, atol=1e-12)
    assert not known.is_metric


def test_a_scene_says_whether_it_is_in_metres(tmp_path: Path):
    frame = {"depth": None, "intrinsics": [500, 510, 319.5, 239.5], "T_world_camera": POSE.tolist()}
    record = {
        "scene": "s", "metric_scale": True, "license": {"repository": "CC0"},
        "frames": [{"image": f"images/{name}", **frame} for name in NAMES],
    }  # fmt: skip
    (tmp_path / "scene.json").write_text(json.dumps(record))
    for source in (tmp_path, tmp_path / "scene.json"):
        known = read_known(source, ["b.jpg"], SIZES[:1])
        assert known.is_metric
        assert known.intrinsics is not None
        np.testing.assert_allclose(known.intrinsics[0], INTRINSICS)


def test_intrinsics_follow_the_size_of_the_photo(tmp_path: Path):
    known = read_known(prediction(tmp_path), NAMES, [(240, 320)] * 2)
    assert known.intrinsics is not None
    np.testing.assert_allclose(known.intrinsics[0, :2], INTRINSICS[:2] / 2)


def test_intrinsics_that_are_not_known_leave_the_poses(tmp_path: Path):
    known = read_known(prediction(tmp_path, intrinsics=None), NAMES, SIZES)
    assert known.intrinsics is None
    assert known.poses is not None


def test_a_photo_without_a_camera_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"knows no camera of c\.jpg \(1 of 2 photos\); it names a\.jpg, b\.jpg"):
        read_known(prediction(tmp_path), ["a.jpg", "c.jpg"], SIZES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "is no JSON"),
        ("[]", "holds neither cameras nor frames"),
        ('{"cameras": [{"name": "a.jpg"}]}', r"is no cameras\.json of `g2vlm predict` \(KeyError"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: str, message: str):
    file = tmp_path / "cameras.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_known(file, NAMES, SIZES)


def test_what_is_not_there_names_the_forms(tmp_path: Path):
    with pytest.raises(ValueError, match=r"there is no such file or folder; give a cameras\.json"):
        read_known(tmp_path / "nothing", NAMES, SIZES)
