"""Benchmarks of geometry by name."""

from collections.abc import Mapping

from g2vlm.eval.benchmarks import (
    co3dv2,
    dtu,
    eth3d,
    nrgbd,
    nyuv2,
    realestate10k,
    scannet,
    scenes,
    sevenscenes,
    sintel,
    tum,
)
from g2vlm.eval.benchmarks.scenes import SceneBenchmark

_MODULES = (sintel, nyuv2, sevenscenes, nrgbd, eth3d, dtu, co3dv2, realestate10k, scannet, tum)

GEOMETRY: Mapping[str, SceneBenchmark] = {
    benchmark.name: benchmark for module in _MODULES for benchmark in module.BENCHMARKS
} | {scenes.SCENES.name: scenes.SCENES}
