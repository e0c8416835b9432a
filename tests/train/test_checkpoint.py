import errno
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from g2vlm.hub import load_model
from g2vlm.train import checkpoint
from g2vlm.train.checkpoint import checkpoints, read_checkpoint, save_checkpoint
from g2vlm.train.parallel import Engine, SingleEngine
from g2vlm.train.recipe import DataRecipe, EngineRecipe, OptimiserRecipe, OutputRecipe, Recipe, SourceRecipe
from tests.train import small_run
from tests.train.conftest import new_learner, pack_of
from tests.train.test_learner import totals_of

RECIPE = Recipe(
    "test",
    steps=9,
    data=DataRecipe((SourceRecipe("rooms"),)),
    optimiser=OptimiserRecipe(ema=0.9),
    output=OutputRecipe(keep=2),
)


@pytest.fixture
def engine(room_sample) -> Engine:
    """An engine that has taken one step."""
    engine = SingleEngine(new_learner(layers=(0,)), EngineRecipe(), RECIPE.optimiser, torch.device("cpu"))
    pack = pack_of(room_sample(0))
    engine.learn(pack, totals_of(pack), is_last=True)
    engine.step(1e-3, 1.0, is_sound=True)
    return engine


def save(engine: Engine, run: Path, *steps: int) -> list[Path]:
    return [save_checkpoint(run, engine.learner.model, engine, step, RECIPE) for step in steps]


def test_what_is_saved_is_what_is_read(engine, tmp_path):
    (folder,) = save(engine, tmp_path, 3)
    step, state = read_checkpoint(folder)
    assert step == 3
    torch.testing.assert_close(vars(state), vars(engine.state()), atol=0, rtol=0)


def test_weights_hold_every_parameter_frozen_ones_too(engine, tmp_path):
    (folder,) = save(engine, tmp_path, 1)
    own = engine.learner.model.state_dict()
    stored = load_model(folder / "model").state_dict()
    assert stored.keys() == own.keys()
    assert any(not parameter.requires_grad for parameter in engine.learner.model.parameters())
    torch.testing.assert_close(stored, dict(own), atol=0, rtol=0)


def test_the_running_mean_is_a_model_of_its_own(engine, tmp_path):
    (folder,) = save(engine, tmp_path, 1)
    mean = load_model(folder / "model_ema").state_dict()
    assert engine.ema is not None
    for name, x in engine.ema.mean.items():
        if name.startswith("model."):
            torch.testing.assert_close(mean[name.removeprefix("model.")], x, atol=0, rtol=0)


def test_only_the_newest_stay(engine, tmp_path):
    save(engine, tmp_path, 1, 2, 3, 10)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_0000003", "step_0000010"]


def test_what_a_killed_process_left_is_cleared_away(engine, tmp_path):
    (tmp_path / "checkpoints" / ".step_0000001.abc" / "model").mkdir(parents=True)
    save(engine, tmp_path, 2)
    assert os.listdir(tmp_path / "checkpoints") == ["step_0000002"]


@pytest.mark.parametrize("file", ["state.json", "recipe.yaml", "model/config.json", "training/exp_avg.safetensors"])
def test_a_missing_file_is_named_and_so_is_the_older_checkpoint(engine, tmp_path, file):
    _, folder = save(engine, tmp_path, 1, 2)
    (folder / file).unlink()
    message = f"{folder / file} is missing; delete step_0000002 to go on from step_0000001"
    with pytest.raises(ValueError, match=re.escape(message)):
        read_checkpoint(folder)


@pytest.mark.parametrize("file", ["model/model.safetensors", "training/exp_avg_sq.safetensors"])
def test_a_file_that_is_cut_is_named(engine, tmp_path, file):
    (folder,) = save(engine, tmp_path, 1)
    whole = (folder / file).stat().st_size
    os.truncate(folder / file, 1000)
    message = f"{folder / file} has 1000 bytes instead of {whole}; no older one is whole: start anew"
    with pytest.raises(ValueError, match=re.escape(message)):
        read_checkpoint(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"files": 3}'])
def test_a_damaged_list_of_files_is_one_line(engine, tmp_path, content):
    (folder,) = save(engine, tmp_path, 1)
    (folder / "state.json").write_text(content)
    with pytest.raises(ValueError, match=r"state\.json is damaged; no older one is whole"):
        read_checkpoint(folder)


def test_bytes_that_are_no_tensors_are_one_line(engine, tmp_path):
    (folder,) = save(engine, tmp_path, 1)
    file = folder / "training" / "ema.safetensors"
    file.write_bytes(b"\xff" * file.stat().st_size)
    with pytest.raises(ValueError, match=r"ema\.safetensors.*no older one is whole"):
        read_checkpoint(folder)


@pytest.mark.parametrize("name", ["save_file", "save_state", "to_yaml", "_reach_the_disk"])
def test_a_full_disk_loses_nothing_older(engine, tmp_path, monkeypatch, name):
    (folder,) = save(engine, tmp_path, 1)

    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, name, full)
    with pytest.raises(ValueError, match=r"step_0000002 could not be written \(.*No space left.*older checkpoints are"):
        save(engine, tmp_path, 2)
    assert os.listdir(tmp_path / "checkpoints") == ["step_0000001"]
    assert read_checkpoint(folder)[0] == 1


def test_a_really_full_disk_loses_nothing_older(engine, tmp_path):
    """A file system with room for one checkpoint and a half, where one may be mounted."""
    if shutil.which("mount") is None or os.geteuid() or os.system(f"mount -t tmpfs -o size=4m tmpfs {tmp_path} 2>&-"):
        pytest.skip("no file system can be mounted here")
    try:
        (folder,) = save(engine, tmp_path, 1)
        free = shutil.disk_usage(tmp_path).free
        (tmp_path / "other").write_bytes(bytes(free // 2))
        with pytest.raises(ValueError, match=r"could not be written \(.*make room"):
            save(engine, tmp_path, 2)
        assert os.listdir(tmp_path / "checkpoints") == ["step_0000001"]
        assert read_checkpoint(folder)[0] == 1
    finally:
        os.system(f"umount {tmp_path}")


# --- kill -9 ----------------------------------------------------------------------------------------------------------


KILLS = pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])


@KILLS
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(tmp_path, kills):
    small_run.finish(tmp_path / "whole")
    (*_, expected) = checkpoints(tmp_path / "whole")
    names = sorted(path.relative_to(expected) for path in expected.rglob("*.safetensors"))
    assert len(names) == 6
    for run in small_run.kill_often(tmp_path / "killed", kills, longest=2.5):
        (*_, found) = checkpoints(run)
        for name in names:
            assert (found / name).read_bytes() == (expected / name).read_bytes(), name
        assert not list((run / "checkpoints").glob(".*"))


@KILLS
def test_two_processes_that_are_killed_again_and_again_end_with_the_same_weights(tmp_path, kills):
    small_run.finish(tmp_path / "whole", "ddp", 2)
    (*_, expected) = checkpoints(tmp_path / "whole")
    for run in small_run.kill_often(tmp_path / "killed", kills, "ddp", 2, longest=4.0):
        (*_, found) = checkpoints(run)
        assert found.name == expected.name
        for name in ("model/model.safetensors", "model_ema/model.safetensors", "training/exp_avg.safetensors"):
            torch.testing.assert_close(load_file(found / name), load_file(expected / name), atol=1e-6, rtol=0)
