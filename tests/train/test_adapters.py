"""Adapters change nothing at the start, learn alone, and are merged into whatever is saved."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from g2vlm.hub import load_model
from g2vlm.model import G2VLM
from g2vlm.train.adapters import adapt, is_adapter, merged, unmerged
from g2vlm.train.checkpoint import checkpoints, read_checkpoint, save_checkpoint
from g2vlm.train.freeze import freeze
from g2vlm.train.parallel import SingleEngine
from g2vlm.train.recipe import EngineRecipe, LoraRecipe, OptimiserRecipe
from g2vlm.train.run import learner_of, run
from tests.train.conftest import config, pack_of
from tests.train.test_checkpoint import RECIPE
from tests.train.test_learner import totals_of
from tests.train.test_run import RECIPE as RUN
from tests.train.test_run import stop_at

LORA = LoraRecipe(rank=3, alpha=6)


def adapted(strategy: str = "geometry", lora: LoraRecipe = LORA) -> G2VLM:
    """A small model of one strategy, with adapters that are no longer zero."""
    torch.manual_seed(0)
    model = G2VLM(config())
    freeze(model, strategy)
    adapt(model.decoder, lora)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return model.eval()


def linear_layers(model: nn.Module) -> set[str]:
    """Names of linear layers of the decoder, adapted ones as they were."""
    names = {name.split(".base_layer")[0] for name, x in model.decoder.named_modules() if isinstance(x, nn.Linear)}
    return {name for name in names if "lora_" not in name}


@pytest.mark.parametrize(("strategy", "expert"), [("geometry", "geometric"), ("ce_only", "semantic")])
def test_adapters_stand_beside_the_linear_layers_of_the_expert_that_learns(strategy, expert):
    model = adapted(strategy)
    learning = {name.split(".lora_")[0] for name, x in model.decoder.named_parameters() if x.requires_grad}
    assert learning == {name for name in linear_layers(model) if f".{expert}." in name}
    assert all("lora_" in name for name, x in model.decoder.named_parameters() if x.requires_grad)


def test_what_is_not_the_decoders_learns_as_the_strategy_says():
    model = adapted()
    assert all(x.requires_grad for x in model.heads.parameters())
    assert not any(x.requires_grad for x in model.vision.parameters())


def test_targets_choose_the_layers():
    learning = {
        name.split(".lora_")[0]
        for name, x in adapted(lora=replace(LORA, targets=("q", "mlp.up"))).decoder.named_parameters()
        if x.requires_grad
    }
    assert {name.split(".geometric.")[1] for name in learning} == {"q", "mlp.up"}


def test_a_target_that_no_learning_layer_is_called_is_refused():
    with pytest.raises(
        ValueError, match=r"lora.targets has 'q_proj', but no linear layer .*; they are k, mlp.down, .*, v"
    ):
        adapted(lora=replace(LORA, targets=("q", "q_proj")))


def test_fresh_adapters_change_nothing(room_sample):
    torch.manual_seed(0)
    model = G2VLM(config()).eval()
    sample = room_sample(0)
    before = model(sample.ids[None], views=list(sample.views.images)).last_hidden_state
    freeze(model, "geometry")
    adapt(model.decoder, LORA)
    assert torch.equal(model(sample.ids[None], views=list(sample.views.images)).last_hidden_state, before)


def test_merged_weights_compute_what_the_adapted_model_does(room_sample):
    model, plain = adapted(), G2VLM(config()).eval()
    plain.load_state_dict(merged(model.state_dict(), LORA))
    sample = room_sample(0)
    ours, theirs = (x(sample.ids[None], views=list(sample.views.images)).last_hidden_state for x in (plain, model))
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)


def test_merging_is_what_peft_does():
    model = adapted()
    expected = merged(model.state_dict(), LORA)
    for name, module in model.named_modules():
        if hasattr(module, "merge"):
            module.merge()
            torch.testing.assert_close(module.base_layer.weight, expected[f"{name}.weight"], atol=1e-6, rtol=0)


def test_a_state_comes_back_from_its_merged_form_and_the_adapters():
    state = adapted().state_dict()
    whole = unmerged(merged(state, LORA), {name: x for name, x in state.items() if is_adapter(name)})
    assert whole.keys() == state.keys()
    assert all(torch.equal(x, state[name]) for name, x in whole.items())


def test_a_checkpoint_holds_merged_weights_alone_and_training_goes_on_from_unmerged_ones(tmp_path, room_sample):
    recipe = replace(RECIPE, lora=LORA, optimiser=OptimiserRecipe(lr=1e-2, ema=0.5))
    model = G2VLM(config())
    engine = SingleEngine(learner_of(recipe, model), EngineRecipe(), recipe.optimiser, torch.device("cpu"))
    pack = pack_of(room_sample(0))
    for _ in range(2):
        engine.learn(pack, totals_of(pack), is_last=True)
        engine.step(1e-2, 1.0, is_sound=True)
    folder = save_checkpoint(tmp_path, model, engine, 2, recipe)
    stored = load_model(folder / "model")
    assert not any(is_adapter(name) for name in stored.state_dict())
    sample = room_sample(1)
    ours, theirs = (
        x.eval()(sample.ids[None], views=list(sample.views.images)).last_hidden_state for x in (stored, model)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    _, state = read_checkpoint(folder)
    torch.testing.assert_close(vars(state), vars(engine.state()), atol=0, rtol=0)
    mean, last = (load_model(folder / name).state_dict() for name in ("model_ema", "model"))
    assert not torch.equal(*(x["decoder.layers.0.geometric.q.weight"] for x in (mean, last)))


def test_a_run_with_adapters_that_was_broken_off_ends_as_an_unbroken_one_bit_for_bit(tmp_path):
    recipe = replace(RUN, lora=LORA)
    run(recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "broken", hooks=stop_at(3))
    run(recipe, tmp_path / "broken")
    states = [read_checkpoint(checkpoints(tmp_path / name)[-1])[1] for name in ("whole", "broken")]
    torch.testing.assert_close(*map(vars, states), atol=0, rtol=0)


def test_without_peft_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ValueError, match=r"pip install 'g2vlm\[peft\]'"):
        adapt(G2VLM(config()).decoder, LORA)
