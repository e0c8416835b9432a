"""Hooks see every step, and tell what a person or a program wants to know of it."""

import importlib.util
import sys
from dataclasses import replace
from types import ModuleType

import pytest

from g2vlm.train.hooks import (
    check_installed,
    each_window,
    every,
    line,
    means,
    name_skipped,
    screen,
    stop_on_bad,
    tensorboard,
    wandb,
)
from g2vlm.train.loop import Progress
from g2vlm.train.recipe import OutputRecipe


def progress(step: int, total: float = 1.0, parts: dict[str, float] | None = None, **others) -> Progress:
    known = {"gradient_norm": 2.0, "lr": 1e-4 * step, "tokens": 100, "seconds": 0.5, "waited": 0.1}
    return Progress(step, total, {"points": total} if parts is None else parts, **(known | others))


def test_an_action_comes_at_its_steps_and_after_the_last():
    seen = []
    hook = every(3, 7, seen.append)
    for step in range(1, 8):
        hook(progress(step))
    assert seen == [3, 6, 7]


def test_a_window_gives_means_and_the_rest_is_a_window_too():
    first, second = [], []
    hook = each_window(2, 5, [first.append, second.append])
    for step in range(1, 6):
        hook(progress(step, total=float(step)))
    assert first == second
    assert [(row["step"], row["total"]) for row in first] == [(2, 1.5), (4, 3.5), (5, 5.0)]
    assert first[0]["lr"] == 2e-4


def test_speed_counts_all_tokens_over_all_seconds():
    row = means([progress(1, tokens=100, seconds=1.0, waited=0.4), progress(2, tokens=500, seconds=2.0, waited=0.0)])
    assert (row["tokens_per_second"], row["seconds"], row["data_wait"]) == (200, 1.5, 0.2)


def test_a_part_is_a_mean_over_the_steps_that_have_it():
    row = means(
        [progress(1, parts={"points": 1.0}), progress(2, parts={"text": 4.0}), progress(3, parts={"text": 2.0})]
    )
    assert (row["points"], row["text"]) == (1.0, 3.0)


def test_steps_that_were_not_taken_are_counted_and_do_not_spoil_the_means():
    broken = progress(2, total=float("nan"), gradient_norm=float("nan"), was_taken=False, bad=1, excluded=1)
    row = means([progress(1), broken])
    assert (row["total"], row["gradient_norm"], row["untaken"], row["skipped"]) == (1.0, 2.0, 1, 2)
    assert means([broken])["total"] is None


def test_samples_left_out_and_steps_not_taken_are_named():
    said = []
    hook = name_skipped(said.append)
    hook(progress(1))
    assert said == []
    hook(progress(2, skipped=("scenes: kitchen (3.png): depth is NaN",), was_taken=False))
    assert said[0] == "step 2: left out: scenes: kitchen (3.png): depth is NaN"
    assert said[1].startswith("step 2: not taken")


def test_a_line_for_people_says_all_and_counts_only_what_went_wrong():
    text = line(means([progress(10, bad=1)]), 110)
    for part in ("step 10/110", "total 1", "points 1", "lr 0.001", "200 tokens/s", "data wait 20%", "left 0:00:50"):
        assert part in text
    assert "1 samples left out" in text
    assert "not taken" not in text


def test_a_line_of_steps_none_of_which_was_taken_can_be_read():
    assert "total none" in line(means([progress(1, total=float("nan"), was_taken=False)]), 10)


# --- bad samples -----------------------------------------------------------------------------------------------------


def told(*skipped: tuple[str, ...]) -> None:
    """Tell the hook of steps with one good sample each, beside the bad ones."""
    hook = stop_on_bad(0.1)
    for step, names in enumerate(skipped, start=1):
        hook(progress(step, drawn=1 + len(names), bad=len(names), skipped=names))


def test_few_bad_samples_are_borne():
    told(*[()] * 30, ("one",), *[()] * 30, ("two",))


def test_too_many_bad_samples_stop_the_run_and_the_last_are_named():
    with pytest.raises(ValueError, match=r"4 of 23 samples .* data.max_bad is 0.1; .* second; third; fourth$"):
        told(*[()] * 17, ("first",), ("second", "third", "fourth"))


def test_a_bad_beginning_alone_stops_nothing():
    told(("a", "b"), *[()] * 60)


def test_bad_samples_of_other_processes_count_and_stop_all():
    hook = stop_on_bad(0.1)
    with pytest.raises(ValueError, match=r"5 of 30 samples .* met by other processes"):
        hook(progress(1, drawn=30, bad=5))


# --- screens and services --------------------------------------------------------------------------------------------


def test_without_a_terminal_there_are_plain_lines(capsys):
    with screen(0, 10) as shown:
        shown.show(progress(1))
        shown.say("step 1/10 [total] 1")
    assert capsys.readouterr().out == "step 1/10 [total] 1\n"


def test_a_terminal_shows_a_bar_with_losses_and_lines_above_it(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with screen(0, 10) as shown:
        shown.show(progress(1, total=1.25))
        shown.say("a [line] of the log")
        shown.show(progress(2, total=1.25))
    out = capsys.readouterr().out
    assert "a [line] of the log" in out
    assert " 2/10" in out
    assert "total 1.25" in out


def test_tensorboard_gets_every_number_by_its_group(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tensorboard(tmp_path, 0) as sink:
        sink(means([progress(1)]))
        sink(means([progress(2, total=3.0)]))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert {"loss/total", "loss/points", "run/lr"} <= set(events.Tags()["scalars"])
    assert [(event.step, event.value) for event in events.Scalars("loss/total")] == [(1, 1.0), (2, 3.0)]


class FakeRun:
    """A run of Weights & Biases that remembers what it is told."""

    def __init__(self, **options):
        self.options, self.rows, self.is_closed = options, [], False
        self.log = self.rows.append

    def define_metric(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.is_closed = True


def test_wandb_goes_on_with_the_same_run_and_leaves_out_what_is_not_known(monkeypatch, tmp_path):
    service = ModuleType("wandb")
    service.init = lambda **options: started.append(FakeRun(**options)) or started[-1]
    started: list[FakeRun] = []
    monkeypatch.setitem(sys.modules, "wandb", service)
    with wandb("rooms", "first", "smoke-1", tmp_path, {"seed": 0}) as sink:
        sink(means([progress(1, total=float("nan"), was_taken=False)]))
    (run,) = started
    assert (run.options["project"], run.options["id"], run.options["resume"]) == ("rooms", "smoke-1", "allow")
    assert run.rows[0]["step"] == 1
    assert "loss/total" not in run.rows[0]
    assert run.is_closed


@pytest.mark.parametrize("package", ["tensorboard", "wandb"])
def test_a_service_that_is_not_installed_names_its_extra(package, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_installed(OutputRecipe())
    with pytest.raises(ValueError, match=rf"output.{package} needs .* 'g2vlm\[{package}\]'"):
        check_installed(replace(OutputRecipe(), **{package: {"tensorboard": True, "wandb": "rooms"}[package]}))
