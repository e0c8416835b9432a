"""A benchmark of a few lines, and systems that answer it: what runs, reports and the command line are tested on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from g2vlm.data.rows import JsonRows
from g2vlm.eval.answers import number_of
from g2vlm.eval.benchmarks.asking import graded, means
from g2vlm.eval.benchmarks.base import CORRECTED, Figure, Item, Outcome, QuestionItem, Rule
from g2vlm.eval.protocol import About

COLUMNS = ("id", "kind", "question", "answer", "picture")


@dataclass(frozen=True)
class Sums:
    """Sums, below pictures that do not matter."""

    name: str = "sums"
    title: str = "Sums"
    reference: str = "invented"
    licence: str = "none"
    layout: str = "DATA/questions.jsonl, DATA/pictures/*.png"
    rules: Mapping[str, Rule] = field(
        default_factory=lambda: {
            CORRECTED: Rule(CORRECTED, "the number"),
            "public": Rule("public", "everybody is right"),
        }
    )
    parser_version: int = 3

    def items(self, data: Path) -> list[QuestionItem]:
        file = data / "questions.jsonl"
        if not file.is_file():
            raise ValueError(f"{data}: holds no questions.jsonl; wanted is\n{self.layout}")
        rows = JsonRows(file)
        found: dict[str, QuestionItem] = {}
        for row in (rows[i] for i in range(len(rows))):
            if absent := [name for name in COLUMNS if name not in row]:
                raise ValueError(f"{file}: has no column {absent[0]}, but {', '.join(row)}; download it again")
            if row["id"] in found:
                raise ValueError(f"{file}: id {row['id']} is there twice; keep one of the two rows")
            media = (data / row["picture"],)
            found[row["id"]] = QuestionItem(row["id"], row["kind"], media, row, row["question"])
        if not found:
            raise ValueError(f"{file}: no question; wanted is\n{self.layout}")
        return [*found.values()]

    def score(self, item: Item, output: str, rule: str = CORRECTED) -> Outcome:
        said = number_of(output)
        right = rule == "public" or said == float(item.row["answer"])
        return graded(item, None if said is None else f"{said:g}", right)

    def figures(self, items: Sequence[Item], outcomes: Mapping[str, Outcome], rule: str = CORRECTED) -> list[Figure]:
        return means([item for item in items if item.id in outcomes], outcomes, scale=100.0)


SUMS = Sums()


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
