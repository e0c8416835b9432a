"""RealEstate10K: relative poses of 10 frames, drawn from each clip of the test part.

A text file for each clip: the address of its video, then for each frame its time in microseconds, fx fy cx cy as
fractions of width and height, two zeros, and world-to-camera 3x4. Pictures lie beside it, named after the number of
their line or after their time. Lengths have an arbitrary unit. Format: google.github.io/realestate10k/download.html.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from g2vlm.data.readers.cameras import inverse
from g2vlm.data.readers.listing import files, picture_size, text
from g2vlm.data.recon import File, Frame, Scene, pinhole
from g2vlm.data.samples import BadSample
from g2vlm.eval.benchmarks.folders import check_none_missing
from g2vlm.eval.benchmarks.frames import drawn
from g2vlm.eval.benchmarks.rules import POSES
from g2vlm.eval.benchmarks.scenes import SceneBenchmark

LISTS = ("metadata/test", "test", ".")
NUMBERS = 18
"""Of a camera: four of the lens, two zeros, twelve of the pose."""

LAYOUT = """camera files of the test part, and the frames of each clip:
  metadata/test/000c3ab189999a83.txt               (or test/*.txt, or *.txt)
  000c3ab189999a83/images/0000.png, 0001.png, ...  one for each line of the camera file,
  or 000c3ab189999a83/45979267.jpg, ...            named after its time"""


def sequences(data: Path, names: Sequence[str] | None) -> Iterator[Scene]:
    """Clips whose pictures are there; names: these clips."""
    lists = next((data / place for place in LISTS if files(data / place, "*.txt")), None)
    if lists is None:
        raise ValueError(
            f"{data}: no camera files in {', '.join(LISTS)}; unpack RealEstate10K's own archive to metadata/"
        )
    wanted = (
        names if names is not None else [file.stem for file in files(lists, "*.txt") if (data / file.stem).is_dir()]
    )
    missing = [name for name in wanted if not ((lists / f"{name}.txt").is_file() and (data / name).is_dir())]
    check_none_missing(data, "clips", missing, len(wanted))
    return (_scene(data / name, lists / f"{name}.txt") for name in wanted)


def _scene(folder: Path, cameras: Path) -> Scene:
    pictures = folder / "images" if (folder / "images").is_dir() else folder
    by_name = {picture.stem: picture for pattern in ("*.png", "*.jpg") for picture in files(pictures, pattern)}
    lines = text(cameras).splitlines()[1:]
    sample = next(iter(by_name.values()), None)
    if sample is None:
        raise BadSample(f"{pictures}: no *.png and no *.jpg; extract the frames of the clip")
    size = picture_size(sample)
    frames = tuple(
        _frame(cameras, i, line.split(), by_name, pictures, size) for i, line in enumerate(lines) if line.strip()
    )
    return Scene(folder.name, frames, is_metric=False, source="RealEstate10K", licence="CC BY 4.0")


def _frame(
    cameras: Path, number: int, words: list[str], by_name: dict[str, Path], pictures: Path, size: tuple[int, int]
) -> Frame:
    time, *rest = words
    try:
        fx, fy, cx, cy, _, _, *pose = map(float, rest)
        world_to_camera = np.vstack([np.reshape(pose, (3, 4)), [0, 0, 0, 1]])
    except ValueError as error:
        raise BadSample(f"{cameras}: line {number + 2} is no camera of {NUMBERS} numbers ({error})") from error
    picture = by_name.get(time, by_name.get(f"{number:04d}", pictures / f"{number:04d}.png"))
    height, width = size
    return Frame(
        f"{pictures.parent.name}/{time}",
        File(picture),
        pinhole(fx * width, fy * height, cx * width, cy * height),
        inverse(world_to_camera),
    )


BENCHMARKS = (
    SceneBenchmark(
        name="realestate10k",
        title="RealEstate10K, relative poses of 10 frames of each test clip",
        reference="Zhou et al., Stereo magnification: learning view synthesis using multiplane images, SIGGRAPH 2018",
        licence="CC BY 4.0",
        layout=LAYOUT,
        sequences=sequences,
        selection=drawn(10),
        tasks=("poses",),
        rules=POSES,
    ),
)
