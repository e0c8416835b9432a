"""A comparison of pathways that is killed and started again, from a model small enough for seconds."""

import json
from dataclasses import replace

import pytest
import torch
from builders import small_config

from g2vlm import ablate, hub, presets
from g2vlm.ablate import GROUPS, compare, pathways
from g2vlm.data.questions import KINDS
from g2vlm.host_hub import load_host
from g2vlm.model import G2VLM
from g2vlm.pathway_config import NoPathway, PreDecoder, SpatialStack
from g2vlm.processor import Processor, byte_tokenizer
from g2vlm.train import run
from g2vlm.train.recipe import find_recipe
from g2vlm.train.run import packs_of

ONLY = ("none", "spatialstack", "native_gasp")
TERMS = {"seeds": 1, "steps": 2, "questions": 12, "workers": 0, "say": lambda text: None}


def config(num_layers=4):
    small = small_config()
    return small_config(
        text={"vocab_size": 320, "num_hidden_layers": num_layers},
        vision_config=small.vision_config.to_dict() | {"patch_size": 14},
        tokens=presets.tiny().tokens,
        resolution=28,
        has_language=True,
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "small"
    torch.manual_seed(0)
    hub.save(G2VLM(config()), folder, tokenizer=byte_tokenizer(presets.tiny().tokens))
    return str(folder)


@pytest.fixture(scope="module", autouse=True)
def small_runs():
    """Few questions about each room, and a checkpoint after every step."""
    base = find_recipe("tiny_pathway")
    source = replace(base.data.sources[0], questions=2, points=2)
    base = replace(
        base, data=replace(base.data, sources=(source,), packs_per_step=1), output=replace(base.output, save_every=1)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablate, "find_recipe", lambda name: base)
        yield base


@pytest.fixture(scope="module")
def unbroken(weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("comparisons") / "unbroken"
    return out, compare("pathways", out, only=ONLY, weights=weights, **TERMS)


def answers_in(out):
    return {str(file.relative_to(out)): file.read_text() for file in sorted(out.glob("*/*/answers_*.json"))}


def starts_of(folder):
    return [start["step"] for start in json.loads((folder / "run" / "environment.json").read_text())["starts"]]


class Killed(BaseException):
    pass


def test_every_variant_is_trained_questioned_and_counted(unbroken):
    _, trials = unbroken
    assert list(trials) == list(ONLY)
    for name, runs in trials.items():
        assert list(runs) == [0]
        assert tuple(runs[0].scores) == (("on",) if name == "none" else ("on", "blank", "shuffled"))
        for scores in runs[0].scores.values():
            assert {kind: len(each) for kind, each in scores.items()} == {k: 1 for g in GROUPS.values() for k in g}
    costs = {name: runs[0].cost for name, runs in trials.items()}
    assert costs["spatialstack"].parameters > costs["none"].parameters
    assert costs["spatialstack"].memory > costs["none"].memory
    assert all(cost.seconds > 0 for cost in costs.values())
    assert all(0 < runs[0].loss < 10 for runs in trials.values())


def test_the_table_and_the_record_are_there(unbroken):
    out, _ = unbroken
    table, record = (out / "table.md").read_text(), json.loads((out / "results.json").read_text())
    assert table.startswith("2 steps, 12 questions")
    assert [f"| `{name}` | 1 |" in table for name in ONLY] == [True] * 3
    assert list(record["variants"]) == list(ONLY)
    assert record["terms"]["steps"] == 2


def test_a_trained_host_is_loaded_like_any_other(unbroken):
    out, _ = unbroken
    host = load_host(out / "spatialstack" / "seed_0" / "run" / "checkpoints" / "step_0000002" / "model")
    assert isinstance(host.config, SpatialStack)
    assert host.encoder.is_own


@pytest.mark.parametrize("place", ["between runs", "within training", "between answers"])
def test_a_comparison_that_was_killed_ends_as_an_unbroken_one(place, unbroken, weights, tmp_path, monkeypatch):
    kill = {"between runs": ("launch", 2), "between answers": ("evaluate", 3)}
    with monkeypatch.context() as patch:
        if place == "within training":
            save = run.save_checkpoint

            def killed(out, model, engine, step, *rest, **options):
                save(out, model, engine, step, *rest, **options)
                if "spatialstack" in str(out):
                    raise Killed

            patch.setattr(run, "save_checkpoint", killed)
        else:
            name, last = kill[place]
            original, calls = getattr(ablate, name), []

            def dying(*arguments, **options):
                calls.append(1)
                if len(calls) == last:
                    raise Killed
                return original(*arguments, **options)

            patch.setattr(ablate, name, dying)
        with pytest.raises(Killed):
            compare("pathways", tmp_path / "out", only=ONLY, weights=weights, **TERMS)
    said = []
    compare("pathways", tmp_path / "out", only=ONLY, weights=weights, **(TERMS | {"say": said.append}))
    assert answers_in(tmp_path / "out") == answers_in(unbroken[0])
    assert said == ["spatialstack, seed 0: done", "native_gasp, seed 0: done"]
    assert starts_of(tmp_path / "out" / "none" / "seed_0") == [0]
    assert starts_of(tmp_path / "out" / "spatialstack" / "seed_0") == ([0, 1] if place == "within training" else [0])


def test_what_is_finished_is_kept_and_more_seeds_can_follow(unbroken, weights, monkeypatch):
    out, _ = unbroken
    monkeypatch.setattr(ablate, "launch", lambda *_, **__: pytest.fail("nothing was left to train"))
    assert list(compare("pathways", out, only=ONLY, weights=weights, **TERMS)) == list(ONLY)
    with pytest.raises(pytest.fail.Exception, match="nothing was left"):
        compare("pathways", out, only=ONLY, weights=weights, **(TERMS | {"seeds": 2}))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": 3}, "steps is 3, but .* holds results with 2; choose another --out"),
        ({"questions": 24}, "questions is 24"),
    ],
)
def test_a_comparison_on_other_terms_is_refused(changed, message, unbroken, weights):
    with pytest.raises(ValueError, match=message):
        compare("pathways", unbroken[0], only=ONLY, weights=weights, **(TERMS | changed))


def test_other_weights_under_the_same_name_are_other_terms(unbroken, weights, monkeypatch):
    monkeypatch.setattr(hub, "sha256_of", lambda files: "0" * 64)
    with pytest.raises(ValueError, match="weights_sha256 is '0000"):
        compare("pathways", unbroken[0], only=ONLY, weights=weights, **TERMS)


def test_a_variant_that_is_not_there_is_named(weights, tmp_path):
    with pytest.raises(ValueError, match="only names 'spatialstak'; did you mean spatialstack"):
        compare("pathways", tmp_path, only=("spatialstak",), weights=weights, **TERMS)


def test_all_variants_learn_from_the_same_rooms_and_questions(small_runs):
    variants, tokens = pathways(presets.tiny()), presets.tiny().tokens
    processor = Processor(byte_tokenizer(tokens), tokens)
    packs = {
        name: packs_of(variants[name].recipe(small_runs), processor, 14)[3]
        for name in ("none", "geoalign_mean", "native")
    }
    first, *others = (pack.samples for pack in packs.values())
    for samples in others:
        assert [sample.name for sample in samples] == [sample.name for sample in first]
        for ours, theirs in zip(samples, first, strict=True):
            length = sum(ours.branches)
            assert ours.branches == theirs.branches
            assert torch.equal(ours.ids[-length:], theirs.ids[-length:])
            assert torch.equal(ours.labels[-length:], theirs.labels[-length:])
            assert torch.equal(ours.pixel_values, theirs.pixel_values)


def test_in_all_variants_the_same_parts_of_the_model_learn(small_runs):
    learning = {}
    for name, variant in pathways(config()).items():
        torch.manual_seed(0)
        model, recipe = G2VLM(config()), variant.recipe(small_runs)
        host = None if variant.pathway is None else run.hosting(variant.pathway, model)
        run.learner_of(recipe, model, host)
        learning[name] = {n for n, x in model.named_parameters() if x.requires_grad}
    assert learning["none"]
    assert all(names == learning["none"] for names in learning.values())


def test_the_suite_has_what_the_papers_compare():
    variants = pathways(presets.tiny())
    assert variants["none"].pathway == NoPathway()
    assert variants["native"].pathway is None
    assert variants["vgllm"].pathway.encoder_layers == (5,)
    assert variants["single"].pathway.encoder_layers == (7,)
    assert isinstance(variants["naive"].pathway, PreDecoder)
    assert variants["spatialstack"].pathway.pairs == ((0, 3), (1, 5), (2, 7))
    assert variants["spatialstack_reverse"].pathway.pairs == ((0, 7), (1, 5), (2, 3))
    assert [variants[f"geoalign_top_{k}"].pathway.top_k for k in (1, 2, 3)] == [1, 2, 3]
    assert variants["geoalign_dense"].pathway.top_k == 4
    assert variants["geoalign_mean"].pathway.usage == "mean"
    assert variants["native_gasp"].correspondence.tokens == "semantic"
    assert len(variants) == 13


def test_a_model_of_few_layers_is_refused():
    with pytest.raises(ValueError, match="needs 4 decoder layers, but the weights have 3"):
        pathways(config(3))


def test_the_groups_share_no_kind_and_hold_only_kinds_that_there_are():
    low, high = GROUPS.values()
    assert not {*low} & {*high}
    assert {*low, *high} <= {*KINDS}
