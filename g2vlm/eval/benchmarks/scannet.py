"""ScanNet: camera trajectories of scans, from every 3rd of their first 270 tracked frames."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from g2vlm.data.readers import scannet
from g2vlm.data.recon import Scene
from g2vlm.eval.benchmarks.folders import check_none_missing
from g2vlm.eval.benchmarks.frames import every
from g2vlm.eval.benchmarks.rules import POSES
from g2vlm.eval.benchmarks.scenes import SceneBenchmark

LAYOUT = """scans of the test part (papers take scene0707_00 to scene0806_00), exported by SensReader or not:
  scene0707_00/color/0.jpg, pose/0.txt, depth/0.png, intrinsic/intrinsic_color.txt, intrinsic/intrinsic_depth.txt
  scene0707_00/scene0707_00.sens"""


def sequences(data: Path, names: Sequence[str] | None) -> Iterator[Scene]:
    found = scannet.scenes(data)
    if names is None:
        yield from found
        return
    by_name = {scene.name: scene for scene in found if scene.name in set(names)}
    check_none_missing(data, "scans", [name for name in names if name not in by_name], len(names))
    yield from (by_name[name] for name in names)


BENCHMARKS = (
    SceneBenchmark(
        name="scannet",
        title="ScanNet, camera trajectories of 90 frames of each scan",
        reference="Dai et al., ScanNet: richly-annotated 3D reconstructions of indoor scenes, CVPR 2017",
        licence="ScanNet Terms of Use",
        layout=LAYOUT,
        sequences=sequences,
        selection=every(3, count=90),
        tasks=("trajectory",),
        rules=POSES,
    ),
)
