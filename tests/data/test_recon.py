import json

import numpy as np
import pytest
from PIL import Image

from g2vlm.data.recon import read_scene, sample_nearest, valid


@pytest.fixture
def folder(tmp_path):
    """A scene of three frames; the second knows no depth, the third no pose."""
    (tmp_path / "images").mkdir()
    frames = []
    for index in range(3):
        image = np.full((16, 20, 3), 40 * index, dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f"images/{index}.png")
        Image.fromarray(np.full((16, 20), 1500 * index, dtype=np.uint16)).save(tmp_path / f"{index}.png")
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
        "depth": {"unit_m": 0.001},
        "frames": frames,
    }
    (tmp_path / "scene.json").write_text(json.dumps(record))
    return tmp_path


def test_a_scene_is_read_with_what_it_knows(folder):
    scene = read_scene(folder)
    assert (scene.name, scene.licence, scene.is_metric, len(scene.frames)) == ("room", "MIT", True, 3)
    assert scene.frames[1].depth is None
    assert scene.frames[2].pose is None
    assert scene.frames[2].depth.max() == pytest.approx(3.0)
    assert not valid(scene.frames[0].depth).any()


def test_the_centre_of_the_first_pixel_moves_to_a_half(folder):
    assert read_scene(folder).frames[0].intrinsics[:2, 2].tolist() == [10.0, 8.0]


def test_frames_are_thinned_evenly_with_both_ends(folder):
    scene = read_scene(folder, max_frames=2)
    assert [int(frame.image[0, 0, 0]) for frame in scene.frames] == [0, 80]


def test_a_folder_without_a_scene_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no scene\.json"):
        read_scene(tmp_path)


def test_nearest_sampling_never_mixes_depths():
    depth = np.arange(16.0).reshape(4, 4)
    small = sample_nearest(depth, (2, 2))
    assert small.tolist() == [[5, 7], [13, 15]]
    assert np.array_equal(sample_nearest(depth, (4, 4)), depth)
    assert set(sample_nearest(depth, (7, 9)).ravel()) <= set(depth.ravel())


def test_every_real_scene_reads(shared):
    files = sorted((shared / "data/val").glob("*/scene.json"))
    assert files
    for file in files:
        scene = read_scene(file.parent, max_frames=2)
        for frame in scene.frames:
            assert frame.image.shape[2] == 3
            if frame.depth is not None:
                assert frame.depth.shape == frame.image.shape[:2]
                assert valid(frame.depth).mean() > 0.01
