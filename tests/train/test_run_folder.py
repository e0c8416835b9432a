"""The folder of a run says what was run, where, from which code, and how it ended."""

import json
import logging
import subprocess
from dataclasses import replace

import pytest
import torch

from g2vlm.train.metrics import append_row, read_rows
from g2vlm.train.recipe import find_recipe, read_recipe
from g2vlm.train.run_folder import (
    begin,
    check_free,
    git_state,
    keeping_warnings,
    note,
    note_warnings,
    noting_the_end,
)

RECIPE = find_recipe("smoke")
CPU = torch.device("cpu")


def start(out, recipe=RECIPE, step=0):
    begin(out, recipe, step=step, device=CPU, processes=1)


def test_a_started_run_holds_its_whole_recipe_and_its_environment(tmp_path):
    start(tmp_path / "run")
    assert read_recipe((tmp_path / "run/recipe.yaml").read_text()) == RECIPE
    (begun,) = json.loads((tmp_path / "run/environment.json").read_text())["starts"]
    assert begun["versions"]["torch"] == torch.__version__
    assert (begun["step"], begun["processes"]) == (0, 1)
    assert begun["command"]
    assert begun["device"]


def test_each_start_is_noted_and_metrics_end_where_it_goes_on(tmp_path):
    start(tmp_path)
    for step in (5, 10, 15):
        append_row(tmp_path / "metrics.jsonl", {"step": step})
    start(tmp_path, replace(RECIPE, steps=99), step=10)
    starts = json.loads((tmp_path / "environment.json").read_text())["starts"]
    assert [begun["step"] for begun in starts] == [0, 10]
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [5, 10]
    assert read_recipe((tmp_path / "recipe.yaml").read_text()).steps == 99


def test_a_folder_that_holds_a_run_is_refused_unless_it_is_to_go_on(tmp_path):
    check_free(tmp_path, RECIPE, resume=False)
    start(tmp_path)
    with pytest.raises(ValueError, match=r"holds a run already; .* --resume"):
        check_free(tmp_path, RECIPE, resume=False)
    check_free(tmp_path, RECIPE, resume=True)


def test_a_run_without_a_checkpoint_is_not_gone_on_with_by_another_recipe(tmp_path):
    start(tmp_path)
    with pytest.raises(ValueError, match=r"another recipe .* seed differ"):
        check_free(tmp_path, replace(RECIPE, seed=5), resume=True)
    check_free(tmp_path, replace(RECIPE, steps=99), resume=True)


def test_files_that_are_no_run_are_left_alone(tmp_path):
    (tmp_path / "slurm.log").write_text("mine")
    check_free(tmp_path, RECIPE, resume=False)
    start(tmp_path)
    assert (tmp_path / "slurm.log").read_text() == "mine"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(ValueError, match="is a file"):
        check_free(tmp_path / "run", RECIPE, resume=False)


def test_the_log_has_times_and_says_how_the_run_ended(tmp_path):
    note(tmp_path, "hello")
    with noting_the_end(tmp_path):
        pass
    with pytest.raises(KeyboardInterrupt), noting_the_end(tmp_path):
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="bad"), noting_the_end(tmp_path, rank=3):
        raise ValueError("bad data")
    with noting_the_end(tmp_path, rank=3):
        pass
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [text.split("  ", 1)[1] for text in lines] == [
        "hello",
        "done",
        "stopped by KeyboardInterrupt",
        "process 3 stopped by ValueError: bad data",
    ]
    assert lines[0][:2] == "20"


def test_warnings_from_before_there_was_a_log_come_into_it_and_onto_the_screen(tmp_path, capsys):
    logger = logging.getLogger("g2vlm")
    with keeping_warnings() as kept:
        logger.warning("%d scenes are damaged", 3)
        assert not (tmp_path / "log.txt").exists()
        note_warnings(tmp_path, kept)
        logger.warning("later")
    logger.warning("too late")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [text.split("  ", 1)[1] for text in lines] == ["3 scenes are damaged", "later"]
    assert capsys.readouterr().err.startswith("3 scenes are damaged\nlater\n")


def git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", folder, *who, *words], check=True, capture_output=True)


def test_the_revision_is_of_a_checkout_that_holds_the_package(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    assert git_state(package) is None
    git(tmp_path, "init", "-q")
    assert git_state(package) is None, "a package that is not tracked, as in a .venv below a checkout"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    clean = git_state(package)
    (package / "__init__.py").write_text("changed")
    changed = git_state(package)
    assert clean["revision"] == changed["revision"]
    assert len(clean["revision"]) == 40
    assert (clean["is_changed"], changed["is_changed"]) == (False, True)
