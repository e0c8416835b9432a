"""A progress bar over named steps, on stderr and only where a person looks, and the time that each step took."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

T = TypeVar("T")


@dataclass(frozen=True)
class Steps:
    """`with progress(3) as steps: with steps.step("loading"): ...`; `seconds` adds up the steps of each name."""

    bar: Progress
    task: TaskID
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self.bar.update(self.task, description=name)
        started = perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - started
        self.bar.advance(self.task)

    def each(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """The items; what is done with each of them is one step of this name."""
        for item in items:
            with self.step(name):
                yield item


@contextmanager
def progress(count: int | None, *, is_shown: bool = True) -> Iterator[Steps]:
    """A bar that ends after `count` steps (None: nobody knows how many), and is gone once they are done.

    is_shown: False where one of many works is measured, which share a bar.
    """
    columns = TextColumn("{task.description:<20}"), BarColumn(), TimeElapsedColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not (is_shown and sys.stderr.isatty())) as bar:
        yield Steps(bar, bar.add_task("", total=count))
