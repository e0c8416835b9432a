import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.parity.run import read_case, run

COPIED = Path(__file__).resolve().parents[1] / "goldens"


@pytest.mark.parametrize("cases", ["*/recon_*", "*/chat_*", "*/train_*", "unit/*"])
def test_the_copied_numbers_agree(cases, capsys):
    assert run(COPIED, cases), capsys.readouterr().out


@pytest.mark.parametrize("cases", ["*/recon_*", "*/chat_*", "*/train_*", "unit/*"])
def test_all_recorded_numbers_agree(shared, cases, capsys):
    assert run(shared / "goldens", cases), capsys.readouterr().out


@pytest.fixture
def svd(tmp_path) -> Path:
    """A folder with one small case."""
    (tmp_path / "unit").mkdir()
    return Path(shutil.copy(COPIED / "unit" / "svd.safetensors", tmp_path / "unit"))


def change(path: Path, **changes: torch.Tensor) -> None:
    case = read_case(path, path.parents[1])
    with safe_open(str(path), "pt") as file:
        metadata = file.metadata()
    save_file(case.tensors | changes, path, metadata)


def test_one_changed_number_fails(svd):
    out = read_case(svd, svd.parents[1]).tensors["out"]
    assert run(svd.parents[1], say=lambda _: None)
    out[3, 1, 2] += 1e-3
    change(svd, out=out)
    assert not run(svd.parents[1], say=lambda _: None)


def test_a_recorded_tensor_that_nothing_looks_at_fails(svd):
    change(svd, another=torch.zeros(3))
    lines = []
    assert not run(svd.parents[1], say=lines.append)
    assert any("another" in line and "not compared" in line for line in lines)


def test_a_recorded_nan_is_not_close_to_a_number(svd):
    out = read_case(svd, svd.parents[1]).tensors["out"]
    out[0, 0, 0] = torch.nan
    change(svd, out=out)
    assert not run(svd.parents[1], say=lambda _: None)


def test_a_broken_case_does_not_hide_the_others(svd):
    shutil.copy(COPIED / "unit" / "rope2d.safetensors", svd.parent / "masks.safetensors")
    lines = []
    assert not run(svd.parents[1], say=lines.append)
    assert any("(the case)" in line for line in lines)
    assert any(line.startswith("  out ") and "ok" in line for line in lines)


def test_a_folder_without_cases_does_not_pass(tmp_path):
    assert not run(tmp_path, say=lambda _: None)
