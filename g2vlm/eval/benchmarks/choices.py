"""Rules of benchmarks whose questions are all answered by the letter of an option."""

from collections.abc import Callable, Sequence

from g2vlm.eval.answers import choice_of
from g2vlm.eval.benchmarks.asking import Reply, Scorer, failed, graded
from g2vlm.eval.benchmarks.base import Outcome, QuestionItem

Truth = Callable[[QuestionItem], str]

CAREFUL = "g2vlm/eval/answers.py, choice_of: a letter that is said, or all the words of an option; what chooses none or several is wrong"


def careful_choice(options: Callable[[QuestionItem], Sequence[str]], truth: Truth) -> Scorer:
    """A reply is right that a careful reader takes for the right option. options: texts in the order of their letters."""

    def score(item: QuestionItem, reply: Reply) -> Outcome:
        letter = choice_of(reply.text or "", options(item))
        return graded(item, letter, letter == truth(item))

    return score


def public_choice(read: Callable[[QuestionItem, str], str | None], truth: Truth) -> Scorer:
    """A reply is right from which a harness reads the right letter. Where there is no reply at all, harnesses stop."""

    def score(item: QuestionItem, reply: Reply) -> Outcome:
        if reply.text is None:
            return failed(item, "no reply")
        letter = read(item, reply.text)
        return graded(item, letter, letter == truth(item))

    return score
