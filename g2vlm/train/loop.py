"""The training loop: one step after the other, on accelerate, with hooks that log, save and evaluate."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Optimizer

from g2vlm.heads.correspondence import CorrespondenceHeads
from g2vlm.losses.correspondence import correspondence_loss, patch_matches
from g2vlm.losses.objective import LossReport, Objective, Prediction
from g2vlm.model import G2VLM, G2VLMOutput
from g2vlm.processor import Processor
from g2vlm.records import Geometry, Views
from g2vlm.train.optim import learning_rate, set_lr
from g2vlm.train.recipe import Recipe


@dataclass(frozen=True)
class Progress:
    """What a hook gets after a step (`step` counts finished ones)."""

    step: int
    report: LossReport
    gradient_norm: float
    lr: float
    seconds: float


Hook = Callable[[Progress], None]


class Learner(NamedTuple):
    """What learns: the model, and heads that are dropped after training (None without correspondence supervision)."""

    model: G2VLM
    correspondence: CorrespondenceHeads | None = None

    def parameters(self) -> list[torch.nn.Parameter]:
        parts = [part for part in self if part is not None]
        return [p for part in parts for p in part.parameters() if p.requires_grad]


def train(
    learner: Learner,
    processor: Processor,
    batches: Iterator[Views],
    optimizer: Optimizer,
    recipe: Recipe,
    accelerator: Accelerator,
    *,
    first_step: int = 0,
    hooks: Sequence[Hook] = (),
) -> None:
    """Stage one: point, camera and normal losses on the geometric expert, from `first_step` to the recipe's last.

    A step whose gradient is not finite is skipped and logged with a norm of inf or nan.
    """
    objective = Objective(recipe.weights, recipe.pixel_fraction)
    learner.model.train()
    for step in range(first_step, recipe.steps):
        started = time.perf_counter()
        lr = learning_rate(recipe, step)
        set_lr(optimizer, lr)
        truth = to_device(next(batches), accelerator.device)
        generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + step)
        with accelerator.autocast():
            output = read(learner.model, processor, truth, with_layers=learner.correspondence is not None)
            assert output.geometry is not None
            report = objective(stacked(output.geometry, len(truth.images)), truth, generator=generator)
            report = with_correspondence(report, learner, output, truth, recipe.correspondence_weight)
        accelerator.backward(report.total)
        norm = torch.nn.utils.clip_grad_norm_(learner.parameters(), recipe.clip).item()
        if norm < float("inf"):
            optimizer.step()
        optimizer.zero_grad()
        progress = Progress(step + 1, report, norm, lr, time.perf_counter() - started)
        for hook in hooks:
            hook(progress)


def read(model: torch.nn.Module, processor: Processor, truth: Views, *, with_layers: bool = False) -> G2VLMOutput:
    """What the model says about scenes whose views all have one size; every scene is one sample of the batch."""
    scenes, views = truth.images.shape[:2]
    images = list(truth.images.flatten(0, 1))
    grid = _unwrapped(model).grid(images[0])
    ids = processor.reconstruction_ids([grid] * views).expand(scenes, -1).to(truth.images.device)
    return model(
        ids,
        views=images,
        logits_to_keep=None,
        read_geometry=True,
        read_global_points=True,
        output_hidden_states=with_layers,
    )


def with_correspondence(
    report: LossReport, learner: Learner, output: G2VLMOutput, truth: Views, weight: float
) -> LossReport:
    """The report with the correspondence loss added to it, where the learner has heads for it."""
    heads = learner.correspondence
    if heads is None:
        return report
    assert output.layout is not None
    assert output.hidden_states is not None
    scenes, views = truth.images.shape[:2]
    embeddings = heads(output.hidden_states, output.layout.is_geometric.view(scenes, -1))
    matches = patch_matches(*_full_truth(truth), _unwrapped(learner.model).config.patch_size)
    losses = [correspondence_loss(layer.unflatten(0, (scenes, views, -1)), matches) for layer in embeddings]
    loss = torch.stack(losses).mean()
    return LossReport(report.total + weight * loss, report.parts | {"correspondence": loss.detach()})


def _full_truth(truth: Views) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if truth.depth is None or truth.mask is None or truth.intrinsics is None or truth.poses is None:
        raise ValueError(
            "correspondence supervision needs depth, mask, intrinsics and poses; set correspondence_layers=()"
        )
    return truth.depth, truth.mask, truth.intrinsics, truth.poses


def stacked(geometry: Geometry, scenes: int) -> Prediction:
    """The maps of equally sized views as tensors with axes scenes and views."""

    def stack(maps: tuple[Tensor, ...]) -> Tensor:
        return torch.stack(maps).unflatten(0, (scenes, -1))

    optional = {name: getattr(geometry, name) for name in ("global_points", "confidence", "normals")}
    return Prediction(
        local_points=stack(geometry.local_points),
        poses=geometry.poses.unflatten(0, (scenes, -1)),
        **{name: stack(maps) for name, maps in optional.items() if maps is not None},
    )


def to_device(views: Views, device: torch.device) -> Views:
    return replace(views, **{name: x.to(device) for name, x in vars(views).items() if x is not None})


def _unwrapped(model: torch.nn.Module) -> G2VLM:
    """The model inside a wrapper of a distributed engine."""
    return model if isinstance(model, G2VLM) else _unwrapped(model.get_submodule("module"))
