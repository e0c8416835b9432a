"""A benchmark of a few lines, and systems that answer it: what runs, reports and the command line are tested on."""

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from g2vlm.eval.answers import number_of
from g2vlm.eval.benchmarks.asking import QuestionBenchmark, QuestionRule, Reply, Row, field_of, graded, means
from g2vlm.eval.benchmarks.base import Outcome, QuestionItem
from g2vlm.eval.protocol import About


def item_of(row: Row, data: Path, index: int) -> QuestionItem:
    for column in ("id", "kind", "question", "answer", "picture"):
        field_of(row, column)
    return QuestionItem(row["id"], row["kind"], (data / row["picture"],), row, row["question"])


def score(item: QuestionItem, reply: Reply) -> Outcome:
    said = number_of(reply.text or "")
    return graded(item, None if said is None else f"{said:g}", said == float(item.row["answer"]))


def generous(item: QuestionItem, reply: Reply) -> Outcome:
    return graded(item, reply.text, True)


PERCENT = partial(means, scale=100.0)

SUMS = QuestionBenchmark(
    name="sums",
    title="Sums, below pictures that do not matter",
    reference="invented",
    licence="none",
    layout="DATA/questions.jsonl, DATA/pictures/*.png",
    files=("questions.jsonl",),
    item_of=item_of,
    rules={
        "corrected": QuestionRule("corrected", "the number", score=score, figures=PERCENT),
        "public": QuestionRule("public", "everybody is right", score=generous, figures=PERCENT),
    },
    parser_version=3,
)


def write_sums(folder: Path, count: int = 12, **changes: object) -> Path:
    """A data folder; changes: of the columns of the first row, None leaves one out."""
    (folder / "pictures").mkdir(parents=True)
    rows = []
    for i in range(count):
        Image.fromarray(np.full((32, 32, 3), 20 * i, dtype=np.uint8)).save(folder / "pictures" / f"{i}.png")
        asked = {"question": f"What is {i} + {i % 3}?", "answer": str(i + i % 3), "picture": f"pictures/{i}.png"}
        rows.append({"id": f"sum_{i}", "kind": "even" if i % 2 == 0 else "odd"} | asked)
    if rows:
        rows[0] = {name: value for name, value in (rows[0] | changes).items() if value is not None}
    (folder / "questions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


RECKONER = About("invented", "reckoner", "0" * 64, {"skill": 1})


@dataclass
class Reckoner:
    """Adds up, but gets every fifth sum wrong, and says something unreadable to every seventh; `kill_at`: dies before that answer."""

    kill_at: int | None = None
    asked: list[str] = field(default_factory=list)
    about: About = RECKONER

    def answer(self, item: QuestionItem) -> str:
        if len(self.asked) == self.kill_at:
            raise KeyboardInterrupt
        self.asked.append(item.id)
        number = int(item.id.removeprefix("sum_"))
        if number % 7 == 6:
            return "Höchst ungewiß"
        return str(int(item.row["answer"]) + (number % 5 == 4))
