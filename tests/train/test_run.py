import json
import random
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from g2vlm.data.samples import Bucket
from g2vlm.hub import load_model
from g2vlm.train.checkpoint import checkpoints
from g2vlm.train.recipe import (
    CorrespondenceRecipe,
    DataRecipe,
    ModelRecipe,
    ObjectiveRecipe,
    OptimiserRecipe,
    OutputRecipe,
    Recipe,
    SourceRecipe,
    find_recipe,
)
from g2vlm.train.run import learner_of, model_of, packs_of, run, scenes_of, source_of

RECIPE = Recipe(
    "test",
    steps=4,
    data=DataRecipe(
        (SourceRecipe("rooms"),), packs_per_step=2, tokens_per_pack=80, resolution=56, views=(2, 2), workers=0
    ),
    objective=ObjectiveRecipe(correspondence=CorrespondenceRecipe(layers=(0, 2))),
    optimiser=OptimiserRecipe(lr=1e-3, ema=0.9),
    output=OutputRecipe(save_every=2, keep=2),
)


def stop_at(step: int):
    """Hooks that break a run off in the middle of a step."""

    def hook(progress):
        if progress.step == step:
            raise KeyboardInterrupt

    return lambda engine, packs, done: [hook]


def test_a_run_that_was_broken_off_ends_as_an_unbroken_one_bit_for_bit(tmp_path):
    run(RECIPE, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(RECIPE, tmp_path / "broken", hooks=stop_at(3))
    run(RECIPE, tmp_path / "broken")
    whole, broken = (checkpoints(tmp_path / name)[-1] for name in ("whole", "broken"))
    assert whole.name == broken.name == "step_0000004"
    for part in ("model", "model_ema"):
        ours, theirs = (load_model(folder / part).state_dict() for folder in (whole, broken))
        assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


def test_a_checkpoint_is_a_model_like_any_other_with_every_weight_frozen_ones_too(tmp_path):
    run(replace(RECIPE, steps=2), tmp_path)
    model, _ = model_of(RECIPE.model)
    assert load_model(checkpoints(tmp_path)[-1] / "model").state_dict().keys() == model.state_dict().keys()


def test_going_on_with_another_recipe_is_refused(tmp_path):
    run(replace(RECIPE, steps=2), tmp_path)
    with pytest.raises(ValueError, match=r"another recipe .*data.* differ"):
        run(replace(RECIPE, data=replace(RECIPE.data, tokens_per_pack=100)), tmp_path)


def test_a_run_that_has_done_more_steps_than_are_wanted_is_refused(tmp_path):
    run(replace(RECIPE, steps=2), tmp_path)
    with pytest.raises(ValueError, match=r"steps is 1, but .*step_0000002 has done 2; set steps to 2"):
        run(replace(RECIPE, steps=1), tmp_path)


def test_where_no_scene_can_be_read_the_first_is_named_in_one_line(tmp_path, caplog):
    (tmp_path / "scene.json").write_text('{"frames": [')
    with pytest.raises(ValueError, match=r"1 of 1 scenes cannot be read; .*scene\.json: is not a scene"):
        scenes_of(SourceRecipe("scenes", str(tmp_path)), tmp_path, 0.1)
    assert not caplog.records


def test_too_many_lost_scenes_stop_the_run_before_it_begins_and_few_are_logged(tmp_path, caplog):
    frame = {"image": "a.png", "depth": None, "width": 32, "height": 32, "intrinsics": None, "T_world_camera": None}
    scene = {"scene": "s", "license": {}, "metric_scale": True, "frames": [frame]}
    for name, text in (("a", json.dumps(scene)), ("b", json.dumps(scene)), ("c", json.dumps(scene)), ("d", "{")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "scene.json").write_text(text)
        Image.new("RGB", (32, 32)).save(tmp_path / name / "a.png")
    source = SourceRecipe("scenes", str(tmp_path))
    with pytest.raises(ValueError, match="1 of 4 scenes cannot be read"):
        scenes_of(source, tmp_path, 0.1)
    assert len(scenes_of(source, tmp_path, 0.5)) == 3
    assert "scene.json" in caplog.text


def test_sources_that_are_not_there_are_named():
    model, processor = model_of(ModelRecipe())
    recipe = replace(RECIPE, data=replace(RECIPE.data, sources=(SourceRecipe("shards", "nowhere/at/all"),)))
    with pytest.raises(ValueError, match="nowhere/at/all"):
        packs_of(recipe, processor, model.config.patch_size)


def test_questions_find_their_pictures_in_the_folder_of_media(tmp_path):
    (tmp_path / "media").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "media" / "a.png")
    (tmp_path / "q.jsonl").write_text(json.dumps({"question": "What?", "answer": "That.", "images": ["a.png"]}))
    model, processor = model_of(ModelRecipe())
    recipe = SourceRecipe("questions", str(tmp_path / "q.jsonl"), media=str(tmp_path / "media"), inputs=("pictures",))
    source = source_of(recipe, RECIPE.data, processor, model.config.patch_size)
    sample = source.sample(random.Random(0), Bucket(0, 56, 56))
    assert sample.views is None
    assert len(sample.image_grid_thw) == 1
    with pytest.raises(ValueError, match="media is nowhere, which is no folder"):
        source_of(replace(recipe, media="nowhere"), RECIPE.data, processor, model.config.patch_size)


def test_a_source_of_weight_0_need_not_be_there():
    model, processor = model_of(ModelRecipe())
    sources = (SourceRecipe("shards", "nowhere/at/all", weight=0.0), SourceRecipe("rooms"))
    packs = packs_of(replace(RECIPE, data=replace(RECIPE.data, sources=sources)), processor, model.config.patch_size)
    assert [source.name for source in packs.sources] == ["rooms"]


@pytest.mark.parametrize("strategy", ["geometry", "ce_only", "ce_ce", "vg_ce"])
def test_a_strategy_decides_losses_and_heads(strategy):
    model, _ = model_of(ModelRecipe())
    data = replace(RECIPE.data, sources=(SourceRecipe("room_questions"),))
    learns_geometry = strategy in ("geometry", "vg_ce")
    objective = RECIPE.objective if learns_geometry else ObjectiveRecipe()
    learner = learner_of(replace(RECIPE, strategy=strategy, data=data, objective=objective), model)
    assert (learner.objective is not None) == learns_geometry
    assert (learner.correspondence is not None) == learns_geometry
    assert (learner.ce > 0) == (strategy != "geometry")


def test_every_layer_has_a_head_that_starts_from_its_queries_unless_the_recipe_says_otherwise():
    model, _ = model_of(RECIPE.model)
    learner = learner_of(replace(RECIPE, objective=ObjectiveRecipe(correspondence=CorrespondenceRecipe())), model)
    assert learner.correspondence.layers == tuple(range(8))
    for block, (first, _, _) in zip(model.decoder.layers, learner.correspondence.project, strict=True):
        queries = block.geometric.q.weight * block.geometric.norm_attn.weight
        directions = torch.linalg.svd(queries, full_matrices=False).Vh[:64]
        torch.testing.assert_close((first.weight[:64] @ directions.T).norm(dim=1), first.weight[:64].norm(dim=1))


def test_the_gasp_recipe_teaches_picture_tokens_and_saves_a_plain_model(tmp_path):
    """One small step: adapters and heads learn, neither is in the model that is saved."""
    small = ("steps=1", "optimiser.warmup=0", "data.workers=0", "data.resolution=56", "data.tokens_per_pack=600")
    recipe = find_recipe("tiny_gasp", small)
    steps = []
    run(recipe, tmp_path, hooks=lambda *_: [steps.append])
    assert steps[0].was_taken
    assert steps[0].parts.keys() == {"text", "correspondence", "correspondence_depth"}
    folder = checkpoints(tmp_path)[-1]
    weights, start = (load_model(source).state_dict() for source in (folder / "model", "tiny"))
    assert weights.keys() == start.keys()
    moved = {name for name, x in weights.items() if not torch.equal(x, start[name])}
    assert "decoder.layers.7.semantic.mlp.down.weight" in moved
    assert not any("geometric" in name or "norm" in name for name in moved if name.startswith("decoder."))
    heads = load_file(folder / "training" / "correspondence.safetensors")
    assert len(heads) == 8 * 4


def test_layers_that_the_model_does_not_have_are_refused():
    model, _ = model_of(RECIPE.model)
    beyond = ObjectiveRecipe(correspondence=CorrespondenceRecipe(layers=(0, 99)))
    with pytest.raises(ValueError, match=r"correspondence.layers is \[0, 99\], but the model has 8 layers"):
        learner_of(replace(RECIPE, objective=beyond), model)


def test_options_of_the_recipe_reach_the_model():
    model, _ = model_of(ModelRecipe(weights="tiny", visibility="block_causal", resolution=56))
    assert (model.config.visibility, model.config.resolution) == ("block_causal", 56)
