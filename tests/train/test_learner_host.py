"""A model learns whose geometry enters by a pathway."""

import random
from dataclasses import replace

import pytest
import torch

from g2vlm.data.samples import Bucket
from g2vlm.data.sources import RoomQuestionSource
from g2vlm.expert_encoder import ExpertEncoder
from g2vlm.host import Host
from g2vlm.host_hub import load_host
from g2vlm.model import G2VLM
from g2vlm.pathway_config import GeoAlign, NoPathway, SpatialStack
from g2vlm.train import run
from g2vlm.train.checkpoint import read_checkpoint, save_checkpoint
from g2vlm.train.freeze import freeze
from g2vlm.train.learner import Learner
from g2vlm.train.parallel import SingleEngine
from g2vlm.train.recipe import (
    DataRecipe,
    EngineRecipe,
    ModelRecipe,
    OptimiserRecipe,
    OutputRecipe,
    Recipe,
    SourceRecipe,
)
from tests.hosts import CHANNELS, PATCH, PatchEncoder
from tests.train.conftest import config, pack_of
from tests.train.test_learner import totals_of

SIZES = {"geometry_width": CHANNELS, "hidden_width": 20}
ROUTED = GeoAlign(("pre", 0), (1, 2, 4), router_width=8, zero_init=False, **SIZES)
STACK = SpatialStack((0, 0), (1, 3), zero_init=False, **SIZES)


def learner_of(pathway=ROUTED):
    torch.manual_seed(0)
    model = G2VLM(config()).train()
    freeze(model, "semantic")
    encoder = None if isinstance(pathway, NoPathway) else PatchEncoder()
    return Learner(model, None, ce=1.0, host=Host(model, pathway, encoder))


@pytest.fixture
def sample(processor):
    source = RoomQuestionSource(processor, PATCH, inputs=("pictures", "geometry"), questions=2)
    return lambda seed: source.sample(random.Random(seed), Bucket(2, 28, 56))


def learnt(learner):
    return {name: x.grad for name, x in learner.named_parameters() if x.requires_grad}


@pytest.mark.parametrize("pathway", [ROUTED, STACK], ids=["routed", "stack"])
def test_the_pathway_learns_with_the_semantic_expert_and_the_encoder_does_not(pathway, sample):
    learner, pack = learner_of(pathway), pack_of(sample(0), sample(1))
    learner(pack, totals_of(pack)).total.backward()
    gradients = learnt(learner)
    assert all(x is not None for x in gradients.values())
    assert all(x.any() for name, x in gradients.items() if name.startswith("host.pathway.") and x.dim() > 1)
    assert any(x.any() for name, x in gradients.items() if ".semantic." in name)
    assert not any(name.startswith("host.encoder.") or ".geometric." in name for name in gradients)
    assert len({id(x) for x in learner.parameters()}) == len(list(learner.parameters()))


def test_the_shares_of_two_packs_add_up_to_the_loss_of_one(sample):
    samples = [sample(seed) for seed in range(3)]
    together, apart = learner_of(), learner_of()
    whole, pieces = pack_of(*samples), [pack_of(samples[0]), pack_of(*samples[1:])]
    loss = together(whole, totals_of(whole)).total
    loss.backward()
    shares = [apart(pack, totals_of(*pieces)).total for pack in pieces]
    sum(shares).backward()
    torch.testing.assert_close(sum(shares), loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(learnt(apart), learnt(together), atol=2e-4, rtol=1e-3)


def test_a_pack_in_words_alone_gives_the_pathway_a_gradient_of_zeros(text_sample):
    learner, pack = learner_of(), pack_of(text_sample("Who?", "I."))
    learner(pack, totals_of(pack)).total.backward()
    gradients = learnt(learner)
    assert all(x is not None for x in gradients.values())
    assert not any(x.any() for name, x in gradients.items() if name.startswith("host.pathway."))


def test_what_the_encoder_sees_changes_the_loss(sample):
    learner, pack = learner_of(), pack_of(sample(0))
    with torch.no_grad():
        before = learner(pack, totals_of(pack)).total
        for image in pack.samples[0].geometry_images:
            image.copy_(1 - image)
        assert (learner(pack, totals_of(pack)).total - before).abs() > 1e-4


def test_a_checkpoint_holds_the_pathway_and_is_a_host(sample, tmp_path):
    recipe = Recipe("test", steps=9, data=DataRecipe((SourceRecipe("rooms"),)), optimiser=OptimiserRecipe(ema=0.9))
    engine = SingleEngine(learner_of(), EngineRecipe(), recipe.optimiser, torch.device("cpu"))
    pack = pack_of(sample(0))
    engine.learn(pack, totals_of(pack), is_last=True)
    engine.step(1e-2, 1.0, is_sound=True)
    host = engine.learner.host
    folder = save_checkpoint(tmp_path, engine.learner.model, engine, 1, recipe, host=host)
    _, state = read_checkpoint(folder)
    torch.testing.assert_close(vars(state), vars(engine.state()), atol=0, rtol=0)
    trained, mean = (load_host(folder / name, encoder=PatchEncoder()) for name in ("model", "model_ema"))
    again = SingleEngine(learner_of(), EngineRecipe(), recipe.optimiser, torch.device("cpu"))
    again.load(state)
    for name, x in host.pathway.state_dict().items():
        assert torch.equal(trained.pathway.state_dict()[name], x)
        assert torch.equal(again.learner.host.pathway.state_dict()[name], x)
        assert torch.equal(mean.pathway.state_dict()[name], engine.ema.mean[f"host.pathway.{name}"])
    assert not any("encoder" in path.name for path in folder.rglob("*"))


def test_without_a_pathway_a_host_learns_what_the_model_alone_learns(sample):
    hosted, plain = learner_of(NoPathway()), learner_of(NoPathway())
    plain.host, pack = None, pack_of(sample(0))
    losses = [learner(pack, totals_of(pack)).total for learner in (hosted, plain)]
    assert torch.equal(*losses)


def test_a_run_trains_a_host_and_goes_on_with_it(processor, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "model_of", lambda _recipe: (G2VLM(config()), processor))
    encoder = ExpertEncoder(G2VLM(config()))
    pathway = replace(ROUTED, encoder_layers=(0, 1), geometry_width=encoder.width)
    source = SourceRecipe("room_questions", inputs=("pictures", "geometry"))
    data = DataRecipe((source,), tokens_per_pack=700, views=(2, 2), resolution=56, aspects=(1.0, 1.0), workers=0)
    recipe = Recipe("hosted", steps=2, strategy="semantic", data=data, output=OutputRecipe(save_every=1))
    steps = []
    for number in (1, 2):
        run.run(
            replace(recipe, steps=number),
            tmp_path,
            hooks=lambda engine, packs, step: steps.append(step) or (),
            host_of=lambda model: Host(model, pathway, encoder),
        )
    assert steps == [0, 1]
    first, second = (
        load_host(tmp_path / "checkpoints" / f"step_000000{number}" / "model", encoder=encoder).pathway.state_dict()
        for number in (1, 2)
    )
    assert all(
        not torch.equal(first[name], second[name]) for name in ("bank.projectors.0.fc1.weight", "fusions.0.out.weight")
    )
    zero = replace(recipe, engine=EngineRecipe("zero3"))
    with pytest.raises(ValueError, match=r"engine\.kind is zero3, which removes the hooks"):
        run.run(zero, tmp_path / "zero", host_of=lambda model: Host(model, pathway, encoder))


def recipe_with(pathway, **options):
    data = DataRecipe(
        (SourceRecipe("room_questions", inputs=("pictures", "geometry")),),
        tokens_per_pack=900,
        views=(2, 2),
        resolution=56,
        aspects=(1.0, 1.0),
        workers=0,
    )
    return Recipe("hosted", 1, data, strategy="semantic", model=ModelRecipe(pathway=pathway), **options)


OWN = replace(STACK, encoder_layers=(0, 1), geometry_width=32)


def test_what_a_recipe_s_pathway_has_learnt_is_loaded_without_naming_an_encoder(processor, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "model_of", lambda _recipe: (G2VLM(config()), processor))
    run.run(recipe_with(OWN), tmp_path)
    host = load_host(tmp_path / "checkpoints" / "step_0000001" / "model")
    assert host.config == OWN
    torch.manual_seed(0)
    start = ExpertEncoder(G2VLM(config()))
    images = torch.rand(2, 3, 56, 56)
    for trained, fresh in zip(host.encoder.encode(images, [0, 1]), start.encode(images, [0, 1]), strict=True):
        assert torch.equal(trained, fresh)
    with pytest.raises(ValueError, match="reads its own geometric expert; leave encoder out"):
        load_host(tmp_path / "checkpoints" / "step_0000001" / "model", encoder=tmp_path)


def test_a_pathway_behind_the_last_layer_is_refused():
    with pytest.raises(ValueError, match="names layer 1, but the model has 2 layers, and no word reads"):
        run.hosting(replace(OWN, decoder_layers=(0, 1)), G2VLM(config()))


def test_an_expert_that_is_read_cannot_be_thawed():
    recipe, model = recipe_with(OWN, thawed=("dino_projection.",)), G2VLM(config())
    with pytest.raises(ValueError, match=r"thawed lets dino_projection\.weight learn, but model\.pathway reads"):
        run.learner_of(recipe, model, run.hosting(OWN, model))
