"""`g2vlm predict` with known cameras, known lengths and worlds."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from builders import true_reconstruction
from PIL import Image

from g2vlm.geometry.pose import FLIP
from g2vlm.records import Reconstruction
from g2vlm.worlds import scaled

SEED, VIEWS = 8, 4


@pytest.fixture(scope="module")
def truth() -> Reconstruction:
    return true_reconstruction(SEED, VIEWS)


@pytest.fixture
def predict(run, hub, truth, tmp_path, monkeypatch):
    """Predict the photos of a room with a model that is right but for the unit, which is 0.4 m."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, image in zip(truth.names, truth.images, strict=True):
        Image.fromarray(image).save(folder / name)

    def reconstruct(photos, **options) -> Reconstruction:
        return dataclasses.replace(scaled(truth, 2.5), names=tuple(photo.name for photo in photos))

    monkeypatch.setattr(hub, "reconstruct", reconstruct)
    return lambda *options: run("predict", folder, "--out", tmp_path / "out", *options)


def cameras(truth: Reconstruction, folder: Path, poses: np.ndarray | None = None, scale: str = "metric") -> Path:
    poses = truth.poses if poses is None else poses
    entries = [
        {"name": name, "height": 84, "width": 84, "intrinsics": k.tolist(), "world_from_camera": p.tolist()}
        for name, k, p in zip(truth.names, truth.intrinsics, poses, strict=True)
    ]
    file = folder / "known.json"
    file.write_text(json.dumps({"scale": scale, "cameras": entries}))
    return file


def test_a_known_length_makes_metres_of_points_and_poses(predict, truth, tmp_path):
    length = np.linalg.norm(truth.poses[0, :3, 3] - truth.poses[3, :3, 3])
    outcome = predict("--metric", f"0-3={length:.6f}m")
    assert outcome.code == 0, outcome.err
    assert f"one unit of the prediction is 0.4 m; what is left: 0-3={length:.6f}m +0.0 %" in outcome.out
    assert "4 views, metric;" in outcome.out
    saved = Reconstruction.load(tmp_path / "out")
    assert saved.scale == "metric"
    np.testing.assert_allclose(saved.points[1], truth.points[1], atol=1e-4)
    np.testing.assert_allclose(saved.poses, truth.poses, atol=1e-4)
    assert saved.provenance.settings["metric"] == f"0-3={length:.6f}m"


def test_known_cameras_are_honoured_and_the_difference_is_said(predict, truth, tmp_path):
    file = cameras(truth, tmp_path)
    outcome = predict("--known", file, "--json")
    assert outcome.code == 0, outcome.err
    summary = json.loads(outcome.out)
    assert summary["world"] == "known"
    assert summary["known"]["scale"] == pytest.approx(0.4, rel=3e-3)
    assert summary["known"]["rotation_deg"] < 0.1
    saved = Reconstruction.load(tmp_path / "out")
    assert (saved.scale, saved.world) == ("metric", "known")
    np.testing.assert_allclose(saved.poses, truth.poses, atol=1e-6)


@pytest.mark.parametrize("world", ["view_0", "gravity"])
def test_the_world_is_the_one_that_was_asked_for(predict, truth, tmp_path, world):
    turned = FLIP.astype(np.float32) @ truth.poses
    outcome = predict("--known", cameras(truth, tmp_path, turned), "--world", world)
    assert outcome.code == 0, outcome.err
    saved = Reconstruction.load(tmp_path / "out")
    assert saved.world == world
    if world == "view_0":
        np.testing.assert_allclose(saved.poses[0], np.eye(4), atol=1e-5)
        np.testing.assert_allclose(saved.points[1], truth.points[1], rtol=4e-3, atol=5e-3)
    else:
        assert saved.poses[0, 1, 3] < -0.5  # y is down, so a camera above the floor is below zero


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "0-3=2"], "is no known length; write"),
        (["--metric", "0-9=1m"], "there is no view 9, only 0 to 3"),
        (["--metric", "0-3=1m", "--metric", "0-3=2m"], "say different things of one length"),
        (["--metric", "0-3=1m", "--metric", "0-1=90m"], "contradict one another"),
        (["--known", "nothing.json"], "--known nothing.json: there is no such file or folder"),
        (["--world", "known"], "--world known needs poses that are known"),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(predict, tmp_path, options, message):
    outcome = predict(*options)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert message in outcome.err
    assert not (tmp_path / "out").exists()


def test_metres_cannot_come_twice(predict, truth, tmp_path):
    outcome = predict("--known", cameras(truth, tmp_path), "--metric", "0-1=1m")
    assert outcome.code == 2
    assert "is in metres already; leave out --metric 0-1=1m" in outcome.err


def test_poses_in_other_axes_are_found_out(predict, truth, tmp_path):
    outcome = predict("--known", cameras(truth, tmp_path, truth.poses @ FLIP.astype(np.float32)))
    assert outcome.code == 2
    assert "as camera-to-world in OpenGL axes" in outcome.err
