"""All-Angles Bench: questions over several cameras around people; three options each."""

from collections.abc import Mapping
from pathlib import Path

from g2vlm.eval.benchmarks.asking import (
    QuestionBenchmark,
    QuestionRule,
    Reply,
    Row,
    choosing,
    field_of,
    graded,
    lettered,
    means,
    named,
)
from g2vlm.eval.benchmarks.base import CORRECTED, Item, Outcome, QuestionItem
from g2vlm.eval.benchmarks.pictures import pictures_of
from g2vlm.eval.public_answers import inferred_option
from g2vlm.prompts import PROMPTS

LETTERS = "ABCD"


def item_of(row: Row, data: Path, index: int) -> QuestionItem:
    id, kind = str(field_of(row, "index", (int, str))), field_of(row, "category")
    for column in ("A", "B", "answer"):
        field_of(row, column)
    options = options_of(row)
    question = question_alone(field_of(row, "question"), options)
    prompt = "\n".join([f"Question: {question}", "Options:", *lettered(options.values()), PROMPTS["all_angles"]])
    return QuestionItem(id, kind, pictures_of(row, "image_path", data, id), row, prompt, 2048, PROMPTS["system"])


def options_of(row: Row) -> dict[str, str]:
    """Texts by letter, of those that the row has."""
    return {letter: str(row[letter]) for letter in LETTERS if row.get(letter) is not None}


def question_alone(question: str, options: Mapping[str, str]) -> str:
    """A question without its options and without commas, as the authors' script prepares it for VLMEvalKit."""
    for option in options.values():
        question = question.replace(option, "")
    return question.strip().replace(",", "").strip()


def truth_of(item: Item) -> str:
    return item.row["answer"]


def public_rule(name: str, *, doubts_articles: bool) -> QuestionRule:
    """As VLMEvalKit matches without a judge; doubts_articles is what the environment variable VERBOSE does."""

    def score(item: QuestionItem, reply: Reply) -> Outcome:
        said = inferred_option(str(reply.text), options_of(item.row), doubts_articles=doubts_articles)
        return graded(item, said, said == truth_of(item))

    source = (
        "Chenyu-Wang567/All-Angles-Bench, VLMEvalkit/vlmeval/utils/matching_util.py as zl3466/all_angles_bench 6644d20 has it, can_infer, "
        f"without a judge; environment variable VERBOSE {'set' if doubts_articles else 'not set'}"
    )
    return QuestionRule(name, source, score=score, figures=means)


ALL_ANGLES_BENCH = QuestionBenchmark(
    name="all_angles_bench",
    title="All-Angles Bench",
    reference="Yeh et al., Seeing from Another Perspective, 2025, arXiv 2504.15280",
    licence="as ch-chenyu/All-Angles-Bench says; Ego-Exo4D and EgoHumans pictures",
    layout="the hub's ch-chenyu/All-Angles-Bench, with Ego-Exo4D's pictures extracted by its scripts:\n"
    "  data.json\n  data/<folder>/<camera>.png",
    files=("data.json", "*.json", "*.jsonl"),
    item_of=item_of,
    rules=named(
        QuestionRule(
            CORRECTED,
            "a careful reader of letters, and of the words of an option",
            score=choosing(lambda item: [*options_of(item.row).values()], truth_of),
            figures=means,
        ),
        public_rule("public_official", doubts_articles=False),
        public_rule("public_official_verbose", doubts_articles=True),
        public="public_official",
    ),
)
