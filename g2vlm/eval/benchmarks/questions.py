"""All benchmarks of questions, in the order in which they are listed for people."""

from g2vlm.eval.benchmarks.asking import QuestionBenchmark

QUESTIONS: tuple[QuestionBenchmark, ...] = ()
