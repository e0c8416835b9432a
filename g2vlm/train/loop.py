"""The training loop: draw the packs of a step, add up their losses, step, tell the hooks."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from g2vlm.data.samples import Pack, to_device
from g2vlm.train.learner import PARTS, Learner, PackLoss, Totals
from g2vlm.train.optim import learning_rate
from g2vlm.train.parallel import Engine
from g2vlm.train.recipe import TEXTUAL, Recipe


@dataclass(frozen=True)
class Progress:
    """What a hook gets after a step (`step` counts finished ones); the same numbers in every process.

    parts: each loss before weighing, the mean over all samples of the step. tokens: of all packs.
    gradient_norm: before clipping; not finite when the step was not taken. seconds: of the whole step, `waited` of them
    for data. drawn, bad, excluded: samples of the step, those of them that could not be used, and those left out for their loss.
    skipped: what was wrong with each bad or excluded sample that this process met.
    """

    step: int
    total: float
    parts: dict[str, float]
    gradient_norm: float
    lr: float
    tokens: int
    seconds: float
    waited: float
    drawn: int = 0
    bad: int = 0
    excluded: int = 0
    skipped: tuple[str, ...] = ()
    was_taken: bool = True


Hook = Callable[[Progress], None]


def train(
    engine: Engine, packs: Iterator[Pack], recipe: Recipe, *, first_step: int = 0, hooks: Sequence[Hook] = ()
) -> None:
    """Train from `first_step` to the recipe's last; `packs` gives this process its own, in order.

    Raises ValueError after `guard.max_skipped` steps in a row that could not be taken, naming their samples.
    """
    share = recipe.data.packs_per_step // engine.world
    untaken: list[str] = []
    for step in range(first_step, recipe.steps):
        started = time.perf_counter()
        batch = [to_device(next(packs), engine.device) for _ in range(share)]
        waited = time.perf_counter() - started
        columns = zip(*(_counts(pack, engine.learner) for pack in batch), strict=True)
        scenes, answers, matchable, tokens, drawn, bad = engine.sum([sum(column) for column in columns])
        totals = Totals(scenes=scenes, answers=answers, matchable=matchable)
        losses = [engine.learn(pack, totals, is_last=pack is batch[-1]) for pack in batch]
        total, parts, num_excluded = summed(losses, engine)
        has_answers = recipe.strategy in TEXTUAL and answers > 0
        is_sound = math.isfinite(total) and (has_answers or num_excluded == 0 or num_excluded < scenes)
        lr = learning_rate(recipe.optimiser, step, recipe.steps)
        norm = engine.step(lr, recipe.optimiser.clip, is_sound=is_sound)
        skipped = (*(text for pack in batch for text in pack.skipped), *excluded_samples(batch, losses))
        was_taken = math.isfinite(norm)
        progress = Progress(
            step=step + 1,
            total=total,
            parts=parts,
            gradient_norm=norm,
            lr=lr,
            tokens=int(tokens),
            seconds=time.perf_counter() - started,
            waited=waited,
            drawn=int(drawn),
            bad=int(bad),
            excluded=int(num_excluded),
            skipped=skipped,
            was_taken=was_taken,
        )
        for hook in hooks:
            hook(progress)
        untaken = [] if was_taken else [*untaken, f"step {step + 1}: {', '.join(skipped) or 'gradient not finite'}"]
        if len(untaken) >= recipe.guard.max_skipped:
            raise ValueError(
                f"{len(untaken)} steps in a row had no usable loss; look at their samples: {'; '.join(untaken)}"
            )


def _counts(pack: Pack, learner: Learner) -> tuple[float, ...]:
    bad, answers = len(pack.skipped), pack.answer_weight(learner.answer_weighting)
    matchable = pack.num_matchable(learner.matching.tokens)
    return tuple(map(float, (pack.num_scenes, answers, matchable, pack.num_tokens, len(pack.samples) + bad, bad)))


def summed(losses: Sequence[PackLoss], engine: Engine) -> tuple[float, dict[str, float], float]:
    """The total, each loss that any process has, and the number of excluded samples, over all packs of all processes."""
    absent = torch.zeros((), device=engine.device)
    rows = [torch.stack([loss.total.detach(), *(loss.parts.get(name, absent) for name in PARTS)]) for loss in losses]
    values = torch.stack(rows).sum(0).tolist()
    is_present = [float(any(name in loss.parts for loss in losses)) for name in PARTS]
    num_excluded = float(sum(len(loss.excluded) for loss in losses))
    total, num_excluded, *sums = engine.sum([values[0], num_excluded, *values[1:], *is_present])
    parts, counts = sums[: len(PARTS)], sums[len(PARTS) :]
    return total, {name: part for name, part, count in zip(PARTS, parts, counts, strict=True) if count}, num_excluded


def excluded_samples(packs: Sequence[Pack], losses: Sequence[PackLoss]) -> list[str]:
    """A line for each sample whose loss was left out or not finite."""
    return [
        f"{pack.source} {pack.samples[index].name}: loss too large or not finite (pack {pack.position})"
        for pack, loss in zip(packs, losses, strict=True)
        for index in loss.excluded
    ]
