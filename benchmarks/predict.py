"""Time and peak memory of `g2vlm predict`, from the start of the process to the last file, for more and more views.

    python benchmarks/predict.py [--views 1 4 8 16] [--model FOLDER]

Every run is a process of its own on the same procedural room; the ratio is against the first.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [sys.executable, "-m", "g2vlm"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--model", default=None)
    options = parser.parse_args()
    model = [] if options.model is None else ["--model", options.model]
    print("views   seconds   ratio   peak MiB")
    base = None
    for views in options.views:
        with tempfile.TemporaryDirectory() as folder:
            photos = f"{folder}/photos"
            subprocess.run([*COMMAND, "rooms", photos, "--views", str(views)], check=True, stdout=subprocess.DEVNULL)
            paths = sorted(map(str, Path(photos).glob("*.png")))
            seconds, peak = measured([*COMMAND, "predict", *paths, "--out", f"{folder}/out", "--json", *model])
        base = base or seconds
        print(f"{views:5d}{seconds:10.2f}{seconds / base:8.2f}{peak:11.0f}")


def measured(command: list[str]) -> tuple[float, float]:
    """Wall-clock seconds and peak resident memory (MiB) of a command; its failure is ours."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} failed")
    return seconds, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
