"""Checkpoints of a run: a model that loads like any other, optimiser state, step and recipe; whole or absent."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.optim import Optimizer

from g2vlm.hub import load_model, save, whole_folder
from g2vlm.train.loop import Learner
from g2vlm.train.recipe import Recipe

CORRESPONDENCE = "correspondence.safetensors"
KEPT = 2
"""How many of the newest checkpoints stay."""


def save_checkpoint(run: Path, learner: Learner, optimizer: Optimizer, step: int, recipe: Recipe) -> Path:
    """Write `run/step_N`: `model/` (for `g2vlm.load`), the training-only heads, optimizer.pt and state.json; then drop the
    oldest ones."""
    target = run / f"step_{step:07d}"
    with whole_folder(target, overwrite=True) as partial:
        save(learner.model, partial / "model")
        if learner.correspondence is not None:
            save_file(learner.correspondence.state_dict(), partial / CORRESPONDENCE)
        torch.save(optimizer.state_dict(), partial / "optimizer.pt")
        (partial / "state.json").write_text(json.dumps({"step": step, "recipe": asdict(recipe)}, indent=1) + "\n")
    for old in checkpoints(run)[:-KEPT]:
        shutil.rmtree(old)
    return target


def checkpoints(run: Path) -> list[Path]:
    """Whole checkpoints of a run, oldest first."""
    return sorted(run.glob("step_*"))


def resume(run: Path, learner: Learner, optimizer: Optimizer) -> int:
    """Load the newest checkpoint; returns the number of finished steps, 0 when there is none."""
    found = checkpoints(run)
    if not found:
        return 0
    newest = found[-1]
    learner.model.load_state_dict(load_model(newest / "model").state_dict())
    if learner.correspondence is not None:
        learner.correspondence.load_state_dict(load_file(newest / CORRESPONDENCE))
    optimizer.load_state_dict(torch.load(newest / "optimizer.pt", weights_only=True))
    return json.loads((newest / "state.json").read_text())["step"]
