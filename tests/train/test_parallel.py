"""Engines of two processes against one process, on the CPU: real launches, real collectives."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from g2vlm.train.checkpoint import checkpoints, read_checkpoint
from tests.conftest import REPOSITORY
from tests.train import parallel_worker
from tests.train.parallel_worker import SCENARIOS, STEPS, ZERO3_SCENARIOS, Job

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
