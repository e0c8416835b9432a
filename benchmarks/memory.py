"""Memory against the number of views, of a training step and of a reconstruction: `python benchmarks/memory.py [--predict]`.

A step: forward, geometric losses and backward of one procedural room, with and without gradient checkpointing. A reconstruction: what
`g2vlm predict --plan` says of it beside what it takes. Every point is measured in a process of its own: its peak of resident
memory, less what it held before. The last line is JSON.
"""

import argparse
import json
import random
import resource
import subprocess
import sys

import torch

from g2vlm import hub, presets
from g2vlm.data.samples import Bucket, Pack
from g2vlm.data.sources import RoomSource
from g2vlm.losses.objective import Objective
from g2vlm.memory import plan_of
from g2vlm.model import G2VLM
from g2vlm.pictures import Photo
from g2vlm.processor import Processor, byte_tokenizer
from g2vlm.train.freeze import freeze
from g2vlm.train.learner import Learner, Totals

VIEWS = (2, 4, 8, 16, 24)
PREDICTIONS = ((8, 168), (32, 168), (64, 168), (4, 518), (8, 518))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=168, help="pixels along a side of a view")
    parser.add_argument("--one", type=int, nargs=2, metavar=("VIEWS", "CHECKPOINTING"), help="measure this alone")
    parser.add_argument(
        "--predict", action="store_true", help="a reconstruction by the embedded model, planned and real"
    )
    options = parser.parse_args()
    if options.one is not None and options.predict:
        print(reconstructed(options.one[0], options.size))
        return
    if options.one is not None:
        print(used(options.one[0], options.size, checkpointing=bool(options.one[1])))
        return
    if options.predict:
        predictions()
        return
    print(f"tiny, {options.size} x {options.size} pixels, float32, MiB of one step")
    print("views   all kept   checkpointing   ratio")
    rows = []
    for views in VIEWS:
        kept, again = (measured(views, options.size, checkpointing) for checkpointing in (0, 1))
        print(f"{views:5} {kept:10.0f} {again:15.0f} {again / kept:7.2f}", flush=True)
        rows.append({"views": views, "mib": kept, "mib_checkpointing": again})
    print(json.dumps({"size": options.size, "rows": rows}))


def predictions() -> None:
    config = hub.read_checkpoint().config
    print("embedded model, float32, MiB of one reconstruction beside the weights")
    print("views   pixels   planned     real   ratio")
    rows = []
    for views, size in PREDICTIONS:
        plan = plan_of(config, (size, size), views, size, torch.device("cpu"), torch.float32, keeps_all=False)
        planned, real = (plan.on_device - plan.weights) / 2**20, measured(views, size, 0, "--predict")
        print(f"{views:5} {size:8} {planned:9.0f} {real:8.0f} {planned / real:7.2f}", flush=True)
        rows.append({"views": views, "size": size, "planned_mib": planned, "real_mib": real})
    print(json.dumps({"rows": rows}))


def reconstructed(views: int, size: int) -> float:
    """MiB that a reconstruction adds to the peak of this process; a small one goes before, to load what it needs."""
    predictor = hub.load(device="cpu", dtype="float32")
    noise = torch.randint(0, 256, (views, size, size, 3), dtype=torch.uint8).numpy()
    photos = [Photo(str(i), picture) for i, picture in enumerate(noise)]
    predictor.reconstruct(photos[:1], resolution=56)
    before = peak()
    predictor.reconstruct(photos, resolution=size)
    return peak() - before


def measured(views: int, size: int, checkpointing: int, *more: str) -> float:
    command = [sys.executable, __file__, *more, "--size", str(size), "--one", str(views), str(checkpointing)]
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
