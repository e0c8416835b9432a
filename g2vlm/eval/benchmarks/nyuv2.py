"""NYU-v2: depth of the 654 pictures of the labelled test set.

Either as the archive of FastDepth has them, official/00001.h5 with `rgb` [3, height, width] and `depth` [height,
width] in metres, or unpacked from it: nyu_images/00001.png and nyu_depths/00001.npy.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from g2vlm.data.readers.derived import Derived, npy, png
from g2vlm.data.readers.listing import files
from g2vlm.data.recon import DepthFile, File, Frame, Scene
from g2vlm.eval.benchmarks.frames import all_frames
from g2vlm.eval.benchmarks.rules import DEPTH
from g2vlm.eval.benchmarks.scenes import SceneBenchmark

NAME = "nyu-v2"

LAYOUT = """val/ of the NYU-v2 archive that FastDepth made, as it is or unpacked:
  official/00001.h5                                    rgb and depth of one picture (needs h5py)
  nyu_images/00001.png and nyu_depths/00001.npy        the same, unpacked: metres, 0 unknown"""


def sequences(data: Path, names: Sequence[str] | None) -> Iterator[Scene]:
    """One: the pictures do not belong together."""
    pictures = files(data / "nyu_images", "*.png")
    packed = files(data / "official", "*.h5") or files(data, "*.h5")
    frames = tuple(map(_unpacked, pictures)) or tuple(map(_packed, packed))
    if not frames:
        raise ValueError(f"{data}: no nyu_images/*.png and no official/*.h5; give the folder val/ of the data set")
    yield Scene(NAME, frames, is_metric=True, source="NYU-v2", licence="unclear", is_sequence=False)


def _unpacked(picture: Path) -> Frame:
    depth = picture.parent.with_name("nyu_depths") / f"{picture.stem}.npy"
    return Frame(f"{NAME}/{picture.stem}", File(picture), depth=DepthFile(File(depth), "npy"))


def _packed(file: Path) -> Frame:
    rgb, depth = (Derived(file, member=f"{file.stem}.{kind}", make=make) for kind, make in _MAKE.items())
    return Frame(f"{NAME}/{file.stem}", rgb, depth=DepthFile(depth, "npy"))


def _read(content: bytes, name: str) -> np.ndarray:
    try:
        import h5py
    except ImportError as error:
        raise ValueError("needs the package h5py: pip install 'g2vlm[hdf5]'") from error
    with h5py.File(io.BytesIO(content), "r") as file:
        if name not in file:
            raise ValueError(f"holds no data set {name}")
        return np.asarray(file[name])


def _picture(content: bytes) -> bytes:
    return png(_read(content, "rgb").transpose(1, 2, 0).astype(np.uint8))


def _depth(content: bytes) -> bytes:
    return npy(_read(content, "depth").astype(np.float32))


_MAKE = {"png": _picture, "npy": _depth}

BENCHMARKS = (
    SceneBenchmark(
        name="nyu-v2-depth",
        title="NYU-v2, depth of the labelled test pictures",
        reference="Silberman et al., Indoor segmentation and support inference from RGBD images, ECCV 2012",
        licence="unclear; see cs.nyu.edu/~silberman/datasets",
        layout=LAYOUT,
        sequences=sequences,
        selection=all_frames(),
        tasks=("depth",),
        rules=DEPTH,
        has_single_pictures=True,
    ),
)
