"""The table of a run: one JSON line per window of steps, whole even if the run is killed, each step in it once."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from g2vlm.atomic import append_line, read_lines, write_whole

METRICS = "metrics.jsonl"
"""Its name in the folder of a run."""

Row = dict[str, float | None]
"""Means over a window of steps, by name: `FIXED`, and each loss part. None where no step of the window was taken.

step: the last of the window. gradient_norm: before clipping. data_wait: seconds per step, of `seconds` per step.
skipped: samples left out by all processes; untaken: steps without a finite loss and gradient; both are sums.
"""

FIXED = ("step", "total", "lr", "gradient_norm", "tokens_per_second", "data_wait", "seconds", "skipped", "untaken")


def parts_of(row: Mapping[str, float | None]) -> list[str]:
    """The names of its loss parts."""
    return [name for name in row if name not in FIXED]


def append_row(file: Path, row: Row) -> None:
    """Add a row; numbers keep six digits."""
    short = {name: None if value is None else _short(value) for name, value in row.items()}
    append_line(file, json.dumps(short, allow_nan=False))


def read_rows(file: Path) -> list[Row]:
    """The rows of a table in order; a last line without an end (the disk was full) is left out."""
    return read_lines(file)


def keep_until(file: Path, step: int) -> None:
    """Drop the rows after a step, which a resumed run will write again."""
    rows = [row for row in read_rows(file) if (row["step"] or 0) <= step] if file.exists() else []
    write_whole(file, "".join(f"{json.dumps(row)}\n" for row in rows))


def _short(value: float) -> float | None:
    if isinstance(value, int):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
