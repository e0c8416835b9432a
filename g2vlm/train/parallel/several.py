"""Engines of several processes: DDP, where each holds everything, and FSDP2, where each holds a part."""

import gc
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.export import register_dataclass
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW, Optimizer

from g2vlm.data.samples import Pack
from g2vlm.mot import Tokens
from g2vlm.train.learner import PackLoss, Totals
from g2vlm.train.parallel.engine import Engine, Named

register_dataclass(PackLoss)  # FSDP2 looks for tensors in what a module returns by way of pytrees


class Several(Engine):
    """What engines of several processes share."""

    def check_start(self) -> None:
        own = sum(float(x.detach().sum(dtype=torch.float64)) for x in self.learner.parameters())
        (first,) = self.sum([own if self.rank == 0 else 0.0])
        (differing,) = self.sum([float(own != first)])
        if differing:
            raise ValueError(
                f"{round(differing)} of {self.world} processes start from other weights than the first; "
                "give all the same seed, weights and version of g2vlm"
            )

    def sum(self, values: Sequence[float]) -> list[float]:
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def in_first(self, action: Callable[[], object]) -> None:
        is_done = False
        try:
            if self.rank == 0:
                action()
            is_done = True
        finally:
            (done,) = self.sum([float(is_done)])
        if done < self.world:
            raise ValueError("the first process has stopped; its own line says why")

    def close(self) -> None:
        """The wrapper goes first: DDP's would hang now and then if it were the last to hold the group (torch 2.13, gloo)."""
        self.module = self.learner
        gc.collect()
        if dist.is_initialized():
            dist.destroy_process_group()


class DdpEngine(Several):
    """Every process holds all; gradients are averaged while the backward of a step's last pack still runs."""

    kind = "ddp"

    def wrap(self, optimiser: Callable[[], AdamW]) -> tuple[nn.Module, Optimizer]:
        devices = [self.device] if self.device.type == "cuda" else None
        wrapped = DistributedDataParallel(self.learner, device_ids=devices, gradient_as_bucket_view=True)
        return wrapped, optimiser()

    def learn(self, pack: Pack, totals: Totals, *, is_last: bool) -> PackLoss:
        assert isinstance(self.module, DistributedDataParallel)
        with nullcontext() if is_last else self.module.no_sync():
            return super().learn(pack, totals, is_last=is_last)


class Fsdp2Engine(Several):
    """Every process holds a part of each parameter, of its gradient and of its moments.

    Decoder layers run exactly once in every forward, so each gathers its own weights when it is its turn. Encoders and heads run
    once, often or not at all, which may differ between processes; they gather theirs at the start of a forward, all together.
    """

    kind = "fsdp2"

    def wrap(self, optimiser: Callable[[], AdamW]) -> tuple[nn.Module, Optimizer]:
        shards, _ = self.promised_shards()
        names = ("copies", "shards")
        mesh = init_device_mesh(self.device.type, (self.world // shards, shards), mesh_dim_names=names)
        is_cuda = self.device.type == "cuda"
        offload = CPUOffloadPolicy(pin_memory=is_cuda) if self.recipe.cpu_offload else OffloadPolicy()
        half = torch.bfloat16 if self.recipe.precision == "bf16" else None
        in_layers = MixedPrecisionPolicy(
            param_dtype=half, reduce_dtype=half and torch.float32, cast_forward_inputs=False
        )
        mesh = mesh if shards < self.world else mesh["shards"]
        layers = self.learner.model.decoder.layers
        for layer in layers:
            fully_shard(layer, mesh=mesh, mp_policy=in_layers, offload_policy=offload)
        fully_shard(self.learner, mesh=mesh, offload_policy=offload)
        layers[0].register_forward_pre_hook(_with_gradients, prepend=True)
        return self.learner, optimiser()

    def gradients(self) -> list[Tensor]:
        return [x.to_local() for x in super().gradients() if isinstance(x, DTensor)]

    def sum_of_parts(self, value: float) -> float:
        shards, _ = self.promised_shards()
        (total,) = self.sum([value])
        return total * shards / self.world

    def gathered(self, tensors: Named) -> dict[str, Tensor]:
        whole = {}
        for name, x in tensors:
            full = x.full_tensor() if isinstance(x, DTensor) else x
            if self.rank == 0:
                whole[name] = full.detach().cpu()
        return whole

    def spread(self, whole: Tensor, *, like: Tensor) -> Tensor:
        if not isinstance(like, DTensor):
            return super().spread(whole, like=like)
        part = distribute_tensor(whole.to(self.device), like.device_mesh, like.placements, src_data_rank=None)
        return part.to(like.device)

    def held(self) -> tuple[int, int]:
        parts = {name: x.to_local().numel() for name, x in self.learner.named_parameters() if isinstance(x, DTensor)}
        return sum(parts.values()), sum(parts[name] for name in self.learning())

    def promised_shards(self) -> tuple[int, int]:
        shards = self.recipe.shard_group or self.world
        return shards, shards


def _with_gradients(_layer: nn.Module, inputs: tuple) -> tuple:
    """Let gradients reach the inputs of the first layer even where nothing before it learns from this pack.

    A layer adds up its gradients over processes when they leave it; one that they never leave does so later than in a
    process whose pack has views, and the two would wait for each other forever.
    """
    x, *others = inputs
    return Tokens(*(part if part.requires_grad else part.detach().requires_grad_() for part in x)), *others
