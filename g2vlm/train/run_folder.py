"""What a run leaves, so that its folder explains itself.

recipe.yaml        every field        environment.json   versions, machine, git revision and command of each start
log.txt            what was said      metrics.jsonl      losses, rates and speed of each window of steps
checkpoints/       step_N             pictures/          step_N.png: prediction beside truth
"""

import importlib.util
import json
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import torch

import g2vlm
from g2vlm.atomic import append_line, write_whole
from g2vlm.train.checkpoint import check_same_run, checkpoints
from g2vlm.train.metrics import METRICS, keep_until
from g2vlm.train.recipe import Recipe
from g2vlm.train.typed import to_yaml

RECIPE, ENVIRONMENT, LOG, PICTURES = "recipe.yaml", "environment.json", "log.txt", "pictures"

PACKAGES = ("torch", "transformers", "accelerate", "numpy", "deepspeed")
"""Whose versions are noted, where they are installed."""


def check_free(out: Path, recipe: Recipe, *, resume: bool) -> None:
    """Refuse to mix two runs: a folder that holds one is only gone on with if asked, and with the same recipe."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder to write to")
    if not (out / RECIPE).exists() and not checkpoints(out):
        return
    if not resume:
        raise ValueError(f"{out} holds a run already; go on with it by --resume, or choose another folder")
    check_same_run(out if (out / RECIPE).exists() else checkpoints(out)[-1], recipe)


def begin(out: Path, recipe: Recipe, *, step: int, device: torch.device, processes: int) -> None:
    """Note how a run starts, or goes on after `step`: recipe, environment, and metrics up to that step."""
    out.mkdir(parents=True, exist_ok=True)
    starts = [*starts_of(out), environment(step=step, device=device, processes=processes)]
    write_whole(out / ENVIRONMENT, json.dumps({"starts": starts}, indent=2) + "\n")
    write_whole(out / RECIPE, to_yaml(recipe))
    keep_until(out / METRICS, step)


def starts_of(out: Path) -> list[dict[str, Any]]:
    """The environment of each start of a run, oldest first."""
    file = out / ENVIRONMENT
    return json.loads(file.read_text())["starts"] if file.exists() else []


def environment(*, step: int, device: torch.device, processes: int) -> dict[str, Any]:
    """Where and how a run starts."""
    is_cuda = device.type == "cuda"
    return {
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "step": step,
        "command": shlex.join(sys.argv),
        "processes": processes,
        "device": torch.cuda.get_device_name(device) if is_cuda else f"{platform.machine()}, {os.cpu_count()} cores",
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {"g2vlm": g2vlm.__version__}
        | {name: version(name) for name in PACKAGES if importlib.util.find_spec(name)},
        "git": git_state(Path(g2vlm.__file__).parent),
    }


def git_state(package: Path) -> dict[str, Any] | None:
    """Revision of the checkout that a package lies in, and whether it was changed; None if it is none of a checkout."""
    git = shutil.which("git")

    def ask(*words: str) -> str | None:
        answer = subprocess.run([str(git), "-C", package, *words], check=False, capture_output=True, text=True)
        return answer.stdout.strip() if answer.returncode == 0 else None

    if git is None or ask("ls-files", "--error-unmatch", "__init__.py") is None:  # as in a .venv below a checkout
        return None
    revision = ask("rev-parse", "HEAD")
    return None if revision is None else {"revision": revision, "is_changed": bool(ask("status", "--porcelain"))}


def note(out: Path, text: str) -> None:
    """Add a line with its time to the log."""
    append_line(out / LOG, f"{datetime.now().isoformat(sep=' ', timespec='seconds')}  {text}")


@contextmanager
def keeping_warnings() -> Iterator[MemoryHandler]:
    """Keep the package's warnings until `note_warnings` has a log for them; meanwhile they are on stderr."""
    logger, kept, shown = logging.getLogger("g2vlm"), MemoryHandler(1), logging.StreamHandler()
    logger.addHandler(kept)
    logger.addHandler(shown)
    try:
        yield kept
    finally:
        logger.removeHandler(shown)
        logger.removeHandler(kept)


def note_warnings(out: Path, kept: MemoryHandler) -> None:
    """Add the warnings kept so far, and those that follow, to the log."""
    kept.setTarget(_Notes(out))
    kept.flush()


class _Notes(logging.Handler):
    def __init__(self, out: Path):
        super().__init__()
        self.out = out

    def emit(self, record: logging.LogRecord) -> None:
        note(self.out, record.getMessage())


@contextmanager
def noting_the_end(out: Path, rank: int = 0) -> Iterator[None]:
    """Let the log say how the run ended; processes other than the first only say what stopped them."""
    try:
        yield
    except BaseException as error:
        who = f"process {rank} " if rank else ""
        note(out, f"{who}stopped by {type(error).__name__}: {error}".rstrip(": "))
        raise
    if rank == 0:
        note(out, "done")
