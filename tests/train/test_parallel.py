"""Engines of two processes against one process, on the CPU: real launches, real collectives."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from g2vlm.train import parallel
from g2vlm.train.checkpoint import checkpoints, read_checkpoint
from g2vlm.train.parallel import Group, Place
from g2vlm.train.parallel.several import Several
from tests.conftest import REPOSITORY
from tests.train import parallel_worker
from tests.train.conftest import new_learner
from tests.train.parallel_worker import SCENARIOS, STEPS, ZERO3_SCENARIOS, Job, learner_of, recipe_of

WORKER = Path(parallel_worker.__file__)
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
CHAIN = "chain"


def launch(out: Path, jobs: Sequence[Job]) -> None:
    """Do jobs in two processes, one after the other; one that hangs fails."""
    command = [*TORCHRUN, "2", str(WORKER), str(out), json.dumps([asdict(job) for job in jobs])]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr[-6000:]


def record(out: Path, name: str, last: int = STEPS) -> dict[str, Any]:
    return json.loads((out / f"{name}-{last}.json").read_text())


@pytest.mark.parametrize(
    ("kinds", "scenarios"),
    [
        (("ddp", "fsdp2"), SCENARIOS),
        (("zero2",), SCENARIOS),
        pytest.param(("zero3",), ZERO3_SCENARIOS, marks=pytest.mark.slow),
    ],
    ids=lambda names: "-".join(names) if isinstance(names, tuple) else "",
)
def test_two_processes_learn_what_one_learns_and_go_on_with_what_others_began(tmp_path, kinds, scenarios):
    """Every scenario under every engine; and a run that one process begins, the engines go on with by turns, and one ends."""
    alone = tmp_path / "alone"
    for scenario in scenarios:
        parallel_worker.run(Job(scenario, scenario, {}), alone)
    first, last = next(iter(scenarios)), 2 * (len(kinds) + 2)
    parallel_worker.run(Job(CHAIN, first, {}, last=last), alone)
    broken = tmp_path / "broken"
    parallel_worker.run(Job(CHAIN, first, {}, last=2), broken)
    jobs = [Job(f"{kind}/{name}", name, {"kind": kind}) for kind in kinds for name in scenarios]
    launch(broken, jobs + [Job(CHAIN, first, {"kind": kind}, last=2 * i) for i, kind in enumerate(kinds, 2)])
    parallel_worker.run(Job(CHAIN, first, {}, last=last), broken)

    for job in jobs:
        assert_same_curve(record(broken, job.name), record(alone, job.scenario))
        assert_same_state(broken / job.name, alone / job.scenario)
    pieces = [record(broken, CHAIN, step) for step in range(2, last + 1, 2)]
    joined = {name: [x for piece in pieces for x in piece[name]] for name in ("totals", "norms", "parts", "tokens")}
    assert_same_curve(joined | {"taken": pieces[-1]["taken"]}, record(alone, CHAIN, last))
    assert_same_state(broken / CHAIN, alone / CHAIN)


def assert_same_curve(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name in ("totals", "norms", "parts"):
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-5, equal_nan=True)
    assert (found["taken"], found["tokens"]) == (expected["taken"], expected["tokens"])


def assert_same_state(found: Path, expected: Path) -> None:
    (step, state), (last, reference) = (read_checkpoint(checkpoints(run)[-1]) for run in (found, expected))
    assert step == last
    for name, tolerance in {"weights": 1e-6, "correspondence": 1e-6, "ema": 1e-6, "moments": 1e-5}.items():
        torch.testing.assert_close(getattr(state, name), getattr(reference, name), atol=tolerance, rtol=0)


def a_process(rank: int, heard: list[float]) -> Several:
    """One of two processes, which hears these sums, one after the other."""
    engine = object.__new__(Several)
    engine.rank, engine.world = rank, 2
    engine.learner = new_learner()
    answers = iter(heard)
    engine.sum = lambda values: [next(answers) for _ in values]
    return engine


def test_processes_that_start_from_different_weights_are_refused():
    with pytest.raises(ValueError, match="1 of 2 processes start from other weights than the first"):
        a_process(1, [12.5, 1.0]).check_start()


def test_where_the_first_process_fails_the_others_stop_too():
    def fail() -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        a_process(0, [1.0]).in_first(fail)
    with pytest.raises(ValueError, match="the first process has stopped"):
        a_process(1, [1.0]).in_first(fail)
    a_process(1, [2.0]).in_first(fail)


def test_an_engine_that_does_not_hold_what_it_promises_is_refused():
    weights, learning = a_process(0, []).sizes()
    with pytest.raises(ValueError, match=r"single on 2 processes does not hold .* 2 answered, weights are in 2"):
        a_process(0, [2.0, weights, learning]).prove()
    with pytest.raises(ValueError, match="1 answered"):
        a_process(0, [1.0, 2 * weights, 2 * learning]).prove()


def test_packs_that_the_processes_cannot_share_are_refused(monkeypatch):
    job = Job("", next(iter(SCENARIOS)), {})
    recipe = replace(recipe_of(job), data=replace(recipe_of(job).data, packs_per_step=5))
    monkeypatch.setattr(parallel, "join", lambda recipe: Group(Place(0, 4, 0), torch.device("cpu"), None))
    with pytest.raises(ValueError, match=r"packs_per_step is 5, which 4 processes cannot share; set it to 8"):
        parallel.start(learner_of(job), recipe)


@pytest.mark.parametrize("kind", ["ddp", "fsdp2", "zero2"])
def test_without_deepspeed_only_its_own_engines_are_refused(monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    if kind == "zero2":
        with pytest.raises(ValueError, match=r"pip install 'g2vlm\[deepspeed\]'"):
            object.__new__(parallel.engine_class(kind)).wrap(lambda: None)
    else:
        assert parallel.engine_class(kind).kind == kind
