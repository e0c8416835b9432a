"""What is in a file of questions: counts of good and bad rows by what is wrong, and a few to look at."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from g2vlm.data.media import check_media
from g2vlm.data.rows import BadRow
from g2vlm.data.vqa import QuestionFile, VqaRow

MOST_KINDS = 40


@dataclass
class Summary:
    """The rows of one file.

    bad, first_bad: how often each fault, and the first row that has it. missing: of rows that are well formed but cannot
    be trained on, what they lack.
    """

    path: Path
    format: str
    num_rows: int
    shown: list[VqaRow] = field(default_factory=list)
    media: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    first_bad: dict[str, str] = field(default_factory=dict)

    @property
    def num_bad(self) -> int:
        return self.bad.total()

    def tell(self, error: BadRow) -> None:
        self.bad[error.reason] += 1
        self.first_bad.setdefault(error.reason, str(error))

    def lines(self) -> Iterator[str]:
        yield f"{self.path}: {self.format}, {self.num_rows} rows, {self.num_rows - self.num_bad} good, {self.num_bad} bad"
        if self.media:
            yield f"  about: {counted(self.media)}"
        if set(self.kinds) - {""}:
            yield f"  kinds: {counted(self.kinds)}"
        for lack, count in self.missing.most_common():
            yield f"  {count} not for training: the file lacks {lack}"
        for reason, count in self.bad.most_common():
            yield f"  {count} bad: {reason}; first {self.first_bad[reason]}"
        for row in self.shown:
            yield from lines_of(row)


def counted(counts: Counter[str]) -> str:
    named = [f"{name or 'none given'} {count}" for name, count in counts.most_common(MOST_KINDS)]
    return ", ".join(named + (["..."] if len(counts) > MOST_KINDS else []))


def lines_of(row: VqaRow) -> Iterator[str]:
    """What a person wants to see of one row."""
    pictures = [p if isinstance(p, str) else f"{len(p)} bytes" for p in row.pictures]
    yield f"{row.name}: {', '.join(pictures) or row.video or 'no pictures'}"
    for exchange in row.turns:
        yield f"  asked:  {' '.join(exchange.question.split())}"
        yield f"  answer: {' '.join(exchange.answer.split())}"
    for marker in row.markers:
        where = " ".join(f"{side:g}" for side in marker.sides)
        yield f"  marker: {marker.colour} {marker.label} on picture {marker.picture} at {where} of 1000"


def summary_of(file: QuestionFile, media: Path | None, examples: int) -> Summary:
    """Reads every row. media: a folder in which the files that rows name are looked for, None looks for none."""
    found = Summary(file.path, file.format.name, len(file))
    for row in file.each_good(found.tell):
        if media is not None:
            try:
                check_media(row, media)
            except BadRow as error:
                found.tell(BadRow(error.reason, error.detail, place=row.name))
                continue
        found.kinds[row.kind] += 1
        if row.missing:
            found.missing[row.missing] += 1
        else:
            found.media["pictures" if row.pictures else "a video" if row.video else "words alone"] += 1
        if len(found.shown) < examples:
            found.shown.append(row)
    return found
