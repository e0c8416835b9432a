"""The optimiser and the learning rate of a recipe."""

import math
from collections.abc import Iterable, Sequence

from torch import nn
from torch.optim import AdamW, Optimizer

from g2vlm.train.recipe import Recipe


def freeze(model: nn.Module, parts: Iterable[str]) -> None:
    """Stop every parameter whose name contains one of `parts` from learning; a part that matches nothing raises."""
    for part in parts:
        matches = [parameter for name, parameter in model.named_parameters() if part in name]
        if not matches:
            raise ValueError(f"frozen part {part!r} matches no parameter; names look like {_example_names(model)}")
        for parameter in matches:
            parameter.requires_grad_(False)


def optimizer_of(learning: Sequence[nn.Parameter], recipe: Recipe) -> AdamW:
    """AdamW over the learning parameters, each in exactly one group: matrices decay, vectors do not."""
    groups = [
        {"params": [p for p in learning if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in learning if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=recipe.lr, betas=recipe.betas)


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate of one step (counted from 0): linear warm-up, then the recipe's schedule down to `min_lr`."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    if recipe.schedule == "cosine":
        progress = (step - recipe.warmup) / (recipe.steps - recipe.warmup)
        return recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 + math.cos(math.pi * progress)) / 2
    left = (recipe.steps - step) / max(1.0, recipe.cooldown * recipe.steps)
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * min(1.0, left)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def _example_names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()][:: max(1, len(list(model.parameters())) // 4)]
