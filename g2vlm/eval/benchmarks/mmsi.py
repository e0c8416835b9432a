"""MMSI-Bench: questions over several pictures about positions, attributes and motion; four options each."""

from pathlib import Path

from g2vlm.data.rows import BadRow
from g2vlm.eval.answers import letter_of
from g2vlm.eval.benchmarks.asking import (
    QuestionBenchmark,
    QuestionRule,
    Reply,
    Row,
    comparing,
    field_of,
    graded,
    means,
    named,
)
from g2vlm.eval.benchmarks.base import CORRECTED, Item, Outcome, QuestionItem
from g2vlm.eval.benchmarks.pictures import pictures_of, without
from g2vlm.eval.public_answers import kit_letter, quoted_letter, quoted_letter_of_any_case
from g2vlm.prompts import PROMPTS

NUM_OPTIONS = 4


def item_of(row: Row, data: Path, index: int) -> QuestionItem:
    id = str(field_of(row, "id", (int, str)))
    kind = field_of(row, "question_type").replace(".-", ".–")  # some copies say "Cam.-Obj." with a hyphen
    if len(field_of(row, "answer").strip()) != 1:
        raise BadRow("answer is no letter", row["answer"])
    prompt = field_of(row, "question").strip() + PROMPTS["mmsi"]
    pictures = pictures_of(row, "images", data, id)
    return QuestionItem(id, kind, pictures, without(row, "images"), prompt, 2048, PROMPTS["system"])


def truth_of(item: Item) -> str:
    return item.row["answer"].strip().upper()


def careful_score(item: QuestionItem, reply: Reply) -> Outcome:
    """The options are within the question, so that only their letters can be read."""
    letter = letter_of(reply.text or "", NUM_OPTIONS)
    return graded(item, letter, letter == truth_of(item))


MMSI_BENCH = QuestionBenchmark(
    name="mmsibench",
    title="MMSI-Bench",
    reference="Yang et al., MMSI-Bench, 2025, arXiv 2505.23764",
    licence="CC BY-NC 4.0",
    layout="the hub's RunsenXu/MMSI-Bench:\n  MMSI_Bench.parquet",
    files=("MMSI_Bench.parquet", "*.parquet", "*/*.parquet", "*.jsonl"),
    item_of=item_of,
    rules=named(
        QuestionRule(
            CORRECTED,
            "g2vlm/eval/answers.py, letter_of; what chooses none or several is wrong",
            score=careful_score,
            figures=means,
        ),
        QuestionRule(
            "public_official",
            "InternRobotics/MMSI-Bench 026beb1, README.md, Answer Extraction; no judge is asked where it finds nothing",
            score=comparing(quoted_letter, truth_of),
            figures=means,
        ),
        QuestionRule(
            "public_lmms_eval",
            "EvolvingLMMs-Lab/lmms-eval 0.7.3, lmms_eval/tasks/mmsi_bench/utils.py, msr_process_results",
            score=comparing(quoted_letter_of_any_case, truth_of),
            figures=means,
        ),
        QuestionRule(
            "public_spatialstack",
            "SpatialStack, src/lmms_eval/tasks/mmsibench/utils.py of phamquandung/SpatialStack e39601e, msr_process_results",
            score=comparing(quoted_letter, truth_of),
            figures=means,
        ),
        QuestionRule(
            "public_vlmevalkit",
            "open-compass/VLMEvalKit 59d73ed, vlmeval/dataset/mmsibench.py, MMSIBench.evaluate (compute_mcq_score)",
            score=comparing(kit_letter, truth_of),
            figures=means,
        ),
        public="public_official",
    ),
)
