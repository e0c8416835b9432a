"""Packs prepared per second by number of workers, beside what a step consumes: `python benchmarks/loader.py`.

Rooms, and scene folders (rooms written to a temporary folder at 640 x 480, or --scenes FOLDER). The last line is JSON.
"""

import argparse
import io
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from g2vlm import presets
from g2vlm.data.packs import Packs, position_loader, positions
from g2vlm.data.readers import READERS
from g2vlm.data.samples import Source
from g2vlm.data.sampling import Shapes
from g2vlm.data.scenes import VALIDATION_SEEDS, rooms
from g2vlm.data.sources import RoomQuestionSource, RoomSource, SceneSource
from g2vlm.processor import Processor, byte_tokenizer

PATCH = 14


@dataclass(frozen=True)
class Rate:
    """What a loader gives, by the clock."""

    source: str
    workers: int
    packs_per_second: float
    tokens_per_second: float
    views_per_second: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--resolution", type=int, default=112)
    parser.add_argument("--views", type=int, nargs=2, default=[2, 8])
    parser.add_argument("--tokens", type=int, default=2048, help="budget of a pack")
    parser.add_argument("--seconds", type=float, default=5.0, help="to measure each case for")
    parser.add_argument("--scenes", type=Path, help="folder of scene.json folders")
    parser.add_argument("--step-seconds", type=float, default=0.5, help="time of one training step")
    parser.add_argument("--packs-per-step", type=int, default=1, help="that this process takes")
    options = parser.parse_args()
    torch.set_num_threads(1)

    tokens = presets.tiny().tokens
    processor = Processor(byte_tokenizer(tokens), tokens)
    shapes = Shapes(views=tuple(options.views), resolution=options.resolution, patch=PATCH)
    with tempfile.TemporaryDirectory() as folder:
        scenes = options.scenes or written_rooms(Path(folder))
        sources: list[Source] = [
            RoomSource(processor, PATCH),
            RoomQuestionSource(processor, PATCH),
            SceneSource("scenes", tuple(READERS["scene_json"](scenes)), processor, PATCH),
        ]
        wanted = options.packs_per_step / options.step_seconds
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
        print(
            f"{options.views[0]}-{options.views[1]} views of {options.resolution} pixels, {options.tokens} tokens a pack"
        )
        print(f"a step of {options.step_seconds} s takes {wanted:.2f} packs/s\n")
        rates, costs = [], {}
        for source in sources:
            packs = Packs([(source, 1.0)], shapes, tokens_per_pack=options.tokens, seed=0)
            costs[source.name] = cost(packs)
            print(
                f"{source.name}: {costs[source.name]:.3f} s of processor time a pack, whatever else was running; ",
                end="",
            )
            print(f"such steps keep {costs[source.name] * wanted:.2f} cores busy")
        print("\nsource          workers  packs/s  tokens/s  views/s  of what a step takes")
        for source in sources:
            packs = Packs([(source, 1.0)], shapes, tokens_per_pack=options.tokens, seed=0)
            for workers in options.workers:
                rate = measured(source.name, packs, workers, options.seconds)
                rates.append(asdict(rate) | {"of_step": rate.packs_per_second / wanted})
                print(
                    f"{rate.source:15} {workers:7} {rate.packs_per_second:8.2f} {rate.tokens_per_second:9.0f} "
                    f"{rate.views_per_second:8.1f} {rates[-1]['of_step']:9.1f} x"
                )
    print(json.dumps({"options": {k: str(v) for k, v in vars(options).items()}, "cpu_seconds": costs, "rates": rates}))


def measured(source: str, packs: Packs, workers: int, seconds: float) -> Rate:
    """Throughput once the first packs are there, so that the start of the workers does not count."""
    loader = position_loader(packs, positions(0, 1), workers)
    for _ in islice(loader, 1 + 3 * workers):
        pass
    started, num_packs, num_tokens, num_views = time.perf_counter(), 0, 0, 0
    for pack in until(loader, started + seconds):
        num_packs += 1
        num_tokens += pack.num_tokens
        num_views += sum(len(sample.views.images) for sample in pack.samples if sample.views is not None)
    passed = time.perf_counter() - started
    return Rate(source, workers, num_packs / passed, num_tokens / passed, num_views / passed)


def cost(packs: Packs, count: int = 12) -> float:
    """Seconds of processor time that a pack takes on one core; the median, for packs differ."""
    busy = []
    for n in range(count + 1):
        started = time.process_time()
        packs[n]
        busy.append(time.process_time() - started)
    return statistics.median(busy[1:])


def until(loader: Iterator, end: float) -> Iterator:
    for item in loader:
        yield item
        if time.perf_counter() > end:
            return


def written_rooms(folder: Path, num_rooms: int = 4, num_views: int = 24) -> Path:
    """Rooms as scene.json folders with JPEG pictures and depth in millimetres, as real data come."""
    for seed in VALIDATION_SEEDS[:num_rooms]:
        views = rooms([seed], num_views=num_views, height=480, width=640).views
        assert views.depth is not None
        assert views.intrinsics is not None
        assert views.poses is not None
        scene = folder / f"room_{seed}"
        scene.mkdir()
        frames = []
        for i in range(num_views):
            image = (views.images[0, i].permute(1, 2, 0) * 255).byte().numpy()
            Image.fromarray(image).save(scene / f"{i}.jpg", quality=90)
            depth = (views.depth[0, i] * 1000).round().numpy().astype(np.uint16)
            stream = io.BytesIO()
            Image.fromarray(depth).save(stream, "PNG")
            (scene / f"{i}.png").write_bytes(stream.getvalue())
            (fx, _, cx), (_, fy, cy), _ = views.intrinsics[0, i].tolist()
            frames.append(
                {
                    "image": f"{i}.jpg",
                    "depth": f"{i}.png",
                    "intrinsics": [fx, fy, cx - 0.5, cy - 0.5],
                    "T_world_camera": views.poses[0, i].tolist(),
                }
            )
        record = {
            "scene": scene.name,
            "frames": frames,
            "metric_scale": True,
            "depth": {"unit_m": 0.001},
            "license": {"upstream_data": "CC0"},
            "ordering": "video",
        }
        (scene / "scene.json").write_text(json.dumps(record))
    return folder


if __name__ == "__main__":
    main()
