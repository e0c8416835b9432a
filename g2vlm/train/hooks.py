"""What happens beside a training step: a log that is also a table, and checkpoints."""

import json
from collections.abc import Callable
from pathlib import Path

from g2vlm.train.loop import Hook, Progress


def log_to(file: Path, every: int) -> Hook:
    """Append the mean of each `every` steps to a JSON-lines file, and print it."""
    window: list[Progress] = []

    def log(progress: Progress) -> None:
        window.append(progress)
        if progress.step % every:
            return
        parts = {name: sum(float(p.report.parts[name]) for p in window) / len(window) for name in progress.report.parts}
        row = {
            "step": progress.step,
            "total": sum(float(p.report.total.detach()) for p in window) / len(window),
            **parts,
            "gradient_norm": sum(p.gradient_norm for p in window) / len(window),
            "lr": progress.lr,
            "seconds_per_step": sum(p.seconds for p in window) / len(window),
        }
        window.clear()
        with file.open("a") as lines:
            lines.write(json.dumps({name: round(value, 6) for name, value in row.items()}) + "\n")
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)

    return log


def every(steps: int, last: int, action: Callable[[int], object]) -> Hook:
    """Call `action(step)` each so many steps and after the last one."""

    def hook(progress: Progress) -> None:
        if progress.step % steps == 0 or progress.step == last:
            action(progress.step)

    return hook
