"""Whoever knows the truth finds every point, whoever knows nothing a few; the table says which layer is which."""

import json
import math
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hosts import CHANNELS, PatchEncoder, move

from g2vlm import presets
from g2vlm.data.correspondences import tracks
from g2vlm.data.recon import File, Frame, Scene
from g2vlm.data.samples import BadSample
from g2vlm.eval.correspondence import (
    WITHIN,
    Clip,
    Searched,
    as_record,
    clip_of,
    describing,
    evaluate,
    plot,
    points_of,
    room_clips,
    scene_clips,
    scores_of,
    table,
)
from g2vlm.geometry.camera import unproject
from g2vlm.geometry.pose import transform
from g2vlm.host import Host
from g2vlm.model import G2VLM
from g2vlm.pathway_config import PreDecoder
from g2vlm.predictor import Predictor
from g2vlm.processor import Processor, byte_tokenizer
from tests.train.conftest import config

GRID = (14, 14)
PATCH = 4


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return list(room_clips(2, num_views=3, resolution=56, patch=PATCH))


def knowing(views):
    """Two layers: one whose tokens know where in the world they look, and one whose tokens know nothing."""
    world = transform(views.poses, unproject(views.depth, views.intrinsics))[:, 2::PATCH, 2::PATCH]
    points = world.flatten(1, 2)
    centred = points - points.mean((0, 1))
    # far from the origin along a fourth axis, so that cosine falls with distance
    spread = torch.cat([centred, torch.full_like(centred[..., :1], 30.0)], dim=-1)
    spread = torch.cat([spread, (centred**2).sum(-1, keepdim=True) / -60], dim=-1)
    noise = torch.randn(3, 196, 8, generator=torch.Generator().manual_seed(0))
    other = torch.randn(3, 196, 8, generator=torch.Generator().manual_seed(1))
    return GRID, [(spread, spread), (noise, other)]


def test_a_layer_that_knows_the_place_finds_it_and_one_that_guesses_does_so_by_chance(clips):
    report = evaluate(knowing, clips)
    sure, guessing = report.layers
    assert report.clips == 2
    assert sure.pck > 0.9
    assert guessing.pck == pytest.approx(report.chance, abs=0.05)
    assert report.peak == sure
    assert abs(guessing.correlation) < 0.1
    assert sure.robustness[1] == 1
    assert set(report.points) == set(sure.by_gap) == {1, 2}


def test_points_that_stay_where_they_are_are_found_by_not_moving(clips):
    """A clip of the same view twice: the unmoved baseline is right everywhere, chance is what is counted by hand."""
    still = replace(clips[0].views, **{name: x[[0, 0]] for name, x in vars(clips[0].views).items()})
    same = torch.eye(196).expand(2, -1, -1)
    report = evaluate(lambda _: (GRID, [(same, same)]), [Clip("still", still)])
    assert report.unmoved == {1: 1.0}
    assert report.layers[0].pck == 1
    assert math.isnan(report.layers[0].correlation)
    near = []
    for x, y in tracks(still, sources=[0]).pixels[:, 1].tolist():
        near.append(
            sum(math.hypot(c + 0.5 - x / PATCH, r + 0.5 - y / PATCH) <= WITHIN for r in range(14) for c in range(14))
        )
    assert report.chance == pytest.approx(np.mean(near) / 196, abs=1e-3)


def test_confidence_counts_where_it_goes_with_being_right():
    is_found = np.array([True, True, False, False])
    gap = np.array([1, 2, 1, 2])
    scores = scores_of(0, [Searched(is_found, np.array([0.9, 0.8, 0.2, 0.1]))], gap)
    assert scores.correlation > 0.95
    assert scores.by_gap == {1: 0.5, 2: 0.5}
    assert scores_of(0, [Searched(is_found, 1 - np.array([0.9, 0.8, 0.2, 0.1]))], gap).correlation < -0.95


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    tokens = presets.tiny().tokens
    return Predictor(
        G2VLM(config()), Processor(byte_tokenizer(tokens), tokens), source="small", checkpoint_sha256="0" * 64
    )


@pytest.mark.parametrize("tokens", ["geometric", "semantic"])
def test_queries_and_keys_are_those_of_the_experts_visual_tokens(predictor, clips, tokens):
    """By the layer's own projection of what went into it, heads of keys repeated for the queries that share them."""
    views = clips[0].views
    grid, layers = describing(predictor, tokens=tokens)(views)
    _, hidden = describing(predictor, tokens=tokens, descriptors="hidden")(views)
    assert grid == (GRID if tokens == "geometric" else (2, 2))
    assert len(layers) == len(hidden) == len(predictor.model.decoder.layers)
    expert = predictor.model.decoder.layers[1].get_submodule(tokens)
    q, k, _ = expert.project(hidden[0][0].flatten(0, 1))
    repeats = q.shape[1] // k.shape[1]
    looking, found = layers[1]
    torch.testing.assert_close(looking.flatten(0, 1), q.flatten(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.flatten(0, 1), k.repeat_interleave(repeats, 1).flatten(1), atol=1e-5, rtol=1e-4)


def test_pictures_of_a_model_with_a_pathway_hold_its_geometry(predictor, clips):
    model = G2VLM(config())
    model.load_state_dict(predictor.model.state_dict())
    host = Host(model, PreDecoder((4,), geometry_width=CHANNELS, hidden_width=20), PatchEncoder())
    hosting = Predictor(model, predictor.processor, source="small", checkpoint_sha256="0" * 64, host=host)
    views = clips[0].views

    def compared(predictor, tokens):
        return torch.stack([x for x, _ in describing(predictor, tokens=tokens, descriptors="hidden")(views)[1]])

    for tokens in ("semantic", "geometric"):
        assert torch.equal(compared(hosting, tokens), compared(predictor, tokens))
    move(host.pathway)
    assert torch.equal(compared(hosting, "geometric"), compared(predictor, "geometric"))
    changes = (compared(hosting, "semantic") - compared(predictor, "semantic")).abs().amax((1, 2, 3))
    assert (changes > 1e-3).all()


def test_the_rotation_changes_what_is_compared_but_no_length(predictor, clips):
    plain, turned = (
        describing(predictor, descriptors=x)(clips[0].views)[1][0][0] for x in ("query_key", "rotated_query_key")
    )
    torch.testing.assert_close(plain.norm(dim=-1), turned.norm(dim=-1), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(plain, turned, atol=1e-3)


def test_no_hook_stays_on_the_model(predictor, clips):
    describing(predictor)(clips[0].views)
    assert not any(module._forward_hooks for module in predictor.model.modules())


def test_clips_without_common_points_are_refused(clips):
    mask = clips[0].views.mask.clone()
    mask[1:] = False
    apart = replace(clips[0].views, mask=mask)
    assert not len(points_of(apart, GRID).token)
    with pytest.raises(ValueError, match="no point is shown by two views"):
        evaluate(knowing, [Clip("apart", apart)])


def test_scenes_that_cannot_serve_are_named_and_the_rest_is_used(tmp_path, shared):
    folder = shared / "data" / "val"
    if not folder.is_dir():
        pytest.skip(f"no scenes in {shared.name}/data")
    said: list[str] = []
    found = list(scene_clips(folder, num_views=3, stride=1, resolution=112, patch=14, bad=said.append))
    assert "icl_livingroom_synthetic" in {clip.name for clip in found}
    assert any("kitti_000008_single" in line and "2 are needed" in line for line in said)
    assert all(clip.views.images.shape[0] <= 3 and max(clip.views.images.shape[2:]) == 112 for clip in found)


def test_a_scene_with_one_usable_frame_is_no_clip():
    scene = Scene("one", (Frame("a", File(Path(__file__))),), True, "test", "none")
    with pytest.raises(BadSample, match="one: 0 frames with depth, intrinsics and pose"):
        clip_of(scene, 2, 1, 112, 14)


def test_the_table_has_a_line_for_each_layer_and_json_says_the_same(clips):
    report = evaluate(knowing, clips)
    lines = table(report).splitlines()
    assert len(lines) == 1 + 2 + 3
    assert f"{100 * report.layers[0].pck:.1f}" in lines[1]
    assert lines[-1].startswith("peak: layer 0; PCK(2)/PCK(1) = ")
    record = json.loads(json.dumps(as_record(report), allow_nan=False))
    assert record["peak"]["layer"] == 0
    assert record["layers"][1]["by_gap"].keys() == {"1", "2"}


def test_the_plot_is_a_picture(clips):
    content = plot(evaluate(knowing, clips), "two layers")
    assert content.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", content[16:24])
    assert width > height > 300


def test_without_matplotlib_the_extra_is_named(clips, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"pip install 'g2vlm\[plot\]'"):
        plot(evaluate(knowing, clips), "")
