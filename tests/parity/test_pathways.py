import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.parity.pathways import run
from tests.parity.run import read_case


@pytest.mark.parametrize("folder", ["a", "b"])
def test_all_recorded_numbers_of_the_pathways_agree(shared, folder, capsys):
    assert run(shared / "goldens" / "pathways" / folder), capsys.readouterr().out


@pytest.fixture
def merger(shared, tmp_path) -> Path:
    """A folder with one recorded file."""
    return Path(shutil.copy(shared / "goldens" / "pathways" / "a" / "merger_layernorm.safetensors", tmp_path))


def change(path: Path, **changes: torch.Tensor) -> None:
    with safe_open(str(path), "pt") as file:
        metadata = file.metadata()
    save_file(read_case(path, path.parent).tensors | changes, path, metadata)


def test_one_changed_number_fails(merger):
    assert run(merger.parent, say=lambda _: None)
    name = "grid2x5x7.out.fusion_gated"
    changed = read_case(merger, merger.parent).tensors[name].clone()
    changed[0, 1, 2, 3] += 1e-4
    change(merger, **{name: changed})
    assert not run(merger.parent, say=lambda _: None)


def test_a_recorded_tensor_that_nothing_looks_at_fails(merger):
    change(merger, another=torch.zeros(3))
    lines = []
    assert not run(merger.parent, say=lines.append)
    assert any("another" in line and "not compared" in line for line in lines)


def test_a_file_without_a_check_fails(merger):
    shutil.copy(merger, merger.with_name("unknown.safetensors"))
    assert not run(merger.parent, say=lambda _: None)


def test_a_folder_without_recordings_does_not_pass(tmp_path):
    assert not run(tmp_path, say=lambda _: None)
