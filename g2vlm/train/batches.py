"""Batches of procedural rooms: a function of the step alone, so that a resumed run sees what an unbroken one would."""

import random
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from g2vlm.data.scenes import TRAIN_SEEDS, rooms
from g2vlm.records import Views
from g2vlm.train.recipe import Recipe


class RoomBatches(IterableDataset):
    """Endless batches from one step on; process `rank` of `world` takes its own rooms of each step."""

    def __init__(self, recipe: Recipe, first_step: int, rank: int = 0, world: int = 1):
        self.recipe, self.first_step, self.rank, self.world = recipe, first_step, rank, world

    def __iter__(self) -> Iterator[Views]:
        torch.set_num_threads(1)
        step = self.first_step
        while True:
            yield room_batch(self.recipe, step, self.rank, self.world)
            step += 1


def room_batches(recipe: Recipe, first_step: int, rank: int = 0, world: int = 1) -> Iterator[Views]:
    """The batches from `first_step` on, rendered ahead by one other process."""
    data = RoomBatches(recipe, first_step, rank, world)
    return iter(DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=4))


def room_batch(recipe: Recipe, step: int, rank: int = 0, world: int = 1) -> Views:
    """The rooms of one step, with photometric augmentation."""
    draw = random.Random(f"{recipe.seed} {step}")
    height, width = draw.choice(recipe.sizes)
    first = TRAIN_SEEDS.start + (step * world + rank) * recipe.scenes + recipe.seed * 10_000_000
    seeds = range(first, first + recipe.scenes)
    if seeds.stop > TRAIN_SEEDS.stop:
        raise ValueError(f"seed {recipe.seed} and step {step} leave the training rooms; use a seed below 10")
    views = rooms(seeds, num_views=recipe.views, height=height, width=width).views
    generator = torch.Generator().manual_seed(draw.getrandbits(60))
    return replace(views, images=photometric(views.images, generator))


def photometric(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random gamma, gain per channel, contrast and sensor noise, the same for all views of a scene; stays in [0, 1].

    images [scenes, views, 3, height, width].
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    scenes = len(images)
    gamma = uniform(0.7, 1.4, scenes, 1, 1, 1, 1)
    gain = uniform(0.8, 1.2, scenes, 1, 1, 1, 1) * uniform(0.92, 1.08, scenes, 1, 3, 1, 1)
    noise = uniform(0.0, 0.02, scenes, 1, 1, 1, 1) * torch.randn(images.shape, generator=generator)
    return (gain * images.clamp_min(1e-4) ** gamma + noise).clamp(0, 1)
