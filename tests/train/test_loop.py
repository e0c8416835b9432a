import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from g2vlm.data.samples import Pack
from g2vlm.train.loop import Progress, train
from g2vlm.train.parallel import SingleEngine
from g2vlm.train.recipe import DataRecipe, EngineRecipe, GuardRecipe, OptimiserRecipe, Recipe, SourceRecipe
from tests.train.conftest import new_learner, pack_of

RECIPE = Recipe(
    "test",
    steps=4,
    data=DataRecipe((SourceRecipe("rooms"),)),
    optimiser=OptimiserRecipe(lr=1e-2, warmup=1),
)


def engine_of(learner, recipe: Recipe = RECIPE) -> SingleEngine:
    return SingleEngine(learner, recipe.engine, recipe.optimiser, torch.device("cpu"))


def trained(engine, packs: Iterator[Pack], recipe: Recipe = RECIPE, **options) -> list[Progress]:
    seen: list[Progress] = []
    train(engine, packs, recipe, hooks=[seen.append], **options)
    return seen


def test_training_lowers_the_loss_on_one_room(room_sample):
    recipe = replace(RECIPE, steps=30)
    seen = trained(engine_of(new_learner(layers=(0, 1)), recipe), itertools.repeat(pack_of(room_sample(0))), recipe)
    totals = [progress.total for progress in seen]
    assert sum(totals[-5:]) < 0.8 * sum(totals[:5])


def test_hooks_are_told_every_step(room_sample):
    seen = trained(engine_of(new_learner()), itertools.repeat(pack_of(room_sample(0))))
    assert [progress.step for progress in seen] == [1, 2, 3, 4]
    assert all(progress.tokens == len(room_sample(0).ids) for progress in seen)
    assert all(math.isfinite(progress.gradient_norm) and progress.was_taken for progress in seen)
    assert all(0 <= progress.waited <= progress.seconds for progress in seen)


@pytest.mark.parametrize("strategy", ["geometry", "ce_only", "ce_ce", "vg_ce"])
def test_what_is_frozen_does_not_move_by_a_bit_and_has_no_gradient(strategy, question_sample):
    learner = new_learner(strategy)
    before = {name: weight.detach().clone() for name, weight in learner.named_parameters()}
    trained(engine_of(learner), itertools.repeat(pack_of(question_sample(0), question_sample(1))))
    for name, weight in learner.named_parameters():
        if not weight.requires_grad:
            assert weight.grad is None, name
            assert torch.equal(weight, before[name]), name
    moved = {name for name, weight in learner.named_parameters() if not torch.equal(weight, before[name])}
    learning = {name for name, weight in learner.named_parameters() if weight.requires_grad}
    still = {name for name in learning - moved if not name.endswith("bias")}  # biases of keys cancel in softmax
    assert still == set()


def test_packs_of_a_step_count_as_one_batch(room_sample):
    samples = [room_sample(seed) for seed in range(2)]
    recipe = replace(RECIPE, steps=2)
    whole, halves = new_learner(), new_learner()
    one = trained(engine_of(whole), itertools.repeat(pack_of(*samples)), recipe)
    accumulated = replace(recipe, data=replace(recipe.data, packs_per_step=2))
    two = trained(engine_of(halves), itertools.cycle([pack_of(s) for s in samples]), accumulated)
    assert [p.total for p in two] == pytest.approx([p.total for p in one], abs=1e-5)
    assert [p.gradient_norm for p in two] == pytest.approx([p.gradient_norm for p in one], rel=1e-4)


def not_finite(sample):
    return replace(sample, views=replace(sample.views, images=torch.full_like(sample.views.images, math.nan)))


def test_a_step_without_a_finite_loss_is_not_taken_and_the_next_one_is_as_if_it_had_not_been(room_sample):
    good, bad = pack_of(room_sample(0)), pack_of(not_finite(room_sample(1)))
    recipe = replace(RECIPE, steps=3, optimiser=replace(RECIPE.optimiser, warmup=0, min_lr=1e-2))
    learner, twin = new_learner(), new_learner()
    seen = trained(engine_of(learner, recipe), iter([good, bad, good]), recipe)
    trained(engine_of(twin, recipe), iter([good, good]), replace(recipe, steps=2))
    assert [progress.was_taken for progress in seen] == [True, False, True]
    assert not math.isfinite(seen[1].gradient_norm)
    assert "rooms" in seen[1].skipped[0]
    for weight, other in zip(learner.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(weight, other)


def test_too_many_steps_without_a_finite_loss_stop_the_run_and_name_their_samples(room_sample):
    recipe = replace(RECIPE, steps=9, guard=GuardRecipe(max_skipped=3))
    bad = not_finite(room_sample(1))
    learner = new_learner()
    before = [weight.detach().clone() for weight in learner.parameters()]
    with pytest.raises(ValueError, match=rf"3 steps in a row .*{bad.name}"):
        trained(engine_of(learner, recipe), itertools.repeat(pack_of(bad)), recipe)
    assert all(torch.equal(a, b) for a, b in zip(before, learner.parameters(), strict=True))


def test_steps_whose_every_scene_is_above_the_limit_are_not_taken_and_stop_the_run(room_sample):
    recipe = replace(RECIPE, steps=9, guard=GuardRecipe(max_loss=1e-6, max_skipped=3))
    sample = room_sample(1)
    learner = new_learner()
    learner.max_loss = recipe.guard.max_loss
    seen: list[Progress] = []
    with pytest.raises(ValueError, match=rf"3 steps in a row .*{sample.name}"):
        train(engine_of(learner, recipe), itertools.repeat(pack_of(sample)), recipe, hooks=[seen.append])
    assert not any(progress.was_taken for progress in seen)


def test_bad_samples_of_a_pack_are_passed_on(room_sample):
    pack = replace(pack_of(room_sample(0)), skipped=("x.jpg: cut off",))
    assert trained(engine_of(new_learner()), itertools.repeat(pack))[0].skipped == ("x.jpg: cut off",)


def test_bfloat16_keeps_the_weights_in_float32(room_sample):
    recipe = replace(RECIPE, engine=EngineRecipe(precision="bf16"))
    learner = new_learner()
    seen = trained(engine_of(learner, recipe), itertools.repeat(pack_of(room_sample(0))), recipe)
    assert all(weight.dtype == torch.float32 for weight in learner.parameters())
    assert all(math.isfinite(progress.total) for progress in seen)


def test_a_resumed_engine_goes_on_as_if_unbroken(packs):
    recipe = replace(RECIPE, steps=4, optimiser=replace(RECIPE.optimiser, ema=0.5))
    row = [packs[n] for n in range(4)]
    whole = engine_of(new_learner(layers=(0,)), recipe)
    trained(whole, iter(row), recipe)
    first = engine_of(new_learner(layers=(0,)), recipe)
    with pytest.raises(StopIteration):
        trained(first, iter(row[:2]), recipe)
    second = engine_of(new_learner(layers=(0,)), recipe)
    second.load(first.state())
    trained(second, iter(row[2:]), recipe, first_step=2)
    for (name, weight), other in zip(whole.learner.named_parameters(), second.learner.parameters(), strict=True):
        assert torch.equal(weight, other), name
    assert all(torch.equal(mean, second.ema.mean[name]) for name, mean in whole.ema.mean.items())
