"""The optimiser and the learning rate of a recipe."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from g2vlm.train.recipe import OptimiserRecipe

Named = Iterable[tuple[str, nn.Parameter]]


def parameter_groups(named: Named, recipe: OptimiserRecipe) -> list[dict]:
    """Learning parameters by learning-rate factor and weight decay (matrices decay, vectors do not), each in one group.

    Groups hold "params", "lr_factor" and "weight_decay". A part in `lr_factors` that names no learning parameter raises;
    where several match a name, the longest counts.
    """
    learning = {name: parameter for name, parameter in named if parameter.requires_grad}
    for part in recipe.lr_factors:
        if not any(part in name for name in learning):
            raise ValueError(
                f"lr_factors names {part!r}, which no learning parameter has in its name; correct or drop it"
            )
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in learning.items():
        decay = recipe.weight_decay if parameter.ndim >= 2 else 0.0
        groups.setdefault((lr_factor(name, recipe.lr_factors), decay), []).append(parameter)
    grouped = [id(parameter) for parameters in groups.values() for parameter in parameters]
    assert sorted(grouped) == sorted(map(id, learning.values())), "a parameter is in no group, or in two"
    return [
        {"params": parameters, "lr_factor": factor, "weight_decay": decay, "lr": recipe.lr * factor}
        for (factor, decay), parameters in groups.items()
    ]


def lr_factor(name: str, factors: Mapping[str, float]) -> float:
    """The factor of the longest part that a parameter's name contains; 1 where none matches."""
    matches = [part for part in factors if part in name]
    return factors[max(matches, key=len)] if matches else 1.0


def learning_rate(recipe: OptimiserRecipe, step: int, steps: int) -> float:
    """The rate of one step (counted from 0) of `steps`: linear warm-up, then the recipe's schedule down to `min_lr`."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    if recipe.schedule == "cosine":
        progress = (step - recipe.warmup) / max(1, steps - recipe.warmup)
        return recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 + math.cos(math.pi * progress)) / 2
    left = (steps - step) / max(1.0, recipe.cooldown * steps)
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * min(1.0, left)


class Ema:
    """A running mean of weights, kept in float32 where the weights lie (shards stay shards)."""

    def __init__(self, named: Named, decay: float):
        self.decay = decay
        self.weights = {name: parameter for name, parameter in named if parameter.requires_grad}
        self.mean = {name: weight.detach().float().clone() for name, weight in self.weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after a step."""
        for name, mean in self.mean.items():
            mean.lerp_(self.weights[name].to(mean.dtype), 1 - self.decay)

    @torch.no_grad()
    def load(self, mean: Mapping[str, Tensor]) -> None:
        """Go on from a saved mean; its names must be exactly those of the learning weights."""
        if mean.keys() != self.mean.keys():
            raise ValueError(f"the running mean has {len(mean)} names, the learning weights {len(self.mean)} others")
        for name, saved in mean.items():
            self.mean[name].copy_(saved)
