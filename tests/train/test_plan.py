"""Plans: counted without training, and equal to what a real step does."""

from dataclasses import replace

import pytest
import torch
from builders import small_config
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from g2vlm.attention import BACKENDS
from g2vlm.counting import Ledger
from g2vlm.data.samples import Pack, Sample
from g2vlm.model import G2VLM
from g2vlm.records import Views
from g2vlm.train import plan as planning
from g2vlm.train.learner import Totals
from g2vlm.train.plan import (
    GIB,
    cost_of,
    fits,
    learner_without_memory,
    memory_of,
    plan_of,
    report,
    typical_packs,
)
from g2vlm.train.recipe import DataRecipe, Recipe, SourceRecipe, find_recipe, with_settings
from g2vlm.train.run import learner_of

RECIPE = Recipe(
    "small",
    steps=10,
    data=DataRecipe((SourceRecipe("rooms"),), tokens_per_pack=150, views=(2, 2), resolution=16, aspects=(1.0, 1.0)),
)


def small_tokens():
    return small_config(text={"vocab_size": 320}, tokens=planning.presets.tiny().tokens)


def small(recipe: Recipe = RECIPE):
    config = small_tokens()
    ((_, pack),) = typical_packs(recipe, config)
    return learner_without_memory(recipe, config), pack


@pytest.fixture
def small_plans(monkeypatch) -> None:
    """Every recipe is planned for the small model."""
    monkeypatch.setattr(planning, "config_of", lambda recipe: small_tokens())


@pytest.fixture
def no_masks(monkeypatch) -> None:
    """Real text without its causal mask, which torch cannot make while operations are watched."""
    monkeypatch.setattr("g2vlm.attention.causal_lower_right", lambda queries, keys: None)


def real(pack: Pack) -> Pack:
    """The same pack, with pictures and truth that have memory."""

    def filled(sample: Sample) -> Sample:
        assert sample.views is not None
        num, _, height, width = sample.views.images.shape
        focal = torch.tensor([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]]).repeat(num, 1, 1)
        poses = torch.eye(4).repeat(num, 1, 1)
        poses[:, 0, 3] = torch.arange(num) / 10
        depth = 1 + torch.rand(num, height, width)
        return replace(sample, views=Views(torch.rand(num, 3, height, width), focal, poses, depth, depth > 0))

    return replace(pack, samples=tuple(map(filled, pack.samples)))


def lasting(learner) -> int:
    return sum(parameter.numel() for parameter in learner.parameters())


def test_operations_are_those_of_a_real_step(no_masks):
    learner, pack = small()
    planned = cost_of(learner, pack, RECIPE).flops
    alive = learner_of(RECIPE, G2VLM(small_tokens()))
    ledger, given = Ledger(torch.device("cpu")), real(pack)
    with ledger, sdpa_kernel(SDPBackend.MATH):
        alive(given, Totals(scenes=pack.num_scenes, answers=0)).total.backward()
    assert planned == pytest.approx(ledger.flops, rel=0.05)


def test_activations_are_those_of_a_real_step(no_masks):
    larger = replace(RECIPE, data=replace(RECIPE.data, tokens_per_pack=400))
    learner, pack = small(larger)
    filled = replace(RECIPE, data=replace(RECIPE.data, tokens_per_pack=pack.num_tokens))
    planned = cost_of(learner, pack, filled).activations
    alive = learner_of(RECIPE, G2VLM(small_tokens()))
    ledger = Ledger(torch.device("cpu"))
    given = real(pack)
    for parameter in alive.parameters():
        ledger.known(parameter)
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda parameter: ledger.known(parameter.grad))
    with ledger:
        torch.autograd.backward(alive(given, Totals(scenes=pack.num_scenes, answers=0)).total)
    assert planned == pytest.approx(ledger.peak, rel=0.15)


def test_planning_makes_no_weights_and_leaves_no_gradients_and_no_kernels_behind():
    learner, pack = small()
    kernels = torch.nn.functional.linear, BACKENDS["sdpa"]
    cost_of(learner, pack, RECIPE)
    assert all(parameter.is_meta and parameter.grad is None for parameter in learner.parameters())
    assert kernels == (torch.nn.functional.linear, BACKENDS["sdpa"])


def test_a_ledger_forgets_what_has_gone_and_remembers_the_peak():
    ledger = Ledger(torch.device("cpu"))
    with ledger:
        kept = torch.zeros(10)
        torch.zeros(1000)
        view: Tensor = kept[:5]
    assert ledger.live == 40
    assert ledger.peak == 40 + 4000
    assert view.shape == (5,)


def test_checkpointing_costs_operations_and_saves_memory():
    lighter = replace(RECIPE, engine=replace(RECIPE.engine, gradient_checkpointing=True))
    heavy, light = (cost_of(*small(recipe), recipe) for recipe in (RECIPE, lighter))
    assert light.flops > 1.1 * heavy.flops
    assert light.activations < 0.8 * heavy.activations


def test_a_frozen_expert_costs_no_backward_pass():
    data = replace(
        RECIPE.data, sources=(SourceRecipe("room_questions"),), views=(4, 4), resolution=32, tokens_per_pack=800
    )
    both, one = (replace(RECIPE, data=data, strategy=strategy) for strategy in ("ce_ce", "ce_only"))
    costs = [cost_of(*small(recipe), recipe) for recipe in (both, one)]
    assert costs[1].flops < 0.95 * costs[0].flops
    assert costs[1].activations < 0.8 * costs[0].activations


def test_views_that_see_each_other_cost_more_than_views_that_do_not():
    recipe = replace(RECIPE, data=replace(RECIPE.data, views=(3, 3), tokens_per_pack=100))
    costs = []
    for visibility in ("frame", "block_causal", "global"):
        config = small_tokens().with_options(visibility=visibility)
        ((_, pack),) = typical_packs(recipe, config)
        costs.append(cost_of(learner_without_memory(recipe, config), pack, recipe).flops)
    assert costs[0] < costs[1] < costs[2]


def test_engines_share_what_they_share():
    learner, pack = small()
    cost = cost_of(learner, pack, RECIPE)
    memory = {name: memory_of(name, learner, [cost], RECIPE, 4) for name in planning.ENGINES}
    numbers = lasting(learner)
    assert memory["single"].weights == memory["ddp"].weights == memory["zero2"].weights == 4 * numbers
    assert memory["fsdp2"].weights == memory["zero3"].weights == numbers
    assert memory["fsdp2"].optimiser == memory["ddp"].optimiser / 4
    assert memory["zero2"].optimiser < memory["ddp"].optimiser
    assert {m.activations for m in memory.values()} == {cost.activations}


def test_a_plan_counts_every_parameter_once(small_plans):
    plan = plan_of(RECIPE, gpu="cpu")
    model = G2VLM(small_tokens())
    assert sum(part.trained + part.frozen for part in plan.parts) == lasting(model)
    assert {part.name for part in plan.parts if part.trained == 0} == {
        "vision",
        "words",
        "semantic expert",
        "head: global_points",
    }
    assert plan.fits
    assert plan.cures == ()
    assert plan.tokens <= RECIPE.data.tokens_per_pack
    assert "does not fit" not in report(plan).lower()


def test_what_does_not_fit_is_said_with_what_would(small_plans, monkeypatch):
    roomy = plan_of(RECIPE, gpu="cpu").own_memory
    needed = (roomy.total - 0.4 * roomy.activations) / planning.USABLE / GIB
    monkeypatch.setitem(planning.GPUS, "thimble", planning.Gpu(memory=needed, bf16=1, fp32=1))
    plan = plan_of(RECIPE, gpu="thimble")
    assert not plan.fits
    assert any("gradient_checkpointing=true" in cure for cure in plan.cures)
    tokens = next(cure for cure in plan.cures if cure.startswith("data.tokens_per_pack="))
    again = plan_of(with_settings(RECIPE, [tokens]), gpu="thimble")
    assert fits(again.own_memory, "thimble")
    assert "DOES NOT FIT: single needs" in report(plan)


@pytest.mark.parametrize(
    ("gpu", "world", "message"),
    [
        ("H20", 1, "gpu 'H20' is not in the table"),
        ("cpu", 3, "2 packs of a step cannot be shared out among 3 processes"),
    ],
)
def test_a_plan_for_what_is_not_there_is_refused(gpu, world, message):
    with pytest.raises(ValueError, match=message):
        plan_of(find_recipe("smoke"), gpu=gpu, world=world)


def test_a_budget_below_one_sample_is_refused():
    with pytest.raises(
        ValueError, match=r"data.tokens_per_pack is 20, but one sample of 2 views of 56 x \d+ has \d+; raise it"
    ):
        plan_of(find_recipe("smoke", ["data.tokens_per_pack=20"]))


@pytest.mark.slow
def test_the_published_size_is_planned_in_seconds():
    plan = plan_of(find_recipe("g2vlm_2b_stage1a"))
    assert plan.world == 32
    assert plan.fits
    assert sum(part.trained + part.frozen for part in plan.parts) == pytest.approx(4.54e9, rel=0.01)
    assert 2 * 24 < plan.hours < 10 * 24
    assert plan.own_memory.total < 80 * GIB


def test_the_time_of_small_steps_on_a_gpu_is_not_made_up():
    plan = plan_of(find_recipe("smoke"), gpu="H200")
    assert plan.seconds_per_step < 0.05
    assert "time      not estimated" in report(plan)
    assert "not estimated" not in report(plan_of(find_recipe("smoke"), gpu="cpu"))


def test_a_plan_says_that_it_leaves_the_pathway_out():
    text = report(plan_of(find_recipe("tiny_pathway"), gpu="cpu"))
    assert "NOT COUNTED: the pathway (1.11 M that learn) and the encoder it reads (" in text
    assert "1 samples" in text
