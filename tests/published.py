"""Annotation files in the layouts that benchmarks publish, with invented rows."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from g2vlm.eval.benchmarks.asking import QuestionBenchmark, Row
from g2vlm.eval.benchmarks.base import Figure, Outcome, QuestionItem

NOWHERE = Path("nowhere")


def png(shade: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(stream, "png")
    return stream.getvalue()


def parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    import pyarrow
    from pyarrow import parquet as files

    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


def json_list(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text(json.dumps(list(rows)))
    return path


def item_of(benchmark: QuestionBenchmark, row: Row) -> QuestionItem:
    item = benchmark.item_of(row, NOWHERE, 0)
    assert item is not None
    return item


def outcome_of(benchmark: QuestionBenchmark, row: Row, reply: str | None, rule: str = "corrected") -> Outcome:
    return benchmark.score(item_of(benchmark, row), reply, rule)


def figures_of(
    benchmark: QuestionBenchmark, rows: Sequence[Row], replies: Sequence[str], rule: str = "corrected"
) -> dict[str, Figure]:
    items = [item_of(benchmark, row) for row in rows]
    outcomes = {item.id: benchmark.score(item, reply, rule) for item, reply in zip(items, replies, strict=True)}
    return {figure.name: figure for figure in benchmark.figures(items, outcomes, rule)}
