"""All benchmarks of questions, in the order in which they are listed for people."""

from g2vlm.eval.benchmarks.all_angles import ALL_ANGLES_BENCH
from g2vlm.eval.benchmarks.asking import QuestionBenchmark
from g2vlm.eval.benchmarks.blink import BLINK_SPATIAL
from g2vlm.eval.benchmarks.cvbench import CV_BENCH
from g2vlm.eval.benchmarks.mindcube import MINDCUBE
from g2vlm.eval.benchmarks.mmsi import MMSI_BENCH
from g2vlm.eval.benchmarks.omnispatial import OMNISPATIAL
from g2vlm.eval.benchmarks.openeqa import OPENEQA
from g2vlm.eval.benchmarks.ostbench import OST_BENCH
from g2vlm.eval.benchmarks.scanqa import SCANQA
from g2vlm.eval.benchmarks.sparbench import SPAR_BENCH
from g2vlm.eval.benchmarks.sqa3d import SQA3D
from g2vlm.eval.benchmarks.videomme import VIDEO_MME
from g2vlm.eval.benchmarks.vsibench import VSIBENCH

QUESTIONS: tuple[QuestionBenchmark, ...] = (
    VSIBENCH,
    BLINK_SPATIAL,
    MINDCUBE,
    OMNISPATIAL,
    SCANQA,
    SQA3D,
    OPENEQA,
    SPAR_BENCH,
    OST_BENCH,
    CV_BENCH,
    MMSI_BENCH,
    ALL_ANGLES_BENCH,
    VIDEO_MME,
)
