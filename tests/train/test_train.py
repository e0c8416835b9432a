"""The training loop on a model small enough for a test: it learns, stops, resumes and leaves frozen parts alone."""

import itertools
import json
import math
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from builders import small_config
from torch.optim import AdamW

from g2vlm import presets
from g2vlm.heads.correspondence import CorrespondenceHeads
from g2vlm.hub import load_model
from g2vlm.model import G2VLM
from g2vlm.processor import Processor, byte_tokenizer
from g2vlm.records import Views
from g2vlm.train.batches import photometric, room_batch
from g2vlm.train.checkpoint import checkpoints, resume, save_checkpoint
from g2vlm.train.hooks import log_to
from g2vlm.train.loop import Learner, read, stacked, train
from g2vlm.train.optim import freeze, learning_rate, optimizer_of
from g2vlm.train.recipe import Recipe

RECIPE = Recipe("test", steps=6, scenes=1, views=2, sizes=((16, 20),), lr=1e-2, warmup=2, save_every=2, log_every=2)


@pytest.fixture
def processor() -> Processor:
    tokens = presets.tiny().tokens
    return Processor(byte_tokenizer(tokens), tokens)


def fresh(*, with_correspondence: bool = True) -> Learner:
    torch.manual_seed(0)
    model = G2VLM(small_config(text={"vocab_size": 320}, tokens=presets.tiny().tokens))
    freeze(model, RECIPE.frozen)
    return Learner(model, CorrespondenceHeads(32, (0, 1), out_width=8) if with_correspondence else None)


def optimizer_for(learner: Learner) -> AdamW:
    return optimizer_of(learner.parameters(), RECIPE)


def run(learner: Learner, processor: Processor, recipe: Recipe, *, hooks=()) -> None:
    """All steps of a recipe."""
    batches = (room_batch(recipe, step) for step in range(recipe.steps))
    train(learner, processor, batches, optimizer_for(learner), recipe, Accelerator(cpu=True), hooks=hooks)


def test_training_lowers_the_loss_on_one_room(processor):
    learner = fresh()
    recipe = replace(RECIPE, steps=30, warmup=1, schedule="cosine", pixel_fraction=1.0)
    batch = room_batch(recipe, 0)
    totals = []
    train(
        learner,
        processor,
        itertools.repeat(batch),
        optimizer_for(learner),
        recipe,
        Accelerator(cpu=True),
        hooks=[lambda progress: totals.append(float(progress.report.total.detach()))],
    )
    assert sum(totals[-5:]) < 0.8 * sum(totals[:5])


def test_frozen_parts_do_not_move_and_have_no_gradient(processor):
    learner = fresh()
    model = learner.model
    before = {name: p.clone() for name, p in model.named_parameters()}
    run(learner, processor, RECIPE)
    for name, parameter in model.named_parameters():
        is_frozen = any(part in name for part in RECIPE.frozen)
        assert parameter.requires_grad is not is_frozen
        if is_frozen:
            assert parameter.grad is None
            assert torch.equal(parameter, before[name]), name
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert any(".geometric." in name for name in moved)
    assert any(name.startswith("heads.camera") for name in moved)


def test_a_resumed_run_equals_an_unbroken_one(processor, tmp_path):
    whole = fresh()
    run(whole, processor, RECIPE)

    first = fresh()
    optimizer = optimizer_for(first)
    stop_at = 3

    def save(progress):
        if progress.step == stop_at:
            save_checkpoint(tmp_path, first, optimizer, progress.step, RECIPE)
            raise KeyboardInterrupt

    batches = (room_batch(RECIPE, step) for step in range(RECIPE.steps))
    with pytest.raises(KeyboardInterrupt):
        train(first, processor, batches, optimizer, RECIPE, Accelerator(cpu=True), hooks=[save])

    second = fresh()
    optimizer = optimizer_for(second)
    assert resume(tmp_path, second, optimizer) == stop_at
    batches = (room_batch(RECIPE, step) for step in range(stop_at, RECIPE.steps))
    train(second, processor, batches, optimizer, RECIPE, Accelerator(cpu=True), first_step=stop_at)
    for expected, actual in zip(whole.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(actual, expected)


def test_a_broken_save_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    learner = fresh()
    optimizer = optimizer_for(learner)
    save_checkpoint(tmp_path, learner, optimizer, 2, RECIPE)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, learner, optimizer, 4, RECIPE)
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step_0000002"]
    assert resume(tmp_path, learner, optimizer) == 2


def test_a_checkpoint_is_a_model_like_any_other(tmp_path):
    learner = fresh()
    folder = save_checkpoint(tmp_path, learner, optimizer_for(learner), 1, RECIPE)
    loaded = load_model(folder / "model").state_dict()
    for name, weight in learner.model.state_dict().items():
        assert torch.equal(loaded[name], weight), name


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    learner = fresh()
    save_checkpoint(tmp_path, learner, optimizer_for(learner), 1, RECIPE)
    other = Learner(G2VLM(small_config(heads={"normals": False})))
    with pytest.raises(RuntimeError, match=r"heads\.normals"):
        resume(tmp_path, other, optimizer_for(other))


def test_old_checkpoints_make_room_for_new_ones(tmp_path):
    learner = fresh(with_correspondence=False)
    for step in (2, 4, 6):
        save_checkpoint(tmp_path, learner, optimizer_for(learner), step, RECIPE)
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step_0000004", "step_0000006"]


def test_a_frozen_part_that_matches_nothing_is_refused():
    with pytest.raises(ValueError, match=r"'semantc' matches no parameter"):
        freeze(fresh().model, ("semantc",))


def test_every_learning_parameter_is_in_one_group():
    learner = fresh()
    grouped = [id(p) for group in optimizer_for(learner).param_groups for p in group["params"]]
    parts = [*learner.model.parameters(), *learner.correspondence.parameters()]
    assert sorted(grouped) == sorted(id(p) for p in parts if p.requires_grad)


def test_a_batch_depends_on_its_step_alone():
    first, again, other = room_batch(RECIPE, 3), room_batch(RECIPE, 3), room_batch(RECIPE, 4)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_photometric_augmentation_is_the_same_for_all_views_of_a_scene():
    grey = torch.full((2, 3, 3, 8, 8), 0.5)
    images = photometric(grey, torch.Generator().manual_seed(0))
    means = images.mean(dim=(3, 4))
    assert 0 <= images.min() <= images.max() <= 1
    torch.testing.assert_close(means[:, 0], means[:, 1], atol=0.02, rtol=0)
    assert (means[0, 0] - means[1, 0]).abs().max() > 0.02


@pytest.mark.parametrize("schedule", ["cosine", "trapezoid"])
def test_the_learning_rate_rises_then_falls_to_its_minimum(schedule):
    recipe = Recipe("test", steps=100, warmup=10, lr=1.0, min_lr=0.01, schedule=schedule)
    rates = [learning_rate(recipe, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.01)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(rates[10:]))


def test_a_step_without_a_finite_gradient_changes_nothing(processor):
    learner = fresh()
    recipe = replace(RECIPE, steps=1)
    batch = room_batch(recipe, 0)
    broken = replace(batch, images=torch.full_like(batch.images, math.nan))
    before = [p.clone() for p in learner.parameters()]
    seen = []
    hooks = [seen.append]
    train(learner, processor, iter([broken]), optimizer_for(learner), recipe, Accelerator(cpu=True), hooks=hooks)
    assert not math.isfinite(seen[0].gradient_norm)
    assert all(torch.equal(a, b) for a, b in zip(before, learner.parameters(), strict=True))


def test_the_log_holds_means_of_each_window(processor, tmp_path, capsys):
    run(fresh(), processor, RECIPE, hooks=[log_to(tmp_path / "log.jsonl", RECIPE.log_every)])
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert all(math.isfinite(row["total"]) for row in rows)
    assert "total" in capsys.readouterr().out


def test_the_prediction_keeps_scenes_apart(processor):
    model = fresh().model.eval()
    batch = room_batch(replace(RECIPE, scenes=3), 0)
    together = stacked(read(model, processor, batch).geometry, 3)
    alone = stacked(read(model, processor, Views(batch.images[1:2])).geometry, 1)
    torch.testing.assert_close(together.local_points[1:2], alone.local_points, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together.poses[1:2], alone.poses, atol=1e-4, rtol=1e-4)


def test_correspondence_supervision_is_an_addition_that_reaches_the_geometric_expert(processor):
    learner = fresh()
    reports = []
    run(learner, processor, replace(RECIPE, steps=1), hooks=[lambda progress: reports.append(progress.report)])
    plain = []
    run(fresh(with_correspondence=False), processor, replace(RECIPE, steps=1), hooks=[lambda p: plain.append(p.report)])
    added = reports[0].total.detach() - plain[0].total.detach()
    torch.testing.assert_close(
        added, RECIPE.correspondence_weight * reports[0].parts["correspondence"], atol=1e-4, rtol=1e-4
    )
    assert "correspondence" not in plain[0].parts
