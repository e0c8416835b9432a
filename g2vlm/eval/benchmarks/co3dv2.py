"""Co3Dv2: relative poses of 10 frames, drawn from each sequence of the test part of every category.

Frames that count are those which CATEGORY/set_lists/set_lists_fewview_dev.json gives to its test part, in the
sequences whose cameras are good (see the reader), at least 50 in a sequence; sequences with cameras farther than 1e5
from the origin are left out.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from g2vlm.data.readers import co3dv2
from g2vlm.data.recon import Scene
from g2vlm.data.samples import BadSample
from g2vlm.eval.benchmarks.folders import check_none_missing
from g2vlm.eval.benchmarks.frames import drawn
from g2vlm.eval.benchmarks.rules import POSES
from g2vlm.eval.benchmarks.scenes import SceneBenchmark

FEWEST_FRAMES = 50
FARTHEST_CAMERA = 1e5
TEST_PART = Path("set_lists", "set_lists_fewview_dev.json")

LAYOUT = """the categories as the official script unpacks them:
  apple/frame_annotations.jgz, apple/sequence_annotations.jgz, apple/set_lists/set_lists_fewview_dev.json
  apple/110_13051_23361/images/frame000001.jpg"""


def sequences(data: Path, names: Sequence[str] | None) -> Iterator[Scene]:
    """CATEGORY/SEQUENCE, for all or for those with these names."""
    tested = filter(None, map(_test_part, co3dv2.scenes(data)))
    if names is None:
        yield from tested
        return
    found = {scene.name: scene for scene in tested if scene.name in set(names)}
    check_none_missing(data, "sequences", [name for name in names if name not in found], len(names))
    yield from (found[name] for name in names)


def _test_part(scene: Scene) -> Scene | None:
    folder = scene.frames[0].image.path.parent.parent
    tested = _tested(folder.parent)
    frames = tuple(
        frame for frame in scene.frames if frame.image.path.relative_to(folder.parent.parent).as_posix() in tested
    )
    is_far = any(np.abs(frame.pose[:3, 3]).max() > FARTHEST_CAMERA for frame in frames if frame.pose is not None)
    if len(frames) < FEWEST_FRAMES or is_far:
        return None
    return replace(scene, name=f"{folder.parent.name}/{folder.name}", frames=frames)


@lru_cache(maxsize=1)
def _tested(category: Path) -> frozenset[str]:
    """Paths of the pictures of the test part."""
    file = category / TEST_PART
    try:
        return frozenset(path for _, _, path in json.loads(file.read_text())["test"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadSample(
            f"{file}: cannot be read as lists of frames ({error}); unpack the set lists of the category"
        ) from error


BENCHMARKS = (
    SceneBenchmark(
        name="co3dv2",
        title="Co3Dv2, relative poses of 10 frames of each test sequence of all categories",
        reference="Reizenstein et al., Common objects in 3D, ICCV 2021",
        licence="CC BY-NC 4.0",
        layout=LAYOUT,
        sequences=sequences,
        selection=drawn(10),
        tasks=("poses",),
        rules=POSES,
    ),
)
