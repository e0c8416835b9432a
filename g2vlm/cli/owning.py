"""Folders of results that one run at a time writes into."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from g2vlm.crew import Crew


@contextlib.contextmanager
def owning(out: Path, crew: "Crew") -> Iterator[None]:
    """The first of a crew holds the folder for all."""
    from g2vlm.atomic import sole_owner

    if out.is_file():
        raise ValueError(f"{out} is a file; name a folder to write to")
    with sole_owner(out) if crew.is_first else contextlib.nullcontext():
        yield
