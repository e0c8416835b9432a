"""What all engines share, and the engine of one process."""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from g2vlm.data.samples import Pack
from g2vlm.train.learner import Learner, PackLoss, Totals
from g2vlm.train.optim import Ema, parameter_groups
from g2vlm.train.parallel.launch import ALONE, Group
from g2vlm.train.recipe import EngineKind, EngineRecipe, OptimiserRecipe

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW remembers of each parameter, beside the number of steps."""

Named = Iterable[tuple[str, Tensor]]


@dataclass(frozen=True)
class State:
    """What a run needs to go on, whole and by name; in other processes than the first it may be empty.

    weights: every parameter and buffer of the model, frozen ones too. correspondence: the training-only heads. pathway: that of
    the model's host.
    moments: "exp_avg" and "exp_avg_sq" of AdamW by name of the parameter. taken: steps the optimiser has taken.
    ema: running mean of the weights; empty without one.
    """

    weights: dict[str, Tensor]
    correspondence: dict[str, Tensor]
    moments: dict[str, dict[str, Tensor]]
    taken: int
    ema: dict[str, Tensor]
    pathway: dict[str, Tensor]


@dataclass(frozen=True)
class Proof:
    """What was measured of an engine, not assumed: processes that answered, and into how many shards each number is cut."""

    processes: int
    weight_shards: int
    moment_shards: int
    learning: int
    frozen: int


class Engine:
    """Learns packs, steps, and gives its whole state by name; as it stands here, in one process.

    What several processes do in another way is a method of its own: `wrap`, `backward`, `clipped_norm`, `take`, `forget` for
    a step, `gathered` and `spread` for a state, `held` for the proof that all is shared out.
    """

    kind: EngineKind = "single"
    proof: Proof

    def __init__(self, learner: Learner, recipe: EngineRecipe, optimiser: OptimiserRecipe, group: Group):
        self.learner = learner.to(group.device)
        self.recipe, self.group, self.device = recipe, group, group.device
        self.rank, self.world = group.place.rank, group.place.world
        self.taken = 0
        self.check_start()
        self.module, self.optimiser = self.wrap(lambda: self.adamw(optimiser))
        self.ema = self.running_mean(optimiser)

    def adamw(self, recipe: OptimiserRecipe) -> AdamW:
        groups = parameter_groups(self.learner.named_parameters(), recipe)
        return AdamW(groups, betas=recipe.betas, eps=recipe.eps)

    def running_mean(self, recipe: OptimiserRecipe) -> Ema | None:
        return None if recipe.ema is None else Ema(self.learner.named_parameters(), recipe.ema)

    def check_start(self) -> None:
        """Refuse processes that do not start from the same weights."""

    def wrap(self, optimiser: Callable[[], AdamW]) -> tuple[nn.Module, Optimizer]:
        """What is called instead of the learner, and the optimiser of its parameters, which is made after wrapping."""
        return self.learner, optimiser()

    # --- a step -------------------------------------------------------------------------------------------------------

    def learn(self, pack: Pack, totals: Totals, *, is_last: bool) -> PackLoss:
        """Forward and backward of one pack; `is_last` of the step."""
        with self.precision():
            loss = self.module(pack, totals)
        self.backward(loss.total)
        return loss

    def precision(self) -> AbstractContextManager:
        """Matrix products in bfloat16 if the recipe says so; weights stay float32 for the optimiser."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")

    def backward(self, loss: Tensor) -> None:
        """Losses of packs are shares that add up, but processes average their gradients: hence the factor."""
        (loss * self.world).backward()

    def step(self, lr: float, clip: float, *, is_sound: bool) -> float:
        """Take a step and forget the gradients; returns their norm before clipping.

        A step whose loss is not sound, or whose norm is not finite, is not taken; the norm is then not finite.
        """
        norm = self.clipped_norm(clip) if is_sound else float("nan")
        if norm < float("inf"):
            for group in self.optimiser.param_groups:
                group["lr"] = lr * group["lr_factor"]
            self.take()
            self.taken += 1
            if self.ema is not None:
                self.ema.update()
        self.forget()
        return norm

    def clipped_norm(self, clip: float) -> float:
        """The norm of the gradients of all processes, before they are clipped."""
        parts = self.gradients()
        norm = math.sqrt(self.sum_of_parts(sum_of_squares(parts)))
        for part in parts:
            part.mul_(min(1.0, clip / (norm + 1e-6)))
        return norm

    def gradients(self) -> list[Tensor]:
        """What this process holds of the gradients."""
        return [x.grad for x in self.learning().values() if x.grad is not None]

    def sum_of_parts(self, value: float) -> float:
        """A sum over gradients, from the sums over what each process holds."""
        return value

    def take(self) -> None:
        self.optimiser.step()

    def forget(self) -> None:
        self.optimiser.zero_grad()

    def learning(self) -> dict[str, nn.Parameter]:
        """Parameters that learn, by the learner's names."""
        return {name: parameter for name, parameter in self.learner.named_parameters() if parameter.requires_grad}

    # --- all processes ------------------------------------------------------------------------------------------------

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value, summed over all processes."""
        return list(values)

    def in_first(self, action: Callable[[], object]) -> None:
        """Let the first process act while the others wait; where it fails, all stop."""
        action()

    def close(self) -> None:
        """Leave the other processes."""

    # --- state --------------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """Everything, gathered from wherever it lies; every process has to call this."""
        heads, host = self.learner.correspondence, self.learner.host
        return State(
            weights=self.gathered(self.learner.model.state_dict(keep_vars=True).items()),
            correspondence={} if heads is None else self.gathered(heads.state_dict(keep_vars=True).items()),
            moments={name: self.moment(name) for name in (MOMENTS if self.taken else ())},
            taken=self.taken,
            ema={} if self.ema is None else self.gathered(self.ema.mean.items()),
            pathway={} if host is None else self.gathered(host.pathway.state_dict(keep_vars=True).items()),
        )

    def load(self, state: State) -> None:
        """Go on from a state, whichever engine gave it; every process needs the whole of it."""
        heads, host = self.learner.correspondence, self.learner.host
        self.fill(self.learner.model, state.weights)
        if host is not None:
            self.fill(host.pathway, state.pathway)
        if heads is not None:
            self.fill(heads, state.correspondence)
        if self.ema is not None:
            self.ema.load({name: self.spread(x, like=self.ema.mean[name]) for name, x in state.ema.items()})
        self.taken = state.taken
        if state.taken:
            self.set_moments(state.moments)

    def fill(self, module: nn.Module, weights: dict[str, Tensor]) -> None:
        """Give a module whole weights, by the names of its state."""
        own = module.state_dict()
        module.load_state_dict({name: self.spread(x, like=own[name]) for name, x in weights.items()})

    def moment(self, moment: str) -> dict[str, Tensor]:
        """One of AdamW's moments of every parameter that learns."""
        return self.gathered((name, self.optimiser.state[x][moment]) for name, x in self.learning().items())

    def set_moments(self, moments: dict[str, dict[str, Tensor]]) -> None:
        for name, parameter in self.learning().items():
            own = {moment: self.spread(moments[moment][name], like=parameter).clone() for moment in MOMENTS}
            self.optimiser.state[parameter] = {"step": torch.tensor(float(self.taken)), **own}

    def gathered(self, tensors: Named) -> dict[str, Tensor]:
        """Whole tensors on the CPU of the first process, one after the other; nothing in the others."""
        return {name: x.detach().cpu() for name, x in tensors if self.rank == 0}

    def spread(self, whole: Tensor, *, like: Tensor) -> Tensor:
        """This process's part of a whole tensor."""
        return whole.to(like.device)

    # --- proof --------------------------------------------------------------------------------------------------------

    def sizes(self) -> tuple[int, int]:
        """Numbers in all parameters, and in those that learn."""
        return sum(map(_size, self.learner.parameters())), sum(map(_size, self.learning().values()))

    def held(self) -> tuple[int, int]:
        """How many of these numbers this process really holds, as weights and as each of AdamW's moments."""
        return self.sizes()

    def promised_shards(self) -> tuple[int, int]:
        """Into how many shards each weight, and each moment, has to be cut."""
        return 1, 1

    def prove(self) -> Proof:
        """Ask every process what it holds. Raises ValueError where that is not what the engine promises."""
        total, learning = self.sizes()
        answered, weights, moments = self.sum([1, *self.held()])
        measured = (round(answered), round(self.world * total / weights), round(self.world * learning / moments))
        if measured != (self.world, *self.promised_shards()):
            raise ValueError(
                f"{self.kind} on {self.world} processes does not hold what it should: {measured[0]} answered, weights are in "
                f"{measured[1]} and moments in {measured[2]} shards; start it anew with torchrun"
            )
        return Proof(*measured, learning=learning, frozen=total - learning)


def _size(parameter: nn.Parameter) -> int:
    return parameter.numel()


def sum_of_squares(parts: Sequence[Tensor]) -> float:
    """In float64, so that clipping is the same to the last bit however gradients are cut up."""
    norms = [torch.linalg.vector_norm(part, dtype=torch.float64) for part in parts]
    return torch.stack(norms).square().sum().item()


class SingleEngine(Engine):
    """One process by itself, without a launcher."""

    def __init__(self, learner: Learner, recipe: EngineRecipe, optimiser: OptimiserRecipe, device: torch.device):
        super().__init__(learner, recipe, optimiser, Group(ALONE, device, None))
