"""Curves of one or several runs, from their metrics, as one PNG."""

from collections.abc import Sequence
from pathlib import Path

from g2vlm.train.metrics import METRICS, Row, parts_of, read_rows

OTHERS = {"gradient_norm": "gradient norm before clipping", "lr": "learning rate", "tokens_per_second": "tokens/s"}
SPREAD = 10.0
"""Values whose greatest is more than so many times the least are drawn on a logarithmic axis."""

COLUMNS = 3


def plot(runs: Sequence[Path], out: Path) -> Path:
    """Draw every loss, the learning rate, the gradient norm and the speed over steps into `out`, a PNG.

    runs: folders of runs, or files of metrics. Raises ValueError where one holds no metrics.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("curves need the package matplotlib: pip install 'g2vlm[plot]'") from error
    tables = {str(run): rows_of(run) for run in runs}
    names = list(dict.fromkeys(name for rows in tables.values() for row in rows for name in parts_of(row)))
    titles = {"total": "total loss"} | {name: name.replace("_", " ") for name in names} | OTHERS
    lines = -(-len(titles) // COLUMNS)
    figure = Figure(figsize=(4.2 * COLUMNS, 2.8 * lines + 0.6), dpi=110, layout="constrained")
    for place, (name, title) in enumerate(titles.items(), start=1):
        axes = figure.add_subplot(lines, COLUMNS, place)
        for run, rows in tables.items():
            known = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            axes.plot(*zip(*known, strict=True) if known else ([], []), label=run, linewidth=1.3)
        values = [value for rows in tables.values() for row in rows if (value := row.get(name)) is not None]
        if values and min(values) > 0 and max(values) > SPREAD * min(values):
            axes.set_yscale("log")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", fontsize=9)
    figure.savefig(out, format="png")
    return out


def rows_of(run: Path) -> list[Row]:
    """The metrics of a run."""
    file = run / METRICS if run.is_dir() else run
    if not file.is_file():
        raise ValueError(f"{run} holds no {METRICS}; name the folder of a run")
    rows = read_rows(file)
    if not rows:
        raise ValueError(f"{file} is empty as yet; wait for the first window of steps")
    return rows
