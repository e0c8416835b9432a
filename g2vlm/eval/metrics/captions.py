"""How near a text comes to texts of people: BLEU, ROUGE-L, CIDEr and METEOR by pycocoevalcap, and the F-value of ScanQA.

pycocoevalcap comes with the extra `eval`; its tokenizer and METEOR need Java. What cannot be computed is left out, and is never 0.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from typing import Any

Lemma = Callable[[str], str]
"""From a token to its dictionary form."""

WITHOUT_JAVA = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr")
METEOR = "METEOR"


@dataclass(frozen=True)
class CaptionScores:
    """By metric, in pycocoevalcap's names and scale (0 to 1, CIDEr to 10): of all texts together, and of each text by its id.

    Of BLEU and METEOR, the whole is not the mean over texts.
    """

    overall: Mapping[str, float]
    each: Mapping[str, Mapping[str, float]]


def has_java() -> bool:
    return shutil.which("java") is not None


def has_pycocoevalcap() -> bool:
    try:
        import pycocoevalcap  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    return True


def tokenized(texts: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Texts as the Penn Treebank tokenizer writes them, in lower case and without punctuation, by id; all in one call of Java."""
    if not has_java():
        raise ValueError(
            "the tokenizer of captions needs Java; install a Java runtime, or give texts that are tokenized"
        )
    tokenizer = _part("tokenizer.ptbtokenizer", "PTBTokenizer")()
    captions = {id: [{"caption": text} for text in several] for id, several in texts.items()}
    return {id: [*several] for id, several in tokenizer.tokenize(captions).items()}


def caption_scores(candidates: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> CaptionScores:
    """Of tokenized texts by id, one candidate and its references each; METEOR is left out where Java is missing.

    CIDEr counts in how many references of this very set a word stands, so that it depends on all of them. METEOR is a process of Java that
    reads its tables for a minute or so at its first text, and lives on for the next ones.
    """
    if not candidates:
        raise ValueError("there is no text to score; give at least one")
    ids = [*candidates]
    theirs = {id: [*references[id]] for id in ids}
    ours = {id: [candidates[id]] for id in ids}
    overall: dict[str, float] = {}
    each: dict[str, dict[str, float]] = {id: {} for id in ids}
    for names, scorer in _scorers():
        with redirect_stdout(StringIO()):  # BLEU prints its lengths
            whole, single = scorer.compute_score(theirs, ours)
        wholes, singles = (whole, single) if len(names) > 1 else ([whole], [single])
        for name, total, values in zip(names, wholes, singles, strict=True):
            overall[name] = float(total)
            for id, value in zip(ids, values, strict=True):
                each[id][name] = float(value)
    return CaptionScores(overall, each)


def _scorers() -> list[tuple[tuple[str, ...], Any]]:
    bleu = tuple(f"Bleu_{n}" for n in range(1, 5))
    found = [
        (bleu, _part("bleu.bleu", "Bleu")(4)),
        (("ROUGE_L",), _part("rouge.rouge", "Rouge")()),
        (("CIDEr",), _part("cider.cider", "Cider")()),
    ]
    return [*found, ((METEOR,), _meteor())] if has_java() else found


@cache
def _meteor() -> Any:
    return _part("meteor.meteor", "Meteor")()


def _part(module: str, name: str) -> Any:
    from importlib import import_module

    try:
        return getattr(import_module(f"pycocoevalcap.{module}"), name)
    except ImportError as error:
        raise ValueError("BLEU, METEOR, ROUGE-L and CIDEr need pycocoevalcap: pip install 'g2vlm[eval]'") from error


# --- F-value ----------------------------------------------------------------------------------------------------------


@cache
def wordnet() -> Lemma | None:
    """The lemmatizer of WordNet, for nouns, as nltk has it; None where nltk or its data is missing."""
    try:
        from nltk.stem import WordNetLemmatizer  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    lemmatizer = WordNetLemmatizer()
    try:
        lemmatizer.lemmatize("chairs")
    except LookupError:
        return None
    return lemmatizer.lemmatize


def f_value(candidate: str, reference: str, lemma: Lemma) -> float:
    """Of precision and recall of words between blanks (ATR-DBI/ScanQA, scripts/score.py, tokens_unigram_f_value).

    ZeroDivisionError where either has no word, as there.
    """
    ours, theirs = ([lemma(word) for word in text.split()] for text in (candidate, reference))
    precision = sum(word in theirs for word in ours) / len(ours)
    recall = sum(word in ours for word in theirs) / len(theirs)
    return 2 * (recall * precision) / (recall + precision) if recall + precision else 0.0
