"""A benchmark asked of a system: one log line per item, which a kill does not tear, and which several processes share out.

FOLDER/terms.json           what all lines depend on: results on other terms are refused
       samples.jsonl        one JSON object per item, in the order of the benchmark
       samples.0.jsonl ...  lines of each process while it runs; moved into samples.jsonl at the end, or at the next start
"""

import hashlib
import json
import math
import platform
import resource
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from g2vlm.atomic import append_line, read_lines, write_whole
from g2vlm.crew import Crew
from g2vlm.eval.benchmarks.asking import QuestionBenchmark, reply_of
from g2vlm.eval.benchmarks.base import CORRECTED, Benchmark, Item, ListsFrames, Outcome, QuestionItem
from g2vlm.eval.benchmarks.prediction import Prediction
from g2vlm.eval.protocol import About, Absent, System, output_of, require_fits
from g2vlm.eval.terms import keep_terms

TERMS, LOG = "terms.json", "samples.jsonl"

PACKAGES = ("g2vlm", "torch", "transformers", "numpy")
"""Whose versions are terms of an evaluation; so is Python's."""

MISSING = "missing"
"""Status of an item for which the system had nothing; it is tried again at the next start. All others are those of an `Outcome`."""

Row = Mapping[str, Any]
"""A line of the log: id, kind, prompt, prediction, parsed, truth, scores, status, note, seconds, memory (peak of the process, bytes).

prediction: the raw answer, with whatever else a reply may say (`Reply.as_record`); None of a reconstruction. A log of answers can be
scored again, under another rule: `g2vlm eval score`.
"""


@dataclass(frozen=True)
class Evaluation:
    """What came of a benchmark.

    items: all that it has. asked: ids that were to be asked, in the order of the benchmark. rows: of the log, by id. terms: what they
    depend on.
    """

    benchmark: Benchmark[Any]
    items: Sequence[Item]
    asked: Sequence[str]
    rows: Mapping[str, Row]
    terms: Mapping[str, Any]

    @property
    def rule(self) -> str:
        return self.terms["rule"]

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """By id; none of what is missing."""
        return {id: outcome_of(self.rows[id]) for id in self.asked if self.rows[id]["status"] != MISSING}


Watch = Callable[[Iterable[Item]], Iterable[Item]]
"""Sees items as they are asked; for a progress bar."""


def evaluate(
    benchmark: Benchmark[Any],
    items: Sequence[Item],
    system: System,
    folder: Path,
    *,
    data: Path,
    rule: str = CORRECTED,
    limit: int | None = None,
    seed: int = 0,
    crew: Crew = Crew(),  # noqa: B008, frozen
    watch: Watch = iter,
) -> Evaluation:
    """Ask all items, or `limit` of them, what `folder` does not know yet, and read all that it knows then.

    items: `benchmark.items(data)`. seed: of the order that `limit` takes the first of. Only the first of a crew may use the result
    before the others are done. Raises ValueError for a rule that there is not, a system that cannot do this, and a folder with results
    on other terms.
    """
    if rule not in benchmark.rules:
        raise ValueError(f"{benchmark.name} has no rule {rule!r}; there are {', '.join(benchmark.rules)}")
    require_fits(system, items[0])
    asked = chosen(items, limit, seed)
    terms = terms_of(benchmark, items, system.about, data=data, rule=rule, seed=seed)
    if crew.is_first:
        folder.mkdir(parents=True, exist_ok=True)
        keep_terms(folder / TERMS, terms)
        gather(folder, items)
    crew.wait()
    done = {row["id"] for row in read_log(folder / LOG) if row["status"] != MISSING}
    crew.wait()
    shard = folder / f"samples.{crew.rank}.jsonl"
    for item in watch(crew.share([item for item in items if item.id in asked and item.id not in done])):
        append_line(shard, as_json(sampled(benchmark, item, system, rule)))
    crew.wait()
    if crew.is_first:
        gather(folder, items)
    crew.wait()
    rows = {row["id"]: row for row in read_log(folder / LOG)}
    return Evaluation(benchmark, items, [item.id for item in items if item.id in asked], rows, terms)


def chosen(items: Sequence[Item], limit: int | None, seed: int) -> frozenset[str]:
    """Ids of the first `limit` items in an order that depends on the seed and each id alone: 200 hold the 100."""
    lots = sorted(items, key=lambda item: hashlib.sha256(f"{seed} {item.id}".encode()).digest())
    return frozenset(item.id for item in lots[:limit])


def sampled(benchmark: Benchmark[Any], item: Item, system: System, rule: str) -> Row:
    """One item asked and scored, as a line of the log.

    An output that is unusable is worth no more than none; one that is not there is not scored.
    """
    started = perf_counter()
    output, status = None, None
    try:
        output = output_of(system, item.under(benchmark.rules[rule]))
        if isinstance(benchmark, QuestionBenchmark):
            benchmark.require_usable(output, rule)
        outcome = sound(benchmark.score(item, output, rule))
    except Absent as error:
        outcome, status = Outcome(item.kind, "skipped", {}, note=str(error)), MISSING
    except ValueError as error:
        outcome = replace(worst(benchmark, item, rule), status="failed", note=str(error))
    is_question = isinstance(item, QuestionItem)
    return {
        "id": item.id,
        "kind": outcome.kind,
        "prompt": item.prompt if is_question else None,
        **(reply_of(output).as_record() if is_question else {"prediction": None}),
        "parsed": outcome.extracted,
        "truth": item.published_answer,
        "scores": dict(outcome.scores),
        "status": status or outcome.status,
        "note": outcome.note,
        "seconds": round(perf_counter() - started, 4),
        "memory": peak_memory(),
    }


def sound(outcome: Outcome) -> Outcome:
    """ValueError for scores that are no numbers, which no mean survives."""
    for name, value in outcome.scores.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}: the output is unusable")
    return outcome


def worst(benchmark: Benchmark[Any], item: Item, rule: str) -> Outcome:
    """What no output is worth."""
    if isinstance(item, QuestionItem):  # and not the score of "", which some public rules take for an answer
        return Outcome(item.kind, "failed", {"score": 0.0})
    return benchmark.score(item, Prediction(), rule)


def outcome_of(row: Row) -> Outcome:
    return Outcome(row["kind"], row["status"], row["scores"], row["parsed"], row["note"])


def peak_memory() -> int:
    """Bytes: of the GPU where there is one, of the process otherwise."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


# --- the log ----------------------------------------------------------------------------------------------------------


def as_json(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False, default=str)


def read_log(file: Path) -> list[Row]:
    return [*read_lines(file)] if file.exists() else []


def gather(folder: Path, items: Sequence[Item]) -> None:
    """Move the lines of all processes into one file, each id once, in the order of the benchmark.

    What is missing stays only where nothing better is known.
    """
    shards = sorted(folder.glob("samples.*.jsonl"))
    rows: dict[str, Row] = {}
    for row in (row for file in (folder / LOG, *shards) for row in read_log(file)):
        if row["id"] not in rows or rows[row["id"]]["status"] == MISSING:
            rows[row["id"]] = row
    write_whole(folder / LOG, "".join(f"{as_json(rows[item.id])}\n" for item in items if item.id in rows))
    for shard in shards:
        shard.unlink()


# --- what it depends on -----------------------------------------------------------------------------------------------


def terms_of(
    benchmark: Benchmark[Any], items: Sequence[Item], about: About, *, data: Path, rule: str, seed: int
) -> dict[str, Any]:
    """Everything that a line of the log depends on; the limit is none of it."""
    terms: dict[str, Any] = {
        "benchmark": benchmark.name,
        "rule": rule,
        "parser_version": benchmark.parser_version,
        "num_items": len(items),
        "question_set_sha256": question_set_sha256(items, data),
        "seed": seed,
        "system": {name: value for name, value in asdict(about).items() if name != "source"},
        "versions": versions(),
    }
    if isinstance(benchmark, ListsFrames):
        frames = json.dumps(benchmark.frame_list(items), sort_keys=True, separators=(",", ":"))
        terms["frame_list_sha256"] = hashlib.sha256(frames.encode()).hexdigest()
    return terms


def versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}


def question_set_sha256(items: Sequence[Item], data: Path) -> str:
    """Of ids, kinds, prompts, truths and the names of media (below the data folder) in the order of the benchmark."""
    digest = hashlib.sha256()
    for item in items:
        record: dict[str, Any] = {
            "id": item.id,
            "kind": item.kind,
            "media": [_name(path, data) for path in item.media],
            "truth": item.published_answer,
        }
        if isinstance(item, QuestionItem):
            record |= {"prompt": item.prompt, "system": item.system, "max_new_tokens": item.max_new_tokens}
            record |= {"marks": [asdict(mark) for mark in (*item.marks, *item.boxes)]}
        digest.update(json.dumps(record, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()


def _name(path: Path, data: Path) -> str:
    return (path.relative_to(data) if path.is_relative_to(data) else path).as_posix()
