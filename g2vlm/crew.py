"""Processes that share work: started by torchrun or `accelerate launch`, they meet here, and each takes a part."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch

PATIENCE = timedelta(days=7)
"""How long processes wait for the slowest of them."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Crew:
    """This process among those that share the work."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """A run of neighbours, which often show the same pictures."""
        n = len(items)
        return items[self.rank * n // self.world : (self.rank + 1) * n // self.world]

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def join() -> Crew:
    """Meet the other processes that torchrun or `accelerate launch` started; alone without either.

    Raises ValueError where not all of them met: each would do all of the work.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Crew()
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    if state.num_processes != world:
        raise ValueError(
            f"WORLD_SIZE is {world}, but {state.num_processes} processes met; start with torchrun --nproc-per-node {world}"
        )
    return Crew(state.process_index, state.num_processes)
