import shutil
from pathlib import Path

import pytest

from g2vlm.eval.benchmarks.base import CORRECTED, Benchmark
from g2vlm.eval.benchmarks.questions import QUESTIONS

SAMPLES = Path(__file__).parents[4] / "shared" / "data" / "qa"

PUBLISHED = {
    "vsibench": {"vsibench/vsibench_test.sample.jsonl": "test.jsonl"},
    "mindcube": {"mindcube/example_row.jsonl": "MindCube.jsonl"},
    "omnispatial": {"omnispatial/example_row.json": "data.json"},
    "scanqa": {"scanqa/ScanQA_v1.0_val.sample.json": "ScanQA_v1.0_val.json"},
    "openeqa": {"openeqa/open-eqa-v0.sample.json": "open-eqa-v0.json"},
    "sqa3d": {
        f"sqa3d/v1_balanced_{part}_test_scannetv2.sample.json": f"v1_balanced_{part}_test_scannetv2.json"
        for part in ("questions", "sqa_annotations")
    },
}
"""Samples of published files, and the names that the files have."""


def benchmark(name: str):
    return next(each for each in QUESTIONS if each.name == name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_are_read(name: str, tmp_path):
    if not SAMPLES.is_dir():
        pytest.skip(f"no samples of published files in {SAMPLES}")
    for sample, published in PUBLISHED[name].items():
        shutil.copy(SAMPLES / sample, tmp_path / published)
    items = benchmark(name).items(tmp_path)
    assert len({item.id for item in items}) == len(items) > 0
    assert all(item.prompt and item.media and item.kind for item in items)


def test_every_benchmark_is_listed_once():
    names = [each.name for each in QUESTIONS]
    assert len(set(names)) == len(names)
    assert PUBLISHED.keys() <= set(names)


@pytest.mark.parametrize("each", QUESTIONS, ids=lambda each: each.name)
def test_every_benchmark_has_a_corrected_rule_and_names_the_source_of_all(each: Benchmark):
    assert next(iter(each.rules)) == CORRECTED
    assert "public" in each.rules
    assert all(rule.source for rule in each.rules.values())
    assert all(rule.name == name for name, rule in each.rules.items())
    assert each.layout
    assert each.licence
