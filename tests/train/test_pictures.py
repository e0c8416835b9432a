"""Pictures of a run show fixed scenes that nothing learns from, prediction beside truth under one scale."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from g2vlm.data.packs import Packs
from g2vlm.data.samples import Bucket
from g2vlm.data.sampling import Shapes
from g2vlm.data.scenes import VALIDATION_SEEDS, rooms
from g2vlm.data.sources import RoomSource, TextSource, only_scene
from g2vlm.geometry.camera import unproject
from g2vlm.geometry.pose import in_first_frame, pose_from
from g2vlm.records import Geometry, Views
from g2vlm.train.parallel import SingleEngine
from g2vlm.train.pictures import Cloud, Square, compare, draw, fixed_samples, from_above, sheet, upright
from g2vlm.train.recipe import EngineRecipe, OptimiserRecipe
from tests.train.conftest import new_learner


@pytest.fixture(scope="module")
def room() -> Views:
    return only_scene(rooms([3], num_views=2, height=24, width=32).views)


def truth_as_prediction(room: Views, scale: float) -> Geometry:
    """What a model would say that knew everything but the scale and the world frame."""
    poses = in_first_frame(room.poses)
    poses = pose_from(poses[:, :3, :3], poses[:, :3, 3] / scale)
    return Geometry(tuple(unproject(room.depth, room.intrinsics) / scale), poses)


def test_a_prediction_that_is_right_up_to_scale_has_no_error_and_the_same_points(room):
    found = compare(room, truth_as_prediction(room, 3.0))
    assert found.absrel < 1e-5
    np.testing.assert_allclose(found.depth, found.true_depth, rtol=1e-4)
    np.testing.assert_allclose(found.cloud.points, found.true_cloud.points, atol=1e-3)
    np.testing.assert_allclose(found.cloud.cameras, found.true_cloud.cameras, atol=1e-3)


def test_a_room_from_above_lies_ahead_of_its_camera_and_has_upright_walls(room):
    found = compare(room, truth_as_prediction(room, 1.0)).true_cloud
    assert np.allclose(found.cameras[0, 0], 0, atol=1e-5)
    assert found.cameras[0, 1, 1] > 0.5
    assert found.points[:, 1].mean() > 0
    up = upright(in_first_frame(room.poses))
    torch.testing.assert_close(up @ up.T, torch.eye(3), atol=1e-5, rtol=0)
    assert torch.linalg.det(up) > 0


def test_unknown_depth_leaves_the_prediction_and_no_error(room):
    without = replace(room, depth=None, mask=None)
    found = compare(without, truth_as_prediction(room, 1.0))
    assert np.isnan(found.absrel)
    assert found.true_cloud is None
    assert len(found.cloud.points) == room.depth.numel()
    assert sheet("step 1", [("room", without, truth_as_prediction(room, 1.0))]).width > 1000


def test_points_that_are_not_finite_are_left_out(room):
    prediction = truth_as_prediction(room, 1.0)
    prediction.local_points[0][0, 0] = torch.nan
    assert len(compare(room, prediction).cloud.points) == room.depth.numel() - 1


def test_ahead_is_up_and_right_is_right():
    colours = np.array([[255, 0, 0], [0, 255, 0]], np.uint8)
    seen = Cloud(np.array([[0.0, 4.0], [4.0, 0.0]]), colours, np.zeros((1, 2, 2)))
    square = Square(np.array([0.0, 0.0]), 10.0)
    pixels = np.array(from_above(seen, square))
    (row, column) = np.argwhere((pixels == colours[0]).all(-1))[0]
    assert row < 100
    assert 190 < column < 210
    (row, column) = np.argwhere((pixels == colours[1]).all(-1))[0]
    assert 190 < row < 210
    assert column > 300


# --- of a run --------------------------------------------------------------------------------------------------------


def test_rooms_of_pictures_are_for_validation_and_always_the_same(packs):
    first, again = fixed_samples(packs), fixed_samples(packs)
    assert len(first) == 2
    for pack, same in zip(first, again, strict=True):
        (sample,) = pack.samples
        assert int(sample.name.split()[-1]) in VALIDATION_SEEDS
        assert torch.equal(sample.views.images, same.samples[0].views.images)
    assert first[0].samples[0].name != first[1].samples[0].name


def test_without_rooms_the_first_samples_of_the_run_are_shown(packs, processor, tmp_path):
    class Scenes:
        name, num_views = "scenes", (2, 2)

        def num_tokens(self, bucket: Bucket) -> int:
            return 60

        def sample(self, draw: random.Random, bucket: Bucket):
            return RoomSource(processor, 4).sample(draw, bucket)

    shapes = Shapes(views=(2, 2), resolution=20, aspects=(0.8, 0.8), portrait=0.0, patch=4)
    row = Packs([(Scenes(), 1.0)], shapes, tokens_per_pack=150, seed=0)
    names = [sample.name for position in range(3) for sample in row[position].samples]
    assert [pack.samples[0].name for pack in fixed_samples(row)] == names[:2]
    (tmp_path / "words.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    words = TextSource("words", tmp_path / "words.jsonl", processor)
    assert fixed_samples(Packs([(words, 1.0)], shapes, tokens_per_pack=150, seed=0)) == ()


def test_a_sheet_is_written_and_training_goes_on_as_if_nothing_had_been(packs, tmp_path):
    learner = new_learner()
    engine = SingleEngine(learner, EngineRecipe(), OptimiserRecipe(), torch.device("cpu"))
    before = [weight.clone() for weight in learner.parameters()]
    draw(engine, fixed_samples(packs), tmp_path / "pictures", 7)
    with Image.open(tmp_path / "pictures/step_0000007.png") as picture:
        assert min(picture.size) > 500
    assert learner.training
    assert all(weight.grad is None for weight in learner.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, learner.parameters(), strict=True))
    assert not learner.model._forward_hooks
