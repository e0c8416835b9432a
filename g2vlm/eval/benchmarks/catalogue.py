"""All benchmarks by name."""

from typing import Any

from g2vlm.eval.benchmarks.base import Benchmark
from g2vlm.eval.benchmarks.geometry import GEOMETRY
from g2vlm.eval.benchmarks.questions import QUESTIONS
from g2vlm.eval.benchmarks.rooms import ROOMS

BENCHMARKS: dict[str, Benchmark[Any]] = {
    benchmark.name: benchmark for benchmark in (ROOMS, *QUESTIONS, *GEOMETRY.values())
}


def find_benchmark(name: str) -> Benchmark[Any]:
    if name not in BENCHMARKS:
        raise ValueError(f"{name} is no benchmark; there are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
