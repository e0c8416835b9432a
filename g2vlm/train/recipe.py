"""What a training run is: every number that decides it, in one frozen record that is saved with each checkpoint."""

from dataclasses import dataclass, replace
from typing import Literal

from g2vlm.losses.objective import LossWeights

Size = tuple[int, int]


@dataclass(frozen=True)
class Recipe:
    """A stage-one run on procedural rooms.

    preset: the model that is built. steps: optimiser steps; each sees `scenes` rooms of `views` views.
    sizes: (height, width) in pixels, one drawn for each step.
    schedule: "cosine" to `min_lr`, or "trapezoid": constant, then linear to `min_lr` over the last `cooldown` of the steps.
    frozen: parts of the names of parameters that do not learn.
    pixel_fraction: part of the pixels that enters the losses of a step.
    correspondence_layers: decoder layers whose geometric tokens must also find their matches in other views; the heads
    for it are not part of the model. correspondence_weight: of that loss, averaged over the layers.
    """

    name: str
    preset: str = "tiny"
    steps: int = 20_000
    scenes: int = 8
    views: int = 4
    sizes: tuple[Size, ...] = ((112, 112), (84, 112), (112, 84))
    lr: float = 1e-3
    min_lr: float = 1e-6
    warmup: int = 300
    schedule: Literal["cosine", "trapezoid"] = "trapezoid"
    cooldown: float = 0.3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    clip: float = 1.0
    mixed_precision: Literal["no", "bf16"] = "bf16"
    frozen: tuple[str, ...] = ("vision.", "embed_tokens.", ".semantic.")
    weights: LossWeights = LossWeights.RELEASED_CODE
    pixel_fraction: float = 0.25
    correspondence_layers: tuple[int, ...] = ()
    correspondence_weight: float = 0.1
    seed: int = 0
    log_every: int = 20
    save_every: int = 250

    def __post_init__(self) -> None:
        for field in ("steps", "scenes", "views", "log_every", "save_every"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, but is {getattr(self, field)}")
        if not 0 <= self.cooldown <= 1:
            raise ValueError(f"cooldown is a part of the steps in [0, 1], but is {self.cooldown}")


TINY_STAGE1 = Recipe(
    "tiny_stage1",
    weights=LossWeights(camera=0.5, translation=40.0, normal_head=0.1),
    correspondence_layers=(0, 2),
)
"""The recipe of the embedded weights; docs/models/tiny.md holds the commands, the log and the result."""

TINY_STAGE1_CAMERAS = replace(
    TINY_STAGE1, name="tiny_stage1_cameras", weights=LossWeights(camera=1.0, translation=60.0, normal_head=0.1)
)
"""Its continuation once depth is learnt: cameras count more."""

RECIPES = {recipe.name: recipe for recipe in (TINY_STAGE1, TINY_STAGE1_CAMERAS)}
