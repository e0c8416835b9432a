"""What every benchmark is, so that one runner, one log and one report serve them all.

A benchmark reads items from a folder, turns a model's output on one item into an outcome, and outcomes into figures. All of it is
done under a rule that has a name: `corrected` is the default, and `public` rules do what a public harness does, bugs and all, so that
published numbers can be compared with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

Status = Literal["scored", "unparsed", "skipped", "failed"]
"""scored: an answer was read and compared. unparsed: none could be read from the reply; it is wrong, and counted. skipped: the rule leaves
the item out of its denominators. failed: the rule cannot score it (a public scorer would crash here), or the output is unusable."""

CORRECTED = "corrected"


@dataclass(frozen=True)
class Item:
    """What a model is asked at once.

    id: unique in its benchmark. kind: question type, category or data set that figures are grouped by. media: pictures in order, or one
    video. row: what was published about it, under the published names; truth is read from there by the rule.
    """

    id: str
    kind: str
    media: tuple[Path, ...]
    row: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class QuestionItem(Item):
    """An item that is answered in words. prompt: all that the user's turn says behind its media; system: the system line, if any."""

    prompt: str = ""
    max_new_tokens: int = 16
    system: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What an output is worth.

    scores: values by metric; a question has one, "score", in [0, 1]. extracted: what was read from a reply. note: why it is unparsed,
    skipped or failed.
    """

    kind: str
    status: Status
    scores: Mapping[str, float]
    extracted: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Figure:
    """One number of a report.

    name: "overall", "micro", "groups/around"; value: in the scale that is usual for it (a public rule keeps its harness's).
    count: outcomes that went into it. entries: where the figure is a mean over entries of the mean over kinds of the mean over items of
    `metric`, times `scale`: ids of its items as [entries][kinds][items], from which intervals and paired differences are taken; None
    where it is not such a mean. note: why there is no number; the value is NaN then, and never 0.
    """

    name: str
    value: float
    count: int
    metric: str = "score"
    scale: float = 1.0
    entries: Sequence[Sequence[Sequence[str]]] | None = field(default=None, repr=False)
    note: str | None = None


@dataclass(frozen=True)
class Rule:
    """How outputs are scored. source: the public code that it repeats (repository, commit, function), or what it corrects."""

    name: str
    source: str


Output_contra = TypeVar("Output_contra", contravariant=True)


class Benchmark(Protocol[Output_contra]):
    """name: as on the command line. title, reference, licence: for people. layout: how to lay out the files, as text for `--help` and errors.

    rules: by name; `corrected` is among them and is the default. parser_version: raised by hand whenever a rule changes what it returns.
    """

    name: str
    title: str
    reference: str
    licence: str
    layout: str
    rules: Mapping[str, Rule]
    parser_version: int

    def items(self, data: Path) -> Sequence[Item]:
        """All items, in a fixed order. ValueError names a missing file or column, a duplicate id, or an empty set, and the cure."""
        ...

    def score(self, item: Item, output: Output_contra, rule: str = CORRECTED) -> Outcome:
        """What one output is worth; never raises for what a model says or predicts."""
        ...

    def figures(self, items: Sequence[Item], outcomes: Mapping[str, Outcome], rule: str = CORRECTED) -> list[Figure]:
        """All numbers over the outcomes that there are, by id; "overall" comes first."""
        ...
