"""DeepSpeed's ZeRO: stage 2 cuts gradients and moments into shards, stage 3 the weights as well."""

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW, Optimizer

from g2vlm.data.samples import Pack
from g2vlm.train.learner import Learner, PackLoss, Totals
from g2vlm.train.optim import Ema
from g2vlm.train.parallel.engine import MOMENTS, Named, State
from g2vlm.train.parallel.several import Several
from g2vlm.train.recipe import EngineKind, OptimiserRecipe


class Zero2Engine(Several):
    """Every process holds all weights, and a part of the gradients and moments.

    Gradients stay where they arise until the last pack of a step, and are then added up in one fixed order: ZeRO's own order
    is that of their arrival, which differs between a process with views and one without.
    """

    kind: EngineKind = "zero2"
    stage = 2
    module: Any  # DeepSpeed's engine and optimiser show no types
    optimiser: Any

    def wrap(self, optimiser: Callable[[], AdamW]) -> tuple[nn.Module, Optimizer]:
        deepspeed = _deepspeed()
        os.environ.setdefault("LOCAL_RANK", str(self.device.index or 0))  # srun sets none, and DeepSpeed insists
        self.window, self.is_new_step = ExitStack(), True
        module, wrapped, _, _ = deepspeed.initialize(
            model=_InPrecision(self.learner, self.precision),
            optimizer=optimiser(),
            config=self.config(),
            dist_init_required=False,
        )
        self.clips = self.stage == 2 and not self.recipe.cpu_offload
        if self.clips:  # by the same arithmetic as other engines; otherwise DeepSpeed does so in its own way
            wrapped.scaled_global_norm = lambda: torch.tensor(self.clipped_norm(self.clip), device=self.device)
        return module, wrapped

    def gradients(self) -> list[Tensor]:
        return [part for parts in self.optimiser.averaged_gradients.values() for part in parts]

    def sum_of_parts(self, value: float) -> float:
        return self.sum([value])[0]

    def config(self) -> dict[str, Any]:
        """DeepSpeed's configuration: nothing compiled, no scheduler; every step says how it is clipped."""
        offload = {"offload_optimizer": {"device": "cpu"}} if self.recipe.cpu_offload else {}
        return {
            "train_micro_batch_size_per_gpu": 1,
            "steps_per_print": 2**60,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "zero_optimization": {"stage": self.stage, "overlap_comm": False, **offload},
        }

    def learn(self, pack: Pack, totals: Totals, *, is_last: bool) -> PackLoss:
        if self.is_new_step:
            self.window.enter_context(self.module.coalesce_grad_reduction())
            self.is_new_step = False
        loss = self.module(pack, totals)
        self.module.backward(loss.total * self.world, scale_wrt_gas=False)
        return loss

    def step(self, lr: float, clip: float, *, is_sound: bool) -> float:
        if not is_sound:  # ZeRO drops a step with such a gradient, and clears everything that it keeps of it
            next(x.grad for x in self.learning().values() if x.grad is not None).fill_(float("nan"))
        self.window.close()
        self.is_new_step = True
        for group in self.optimiser.param_groups:
            group["lr"] = lr * group["lr_factor"]
        self.clip, self.optimiser.clip_grad = clip, 0.0 if self.clips else clip
        self.module.step()
        norm = float(self.module.get_global_grad_norm())
        if norm < float("inf"):
            self.taken += 1
            if self.ema is not None:
                self.ema.update()
            return norm
        return float("nan")

    def load(self, state: State) -> None:
        super().load(state)
        self.optimiser.refresh_fp32_params()

    def moment(self, moment: str) -> dict[str, Tensor]:
        from deepspeed.utils import safe_get_full_optimizer_state

        whole = {}
        for name, parameter in self.learning().items():
            x: Any = safe_get_full_optimizer_state(parameter, moment)
            if self.rank == 0:
                whole[name] = x.cpu()
        return whole

    def set_moments(self, moments: dict[str, dict[str, Tensor]]) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state

        self.start_moments()
        for name, parameter in self.learning().items():
            for moment in MOMENTS:
                safe_set_full_optimizer_state(parameter, moments[moment][name].to(self.device), moment)

    def start_moments(self) -> None:
        """Give AdamW the state that it would make for itself in its first step."""
        for part in self.optimiser.single_partition_of_fp32_groups:
            empty = {moment: torch.zeros_like(part) for moment in MOMENTS}
            self.optimiser.optimizer.state[part] = {"step": torch.tensor(float(self.taken)), **empty}
        self.optimiser._lazy_init_hp_params_optimizer_state()

    def held(self) -> tuple[int, int]:
        total, _ = self.sizes()
        return total, sum(part.numel() for part in self.optimiser.single_partition_of_fp32_groups)

    def promised_shards(self) -> tuple[int, int]:
        return 1, self.world

    def close(self) -> None:
        self.module.destroy()  # otherwise about one process in four dies when it ends
        super().close()


class Zero3Engine(Zero2Engine):
    """Every process holds a part of everything: of weights, gradients and moments.

    Decoder layers run exactly once in every forward, so their weights are gathered when it is their turn, and never ahead of it.
    Encoders and heads run once, often or not at all, which may differ between processes; their weights stay gathered.
    """

    kind: EngineKind = "zero3"
    stage = 3

    def wrap(self, optimiser: Callable[[], AdamW]) -> tuple[nn.Module, Optimizer]:
        module, wrapped = super().wrap(optimiser)
        layers = self.learner.model.decoder.layers
        in_layers = set(layers.parameters())
        self.staying: list[Any] = [x for x in self.learner.parameters() if x not in in_layers]
        for parameter in self.staying:
            parameter.ds_persist = True
        vars(wrapped)["persistent_parameters"][:] = self.staying
        for other in set(self.learner.modules()) - set(
            layers.modules()
        ):  # ZeRO wants the same row of modules everywhere
            other._forward_pre_hooks.clear()
            other._forward_hooks.clear()
        self.gather_staying()
        return module, wrapped

    def config(self) -> dict[str, Any]:
        config = super().config()
        config["zero_optimization"] |= {"stage3_param_persistence_threshold": 0, "stage3_prefetch_bucket_size": 0}
        return config

    def running_mean(self, recipe: OptimiserRecipe) -> Ema | None:
        if recipe.ema is not None:
            raise ValueError(
                f"optimiser.ema is {recipe.ema}, which zero3 cannot keep; set it to null, or take fsdp2 or zero2"
            )
        return None

    def gather_staying(self) -> None:
        self.staying[0].all_gather(self.staying)

    def step(self, lr: float, clip: float, *, is_sound: bool) -> float:
        norm = super().step(lr, clip, is_sound=is_sound)
        if not norm < float("inf"):
            self.gather_staying()  # ZeRO does so itself only after a step that was taken
        return norm

    def gathered(self, tensors: Named) -> dict[str, Tensor]:
        from deepspeed.runtime.zero import GatheredParameters

        whole = {}
        for name, x in tensors:
            with GatheredParameters([x]) if hasattr(x, "ds_id") else nullcontext():
                whole |= {name: x.clone() for name, x in super().gathered([(name, x)]).items()}
        self.gather_staying()
        return whole

    def fill(self, module: nn.Module, weights: dict[str, Tensor]) -> None:
        from deepspeed.runtime.zero import GatheredParameters

        own = module.state_dict(keep_vars=True)
        assert own.keys() == weights.keys()
        for name, x in own.items():
            with GatheredParameters([x], modifier_rank=0) if hasattr(x, "ds_id") else nullcontext(), torch.no_grad():
                if self.rank == 0:
                    x.copy_(weights[name])
        self.gather_staying()

    def set_moments(self, moments: dict[str, dict[str, Tensor]]) -> None:
        from deepspeed.utils import safe_set_local_optimizer_state

        self.start_moments()
        for name, parameter in self.learning().items():
            size = parameter.ds_tensor.numel()
            for moment in MOMENTS:
                flat = moments[moment][name].flatten().to(self.device)
                parts = functional.pad(flat, (0, size * self.world - flat.numel())).split(size)
                safe_set_local_optimizer_state(parameter, parts[self.rank], moment)

    def start_moments(self) -> None:
        for part in self.optimiser.fp32_partitioned_groups_flat:
            empty = {moment: torch.zeros_like(part) for moment in MOMENTS}
            self.optimiser.optimizer.state[part] = {"step": torch.tensor(float(self.taken)), **empty}

    def learning(self) -> dict[str, Any]:
        return dict(super().learning())

    def sizes(self) -> tuple[int, int]:
        everything: list[Any] = list(self.learner.parameters())
        return sum(x.ds_numel for x in everything), sum(x.ds_numel for x in self.learning().values())

    def held(self) -> tuple[int, int]:
        everything: list[Any] = list(self.learner.parameters())
        weights = sum(x.ds_tensor.numel() for x in everything)
        return weights, sum(part.numel() for part in self.optimiser.fp32_partitioned_groups_flat)

    def promised_shards(self) -> tuple[int, int]:
        return self.world, self.world


class _InPrecision(nn.Module):
    """The learner in the engine's precision: DeepSpeed switches off an autocast that it finds around itself."""

    def __init__(self, learner: Learner, precision: Callable):
        super().__init__()
        self.learner, self.precision = learner, precision

    def forward(self, pack: Pack, totals: Totals) -> PackLoss:
        with self.precision():
            return self.learner(pack, totals)


def _deepspeed() -> ModuleType:
    try:
        import deepspeed
        import deepspeed.ops
    except ImportError as error:
        raise ValueError(
            "engines zero2 and zero3 need the package deepspeed: pip install 'g2vlm[deepspeed]'"
        ) from error
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # compiled on first use; gloo serves as well
    return deepspeed
