"""Memory of a training step against the number of views, with and without gradient checkpointing: `python benchmarks/memory.py`.

Forward, geometric losses and backward of one procedural room. Every point is measured in a process of its own: its peak of
resident memory, less what it held before the step. The last line is JSON.
"""

import argparse
import json
import random
import resource
import subprocess
import sys

import torch

from g2vlm import presets
from g2vlm.data.samples import Bucket, Pack
from g2vlm.data.sources import RoomSource
from g2vlm.losses.objective import Objective
from g2vlm.model import G2VLM
from g2vlm.processor import Processor, byte_tokenizer
from g2vlm.train.freeze import freeze
from g2vlm.train.learner import Learner, Totals

VIEWS = (2, 4, 8, 16, 24)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=168, help="pixels along a side of a view")
    parser.add_argument("--one", type=int, nargs=2, metavar=("VIEWS", "CHECKPOINTING"), help="measure this alone")
    options = parser.parse_args()
    if options.one is not None:
        print(used(options.one[0], options.size, checkpointing=bool(options.one[1])))
        return
    print(f"tiny, {options.size} x {options.size} pixels, float32, MiB of one step")
    print("views   all kept   checkpointing   ratio")
    rows = []
    for views in VIEWS:
        kept, again = (measured(views, options.size, checkpointing) for checkpointing in (0, 1))
        print(f"{views:5} {kept:10.0f} {again:15.0f} {again / kept:7.2f}", flush=True)
        rows.append({"views": views, "mib": kept, "mib_checkpointing": again})
    print(json.dumps({"size": options.size, "rows": rows}))


def measured(views: int, size: int, checkpointing: int) -> float:
    command = [sys.executable, __file__, "--size", str(size), "--one", str(views), str(checkpointing)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def used(views: int, size: int, *, checkpointing: bool) -> float:
    """MiB that one step adds to the peak of this process; a step of two small views goes before, to load what it needs."""
    config = presets.tiny(resolution=size)
    model = G2VLM(config).train()
    freeze(model, "geometry")
    if checkpointing:
        model.recompute_activations()
    learner = Learner(model, Objective())
    source = RoomSource(Processor(byte_tokenizer(config.tokens), config.tokens), config.patch_size)
    small, whole = (
        source.sample(random.Random(0), bucket) for bucket in (Bucket(2, 56, 56), Bucket(views, size, size))
    )
    learner(Pack(0, "rooms", (small,)), Totals(1, 0)).total.backward()
    before = peak()
    learner(Pack(0, "rooms", (whole,)), Totals(1, 0)).total.backward()
    return peak() - before


def peak() -> float:
    """The largest resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
