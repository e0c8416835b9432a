"""Seconds of one loss and its gradient at the shape of a training step: `python benchmarks/losses.py`."""

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch

from g2vlm.losses.objective import LossWeights, Objective, Prediction
from g2vlm.losses.text import text_loss
from g2vlm.records import Views


def step(scenes: int, views: int, size: int) -> tuple[Prediction, Views]:
    """Random depth and cameras of the right shape; the cost does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(scenes, views, *shape, generator=generator)

    def poses() -> torch.Tensor:
        return torch.eye(4).repeat(scenes, views, 1, 1) + torch.nn.functional.pad(noise(3, 1), (3, 0, 0, 1))

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


def milliseconds(action: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times[2:])[repeats // 2]


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
    for fraction in (1.0, 0.25, 0.1):
        objective = Objective(LossWeights.RELEASED_CODE, pixel_fraction=fraction)
        cost = milliseconds(partial(gradient, objective, prediction, truth), options.repeats)
        print(f"objective, pixel_fraction {fraction:4}: {cost:6.0f} ms forward and backward")

    hidden, head = torch.randn(2048, 512, requires_grad=True), torch.randn(32768, 512, requires_grad=True)
    labels = torch.randint(32768, (2048,))
    whole = milliseconds(lambda: torch.nn.functional.cross_entropy(hidden @ head.T, labels).backward(), 3)
    chunked = milliseconds(lambda: text_loss(hidden, head, labels, chunk=256).backward(), 3)
    print(f"2048 tokens x 32768 words: {whole:.0f} ms with all logits at once, {chunked:.0f} ms in chunks of 256")


if __name__ == "__main__":
    main()
