"""ScanQA (Azuma et al. 2022): questions about scanned rooms, answered in free words of people."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from g2vlm.data.rows import BadRow
from g2vlm.eval.answers import without_thinking
from g2vlm.eval.benchmarks.asking import (
    Outcomes,
    QuestionBenchmark,
    QuestionRule,
    Reply,
    Row,
    failed,
    field_of,
    graded,
    ids_by,
    kind_of,
    mean_figure,
    means,
    missing_figure,
    named,
    texts_of,
    with_metric,
)
from g2vlm.eval.benchmarks.base import Figure, Item, Outcome, QuestionItem
from g2vlm.eval.metrics.captions import (
    METEOR,
    WITHOUT_JAVA,
    Lemma,
    caption_scores,
    f_value,
    has_java,
    has_pycocoevalcap,
    tokenized,
    wordnet,
)
from g2vlm.prompts import PROMPTS

CLASSES = {
    "Where": "Place",
    "How many": "Number",
    "What color": "Color",
    "What is the color": "Color",
    "What shape": "Object nature",
    "What type": "Object nature",
    "What kind": "Object nature",
    "What is": "Object",
}
"""Of questions, by words in them; the first that is there decides (scripts/score.py, qclass1)."""

NEEDS_JAVA = "the tokenizer needs Java"


def item_of(row: Row, data: Path, index: int) -> QuestionItem:
    """A scan has no photos of its own in the release; they are those of its ScanNet scene."""
    question, answers = field_of(row, "question"), texts_of(row, "answers")
    if not answers:
        raise BadRow("has no answers")
    media = (data / "video" / f"{field_of(row, 'scene_id')}.mp4",)
    prompt = "\n".join([question, PROMPTS["number"]])
    return QuestionItem(field_of(row, "question_id"), class_of(question), media, row, prompt, 64, PROMPTS["system"])


def class_of(question: str) -> str:
    return next((name for words, name in CLASSES.items() if words in question), "Other")


# --- what a reply is worth --------------------------------------------------------------------------------------------


def score(item: QuestionItem, reply: Reply, *, lemma: Lemma | None, is_public: bool) -> Outcome:
    """Exact match and F-value of the first answer, exact match of the first ten where a model ranks them.

    The F-value needs WordNet, and is left out without it. An answer without a word stops the public run, and is worth 0 here.
    """
    answers: list[str] = item.row["answers"]
    text = reply.text or ""
    text = text if is_public else without_thinking(text)
    lemmatize = lemma or wordnet()
    more = {"em10": float(any(each in answers for each in reply.ranked))} if reply.ranked else {}
    if text in answers and (is_public or text.split()):
        return graded(item, text, 1.0, f_value=1.0, **more)
    if not all(each.split() for each in (text, *answers)):
        if is_public:
            return failed(item, "ZeroDivisionError: division by zero", text)
        answers = [each for each in answers if each.split()] if text.split() else []
    if lemmatize is not None:
        more["f_value"] = max((f_value(text, each, lemmatize) for each in answers), default=0.0)
    return graded(item, text if text.split() else None, 0.0, **more)


def normalised(item: QuestionItem, reply: Reply) -> Outcome:
    """Exact match of letters, digits and single blanks."""
    said = letters_and_digits(without_thinking(reply.text or ""))
    return graded(item, said, said in [letters_and_digits(each) for each in item.row["answers"]])


def letters_and_digits(text: str) -> str:
    return " ".join(re.sub("[^a-z0-9 ]", " ", text.lower()).split())


# --- figures ----------------------------------------------------------------------------------------------------------


def figures(items: Sequence[Item], outcomes: Outcomes) -> list[Figure]:
    """Exact match comes first; then the F-value, and what captions are scored by, over all questions and by class."""
    counted = with_metric(items, outcomes)
    by_class = {"": [item.id for item in counted]} | {
        f"groups/{name}/": ids for name, ids in ids_by(counted, kind_of).items()
    }
    return [
        *means(items, outcomes, scale=100.0),
        *word_figures(by_class, outcomes),
        *text_figures(counted, by_class, outcomes),
    ]


def word_figures(by_class: Mapping[str, list[str]], outcomes: Outcomes) -> list[Figure]:
    made = []
    for metric, why in (
        ("em10", "the model ranks no answers"),
        ("f_value", "needs WordNet: pip install 'g2vlm[eval]' and python -m nltk.downloader wordnet"),
    ):
        for prefix, ids in by_class.items():
            if ids and all(metric in outcomes[id].scores for id in ids):
                made.append(mean_figure(prefix + metric, outcomes, [[ids]], metric=metric, scale=100.0))
            else:
                made.append(missing_figure(prefix + metric, why))
    return made


def text_figures(items: Sequence[Item], by_class: Mapping[str, list[str]], outcomes: Outcomes) -> list[Figure]:
    """BLEU, ROUGE-L, CIDEr and METEOR; of each class as if it were the whole set, as the authors' detailed report has them."""
    why = "needs pycocoevalcap: pip install 'g2vlm[eval]'" if not has_pycocoevalcap() else NEEDS_JAVA
    names = (*WITHOUT_JAVA, METEOR)
    if not (items and has_java() and has_pycocoevalcap()):
        return [missing_figure(name, why if items else "no outcome") for name in names]
    said = tokenized({item.id: [outcomes[item.id].extracted or ""] for item in items})
    truths = tokenized({item.id: item.row["answers"] for item in items})
    made = []
    for prefix, ids in by_class.items():
        scores = caption_scores({id: said[id][0] for id in ids}, {id: truths[id] for id in ids})
        made += [
            Figure(prefix + name, 100 * scores.overall[name], len(ids), name, 100.0, is_costly=True) for name in names
        ]
    return made


def scanqa(lemma: Lemma | None = None) -> QuestionBenchmark:
    """lemma: dictionary forms of words for the F-value; those of WordNet by default."""
    return QuestionBenchmark(
        name="scanqa",
        title="ScanQA",
        reference="Azuma et al., ScanQA, CVPR 2022, arXiv:2112.10482",
        licence="CC BY-NC-SA 3.0, non-commercial (ATR-DBI/ScanQA); photos of ScanNet under its own terms",
        layout="""DATA/
  ScanQA_v1.0_val.json              as published; the test splits come without answers
  video/scene0011_00.mp4            photos of the ScanNet scenes; a folder of frames of that name will do""",
        ids="the column question_id",
        files=("ScanQA_v1.0_val.json",),
        item_of=item_of,
        rules=named(
            QuestionRule(
                "corrected",
                "as public_official, but an answer without a word is worth 0 instead of stopping the run; thoughts are cut",
                score=partial(score, lemma=lemma, is_public=False),
                figures=figures,
            ),
            QuestionRule(
                "normalised_em",
                "exact match of letters and digits in lower case; no published number is made so",
                score=normalised,
                figures=partial(means, scale=100.0),
            ),
            QuestionRule(
                "public_official",
                "ATR-DBI/ScanQA 0a9f162, scripts/score.py, evals_json and eval_pycoco",
                score=partial(score, lemma=lemma, is_public=True),
                figures=figures,
            ),
            public="public_official",
        ),
    )


SCANQA = scanqa()
