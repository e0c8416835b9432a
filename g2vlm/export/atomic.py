"""A set of files appears whole or not at all: it is written beside its place under a hidden name, then renamed."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from g2vlm.atomic import naming

Content = bytes | Iterator[bytes]
"""What a file is to hold, at once or piece by piece."""


def require_free(folder: Path, *, overwrite: bool) -> None:
    """Refuse to mix a new result with what is already in a folder."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder to write to")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise ValueError(f"{folder} exists and is not empty; choose another folder or give --overwrite")


def publish(folder: Path, files: Iterable[tuple[str, Content]]) -> list[Path]:
    """Write all files (path below the folder, content) or none; files of the same name are replaced.

    Any failure, a full disk or an interruption among them, leaves the folder as it was.
    """
    is_new = not folder.exists()
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    names = []
    try:
        for name, content in files:
            with naming(folder / name):
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                _write(staging / name, content)
            names.append(name)
        for name in names:
            with naming(folder / name):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (staging / name).replace(folder / name)
    finally:
        shutil.rmtree(staging)
        if is_new and not any(folder.iterdir()):
            folder.rmdir()
    return [folder / name for name in names]


def _write(file: Path, content: Content) -> None:
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        with file.open("wb") as stream:
            stream.writelines(content)
