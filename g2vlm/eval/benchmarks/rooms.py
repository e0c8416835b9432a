"""Questions about held-out procedural rooms as a benchmark: it needs no data, and its answers follow from what is in the rooms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from g2vlm.eval.answers import choice_of, number_of
from g2vlm.eval.benchmarks.asking import Reply, graded, ids_by, kind_of, mean_figure, reply_of, with_metric
from g2vlm.eval.benchmarks.base import CORRECTED, Figure, Item, Outcome, QuestionItem, Rule
from g2vlm.eval.questions import LONGEST_ANSWER, entries_of, held_out, score_of
from g2vlm.pictures import Photo

COUNT, VIEWS, SIZE = 480, 4, 168
"""Questions, photos of each room, and pixels along their sides."""


@dataclass(frozen=True)
class RoomItem(QuestionItem):
    """A question about photos that are rendered, and lie in no file: `media` are their names."""

    photos: tuple[Photo, ...] = field(default=(), repr=False)

    def seen(self, max_frames: int) -> Sequence[Photo]:
        return self.photos

    def missing(self) -> str | None:
        return None


@dataclass(frozen=True)
class RoomQuestions:
    """See `eval.questions.held_out`; a benchmark, see `base.Benchmark`."""

    count: int = COUNT
    size: int = SIZE

    name = "rooms"
    title = "Spatial questions about held-out procedural rooms"
    reference = "g2vlm.data.questions"
    licence = "made by this package"
    layout = "No data: rooms are rendered, the same ones every time."
    ids = "the room's seed and the kind of question, as in the log of any run"
    rules: Mapping[str, Rule] = field(
        default_factory=lambda: {CORRECTED: Rule(CORRECTED, "g2vlm.eval.questions.evaluate")}, init=False
    )
    parser_version = 1

    def items(self, data: Path) -> Sequence[RoomItem]:
        return [
            RoomItem(
                id=f"{quiz.seed}/{question.kind}",
                kind=question.kind,
                media=tuple(Path(f"room_{quiz.seed}") / photo.name for photo in quiz.photos),
                row={"question": question.text, "answer": question.answer, "options": question.options},
                prompt=question.text,
                max_new_tokens=LONGEST_ANSWER,
                marks=question.marks,
                boxes=question.boxes,
                between=question.between,
                photos=quiz.photos,
            )
            for quiz in held_out(self.count, num_views=VIEWS, size=self.size)
            for question in quiz.questions
        ]

    def score(self, item: Item, output: str | Reply, rule: str = CORRECTED) -> Outcome:
        answer, options, text = item.row["answer"], item.row["options"], reply_of(output).text
        if text is None:
            return Outcome(item.kind, "failed", {"score": 0.0}, note="the prediction is null and no text")
        number = number_of(text)
        said = choice_of(text, options) if options else None if number is None else f"{number:g}"
        return graded(item, said, score_of(text, answer, options))

    def figures(self, items: Sequence[Item], outcomes: Mapping[str, Outcome], rule: str = CORRECTED) -> list[Figure]:
        """In percent. overall: the mean over kinds, the directions together as one of them."""
        by_kind = ids_by(with_metric([item for item in items if item.id in outcomes], outcomes), kind_of)
        entries = {
            "overall": [[by_kind[kind] for kind in entry] for entry in entries_of(by_kind)],
            "micro": [[[id for ids in by_kind.values() for id in ids]]],
            "macro": [[ids] for ids in by_kind.values()],
            **{f"groups/{kind}": [[ids]] for kind, ids in by_kind.items()},
        }
        return [mean_figure(name, outcomes, each, scale=100.0) for name, each in entries.items()]


ROOMS = RoomQuestions()
