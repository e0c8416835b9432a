"""Sequences of a data set that lie in folders of their own."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from g2vlm.data.readers.listing import natural
from g2vlm.data.recon import Scene
from g2vlm.eval.benchmarks.frames import STORED

NAMED = 3
"""Missing things that a message names; it counts the others."""


def each_sequence(root: Path, names: Sequence[str] | None, read: Callable[[Path, str], Scene]) -> Iterator[Scene]:
    """`read(folder, name)` of each sequence, a folder at root / name; None asks for every folder in `root`, in
    natural order.

    ValueError names what is missing, before anything is read.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: there is no such folder; give the folder of the data set")
    if names is None:
        names = [folder.name for folder in sorted(root.iterdir(), key=natural) if folder.is_dir()]
    check_none_missing(root, "sequences", [name for name in names if not (root / name).is_dir()], len(names))
    return (read(root / name, name) for name in names)


def check_none_missing(root: Path, what: str, missing: Sequence[str], count: int) -> None:
    """ValueError that counts and names what is missing."""
    if missing:
        named = ", ".join(missing[:NAMED]) + (", ..." if len(missing) > NAMED else "")
        raise ValueError(
            f"{root}: {len(missing)} of {count} {what} are missing ({named}); unpack all of the data set, "
            f"or list the sequences that you have in {STORED}"
        )
