"""What of a benchmark a training set holds already: questions word for word, questions but for their writing, pictures and scenes."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from g2vlm.data.vqa import PLACES, QuestionFile, VqaRow
from g2vlm.eval.benchmarks.base import Item, QuestionItem
from g2vlm.eval.shortcuts import normalised
from g2vlm.pictures import SUFFIXES

SCENE = re.compile(r"(?=.*\d).{4,}")
"""A folder or video whose name is of a scene: names of data sets and of what lies in a folder hold no number, or are short."""


@dataclass(frozen=True)
class Overlap:
    """Ids of a benchmark's items by what of them is in the training set; num_items, num_rows: of both. bad: rows that were not read."""

    num_items: int
    num_rows: int
    bad: tuple[str, ...]
    ids: Mapping[str, tuple[str, ...]]


def overlap(items: Sequence[Item], training: Path) -> Overlap:
    """Compare with a file of questions (JSON lines, a JSON list or parquet, in any format that training reads).

    words: the question alone, letter for letter. normalised: without case, punctuation and numbers. media: a picture or video of the same
    name below the same folder. scene: a folder or video of the same name, if it holds a number, as ids do. A question counts if any that is asked in training is it,
    or, where the prompt of the benchmark puts more around its question, is a part of it.
    """
    bad: list[str] = []
    seen: dict[str, set[str]] = defaultdict(set)
    rows = QuestionFile(training)
    for row in rows.each_good(lambda error: bad.append(str(error))):
        for name, found in _of_row(row):
            seen[name].add(found)
    ids = {name: tuple(item.id for item in items if find(item) & seen[name]) for name, find in FINDERS.items()}
    return Overlap(len(items), len(rows), tuple(bad), ids)


def _of_row(row: VqaRow) -> Iterator[tuple[str, str]]:
    for turn in row.turns:
        question = PLACES.sub("", turn.question).strip()
        for text in _pieces(question):
            yield "words", text
            yield "normalised", normalised(text)
    paths = [PurePosixPath(name) for name in (*row.pictures, row.video) if isinstance(name, str) and name]
    for path in paths:
        yield "media", media_name(path)
        for scene in scene_names(path):
            yield "scene", scene


def _pieces(prompt: str) -> set[str]:
    """A prompt, and each of its lines that asks something: benchmarks and training sets put different sentences around a question."""
    return {prompt.strip(), *(line.strip() for line in prompt.splitlines() if line.strip().endswith("?"))}


def _questions(item: Item) -> set[str]:
    texts = _pieces(item.prompt) if isinstance(item, QuestionItem) else set()
    asked = item.row.get("question")
    return texts | (_pieces(asked) if isinstance(asked, str) else set())


def media_name(path: PurePosixPath | Path) -> str:
    """The last two parts, without the end of the name: frames of different scenes are called alike."""
    return "/".join((*path.parts[-2:-1], path.stem))


def scene_names(path: PurePosixPath | Path) -> set[str]:
    """Of folders that a picture lies in, and of a video."""
    is_picture = path.suffix.lower() in SUFFIXES
    names = {part.casefold() for part in (*path.parts[:-1], *(() if is_picture else (path.stem,)))}
    return {name for name in names if SCENE.fullmatch(name)}


def _scenes(item: Item) -> set[str]:
    named = item.row.get("scene_name", item.row.get("scene_id"))
    return {str(named).casefold()} if named is not None else {name for path in item.media for name in scene_names(path)}


FINDERS: Mapping[str, Callable[[Item], set[str]]] = {
    "words": _questions,
    "normalised": lambda item: {normalised(text) for text in _questions(item)} - {""},
    "media": lambda item: {media_name(path) for path in item.media},
    "scene": _scenes,
}
"""By what is compared: all that an item has of it."""
