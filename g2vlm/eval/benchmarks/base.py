"""What every benchmark is, so that one runner, one log and one report serve them all.

A benchmark reads items from a folder, turns a model's output on one item into an outcome, and outcomes into figures. All of it is
done under a rule that has a name: `corrected` is the default, and `public` rules do what a public harness does, bugs and all, so that
published numbers can be compared with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from g2vlm.data.media import check_media, photos_of
from g2vlm.data.rows import BadRow
from g2vlm.data.vqa import VqaRow
from g2vlm.pictures import SUFFIXES, Photo
from g2vlm.records import Box, Mark

Status = Literal["scored", "unparsed", "skipped", "failed"]
"""scored: an answer was read and compared. unparsed: none could be read from the reply; it is wrong, and counted. skipped: the rule leaves
the item out of its denominators. failed: the rule cannot score it (a public scorer would crash here), or the output is unusable."""

CORRECTED = "corrected"

TRUTHS = ("ground_truth", "gt_answer", "gt", "answer", "answers", "gt_option")
"""Names under which truth is published, the first that a row has."""


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

    @property
    def published_answer(self) -> Any:
        """What was published as the right answer; None where it is no part of the row, as in geometry."""
        return next((self.row[name] for name in TRUTHS if name in self.row), None)

    def seen(self, max_frames: int) -> Sequence[Photo]:
        """Its pictures, or at most so many frames of its video, evenly spaced; BadRow names what cannot be read."""
        return photos_of(self._about_media(), Path(), max_frames)

    def under(self, rule: "Rule") -> "Item":
        """The item as it has to be shown where a rule says how."""
        return self

    @property
    def is_sized(self) -> bool:
        """Whether `seen` gives pictures at the very size at which a model has to work."""
        return False

    def missing(self) -> str | None:
        """What of its media is not there; nothing is decoded. A question about no pictures at all would be answered blind."""
        if not self.media:
            return "its row names no picture and no video"
        try:
            check_media(self._about_media(), Path())
        except BadRow as error:
            return str(error)
        return None

    def _about_media(self) -> VqaRow:
        if len(self.media) == 1 and self.media[0].suffix.lower() not in SUFFIXES:
            return VqaRow(self.id, (), video=str(self.media[0]))
        return VqaRow(self.id, (), pictures=tuple(map(str, self.media)))


@dataclass(frozen=True)
class QuestionItem(Item):
    """An item that is answered in words.

    prompt: all that the user's turn says behind its media; system: the system line, if any. marks, boxes: what the prompt speaks of by
    name, where the pictures do not show them yet; whoever answers says them before the prompt and draws them on the pictures. between: the
    two views whose motion it is about, for whoever measures first.
    """

    prompt: str = ""
    max_new_tokens: int = 16
    system: str | None = None
    marks: Sequence[Mark] = ()
    boxes: Sequence[Box] = ()
    between: tuple[int, int] | None = None


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
    where it is not such a mean. note: why there is no number; the value is NaN then, and never 0. is_costly: takes too long to be
    computed hundreds of times on resampled items; it has no interval then.
    """

    name: str
    value: float
    count: int
    metric: str = "score"
    scale: float = 1.0
    entries: Sequence[Sequence[Sequence[str]]] | None = field(default=None, repr=False)
    note: str | None = None
    is_costly: bool = False


@dataclass(frozen=True)
class Rule:
    """How outputs are scored. source: the public code that it repeats (repository, commit, function), or what it corrects."""

    name: str
    source: str


Output_contra = TypeVar("Output_contra", contravariant=True)


class Benchmark(Protocol[Output_contra]):
    """name: as on the command line. title, reference, licence: for people. layout: how to lay out the files, as text for `--help` and errors.

    ids: how the id of an item follows from the data, for those who record outputs.

    rules: by name; `corrected` is among them and is the default. parser_version: raised by hand whenever a rule changes what it returns.
    """

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def reference(self) -> str: ...
    @property
    def licence(self) -> str: ...
    @property
    def layout(self) -> str: ...
    @property
    def ids(self) -> str: ...
    @property
    def rules(self) -> Mapping[str, Rule]: ...
    @property
    def parser_version(self) -> int: ...

    def items(self, data: Path) -> Sequence[Item]:
        """All items, in a fixed order. ValueError names a missing file or column, a duplicate id, or an empty set, and the cure."""
        ...

    def score(self, item: Item, output: Output_contra, rule: str = CORRECTED) -> Outcome:
        """What one output is worth; never raises for what a model says or predicts."""
        ...

    def figures(self, items: Sequence[Item], outcomes: Mapping[str, Outcome], rule: str = CORRECTED) -> list[Figure]:
        """All numbers over the outcomes that there are, by id; "overall" comes first."""
        ...


@runtime_checkable
class ListsFrames(Protocol):
    """A benchmark that shows frames of its own choice."""

    def frame_list(self, items: Sequence[Any]) -> Mapping[str, Sequence[int] | None]:
        """Numbers of the frames that its items show, by sequence."""
        ...
