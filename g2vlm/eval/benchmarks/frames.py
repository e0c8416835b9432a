"""Which frames of a sequence a benchmark looks at: rules that know nothing but the sequence, and lists that keep a
choice.

A list is a JSON object from sequence to the numbers of its frames, counted from 0 in the order of the reader; null
leaves the choice to the benchmark's rule. Lists that are known in advance are shipped in `frame_lists/`; a
`frames.json` in the folder of a data set takes their place.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from g2vlm.atomic import write_whole

FrameList = Mapping[str, Sequence[int] | None]

STORED = "frames.json"


@dataclass(frozen=True)
class Selection:
    """rule: in words, for reports. pick: numbers of frames, from the sequence's full name and the names of its
    frames."""

    rule: str
    pick: Callable[[str, Sequence[str]], list[int]]


def all_frames() -> Selection:
    return Selection("every frame", lambda sequence, frames: list(range(len(frames))))


def every(step: int, count: int | None = None) -> Selection:
    """Every `step`-th frame from the first on; at most `count` of them."""
    rule = f"every frame whose number is a multiple of {step}" + (
        "" if count is None else f", the first {count} of them"
    )
    return Selection(rule, lambda sequence, frames: list(range(0, len(frames), step))[:count])


def drawn(count: int) -> Selection:
    """`count` frames by lot, in the order in which they are drawn; sequences with fewer are left out.

    Frames are ranked by SHA-256 of "SEQUENCE/FRAME", so that the lot of one sequence depends on no other sequence, on
    no order on disk and on no version of a random generator.
    """

    def pick(sequence: str, frames: Sequence[str]) -> list[int]:
        lots = [hashlib.sha256(f"{sequence}/{frame}".encode()).digest() for frame in frames]
        return sorted(range(len(frames)), key=lots.__getitem__)[:count] if len(frames) >= count else []

    return Selection(f"{count} frames with the lowest SHA-256 of sequence/frame, in that order", pick)


def shipped(name: str) -> FrameList:
    """A list of `frame_lists/`."""
    return json.loads((files("g2vlm.eval.benchmarks") / "frame_lists" / f"{name}.json").read_text())


def read_list(file: Path) -> FrameList:
    """A stored list; ValueError where it is none."""
    try:
        stored = json.loads(file.read_text())
        is_list = isinstance(stored, dict) and all(_are_numbers(numbers) for numbers in stored.values())
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: is no list of frames ({error}); store it again, or delete it") from error
    if not is_list or not stored:
        raise ValueError(f"{file}: is no object from sequences to numbers of frames; store it again, or delete it")
    return stored


def write_list(file: Path, frames: FrameList) -> None:
    """One sequence a line."""
    lines = (f" {json.dumps(name)}: {json.dumps(numbers)}" for name, numbers in frames.items())
    write_whole(file, "{\n" + ",\n".join(lines) + "\n}\n")


def fingerprint(frames: FrameList) -> str:
    """SHA-256 of a list, whatever the order of its sequences."""
    return hashlib.sha256(json.dumps(frames, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _are_numbers(numbers: object) -> bool:
    return numbers is None or (
        isinstance(numbers, list) and all(type(number) is int and number >= 0 for number in numbers)
    )
