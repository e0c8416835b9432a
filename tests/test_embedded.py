"""The weights that come with the package: small, whole, and better than not looking."""

import shutil
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import g2vlm
from g2vlm.data.scenes import TEST_SEEDS, rooms
from g2vlm.eval.geometry import blind, score, summarise
from g2vlm.eval.questions import asking, evaluate, held_out
from g2vlm.hub import load_model

WEIGHTS = Path(str(files("g2vlm"))) / "weights"
FOLDER = WEIGHTS / "tiny"


@pytest.fixture(scope="module")
def predictor():
    return g2vlm.load(device="cpu")


def test_they_are_small(predictor):
    assert sum(parameter.numel() for parameter in predictor.model.parameters()) <= 25_000_000
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) <= 60_000_000


def test_every_part_is_there(predictor):
    heads = predictor.model.heads
    assert all(
        head is not None for head in (heads.points, heads.camera, heads.global_points, heads.confidence, heads.normals)
    )
    assert predictor.model.vision is not None
    assert predictor.processor.tokenizer.encode("a", add_special_tokens=False) == [ord("a")]


def test_they_see_more_than_someone_who_does_not_look(predictor):
    truth = rooms(TEST_SEEDS[200:208], num_views=4, height=112, width=112).views
    ours, base = [], []
    for scene in range(8):
        known = (list(truth.depth[scene].numpy()), list(truth.mask[scene].numpy()), truth.poses[scene].numpy())
        geometry = predictor.geometry(list(truth.images[scene]))
        depth = [points[..., 2].numpy() for points in geometry.local_points]
        ours.append(score(depth, geometry.poses.numpy(), *known))
        base.append(score(*blind(known[0], 4), *known))
    model, baseline = summarise(ours), summarise(base)
    assert model.absrel < 0.6 * baseline.absrel
    assert model.rotation_deg_median < 0.8 * baseline.rotation_deg_median
    assert model.auc30 > baseline.auc30 + 10


def test_a_changed_weight_is_noticed(tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "tiny")
    weights = load_file(folder / "model.safetensors")
    weights["decoder.layers.3.geometric.mlp.up.weight"] *= 1.1
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"known_answer\.json.*but the model computes"):
        load_model(folder)


def test_heads_keep_their_digits_in_bfloat16(predictor):
    half = g2vlm.load(device="cpu", dtype="bfloat16")
    assert half.model.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in half.model.heads.parameters()} == {torch.float32}
    views = list(rooms([TEST_SEEDS[300]], num_views=2, height=112, width=112).views.images[0])
    for exact, rounded in zip(
        predictor.geometry(views).local_points, half.geometry(views).local_points, strict=True
    ):  # worst measured 0.02
        assert ((rounded - exact)[..., 2] / exact[..., 2]).abs().median() < 0.05


def test_they_answer_with_what_they_measured(predictor):
    """Which point is nearer, and which is the same: held-out rooms, chance is a third to a half."""
    quizzes = held_out(48, kinds=("depth_comparison", "position_matching"), per_room=2)
    report = evaluate(asking(predictor, reasoning="geometry"), quizzes)
    assert report.overall > 0.7  # 0.875 measured


def test_those_without_geometry_see_what_the_others_see():
    """They start from the same stage one, and their geometric side was never trained again."""
    ours, theirs = g2vlm.load(device="cpu").model.state_dict(), load_model("tiny_no_geometry").state_dict()
    assert torch.equal(ours["dino_projection.weight"], theirs["dino_projection.weight"])
    assert not torch.equal(ours["embed_tokens.weight"], theirs["embed_tokens.weight"])
