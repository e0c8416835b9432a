"""TUM RGB-D: camera trajectories of the eight dynamic freiburg3 sequences, from every 3rd of their first 270 frames.

A frame is a picture with depth and a pose within 20 ms (see the reader).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from g2vlm.data.readers import tum
from g2vlm.data.recon import Scene
from g2vlm.eval.benchmarks.folders import each_sequence
from g2vlm.eval.benchmarks.frames import every
from g2vlm.eval.benchmarks.rules import POSES
from g2vlm.eval.benchmarks.scenes import SceneBenchmark

LAYOUT = """the sequences, unpacked:
  rgbd_dataset_freiburg3_walking_xyz/rgb.txt, depth.txt, groundtruth.txt, rgb/*.png, depth/*.png"""


def sequences(data: Path, names: Sequence[str] | None) -> Iterator[Scene]:
    return each_sequence(data, names, lambda folder, name: next(tum.scenes(folder)))


BENCHMARKS = (
    SceneBenchmark(
        name="tum",
        title="TUM RGB-D, camera trajectories of 90 frames of eight dynamic sequences",
        reference="Sturm et al., A benchmark for the evaluation of RGB-D SLAM systems, IROS 2012",
        licence="CC BY 4.0",
        layout=LAYOUT,
        sequences=sequences,
        selection=every(3, count=90),
        listed="tum",
        tasks=("trajectory",),
        rules=POSES,
    ),
)
