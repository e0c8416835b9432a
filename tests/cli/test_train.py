"""A recipe becomes a run through the command line; what a user gets wrong is one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import g2vlm
from g2vlm.train.recipe import find_recipe, read_recipe, recipe_names


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> Path:
    """The folder of the smoke recipe's run, started as a launcher starts it."""
    out = tmp_path_factory.mktemp("runs") / "smoke"
    call = [sys.executable, "-m", "g2vlm.train", "--local_rank=0", "smoke", "--out", out]
    call += ["--set", "output.pictures_every=20"]
    done = subprocess.run(list(map(str, call)), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (out.parent / "said.txt").write_text(done.stdout)
    return out


def steps_of(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_a_folder_that_explains_itself(smoke):
    recipe = find_recipe("smoke", ["output.pictures_every=20"])
    assert read_recipe((smoke / "recipe.yaml").read_text()) == recipe
    every = recipe.output.log_every
    assert steps_of(smoke) == list(range(every, recipe.steps + 1, every))
    assert len(list((smoke / "checkpoints").glob("step_*"))) == 3
    assert [path.name for path in sorted((smoke / "pictures").iterdir())] == ["step_0000020.png", "step_0000030.png"]
    assert json.loads((smoke / "environment.json").read_text())["starts"][0]["step"] == 0
    said, log = ((smoke.parent / "said.txt").read_text(), (smoke / "log.txt").read_text())
    for text in said.splitlines():
        assert text in log
    assert f"step {recipe.steps}/{recipe.steps}  total " in said
    assert log.rstrip().endswith("done")


def test_a_trained_model_is_a_model_like_any_other(smoke):
    model = g2vlm.load(str(smoke / f"checkpoints/step_{find_recipe('smoke').steps:07d}/model"))
    assert model.model.config.resolution


def test_a_folder_in_use_is_refused_until_it_is_to_go_on_by_the_same_recipe(smoke, run):
    steps = find_recipe("smoke").steps
    outcome = run("train", "smoke", "--out", smoke)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "--resume" in outcome.err
    for setting, part in [("optimiser.lr=1e-5", "optimiser"), ("model.preset=g2vlm_2b", "model")]:
        outcome = run("train", "smoke", "--out", smoke, "--resume", "--set", setting)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert f"{part} differ" in outcome.err
    outcome = run("train", "smoke", "--out", smoke, "--resume", "--set", f"steps={steps + 2}")
    assert outcome.code == 0
    assert f"goes on after step {steps}" in outcome.out
    assert steps_of(smoke)[-2:] == [steps, steps + 2]
    assert len(json.loads((smoke / "environment.json").read_text())["starts"]) == 2


def test_curves_are_drawn(smoke, run, tmp_path):
    outcome = run("train", "plot", smoke, "--out", tmp_path / "curves.png")
    assert outcome.out == f"{tmp_path / 'curves.png'}\n"
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.format == "PNG"
    assert run("train", "plot", tmp_path).code == 2


def test_a_whole_recipe_is_shown_and_can_be_used_again(run, tmp_path):
    outcome = run("train", "smoke", "--show", "--set", "optimiser.lr=1e-4", "--set", "steps=7")
    assert outcome.code == 0
    (tmp_path / "mine.yaml").write_text(outcome.out)
    shown = find_recipe(tmp_path / "mine.yaml")
    assert (shown.steps, shown.optimiser.lr) == (7, 1e-4)
    assert run("train", tmp_path / "mine.yaml", "--show").out == outcome.out


def test_too_many_bad_samples_stop_the_run_with_one_line(run, tmp_path):
    lines = ['{"question": "1 + 1?", "answer": "2"}'] * 2 + ['{"question": "1 + 1?"}']
    (tmp_path / "words.jsonl").write_text("\n".join(lines))
    sources = f"data.sources=[{{kind: text, path: {tmp_path / 'words.jsonl'}}}]"
    outcome = run("train", "smoke", "--out", tmp_path / "run", "--set", "strategy=ce_only", "--set", sources)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "data.max_bad is 0.1" in outcome.err
    log = (tmp_path / "run/log.txt").read_text()
    assert "left out: " in log
    assert "stopped by ValueError: " in log.splitlines()[-1]


def test_recipes_are_listed_with_what_they_are_for(run):
    lines = run("train", "recipes").out.splitlines()
    assert [line.split()[0] for line in lines] == list(recipe_names())
    assert all(len(line.split()) > 4 for line in lines)


def test_a_plan_trains_nothing(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = run("train", "smoke", "--plan")
    assert outcome.code == 0
    assert "tokens" in outcome.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("smok",), "did you mean smoke?"),
        (("smoke", "--set", "optimiser.learning_rate=1"), "no such field"),
        (("smoke", "--set", "optimiser.lr=fast"), "must be a number"),
        (("smoke", "--set", "steps"), "write path.to.field=value"),
        (("smoke", "--gpu", "a100"), "--plan"),
        (("nowhere.yaml",), "no such recipe file"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(run, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = run("train", *arguments)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert words in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [(), ("--help",), ("run", "--help"), ("plot", "--help"), ("recipes", "--help")])
def test_each_way_to_call_has_help(run, arguments):
    assert "Usage" in "".join(vars(run("train", *arguments))[part] for part in ("out", "err"))
