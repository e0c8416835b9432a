"""Procedural rooms drawn per second: `python benchmarks/scenes.py`, one core and 112 x 112 unless told otherwise."""

import argparse
import platform
import time
from pathlib import Path

import torch

from g2vlm.data.scenes import VALIDATION_SEEDS, rooms


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=16, help="rooms per call")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    wall, busy = [], []
    for i in range(options.repeats + 1):
        seeds = VALIDATION_SEEDS[i * options.scenes : (i + 1) * options.scenes]
        started, worked = time.perf_counter(), time.process_time()
        batch = rooms(seeds, num_views=options.views, height=options.size, width=options.size, device=options.device)
        batch.instances[0, 0, 0, 0].item()  # waits for an accelerator
        wall.append(time.perf_counter() - started)
        busy.append(time.process_time() - worked)

    views = options.scenes * options.views
    hardware = processor() if options.device == "cpu" else torch.cuda.get_device_name(options.device)
    print(f"{hardware}, {options.threads} thread(s), torch {torch.__version__}")
    print(f"{options.scenes} rooms x {options.views} views of {options.size} x {options.size} per call")
    middle = len(wall) // 2
    print(f"{views / sorted(wall[1:])[middle - 1]:.0f} views/s (median of {options.repeats} calls; wall clock)")
    print(f"{views / sorted(busy[1:])[middle - 1]:.0f} views per second of processor time, whatever else was running")


if __name__ == "__main__":
    main()
