import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from g2vlm.train.checkpoint import checkpoints
from g2vlm.train.parallel import Place, join, place_of
from g2vlm.train.recipe import EngineRecipe

MEETING = {"MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
TORCHRUN = MEETING | {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
SRUN = MEETING | {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1", "SLURM_NTASKS": "8"}


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, Place(0, 1, 0)),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, Place(0, 1, 0)),
        (TORCHRUN, Place(1, 4, 1)),
        (SRUN, Place(5, 8, 1)),
        (SRUN | TORCHRUN, Place(1, 4, 1)),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, Place(0, 1, 0)),
    ],
    ids=["by itself", "torchrun of one", "torchrun", "srun", "torchrun below srun", "srun of one"],
)
def test_a_process_finds_its_place(environment, place):
    assert place_of(environment) == place


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ACCELERATE_USE_CPU": "True", **MEETING}, "MASTER_ADDR is set, .*accelerate launch --cpu .*torchrun"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is set"),
        ({"OMPI_COMM_WORLD_SIZE": "3"}, "OMPI_COMM_WORLD_SIZE is 3, but those processes do not know each other"),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, "SLURM_NTASKS is 8, but srun did not start this process"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "process 1 of 2, but MASTER_ADDR and MASTER_PORT do not say"),
        (TORCHRUN | {"RANK": "4"}, "RANK is 4 and WORLD_SIZE is 4"),
    ],
    ids=["accelerate on a CPU", "half an environment", "mpirun", "sbatch without srun", "no meeting point", "odd rank"],
)
def test_a_launch_that_fell_apart_is_refused(environment, message):
    with pytest.raises(ValueError, match=message):
        place_of(environment)


@pytest.mark.parametrize(
    ("recipe", "environment", "message"),
    [
        (
            EngineRecipe(processes=2),
            {},
            "engine.processes is 2, but the launcher started 1: torchrun --nproc-per-node 2",
        ),
        (EngineRecipe(processes=1), TORCHRUN, "engine.processes is 1, but the launcher started 4"),
        (EngineRecipe("single"), TORCHRUN, "engine.kind is single, but the launcher started 4 processes"),
        (EngineRecipe("fsdp2", shard_group=3), TORCHRUN, "engine.shard_group is 3, which does not divide the 4"),
    ],
    ids=["too few", "too many", "single", "groups"],
)
def test_a_recipe_for_another_number_of_processes_is_refused(monkeypatch, recipe, environment, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        join(recipe)


def test_one_process_that_is_asked_for_needs_no_launcher(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "8")
    group = join(EngineRecipe(processes=1))
    assert group.place == Place(0, 1, 0)
    assert group.backend is None


# --- the launchers themselves -----------------------------------------------------------------------------------------

SMOKE = ("g2vlm.train", "smoke", "--set", "steps=2", "--set", "optimiser.warmup=1", "--set", "data.workers=0", "--out")


def started(out: Path, *launcher: str) -> subprocess.CompletedProcess[str]:
    """Two steps of the smoke recipe, by a command that is installed beside Python."""
    command = [str(Path(sys.executable).parent / launcher[0]), *launcher[1:], *SMOKE, str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=200)


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ("torchrun", "--standalone", "--nproc-per-node", "2", "-m"),
        ("accelerate", "launch", "--multi_gpu", "--num_processes", "2", "-m"),
        ("deepspeed", "--num_gpus", "2", "--module"),
    ],
    ids=lambda launcher: launcher[0],
)
def test_two_processes_of_a_launcher_train_together(tmp_path, launcher):
    done = started(tmp_path, *launcher)
    assert done.returncode == 0, done.stderr
    assert "ddp, 2 processes over gloo" in done.stdout + done.stderr
    assert len(checkpoints(tmp_path)) == 1


@pytest.mark.slow
def test_the_smoke_recipe_has_one_curve_under_every_engine(tmp_path):
    curves = {}
    for kind in ("single", "ddp", "fsdp2", "zero2"):
        out, processes = tmp_path / kind, "1" if kind == "single" else "2"
        launcher = [str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc-per-node", processes]
        recipe = [
            "-m",
            "g2vlm.train",
            "smoke",
            "--out",
            str(out),
            "--set",
            f"engine.kind={kind}",
            "--set",
            "output.log_every=1",
        ]
        subprocess.run([*launcher, *recipe], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300)
        curves[kind] = [json.loads(line)["total"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(curves["single"]) == 30
    for curve in curves.values():
        assert curve == pytest.approx(curves["single"], abs=1e-5)


@pytest.mark.slow
def test_accelerate_on_a_cpu_is_refused_for_it_starts_one_process_alone(tmp_path):
    done = started(tmp_path, "accelerate", "launch", "--cpu", "--num_processes", "2", "-m")
    assert done.returncode
    assert "MASTER_ADDR is set, as for several processes, but this one has no rank" in done.stderr
    assert not checkpoints(tmp_path)
