import re
import subprocess
import sys
from pathlib import Path

import pytest

from g2vlm.train.parallel import Place, join, place_of, sole_owner
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


HOLD = """
import sys, time
from pathlib import Path
from g2vlm.train.parallel import sole_owner
with sole_owner(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_in_the_same_folder_is_refused_until_the_first_is_gone(tmp_path):
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    message = re.escape(f"{tmp_path} is being written by process {first.pid} on ")
    with pytest.raises(ValueError, match=message), sole_owner(tmp_path):
        pass
    first.kill()
    first.wait()
    with sole_owner(tmp_path):
        assert Path(tmp_path, ".lock").exists()
