"""Seconds of one loss and its gradient at the shape of a training step: `python benchmarks/losses.py`."""

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F

from g2vlm.losses.objective import LossWeights, Objective, Prediction
from g2vlm.losses.text import text_loss
from g2vlm.records import Views


def step(scenes: int, views: int, size: int) -> tuple[Prediction, Views]:
    """Random depth and cameras of the right shape; the cost does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(scenes, views, *shape, generator=generator)

    def poses() -> torch.Tensor:
        return torch.eye(4).repeat(scenes, views, 1, 1) + F.pad(noise(3, 1), (3, 0, 0, 1))

    intrinsics = torch.tensor([[size, 0.0, size / 2], [0.0, size, size / 2], [0.0, 0.0, 1.0]])
    truth = Views(
        images=noise(3, size, size),
        intrinsics=intrinsics.expand(scenes, views, 3, 3),
        poses=poses(),
        depth=2 + noise(size, size).sigmoid(),
        mask=noise(size, size) > -1,
        normals=noise(size, size, 3),
    )
    heads = [noise(size, size, 3), poses(), noise(size, size, 3), noise(size, size), noise(size, size, 3)]
    return Prediction(*(head.requires_grad_() for head in heads)), truth


def gradient(objective: Objective, prediction: Prediction, truth: Views) -> None:
    objective(prediction, truth).total.backward()


def cost(action: Callable[[], object], repeats: int) -> str:
    """Median time by the clock, and of all threads together (which a busy machine distorts less)."""
    walls, processors = [], []
    for _ in range(repeats + 2):
        wall, processor = time.perf_counter(), time.process_time()
        action()
        walls.append(1000 * (time.perf_counter() - wall))
        processors.append(1000 * (time.process_time() - processor))
    return f"{median(walls[2:]):6.0f} ms ({median(processors[2:]):.0f} ms of processor time)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    prediction, truth = step(options.scenes, options.views, options.size)
    print(f"{options.scenes} scenes x {options.views} views x {options.size}^2 pixels, {options.threads} threads")
    print("forward and backward:")
    for fraction in (1.0, 0.25, 0.1):
        objective = Objective(LossWeights.RELEASED_CODE, pixel_fraction=fraction)
        time_used = cost(partial(gradient, objective, prediction, truth), options.repeats)
        print(f"objective, pixel_fraction {fraction:4}: {time_used}")

    hidden, head = torch.randn(1024, 256, requires_grad=True), torch.randn(16384, 256, requires_grad=True)
    labels = torch.randint(16384, (1024,))
    print("cross-entropy of 1024 tokens over 16384 words")
    print("  all logits at once:", cost(lambda: F.cross_entropy(hidden @ head.T, labels).backward(), 3))
    print("  in chunks of 256:  ", cost(lambda: text_loss(hidden, head, labels, chunk=256).backward(), 3))


if __name__ == "__main__":
    main()
