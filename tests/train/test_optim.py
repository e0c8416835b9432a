import itertools
from dataclasses import replace

import pytest
import torch

from g2vlm.train.optim import Ema, learning_rate, lr_factor, parameter_groups
from g2vlm.train.recipe import OptimiserRecipe
from tests.train.conftest import new_learner

RECIPE = OptimiserRecipe(lr=1.0, min_lr=0.01, warmup=10, weight_decay=0.1)


def test_every_learning_parameter_is_in_exactly_one_group():
    learner = new_learner(layers=(0,))
    groups = parameter_groups(learner.named_parameters(), replace(RECIPE, lr_factors={"heads.": 2.0}))
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in learner.parameters() if p.requires_grad)
    assert len(set(grouped)) == len(grouped)


def test_matrices_decay_and_vectors_do_not():
    for group in parameter_groups(new_learner().named_parameters(), RECIPE):
        assert all((parameter.ndim >= 2) == (group["weight_decay"] == 0.1) for parameter in group["params"])


def test_the_longest_part_decides_the_factor():
    factors = {"heads.": 2.0, "heads.camera": 3.0}
    assert [lr_factor(name, factors) for name in ("heads.camera.w", "heads.points.w", "dino.w")] == [3.0, 2.0, 1.0]


def test_a_factor_for_nothing_is_refused():
    with pytest.raises(ValueError, match="lr_factors names 'haeds'"):
        parameter_groups(new_learner().named_parameters(), replace(RECIPE, lr_factors={"haeds": 2.0}))


@pytest.mark.parametrize("schedule", ["cosine", "trapezoid"])
def test_the_learning_rate_rises_then_falls_to_its_minimum(schedule):
    rates = [learning_rate(replace(RECIPE, schedule=schedule), step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.01)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(rates[10:]))


def test_the_trapezoid_is_constant_until_its_cool_down():
    recipe = replace(RECIPE, schedule="trapezoid", cooldown=0.25)
    rates = [learning_rate(recipe, step, 100) for step in range(101)]
    assert set(rates[10:76]) == {1.0}
    assert rates[88] == pytest.approx(0.01 + 0.99 * 12 / 25)


def test_the_running_mean_follows_the_weights_and_goes_on_from_a_saved_one():
    weight = torch.nn.Parameter(torch.zeros(3))
    ema = Ema([("w", weight)], decay=0.9)
    weight.data += 1
    ema.update()
    torch.testing.assert_close(ema.mean["w"], torch.full((3,), 0.1))
    other = Ema([("w", weight)], decay=0.9)
    other.load(ema.mean)
    ema.update()
    other.update()
    assert torch.equal(other.mean["w"], ema.mean["w"])
    with pytest.raises(ValueError, match="running mean"):
        other.load({"v": torch.zeros(3)})
