"""A procedural room comes as photos with their truth, ready for `predict`."""

import numpy as np
from PIL import Image

from g2vlm.cli.rooms import FIRST_TEST_SEED
from g2vlm.data.scenes import TEST_SEEDS


def test_photos_and_truth_agree_in_number_and_size(run, tmp_path):
    outcome = run("rooms", tmp_path / "room", "--views", 3, "--height", 42, "--width", 56)
    assert outcome.code == 0
    assert len(outcome.out.splitlines()) == 4
    assert [Image.open(tmp_path / f"room/0{i}.png").size for i in range(3)] == [(56, 42)] * 3
    with np.load(tmp_path / "room/truth.npz") as truth:
        assert truth["depth"].shape == (3, 42, 56)
        assert (truth["depth"] > 0).mean() > 0.9
        assert truth["world_from_camera"].shape == (3, 4, 4)
        assert truth["intrinsics"].shape == (3, 3, 3)


def test_a_room_is_repeated_by_its_seed(run, tmp_path):
    for folder, seed in [("a", 7), ("b", 7), ("c", 8)]:
        run("rooms", tmp_path / folder, "--views", 1, "--height", 28, "--width", 28, "--seed", seed)
    a, b, c = ((tmp_path / folder / "00.png").read_bytes() for folder in "abc")
    assert a == b != c


def test_the_default_room_was_never_trained_on():
    assert TEST_SEEDS.start == FIRST_TEST_SEED


def test_a_folder_in_use_and_a_wrong_number_are_refused(run, tmp_path):
    (tmp_path / "mine.txt").touch()
    outcome = run("rooms", tmp_path)
    assert outcome.code == 2
    assert "--overwrite" in outcome.err
    outcome = run("rooms", tmp_path / "new", "--views", 0)
    assert outcome.code == 2
    assert not (tmp_path / "new").exists()


def test_a_room_can_be_predicted(run, hub, tmp_path):
    run("rooms", tmp_path / "room", "--views", 2, "--height", 42, "--width", 56)
    assert run("predict", tmp_path / "room", "--out", tmp_path / "out").code == 0
