"""The training loop on a model small enough for a test: it learns, stops, resumes and leaves frozen parts alone."""

import itertools
import json
import math
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from builders import small_config

from g2vlm import presets
from g2vlm.model import G2VLM
from g2vlm.processor import Processor, byte_tokenizer
from g2vlm.records import Views
from g2vlm.train.batches import photometric, room_batch
from g2vlm.train.checkpoint import checkpoints, load_parameters, resume, save_checkpoint
from g2vlm.train.hooks import log_to
from g2vlm.train.loop import predict, train
from g2vlm.train.optim import freeze, learning_rate, optimizer_of
from g2vlm.train.recipe import Recipe

RECIPE = Recipe("test", steps=6, scenes=1, views=2, sizes=((16, 20),), lr=1e-2, warmup=2, save_every=2, log_every=2)


@pytest.fixture
def processor() -> Processor:
    tokens = presets.tiny().tokens
    return Processor(byte_tokenizer(tokens), tokens)


def fresh_model() -> G2VLM:
    torch.manual_seed(0)
    model = G2VLM(small_config(text={"vocab_size": 320}, tokens=presets.tiny().tokens))
    freeze(model, RECIPE.frozen)
    return model


def run(model: G2VLM, processor: Processor, recipe: Recipe, *, hooks=()) -> None:
    """All steps of a recipe."""
    optimizer = optimizer_of(model, recipe)
    batches = (room_batch(recipe, step) for step in range(recipe.steps))
    train(model, processor, batches, optimizer, recipe, Accelerator(cpu=True), hooks=hooks)


def test_training_lowers_the_loss_on_one_room(processor):
    model = fresh_model()
    recipe = replace(RECIPE, steps=30, warmup=1, schedule="cosine", pixel_fraction=1.0)
    batch = room_batch(recipe, 0)
    totals = []
    train(
        model,
        processor,
        itertools.repeat(batch),
        optimizer_of(model, recipe),
        recipe,
        Accelerator(cpu=True),
        hooks=[lambda progress: totals.append(float(progress.report.total.detach()))],
    )
    assert sum(totals[-5:]) < 0.8 * sum(totals[:5])


def test_frozen_parts_do_not_move_and_have_no_gradient(processor):
    model = fresh_model()
    before = {name: p.clone() for name, p in model.named_parameters()}
    run(model, processor, RECIPE)
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
    whole = fresh_model()
    run(whole, processor, RECIPE)

    first = fresh_model()
    optimizer = optimizer_of(first, RECIPE)
    stop_at = 3

    def save(progress):
        if progress.step == stop_at:
            save_checkpoint(tmp_path, first, optimizer, progress.step, RECIPE)
            raise KeyboardInterrupt

    batches = (room_batch(RECIPE, step) for step in range(RECIPE.steps))
    with pytest.raises(KeyboardInterrupt):
        train(first, processor, batches, optimizer, RECIPE, Accelerator(cpu=True), hooks=[save])

    second = fresh_model()
    optimizer = optimizer_of(second, RECIPE)
    assert resume(tmp_path, second, optimizer) == stop_at
    batches = (room_batch(RECIPE, step) for step in range(stop_at, RECIPE.steps))
    train(second, processor, batches, optimizer, RECIPE, Accelerator(cpu=True), first_step=stop_at)
    for (name, expected), actual in zip(whole.named_parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, msg=lambda m, n=name: f"{n}: {m}")


def test_a_broken_save_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    model = fresh_model()
    optimizer = optimizer_of(model, RECIPE)
    save_checkpoint(tmp_path, model, optimizer, 2, RECIPE)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, model, optimizer, 4, RECIPE)
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step_0000002"]
    assert resume(tmp_path, model, optimizer) == 2


def test_weights_of_another_model_are_refused(tmp_path):
    folder = save_checkpoint(tmp_path, fresh_model(), optimizer_of(fresh_model(), RECIPE), 1, RECIPE)
    other = G2VLM(small_config(heads={"normals": False}))
    with pytest.raises(ValueError, match="does not fit"):
        load_parameters(other, folder / "model.safetensors")


def test_a_frozen_part_that_matches_nothing_is_refused():
    with pytest.raises(ValueError, match=r"'semantc' matches no parameter"):
        freeze(fresh_model(), ("semantc",))


def test_every_learning_parameter_is_in_one_group():
    model = fresh_model()
    grouped = [id(p) for group in optimizer_of(model, RECIPE).param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)


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
    assert all(a >= b - 1e-12 for a, b in zip(rates[10:], rates[11:], strict=False))


def test_a_step_without_a_finite_gradient_changes_nothing(processor):
    model = fresh_model()
    recipe = replace(RECIPE, steps=1)
    batch = room_batch(recipe, 0)
    broken = replace(batch, images=torch.full_like(batch.images, math.nan))
    before = [p.clone() for p in model.parameters()]
    seen = []
    train(
        model, processor, iter([broken]), optimizer_of(model, recipe), recipe, Accelerator(cpu=True), hooks=[seen.append]
    )
    assert not math.isfinite(seen[0].gradient_norm)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_the_log_holds_means_of_each_window(processor, tmp_path, capsys):
    run(fresh_model(), processor, RECIPE, hooks=[log_to(tmp_path / "log.jsonl", RECIPE.log_every)])
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert all(math.isfinite(row["total"]) for row in rows)
    assert "total" in capsys.readouterr().out


def test_the_prediction_keeps_scenes_apart(processor):
    model = fresh_model().eval()
    batch = room_batch(replace(RECIPE, scenes=3), 0)
    together = predict(model, processor, batch)
    alone = predict(model, processor, Views(batch.images[1:2]))
    torch.testing.assert_close(together.local_points[1:2], alone.local_points, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together.poses[1:2], alone.poses, atol=1e-4, rtol=1e-4)
