"""What is usual in rooms, and whoever answers by that alone: how much of a score needs neither pictures nor other answers.

The table is `typical.toml`, which says where its numbers come from.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

from g2vlm.eval.benchmarks.base import QuestionItem
from g2vlm.eval.protocol import About, Absent

UNITS = {"meter": 100.0, "metre": 100.0, "centimeter": 1.0, "centimetre": 1.0, "cm": 1.0, "feet": 30.48, "inch": 2.54}
"""Of lengths in questions, in centimetres."""

OPTIONS = ("options", "option", "choices")
"""Columns of what there is to choose from, which is no number that could be looked up."""

METRES = 100.0
"""The unit of a distance, and centimetres that of a size, where a question names none."""


@dataclass(frozen=True)
class Thing:
    """Longest side in centimetres; how many there are in a room that has any."""

    longest_cm: float
    count: int


@dataclass(frozen=True)
class Typical:
    """Things by their name in lower case; distance between two of them, floor of a room. sha256: of the file."""

    source: str
    distance_cm: float
    room_m2: float
    things: Mapping[str, Thing]
    sha256: str

    def named_in(self, text: str) -> dict[str, Thing]:
        """Things of which a text speaks, in one or in several, in its order; of "trash bin" and "bin" the longer."""
        names = "|".join(sorted(map(re.escape, self.things), key=len, reverse=True))
        found = re.findall(rf"\b({names})(?:s|es|\(s\))?(?!\w)", text.casefold())
        return {name: self.things[name] for name in found}


@cache
def typical() -> Typical:
    """All of `typical.toml`."""
    content = (files("g2vlm.eval") / "typical.toml").read_bytes()
    read = tomllib.loads(content.decode())
    things = {name: Thing(**thing) for name, thing in read.pop("things").items()}
    return Typical(**read, things=things, sha256=sha256(content).hexdigest())


class SizePrior:
    """Looks up how large, how many and how far apart things usually are; it knows nothing else, and says so by Absent.

    A size is that of the first thing that the question names, whatever side is asked for; a distance is the same between any two.
    """

    def __init__(self) -> None:
        self.about = About("size-prior", "typical sizes", typical().sha256)

    def answer(self, item: QuestionItem) -> str:
        question = question_of(item).casefold()
        is_choice = any(item.row.get(name) for name in OPTIONS)
        look_up = next((find for words, find in LOOKED_UP.items() if re.search(words, question)), None)
        if is_choice or look_up is None or (value := look_up(question)) is None:
            raise Absent("no question about the size, number or distance of things with a typical size")
        return f"{value:.3g}"


def question_of(item: QuestionItem) -> str:
    """Its words alone where they are published alone."""
    return str(item.row.get("question", item.prompt))


def told_sizes(question: str) -> str:
    """A sentence for each thing that a question names, to stand before it; nothing where it names none."""
    named = typical().named_in(question).items()
    sentences = [f"The longest side of a typical {name} is about {thing.longest_cm:g} cm." for name, thing in named]
    return "".join(f"{sentence}\n" for sentence in sentences)


def _count(question: str) -> float | None:
    return next((thing.count for thing in typical().named_in(question).values()), None)


def _room(question: str) -> float | None:
    return typical().room_m2


def _distance(question: str) -> float | None:
    return typical().distance_cm / _unit(question, METRES)


def _size(question: str) -> float | None:
    return next((thing.longest_cm / _unit(question, 1.0) for thing in typical().named_in(question).values()), None)


def _unit(question: str, usual: float) -> float:
    return next((cm for word, cm in UNITS.items() if re.search(rf"\b{word}", question)), usual)


LOOKED_UP: dict[str, Callable[[str], float | None]] = {
    r"how many": _count,
    r"size of (this|the) room": _room,
    r"what is the (\w+ )?distance|how far": _distance,
    r"longest|how (long|tall|high|wide|large|big)\b|what is the (size|length|height|width) ": _size,
}
"""By words of a question in lower case, the first that match: the answer, None where none is known."""
