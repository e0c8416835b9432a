"""Checkpoints of a run: weights, optimiser state, step and recipe; a folder is whole or absent."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import Optimizer

from g2vlm.train.recipe import Recipe


def save_checkpoint(folder: Path, model: nn.Module, optimizer: Optimizer, step: int, recipe: Recipe) -> Path:
    """Write `folder/step_N`, under another name first, then rename; only the two newest are kept."""
    target = folder / f"step_{step:07d}"
    partial = folder / f".{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    learned = {name: p.detach().contiguous() for name, p in model.named_parameters()}
    save_file(learned, partial / "model.safetensors", metadata={"format": "pt"})
    torch.save(optimizer.state_dict(), partial / "optimizer.pt")
    (partial / "state.json").write_text(json.dumps({"step": step, "recipe": asdict(recipe)}, indent=1))
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)
    for old in checkpoints(folder)[:-2]:
        shutil.rmtree(old)
    return target


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints of a run, oldest first."""
    return sorted(folder.glob("step_*"))


def resume(folder: Path, model: nn.Module, optimizer: Optimizer) -> int:
    """Load the newest checkpoint; returns the number of finished steps, 0 when there is none."""
    found = checkpoints(folder)
    if not found:
        return 0
    newest = found[-1]
    load_parameters(model, newest / "model.safetensors")
    optimizer.load_state_dict(torch.load(newest / "optimizer.pt", weights_only=True))
    return json.loads((newest / "state.json").read_text())["step"]


def load_parameters(model: nn.Module, file: Path) -> None:
    """Fill every parameter of the model from a file that holds exactly those; anything else raises ValueError."""
    values = load_file(file)
    parameters = dict(model.named_parameters())
    if values.keys() != parameters.keys():
        raise ValueError(f"{file} does not fit the model: {sorted(values.keys() ^ parameters.keys())[:8]} differ")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])
