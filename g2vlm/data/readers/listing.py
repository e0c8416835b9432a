"""What lies in the folders of a data set: its scenes, the files of a scene, and numbers in text files."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from g2vlm.data.samples import BadSample
from g2vlm.pictures import UNREADABLE


def holding(src: Path, markers: Sequence[str], levels: int) -> list[Path]:
    """Folders at `src`, or at most `levels` below it, that hold one of the markers (a path or a glob), in natural order.

    Nothing below a folder that was found is looked at: the pictures of a scene are many.
    """
    if not src.is_dir():
        raise ValueError(f"{src}: there is no such folder; check the path")
    found = list(_holding(src, markers, levels))
    if not found:
        wanted = " or ".join(markers)
        raise ValueError(f"{src}: no folder with {wanted} at it or up to {levels} levels below; is this the data set?")
    return sorted(found, key=natural)


def _holding(folder: Path, markers: Sequence[str], levels: int) -> Iterator[Path]:
    if any(next(folder.glob(marker), None) is not None for marker in markers):
        yield folder
    elif levels:
        for entry in os.scandir(folder):
            if entry.is_dir():
                yield from _holding(Path(entry.path), markers, levels - 1)


def files(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder, 2.jpg before 10.jpg; none where there is no such folder."""
    return sorted(folder.glob(pattern), key=natural)


def natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sorts numbers by value: every odd piece of the split is a run of digits."""
    pieces = re.split(r"(\d+)", str(path))
    return [(int(piece), "") if i % 2 else (-1, piece) for i, piece in enumerate(pieces)], str(path)


def text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSample(f"{file}: cannot be read ({error})") from error


def numbers(file: Path, *shape: int) -> Float[np.ndarray, "..."]:
    """All numbers of a text file, in this shape."""
    words = text(file).split()
    try:
        return np.array(words, dtype=np.float64).reshape(shape)
    except ValueError as error:
        raise BadSample(f"{file}: is not {' x '.join(map(str, shape))} numbers ({error})") from error


def picture_size(file: Path) -> tuple[int, int]:
    """(height, width) from the header alone."""
    try:
        with Image.open(file) as image:
            return image.height, image.width
    except UNREADABLE as error:
        raise BadSample(f"{file}: is no picture ({error})") from error
