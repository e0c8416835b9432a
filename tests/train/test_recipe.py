"""Recipes: what is shipped, what they inherit, and what is refused where they are made."""

from dataclasses import replace
from pathlib import Path

import pytest

from g2vlm.losses.objective import LossWeights
from g2vlm.pathway_config import GeoAlign, NoPathway, SpatialStack
from g2vlm.train.checkpoint import check_same_run
from g2vlm.train.recipe import (
    DataRecipe,
    EngineRecipe,
    ModelRecipe,
    OptimiserRecipe,
    Recipe,
    SourceRecipe,
    find_recipe,
    read_recipe,
    recipe_names,
    with_settings,
)
from g2vlm.train.typed import to_yaml

ROOMS = DataRecipe(sources=(SourceRecipe("rooms"),))
RECIPE = Recipe("test", steps=10, data=ROOMS)


def test_all_recipes_that_are_promised_are_shipped():
    assert set(recipe_names()) == {
        "smoke",
        "tiny_stage0",
        "tiny_stage1",
        "tiny_stage2",
        "tiny_no_geometry",
        "tiny_gasp",
        "tiny_pathway",
        "g2vlm_2b_stage1a",
        "g2vlm_2b_stage1b",
        "g2vlm_2b_joint_ce_only",
        "g2vlm_2b_joint_ce_ce",
        "g2vlm_2b_joint_vg_ce",
    }


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_is_named_after_its_file_and_round_trips(name):
    recipe = find_recipe(name)
    assert recipe.name == name
    assert read_recipe(to_yaml(recipe)) == recipe


def test_smoke_leaves_three_checkpoints_and_can_be_shared_by_two():
    smoke = find_recipe("smoke")
    assert smoke.steps // smoke.output.save_every >= 3
    assert smoke.output.keep >= 3
    assert smoke.data.packs_per_step % 2 == 0
    assert smoke.engine.precision == "fp32"


def test_the_recipes_of_the_paper_have_its_numbers():
    first, second = find_recipe("g2vlm_2b_stage1a"), find_recipe("g2vlm_2b_stage1b")
    joint = [find_recipe(f"g2vlm_2b_joint_{name}") for name in ("ce_only", "ce_ce", "vg_ce")]
    assert (first.steps, first.data.resolution, first.optimiser.lr) == (100_000, 224, 2e-4)
    assert (first.optimiser.warmup, first.data.tokens_per_pack, first.data.packs_per_step) == (5000, 25_600, 32)
    assert (second.steps, second.data.resolution, second.data.aspects, second.optimiser.lr) == (
        20_000,
        518,
        (0.5, 1.0),
        5e-4,
    )
    assert [recipe.strategy for recipe in joint] == ["ce_only", "ce_ce", "vg_ce"]
    assert {(recipe.steps, recipe.optimiser.lr, recipe.data.tokens_per_pack) for recipe in joint} == {
        (16_000, 2e-5, 40_960)
    }
    for recipe in (first, second, *joint):
        assert (recipe.objective.geometry.translation, recipe.objective.geometry.global_points) == (200, 0)
        assert (recipe.optimiser.betas, recipe.optimiser.eps, recipe.optimiser.clip) == ((0.9, 0.95), 1e-15, 1.0)
        assert recipe.engine.precision == "bf16"
        assert recipe.engine.gradient_checkpointing
        assert recipe.model.visibility == "global"


def test_a_recipe_says_only_what_differs_from_the_one_it_extends(tmp_path: Path):
    (tmp_path / "base.yaml").write_text("extends: smoke\nname: base\nobjective: {geometry: released_code}\n")
    child = tmp_path / "child.yaml"
    child.write_text("extends: base.yaml\nname: child\nobjective: {geometry: {camera: 0.7}}\ndata: {resolution: 70}\n")
    smoke, recipe = find_recipe("smoke"), find_recipe(child)
    assert recipe.objective.geometry == replace(LossWeights.RELEASED_CODE, camera=0.7)
    assert recipe.data == replace(smoke.data, resolution=70)
    assert recipe.optimiser == smoke.optimiser


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: smoke\n", r"r.yaml:1: name is missing"),
        ("extends: smok\nname: r\n", r"no recipe 'smok'; did you mean smoke\?"),
        ("extends: r.yaml\nname: r\n", r"extends itself, by way of r.yaml"),
        ("extends: [smoke]\nname: r\n", r"r.yaml:1: extends must be the name or path of one recipe"),
        ("extends: smoke\nname: r\noptimiser: {lr: 1e-3}\n", r"r.yaml:3: optimiser.lr is '1e-3', .*write 1.0e-3"),
        (
            "extends: smoke\nname: r\nsteps: 2\n",
            r"smoke.yaml:\d+: optimiser.warmup is 3; it must be less than steps, 2",
        ),
    ],
)
def test_a_mistake_in_a_recipe_that_extends_is_one_line(tmp_path: Path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        find_recipe(tmp_path / "r.yaml")
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_not_there_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"no recipe 'tiny_stage3'; did you mean tiny_stage[12]\?"):
        find_recipe("tiny_stage3")
    with pytest.raises(ValueError, match=r"runs/smoke.yaml: no such recipe file; did you mean smoke\?"):
        find_recipe("runs/smoke.yaml")


def test_settings_of_a_shell_change_a_recipe():
    recipe = find_recipe("smoke", ["data.sources.0.weight=2", "optimiser.lr=5e-4", "objective.geometry=paper"])
    assert recipe.data.sources[0].weight == 2
    assert recipe.optimiser.lr == 5e-4
    assert recipe.objective.geometry == LossWeights.PAPER
    assert with_settings(recipe, ["objective.geometry.camera=0"]).objective.geometry.camera == 0


def test_options_name_only_what_differs_from_the_configuration():
    assert ModelRecipe().options == {}
    heads = {"global_points": False, "confidence": False, "normals": True}
    assert ModelRecipe(resolution=224, heads=("normals",)).options == {"resolution": 224, "heads": heads}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps=0", "steps is 0; it must be at least 1"),
        ("name=a/b", "name is 'a/b'; folders are called after it"),
        ("name=..", "name is '..'; folders are called after it"),
        (
            "data.sources=[{kind: rooms}, {kind: text, path: x}]",
            r"data.sources is \['text'\]; .* learns nothing from these",
        ),
        (f"seed={2**63}", r"seed is \d+; it must lie in"),
        ("model.preset=tinny", "model.preset is 'tinny'; did you mean tiny"),
        ("model.dino=x", "model.dino is 'x'; it comes beside weights"),
        ("data.sources=[]", "data.sources is 0; give at least one source"),
        ("data.sources.0.weight=-1", "data.sources.0.weight is -1.0; it must not be negative"),
        ("data.sources=[{kind: shards}]", "data.sources.0.path is None; shards lie somewhere"),
        ("data.sources=[{kind: rooms, path: x}]", "data.sources.0.path is 'x'; rooms are made on the spot"),
        ("data.sources=[{kind: rooms, media: x}]", "data.sources.0.media is 'x'; only questions have media"),
        ("data.sources=[{kind: questions, path: x, frames: 0}]", "data.sources.0.frames is 0; it must be at least 1"),
        ("data.views=[3, 2]", r"data.views is \(3, 2\); write \[least, most\]"),
        ("data.aspects=[0.5, 1.2]", r"data.aspects is \(0.5, 1.2\); shorter/longer side"),
        ("data.portrait=.nan", "data.portrait is nan; it is a part"),
        ("data.augment.focal=0", r"data.augment.focal is 0.0; it must lie in \(0, 1\]"),
        (
            "data.sources=[{kind: text, path: x}]",
            r"data.sources is \['text'\]; strategy geometry needs one with 3D truth",
        ),
        ("strategy=ce_only", r"data.sources is \['rooms'\]; strategy ce_only needs one with answers"),
        ("objective.vg=0", "objective.vg is 0.0; strategy geometry needs it above 0"),
        ("objective.geometry.camera=.inf", "objective.geometry.camera is inf; it must not be negative, and finite"),
        ("objective.pixel_fraction=0", "objective.pixel_fraction is 0.0"),
        (
            "objective.correspondence={layers: [1, 1]}",
            r"objective.correspondence.layers is \(1, 1\); give different layers",
        ),
        ("objective.correspondence={layers: []}", r"objective.correspondence.layers is \(\); give different layers"),
        (
            "objective.correspondence={best_part: 0}",
            r"objective.correspondence.best_part is 0.0; it must lie in \(0, 1\]",
        ),
        (
            "objective.correspondence={negatives: all}",
            "objective.correspondence.negatives is .*must be one of other_views, target_view",
        ),
        (
            "objective.correspondence={tokens: semantic}",
            "objective.correspondence.tokens is 'semantic'; strategy geometry does not learn them: take .* semantic",
        ),
        ("lora={rank: 0}", "lora.rank is 0; it must be at least 1"),
        ("lora={targets: []}", r"lora.targets is \(\); name one linear layer"),
        ("optimiser.lr=0", "optimiser.lr is 0.0; it must be above 0"),
        ("optimiser.min_lr=1", r"optimiser.min_lr is 1.0; it must lie in \[0, lr\]"),
        ("optimiser.warmup=10", "optimiser.warmup is 10; it must be less than steps, 10"),
        ("optimiser.betas=[0.9, 1]", r"optimiser.betas is \(0.9, 1.0\)"),
        ("optimiser.ema=1", "optimiser.ema is 1.0"),
        ("optimiser.lr_factors={dino.: -1}", "optimiser.lr_factors.dino. is -1.0"),
        ("guard.max_loss=0", "guard.max_loss is 0.0; it must be above 0; null has no limit"),
        ("engine.processes=3", "data.packs_per_step is 1; it must be a multiple of engine.processes, 3"),
        ("engine={kind: single, processes: 2}", "engine.processes is 2; kind single has one"),
        ("engine.shard_group=2", "engine.shard_group is 2; kind auto has none"),
        ("engine={kind: fsdp2, processes: 3, shard_group: 2}", "engine.shard_group is 2; it must divide"),
        ("engine.cpu_offload=true", "engine.cpu_offload is true; kind auto keeps all on its device"),
        ("output.keep=0", "output.keep is 0; it must be at least 1"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_with_its_name_and_a_cure(setting, message):
    with pytest.raises(ValueError, match=f": {message}") as caught:
        with_settings(RECIPE, [setting])
    assert "\n" not in str(caught.value)


def test_records_check_themselves_without_a_file_too():
    with pytest.raises(ValueError, match=r"^warmup is -1; it must not be negative"):
        OptimiserRecipe(warmup=-1)
    with pytest.raises(ValueError, match=r"^processes is 0; it must be at least 1"):
        EngineRecipe(processes=0)


def test_zero3_with_a_running_mean_is_refused():
    with pytest.raises(ValueError, match=r"optimiser\.ema is 0\.9; zero3 cannot keep it"):
        find_recipe("smoke", ["engine.kind=zero3", "optimiser.ema=0.9"])


# --- pathways ---------------------------------------------------------------------------------------------------------

PATHWAY = find_recipe("tiny_pathway")


def test_a_pathway_is_written_with_its_type_and_every_field():
    routed = with_settings(PATHWAY, ["model.pathway={type: GeoAlign, decoder_layers: [pre, 2], top_k: 3}"])
    assert routed.model.pathway == GeoAlign(("pre", 2), top_k=3)
    text = to_yaml(routed)
    assert "  pathway:\n    type: GeoAlign\n" in text
    assert read_recipe(text) == routed


def test_a_field_of_a_pathway_is_changed_alone_and_another_type_replaces_all():
    changed = with_settings(PATHWAY, ["model.pathway.norm=rms"])
    assert changed.model.pathway == replace(PATHWAY.model.pathway, norm="rms")
    assert isinstance(changed.model.pathway, SpatialStack)
    for text, found in [("{type: NoPathway}", NoPathway()), ("null", None)]:
        assert with_settings(PATHWAY, [f"model.pathway={text}"]).model.pathway == found


def test_a_recipe_that_extends_another_replaces_a_pathway_of_another_type(tmp_path: Path):
    file = tmp_path / "routed.yaml"
    file.write_text("extends: tiny_pathway\nname: routed\nmodel: {pathway: {type: GeoAlign, top_k: 1}}\n")
    assert find_recipe(file).model.pathway == GeoAlign(top_k=1)


def test_a_run_with_another_pathway_is_another_run(tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text(to_yaml(PATHWAY))
    check_same_run(tmp_path, PATHWAY)
    with pytest.raises(ValueError, match="model differ"):
        check_same_run(tmp_path, with_settings(PATHWAY, ["model.pathway.encoder_layers=[7,5,3]"]))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.pathway={top_k: 2}", r"model\.pathway\.type is empty, but must be a known name; choose from NoPathway"),
        ("model.pathway={type: GeoAlig}", "did you mean GeoAlign"),
        ("model.pathway=GeoAlign", "must be a mapping; write its type below it: NoPathway, SpatialStack"),
        ("model.pathway={type: GeoAlign, decoder_layers: [post]}", "decoder_layers.0 is 'post'.*one of pre"),
        ("model.pathway={type: GeoAlign, decoder_layers: [1.5]}", "decoder_layers.0 is 1.5.*an integer"),
        ("model.pathway.norm=group", "norm is 'group'"),
        ("model.pathway.decoder_layers=[0]", "they are 1 and 3|there are 1 and 3"),
        ("strategy=ce_ce", "strategy is 'ce_ce'; the geometric expert, which a pathway reads frozen, has to rest"),
        ("data.sources.0.inputs=[pictures]", r"data\.sources\.0\.inputs.*needs the geometry of pictures: add geometry"),
        ("data.samples_per_pack=0", "samples_per_pack is 0; it must be at least 1"),
    ],
)
def test_a_pathway_that_cannot_be_meant_is_refused(setting, message):
    with pytest.raises(ValueError, match=message) as caught:
        with_settings(PATHWAY, [setting])
    assert "\n" not in str(caught.value)


def test_without_a_pathway_to_read_it_no_geometry_is_asked_for():
    settings = ["model.pathway={type: NoPathway}", "data.sources.0.inputs=[pictures]"]
    assert with_settings(PATHWAY, settings).model.pathway == NoPathway()
