"""What happens beside a training step: every hook is a plain callable, and whoever starts the loop hands them to it."""

import importlib.util
import math
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from g2vlm.train.loop import Hook, Progress
from g2vlm.train.metrics import Row, parts_of
from g2vlm.train.recipe import OutputRecipe

Sink = Callable[[Row], None]
"""Takes the means of each window of steps."""

FEWEST_SAMPLES = 20
"""Before so many samples, no part of bad ones stops a run."""


def every(steps: int, last: int, action: Callable[[int], object]) -> Hook:
    """Call `action(step)` each so many steps and after the last one."""

    def hook(progress: Progress) -> None:
        if progress.step % steps == 0 or progress.step == last:
            action(progress.step)

    return hook


def each_window(steps: int, last: int, sinks: Sequence[Sink]) -> Hook:
    """Give the means of each so many steps to the sinks; what is left at the end is a window, too."""
    window: list[Progress] = []

    def hook(progress: Progress) -> None:
        window.append(progress)
        if progress.step % steps == 0 or progress.step == last:
            row = means(window)
            window.clear()
            for sink in sinks:
                sink(row)

    return hook


def means(window: Sequence[Progress]) -> Row:
    """One row of metrics; losses are means over the steps that were taken (and, of a part, those that have it)."""
    taken = [progress for progress in window if progress.was_taken]
    parts = dict.fromkeys(name for progress in window for name in progress.parts)
    seconds = sum(progress.seconds for progress in window)
    return {
        "step": window[-1].step,
        "total": _mean(progress.total for progress in taken),
        **{name: _mean(progress.parts[name] for progress in taken if name in progress.parts) for name in parts},
        "lr": window[-1].lr,
        "gradient_norm": _mean(progress.gradient_norm for progress in taken),
        "tokens_per_second": sum(progress.tokens for progress in window) / seconds,
        "data_wait": sum(progress.waited for progress in window) / len(window),
        "seconds": seconds / len(window),
        "skipped": sum(progress.bad + progress.excluded for progress in window),
        "untaken": len(window) - len(taken),
    }


def _mean(values: Iterable[float]) -> float | None:
    given = list(values)
    return sum(given) / len(given) if given else None


def name_skipped(say: Callable[[str], None]) -> Hook:
    """A line for every sample that was left out, and for every step that was not taken."""

    def hook(progress: Progress) -> None:
        for sample in progress.skipped:
            say(f"step {progress.step}: left out: {sample}")
        if not progress.was_taken:
            say(f"step {progress.step}: not taken: its loss or gradient is not finite, or all its scenes were left out")

    return hook


def stop_on_bad(most: float) -> Hook:
    """Raise ValueError, naming the last ones, once more than the part `most` of all samples drawn was bad.

    It goes by the samples of all processes, so that they all stop together; each names what it met itself.
    """
    drawn, bad, last = 0, 0, deque[str](maxlen=3)

    def hook(progress: Progress) -> None:
        nonlocal drawn, bad
        drawn += progress.drawn
        bad += progress.bad
        last.extend(progress.skipped)
        if drawn >= FEWEST_SAMPLES and bad > most * drawn:
            raise ValueError(
                f"{bad} of {drawn} samples are bad, and data.max_bad is {most}; mend the data or raise it. "
                f"The last ones: {'; '.join(last) or 'met by other processes'}"
            )

    return hook


# --- for a person who watches ----------------------------------------------------------------------------------------


def line(row: Row, last: int) -> str:
    """A row for people."""
    step, seconds, wait = row["step"] or 0, row["seconds"] or 0, row["data_wait"] or 0
    losses = "  ".join(f"{name} {_number(row[name])}" for name in ("total", *parts_of(row)))
    left = timedelta(seconds=round((last - step) * seconds))
    counts = [f"{row[name]:.0f} {text}" for name, text in COUNTED.items() if row[name]]
    speed = f"{row['tokens_per_second']:.0f} tokens/s  {seconds:.3g} s/step  data wait {wait / max(seconds, 1e-9):.0%}"
    rates = f"lr {row['lr']:.3g}  gradient {_number(row['gradient_norm'])}"
    return "  ".join([f"step {step:.0f}/{last}", losses, rates, speed, f"left {left}", *counts])


COUNTED = {"skipped": "samples left out", "untaken": "steps not taken"}


def _number(value: float | None) -> str:
    return "none" if value is None or not math.isfinite(value) else f"{value:.4g}"


@dataclass(frozen=True)
class Screen:
    """say: print a line. show: the hook that keeps a bar up to date; nothing where nobody watches."""

    say: Callable[[str], None]
    show: Hook


@contextmanager
def screen(first_step: int, last: int) -> Iterator[Screen]:
    """A progress bar on a terminal, plain lines anywhere else."""
    if not sys.stdout.isatty():
        yield Screen(lambda text: print(text, flush=True), lambda progress: None)
        return
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    bar = Bar(TextColumn("step"), MofNCompleteColumn(), BarColumn(), TimeElapsedColumn())
    task = bar.add_task("", total=last, completed=first_step)
    recent: list[Progress] = []
    with Live(bar, transient=True) as live:

        def show(progress: Progress) -> None:
            recent[:] = [*recent[-9:], progress]
            bar.update(task, completed=progress.step)
            live.update(Group(bar, Text(line(means(recent), last), style="dim")), refresh=True)

        yield Screen(lambda text: live.console.print(Text(text)), show)


# --- for other programs ----------------------------------------------------------------------------------------------


def check_installed(output: OutputRecipe) -> None:
    """Refuse, before anything is written, a recipe whose metrics go to a package that is not there."""
    for package, is_wanted in {"tensorboard": output.tensorboard, "wandb": output.wandb}.items():
        if is_wanted and importlib.util.find_spec(package) is None:
            raise ValueError(f"output.{package} needs the package {package}: pip install 'g2vlm[{package}]'")


@contextmanager
def tensorboard(folder: Path, step: int) -> Iterator[Sink]:
    """Rows for TensorBoard; those of an earlier run after `step` are struck out there."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=step + 1) as writer:

        def sink(row: Row) -> None:
            for name, value in _charts(row).items():
                writer.add_scalar(name, value, row["step"])

        yield sink


@contextmanager
def wandb(project: str, name: str, identity: str, folder: Path, recipe: dict[str, Any]) -> Iterator[Sink]:
    """Rows for Weights & Biases; a run of the same identity is gone on with."""
    import wandb as service  # pyright: ignore[reportMissingImports]

    with service.init(project=project, name=name, id=identity, resume="allow", dir=folder, config=recipe) as remote:
        remote.define_metric("*", step_metric="step")
        yield lambda row: remote.log(_charts(row) | {"step": row["step"]})


def _charts(row: Row) -> dict[str, float]:
    """Names grouped as such programs group them, by a slash."""
    losses = {"total", *parts_of(row)}
    named = {
        f"loss/{name}" if name in losses else f"run/{name}": value for name, value in row.items() if name != "step"
    }
    return {name: value for name, value in named.items() if value is not None}
